//! The server: sockets, and what one client may hold of them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::door::{Counted, Door, Entry, Place};
use super::guarded::Guarded;
use super::routes::ProbesOnly;
use super::socket::{Here, Listener, Socket};
use super::way::Peer;
use super::{App, Options, routes};
use bellhop_engine::Engine;
use bellhop_limits::Limits;

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The listening socket is of no use any more.
    #[error("the listening socket failed: {0}")]
    Listener(#[source] io::Error),
}

/// A request's line and headers. More than `header_bytes_max` can be, so that a request that is a little too large gets a
/// problem that says so. What is larger, or is no HTTP, gets hyper's own 431 or 400, which have no body: it answers these
/// before there is a request that could be given to anybody, and takes no other answer for them.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// After the last answer, what a client was still sending is read and thrown away for so long.
const LINGER: Duration = Duration::from_secs(2);
/// A machine without a free descriptor gets one back when a connection ends.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// A probe says at once what it wants: its place is wanted by others.
const PROBE_HEAD_MAX: Duration = Duration::from_secs(2);
/// What a connection gets for which there is no place at all.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// So often those take a turn who have to leave for a new connection.
const TURNS_MAX: usize = 256;
/// Connections to the listener of the metrics.
const METRICS_CONNECTIONS_MAX: u64 = 32;
/// On top of the drain's own time, for answers that are on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Where it serves.
pub struct Listeners {
    /// Everything.
    pub main: Listener,
    /// The metrics alone, to whoever can connect there: no token is asked for.
    pub metrics: Option<Listener>,
}

