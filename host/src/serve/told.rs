//! What a host is told by signals: to stop in order, to stop at once, to look where its log's file leads.
//!
//! They are heard on a thread of their own, so that a host can be ended whose other threads hang. Whatever is heard,
//! nothing that was acknowledged is lost by it, because the store has it.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::log::Log;

/// Lines of the log are waited for so long before a process is ended at once.
const LAST_LINES: Duration = Duration::from_millis(200);
/// What is above the number of the signal in the exit code of a process that was ended at once, as shells have it.
const BY_SIGNAL: i32 = 128;

/// Signals that are heard.
pub(super) struct Told {
    stops: watch::Receiver<bool>,
}

/// What a signal means.
#[derive(Debug, PartialEq, Eq)]
enum Means {
    /// The host ends what was sent, and leaves.
    Stop,
    /// The process ends, with this code.
    End(i32),
    /// The log's file is looked for.
    LookAtLog,
}

/// `hangs_up` says that the terminal has gone which the process had at its start.
fn means(told: SignalKind, is_stopping: bool, hangs_up: bool) -> Means {
    if told == SignalKind::hangup() && !hangs_up {
        Means::LookAtLog
    } else if is_stopping {
        Means::End(BY_SIGNAL + told.as_raw_value())
    } else {
        Means::Stop
    }
}

/// Whether any of the process's streams is a terminal. One that has gone is none any more.
fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

impl Told {
    /// Hears SIGTERM, SIGINT and SIGHUP from here on. Without it they end the process at once.
    ///
    /// # Errors
    /// The system does not let them be heard, or gives no thread.
    pub(super) fn begin(log: Log) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let heard = {
            let _inside = runtime.enter();
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
        };
        let [terminate, interrupt, hangup] = heard;
        let signals = (terminate?, interrupt?, hangup?);
        let (stop, stops) = watch::channel(false);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(hear(signals, &stop, &log)))?;
        Ok(Self { stops })
    }

    /// Ready when the host is told to stop.
    pub(super) async fn to_stop(&self) {
        let mut stops = self.stops.clone();
        if stops.wait_for(|stop| *stop).await.is_err() {
            // Whoever waits for the thread's end tells.
            std::future::pending::<()>().await;
        }
    }

    /// Ready when nobody hears signals any more.
    pub(super) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stops = self.stops.clone();
        async move { while stops.changed().await.is_ok() {} }
    }
}

async fn hear(
    (mut terminate, mut interrupt, mut hangup): (Signal, Signal, Signal),
    stop: &watch::Sender<bool>,
    log: &Log,
) {
    let had_terminal = has_terminal();
    loop {
        let told = tokio::select! {
            Some(()) = terminate.recv() => SignalKind::terminate(),
            Some(()) = interrupt.recv() => SignalKind::interrupt(),
            Some(()) = hangup.recv() => SignalKind::hangup(),
            else => return,
        };
        // Read before the match, because the borrow would last as long as it, and nobody could write meanwhile.
        let is_stopping = *stop.borrow();
        match means(told, is_stopping, had_terminal && !has_terminal()) {
            Means::Stop => {
                stop.send_replace(true);
            }
            Means::End(code) => {
                tracing::warn!(
                    code,
                    "told to stop once more: the process ends at once, and the next start resolves what is open"
                );
                log.flush(LAST_LINES);
                std::process::exit(code);
            }
            Means::LookAtLog => {
                if log.looks_now() {
                    tracing::info!("told by SIGHUP to look where the name of the log's file leads");
                } else {
                    tracing::info!("SIGHUP changes nothing: the log goes to standard error");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_ends_the_process_and_a_hangup_does_not() {
        let (terminate, interrupt, hangup) = (SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup());
        for (told, is_stopping, hangs_up, meant) in [
            (terminate, false, false, Means::Stop),
            (interrupt, false, false, Means::Stop),
            (terminate, true, false, Means::End(143)),
            (interrupt, true, false, Means::End(130)),
            (hangup, false, false, Means::LookAtLog),
            (hangup, true, false, Means::LookAtLog),
            // The terminal has gone in which the host was started.
            (hangup, false, true, Means::Stop),
            (hangup, true, true, Means::End(129)),
        ] {
            assert_eq!(means(told, is_stopping, hangs_up), meant, "{told:?} {is_stopping} {hangs_up}");
        }
    }

    #[tokio::test]
    async fn that_nobody_hears_signals_any_more_is_seen() {
        let (stop, stops) = watch::channel(false);
        let told = Told { stops };
        let ended = told.ended();
        stop.send_replace(true);
        told.to_stop().await;
        drop(stop);
        ended.await;
    }
}
