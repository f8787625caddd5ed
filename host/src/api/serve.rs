//! The server: sockets, and what one client may hold of them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::auth::Peer;
use super::guarded::Guarded;
use super::{App, Options, routes};
use crate::engine::Engine;

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The listening socket is of no use any more.
    #[error("the listening socket failed: {0}")]
    Listener(#[source] std::io::Error),
}

/// A request's line and headers. More than the routes take, so that a request that is a little too large gets a problem
/// that says so; what is larger than this gets a bare 431.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// After the last answer, what a client was still sending is read and thrown away, so that the answer is not lost with
/// it; so long and so much.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 8 << 20;
/// A machine without a free descriptor gets one back when a connection ends.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// So many failures to accept in a row are no shortage.
const ACCEPT_FAILURES_MAX: u32 = 1_000;
/// On top of the drain's own time, for answers that are on their way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Serves until `shutdown` ends; then takes no more connections, ends streams and waits of callers, lets answers go
/// out, and returns. Everything that is still open after the drain's time is cut.
///
/// # Errors
/// The listener failed. Nothing that a client does ends the server.
pub(crate) async fn serve(
    engine: Arc<Engine>,
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let app = App::new(engine, options);
    let router = routes::of_app(app.clone());
    let services = app.engine.services.clone();
    let places = usize::try_from(services.limits.connections_max).unwrap_or(Semaphore::MAX_PERMITS);
    let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut failures = 0;
    let ended = loop {
        // A place first: who comes when all are taken waits in the kernel's queue.
        let next = async {
            let place = places.clone().acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            next = next => next,
        };
        match (place, accepted) {
            (Ok(place), Ok((socket, peer))) => {
                failures = 0;
                connections.spawn(connection(app.clone(), router.clone(), socket, peer, place));
            }
            (_, Err(error)) => {
                failures += 1;
                tracing::warn!(%error, "a connection cannot be accepted");
                if failures >= ACCEPT_FAILURES_MAX {
                    break Err(Error::Listener(error));
                }
                services.clock.sleep(ACCEPT_AGAIN).await;
            }
            // Nobody closes the semaphore.
            (Err(_), Ok(_)) => {}
        }
        while connections.try_join_next().is_some() {}
    };
    drop(listener);
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

/// Counts a connection for as long as it is there.
struct Counted(Arc<App>);

impl Counted {
    fn new(app: &Arc<App>) -> Self {
        app.counters.connections.fetch_add(1, Ordering::Relaxed);
        Self(app.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.counters.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection(app: Arc<App>, router: Router, socket: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) {
    let _counted = Counted::new(&app);
    let services = &app.engine.services;
    // Without it, small answers wait for the client's acknowledgement of the one before.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not to be had");
    }
    let stalled = Duration::from_millis(services.limits.write_ms_max);
    let socket = TokioIo::new(Guarded::new(socket, services.clock.clone(), stalled));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        let router = router.clone();
        Box::pin(
            async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) },
        )
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(services.limits.header_ms_max))
        .max_buf_size(HEAD_BYTES_MAX);
    let mut http = http.serve_connection(socket, service);
    let ended = {
        let mut stopped = pin!(app.stopped());
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = poll_fn(|context| http.poll_without_shutdown(context)) => break ended,
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
    let goodbye = async {
        if socket.shutdown().await.is_err() {
            return;
        }
        let mut rest = vec![0; 16 << 10];
        let mut left = LINGER_BYTES_MAX;
        while let Ok(read @ 1..) = socket.read(&mut rest).await {
            left = left.saturating_sub(read);
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