/// Serves until `shutdown` ends; then takes no more connections, ends streams and waits of callers, lets answers go
/// out, and returns. Everything that is still open after the drain's time is cut.
///
/// # Errors
/// The listener failed. Nothing that a client does ends the server.
pub async fn serve(
    engine: Arc<Engine>,
    listeners: Listeners,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let door = Door::new(&engine.services.limits, options.trusted_proxies.clone());
    let app = App::new(engine, options);
    let services = app.engine.services.clone();
    let router = routes::of_app(app.clone());
    let mut connections = JoinSet::new();
    let (main, metrics) = (listeners.main.here(), listeners.metrics.map(Listener::here).transpose());
    let (main, metrics) = (main.map_err(Error::Listener)?, metrics.map_err(Error::Listener)?);
    let ended = {
        let measured = async {
            match metrics {
                // Metrics are for a few collectors.
                Some(listener) => {
                    let limits = Limits { connections_max: METRICS_CONNECTIONS_MAX, ..Limits::clone(&services.limits) };
                    let mut collectors = JoinSet::new();
                    let router = routes::of_metrics(app.clone());
                    accept(&app, &Door::new(&limits, Vec::new()), &router, &listener, &mut collectors).await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown => Ok(()),
            failed = accept(&app, &door, &router, &main, &mut connections) => Err(failed),
            failed = measured => Err(failed),
        }
    };
    drop(main);
    app.stopping.send_replace(true);
    let drain = Duration::from_millis(services.limits.drain_ms_max) + LAST_ANSWERS;
    let all = async { while connections.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = services.clock.sleep(drain) => tracing::warn!("connections are cut: their requests took too long to end"),
    }
    connections.shutdown().await;
    ended
}

/// Takes connections for as long as the listener gives any; then why it does not.
async fn accept(
    app: &Arc<App>,
    door: &Arc<Door>,
    router: &Router,
    listener: &Here,
    connections: &mut JoinSet<()>,
) -> Error {
    let clock = &app.engine.services.clock;
    let mut failing = Counted::default();
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if let Some(times) = failing.rest() {
                    tracing::warn!(times, "connections are accepted again");
                }
                let of = Peer(peer);
                match entry(door, peer, clock.monotonic()).await {
                    Entry::Whole(place) => {
                        connections.spawn(connection(app.clone(), router.clone(), (socket, of), place, false));
                    }
                    Entry::Probe(place) => {
                        connections.spawn(connection(app.clone(), router.clone(), (socket, of), place, true));
                    }
                    // What goes out without waiting is said; nobody waits for more.
                    Entry::Nothing | Entry::Later => {
                        let _told = socket.try_write(NO_PLACE);
                    }
                }
            }
            Err(error) if is_final(&error) => return Error::Listener(error),
            Err(error) => {
                if let Some(times) = failing.count(clock.monotonic()) {
                    tracing::warn!(%error, times, "connections cannot be accepted");
                }
                clock.sleep(ACCEPT_AGAIN).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Whether the socket itself is of no use any more. Anything else passes: a client has gone before it was taken, or the
/// machine or this process has no descriptor or memory left, and gets some back however long that takes.
fn is_final(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP | Errno::FAULT))
}

/// Counts a connection for as long as it is there.
struct Inside(Arc<App>);

impl Inside {
    fn new(app: &Arc<App>) -> Self {
        app.counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(app.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How HTTP is spoken with somebody whose heads may take so long.
fn speaking(patience: Duration, probe: bool) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(if probe { patience.min(PROBE_HEAD_MAX) } else { patience })
        .keep_alive(!probe)
        .max_buf_size(HEAD_BYTES_MAX);
    http
}

/// The place of a new connection.
///
/// Those who have to leave for it are told already and need only their turn, which comes soon. Where it does not,
/// the new connection gets no place, so that whoever lets others in never waits for long.
async fn entry(door: &Arc<Door>, peer: Option<IpAddr>, now: Duration) -> Entry {
    for _ in 0..TURNS_MAX {
        match door.enter(peer, now) {
            Entry::Later => tokio::task::yield_now().await,
            entry => return entry,
        }
    }
    Entry::Nothing
}

/// Waits for the first word of whoever has a place for one probe. False where the connection is of no use: nothing comes, or
/// its place is wanted before the whole head of a request is there.
async fn speaks(app: &App, socket: &Socket, place: &mut Place) -> bool {
    let is_wanted = tokio::select! {
        biased;
        () = place.is_wanted() => true,
        ready = socket.readable() => {
            if ready.is_err() {
                return false;
            }
            false
        }
        () = app.engine.services.clock.sleep(PROBE_HEAD_MAX) => return false,
        () = app.stopped() => return false,
    };
    let has_asked = socket.has_a_head();
    if has_asked {
        place.asking().has_asked();
    }
    has_asked || !is_wanted
}

/// Serves one connection; with `probe` only a probe, and nothing after it.
async fn connection(app: Arc<App>, router: Router, (socket, peer): (Socket, Peer), mut place: Place, probe: bool) {
    let _inside = Inside::new(&app);
    let services = &app.engine.services;
    if let Err(error) = socket.at_once() {
        tracing::debug!(%error, "TCP_NODELAY is not to be had");
    }
    if probe && !speaks(&app, &socket, &mut place).await {
        return;
    }
    let stalled = Duration::from_millis(services.limits.write_ms_max);
    let socket = TokioIo::new(Guarded::new(socket, services.clock.clone(), stalled));
    let asking = place.asking();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        asking.has_asked();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        if probe {
            request.extensions_mut().insert(ProbesOnly);
        }
        let router = router.clone();
        Box::pin(
            async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) },
        )
    });
    let mut http =
        speaking(Duration::from_millis(services.limits.header_ms_max), probe).serve_connection(socket, service);
    let ended = {
        let mut stopped = pin!(app.stopped());
        let mut wanted = pin!(place.is_wanted());
        let mut stopping = false;
        loop {
            tokio::select! {
                // First, so that a request that is there already is heard before its sender is sent away.
                biased;
                ended = poll_fn(|context| http.poll_without_shutdown(context)) => break ended,
                () = &mut wanted => return,
                () = &mut stopped, if !stopping => {
                    stopping = true;
                    std::pin::Pin::new(&mut http).graceful_shutdown();
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
        return;
    }
    let mut socket = http.into_parts().io.into_inner();
    if probe {
        // It has sent nothing more that is wanted, and others want its place.
        let _gone = socket.shutdown().await;
        return;
    }
    let goodbye = async {
        if socket.shutdown().await.is_err() {
            return;
        }
        let mut rest = vec![0; 16 << 10];
        let mut left = services.limits.linger_bytes_max;
        while let Ok(read @ 1..) = socket.read(&mut rest).await {
            left = left.saturating_sub(read as u64);
            if left == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = goodbye => {}
        () = services.clock.sleep(LINGER) => {}
        () = app.stopped() => {}
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn attack_b10_what_passes_never_closes_the_port() {
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::PROTO,
            Errno::PERM,
            Errno::INTR,
            Errno::NETDOWN,
            Errno::HOSTUNREACH,
            Errno::TIMEDOUT,
        ] {
            assert!(!is_final(&errno.into()), "{errno}");
        }
        for errno in [Errno::BADF, Errno::INVAL, Errno::NOTSOCK] {
            assert!(is_final(&errno.into()), "{errno}");
        }
    }
}
