//! What a supervisor hears of the host that it has started: that it starts, is ready, lives, and stops. The words are
//! those of systemd's `sd_notify`, sent to the datagram socket that the environment names.
//!
//! A host lives as long as a restart would make nothing better: the threads that carry runs and those that answer over HTTP
//! take their turns, and the store gets on with what it was given. A disk that lacks room is no reason for a restart, and
//! neither is a network that is away.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use bellhop_clock::Clock;
use bellhop_journal::Journal;
use bellhop_journal::store::Stats;
use bellhop_limits::Limits;

use super::threads::Threads;

/// It lives.
const LIVES: &str = "WATCHDOG=1";
/// What opening a large store after a crash, and compiling what comes with it, may take of a start.
const START_S_MAX: u64 = 600;
/// What the end of a host takes besides its drain, that of its connections, and its last spans.
const LAST_S_MAX: u64 = 20;

/// Who has started this process; nobody, where the environment names no socket.
pub(super) struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// A sign of life is due within twice this.
    every: Option<Duration>,
}

impl Supervisor {
    pub(super) fn of_environment() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let address = variable("NOTIFY_SOCKET").and_then(|name| address(name.as_bytes()));
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // The variables may be those of a process above, which is waited for and not this one.
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let within_us = number("WATCHDOG_USEC").filter(|us| is_meant && *us > 0);
        Self { socket, every: within_us.map(|us| Duration::from_micros(us / 2)) }
    }

    /// That the host has begun to start, which may take longer than a supervisor waits by itself.
    pub(super) fn starts(&self) {
        self.tell(&format!("STATUS=starting: the store is opened\nEXTEND_TIMEOUT_USEC={}", START_S_MAX * 1_000_000));
    }

    /// That the host does all that it does.
    pub(super) fn is_ready(&self, open_runs: u64) {
        self.tell(&format!("READY=1\nSTATUS=ready; {open_runs} open runs were taken up"));
    }

    /// That the host ends what was sent, and leaves; and how long that may take: the drain of what was sent, then that of
    /// connections, then the last spans.
    pub(super) fn stops(&self, limits: &Limits) {
        let drain_ms = limits.drain_ms_max;
        let longest_us = (2 * drain_ms + limits.trace_flush_ms_max + LAST_S_MAX * 1_000) * 1_000;
        let status = format!("STATUS=stopping: what was sent is ended, for at most {} s", drain_ms.div_ceil(1_000));
        self.tell(&format!("STOPPING=1\n{status}\nEXTEND_TIMEOUT_USEC={longest_us}"));
    }

    /// Tells the supervisor. One that does not hear it waits, and does what it does with a host that says nothing.
    fn tell(&self, words: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(words.as_bytes(), address)
        {
            tracing::warn!(%error, words, "the supervisor of NOTIFY_SOCKET cannot be told");
        }
    }

    /// Gives signs of life for ever, each as long as the host lives.
    pub(super) async fn lives(&self, clock: &dyn Clock, http: &Threads, journal: &Journal) -> Infallible {
        let Some(every) = self.every else { return std::future::pending().await };
        let mut store = Store::default();
        loop {
            if take_turns(http).await {
                let journal = journal.clone();
                // The system may take its time over a disk that is far away.
                let told = tokio::task::spawn_blocking(move || journal.stats()).await;
                if told.is_ok_and(|stats| store.gets_on(&stats)) {
                    self.tell(LIVES);
                } else {
                    tracing::error!(
                        "the store does not get on with what it was given: the supervisor hears no sign of life"
                    );
                }
            }
            clock.pause(every).await;
        }
    }
}

/// True when the threads that carry runs and those that answer over HTTP have taken a turn; not ready while either hang.
async fn take_turns(http: &Threads) -> bool {
    let runs = tokio::spawn(std::future::ready(()));
    let http = http.spawn(std::future::ready(()));
    runs.await.is_ok() && http.await.is_ok()
}

/// The store, as it was when it was looked at last.
#[derive(Default)]
struct Store {
    /// Something waited to be durable.
    waited: bool,
    syncs: u64,
}

impl Store {
    /// Whether it has got on since it was looked at last: something became durable, or nothing waited for that then or
    /// waits now, or all of it waits for room on the disk.
    fn gets_on(&mut self, now: &Stats) -> bool {
        let waits = now.queue_batches > 0;
        let stands_still = self.waited && waits && now.syncs == self.syncs && now.held.is_none();
        *self = Self { waited: waits, syncs: now.syncs };
        !stands_still
    }
}

/// A path, or behind `@` a name that is in no file system.
fn address(name: &[u8]) -> Option<SocketAddr> {
    match name {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name)).ok(),
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Supervisor {
        Supervisor::of(|name| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| OsString::from(value)))
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    #[test]
    fn a_supervisor_is_told_by_path_and_by_name() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        of(&[("NOTIFY_SOCKET", &path.display().to_string())]).is_ready(3);
        assert_eq!(heard(&by_path), "READY=1\nSTATUS=ready; 3 open runs were taken up");
        let name = format!("bellhop-test-{}", std::process::id());
        let by_name = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
        of(&[("NOTIFY_SOCKET", &format!("@{name}"))]).stops(&Limits::default());
        let stops = heard(&by_name);
        assert!(stops.starts_with("STOPPING=1\nSTATUS=stopping: "), "{stops}");
        assert!(stops.ends_with("\nEXTEND_TIMEOUT_USEC=42000000"), "twice the drain, the spans, and a while: {stops}");
        // Nobody is there, or nobody was named: nothing happens.
        of(&[("NOTIFY_SOCKET", "/no/such/socket")]).starts();
        of(&[]).starts();
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_they_are_waited_for() {
        let own = std::process::id().to_string();
        let every = |variables: &[(&str, &str)]| of(variables).every;
        assert_eq!(every(&[("WATCHDOG_USEC", "60000000")]), Some(Duration::from_secs(30)));
        assert_eq!(every(&[("WATCHDOG_USEC", "4000"), ("WATCHDOG_PID", &own)]), Some(Duration::from_millis(2)));
        for other in [&[("WATCHDOG_USEC", "4000"), ("WATCHDOG_PID", "1")][..], &[("WATCHDOG_USEC", "0")], &[]] {
            assert_eq!(every(other), None, "{other:?}");
        }
    }

    #[tokio::test]
    async fn there_is_no_sign_of_life_while_the_threads_that_answer_hang() {
        use futures_util::FutureExt as _;

        use crate::serve::threads::HTTP_THREADS;

        let http = Threads::new().unwrap();
        assert!(take_turns(&http).await);
        let (hangs, hang) = std::sync::mpsc::channel();
        let mut ends = Vec::new();
        for _ in 0..2 * HTTP_THREADS {
            let (end, ended) = std::sync::mpsc::channel::<()>();
            let hangs = hangs.clone();
            http.spawn(async move {
                let _told = hangs.send(());
                let _ended = ended.recv();
            });
            ends.push(end);
        }
        for _ in 0..HTTP_THREADS {
            hang.recv().unwrap();
        }
        let mut turns = Box::pin(take_turns(&http));
        for _ in 0..100 {
            assert!(turns.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        drop(ends);
        assert!(turns.await);
    }

    #[test]
    fn a_store_lives_as_long_as_it_gets_on() {
        let stats = |queue_batches, syncs| Stats { queue_batches, syncs, ..Stats::default() };
        let mut store = Store::default();
        for (now, lives, why) in [
            (stats(0, 0), true, "nothing is to be done"),
            (stats(3, 0), true, "it has just been given something"),
            (stats(3, 1), true, "it has written since"),
            (stats(9, 1), false, "what waited still waits, and nothing was written"),
            (stats(9, 1), false, "it stays so"),
            (
                Stats { held: Some(bellhop_journal::store::Lack { free: 1, wanted: 2 }), ..stats(9, 1) },
                true,
                "it waits for room",
            ),
            (stats(2, 2), true, "it goes on"),
            (stats(0, 3), true, "all is written"),
        ] {
            assert_eq!(store.gets_on(&now), lives, "{why}");
        }
    }
}
