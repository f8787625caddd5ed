//! Listening, connections, stopping.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

use crate::{
    Clock, Error, Options,
    faults::Faults,
    journal::Journal,
    limits::Limits,
    seed, service,
    state_file::StateFile,
    wire::{Allowance, Line},
    world::World,
};

/// Connections at one time; more wait to be accepted.
const CONNECTIONS_MAX: usize = 4_096;

/// Everything that calls share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) clock: Clock,
    pub(crate) budget_scale: f64,
    state_file: Option<StateFile>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) world: World,
    pub(crate) journal: Journal,
    pub(crate) limits: Limits,
    pub(crate) faults: Faults,
}

impl Shared {
    /// Keeps the world, where that was asked for: it has changed.
    pub(crate) fn keep(&self, world: &World) {
        if let Some(file) = &self.state_file {
            file.write(world);
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A call that panicked is answered by a closed connection; the others go on with what it left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulator that answers. Dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Running {
    /// The whole world as JSON, as `GET /_sim/state` answers it.
    #[must_use]
    pub fn world(&self) -> Value {
        serde_json::to_value(&self.shared.lock().world).unwrap_or_default()
    }

    /// The ledger's lines that are still in memory (the latest 50,000).
    #[must_use]
    pub fn ledger(&self) -> Vec<Value> {
        self.shared.lock().journal.ledger.read(0).0
    }

    /// The request log's lines that are still in memory (the latest 50,000).
    #[must_use]
    pub fn requests(&self) -> Vec<Value> {
        self.shared.lock().journal.requests.read(0).0
    }

    /// The base of the Web API, with the slash that clients want: `http://127.0.0.1:PORT/api/`.
    #[must_use]
    pub fn api_url(&self) -> String {
        format!("http://{}/api/", self.address)
    }

    /// Closes every connection, held calls included, and the listener. Changes that were not accepted never will be.
    pub async fn stop(mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub(crate) async fn start(options: Options) -> Result<Running, Error> {
    if !(options.budget_scale.is_finite() && options.budget_scale > 0.0) {
        return Err(Error::BudgetScale(options.budget_scale));
    }
    let journal = Journal::open(options.ledger.as_deref(), options.requests.as_deref()).map_err(Error::Journal)?;
    let (state_file, kept) = match options.state.map(StateFile::open).transpose()? {
        Some((file, kept)) => (Some(file), kept),
        None => (None, None),
    };
    let listening = |source| Error::Listen { address: options.listen, source };
    let listener = TcpListener::bind(options.listen).await.map_err(listening)?;
    let address = listener.local_addr().map_err(listening)?;
    let state = State {
        world: kept.unwrap_or_else(seed::default_world),
        journal,
        limits: Limits::new(options.budget_scale),
        faults: Faults::default(),
    };
    let (state, clock, budget_scale) = (Mutex::new(state), options.clock, options.budget_scale);
    let shared = Arc::new(Shared { state, clock, budget_scale, state_file });
    let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
    Ok(Running { address, shared, accepting })
}

/// The connections live in this task's set, so that aborting it closes them all.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let numbers = AtomicU64::new(0);
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::task::yield_now().await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::warn!(%error, "cannot switch Nagle's algorithm off");
        }
        let number = numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let allowance = Allowance::unlimited();
            let line = Line::new(stream, Arc::clone(&allowance));
            let service = service_fn(move |request| {
                service::serve(Arc::clone(&shared), number, from, Arc::clone(&allowance), request)
            });
            // An error here is a connection that a fault or the client broke: the request log tells of it.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(line), service).await;
            drop(place);
        });
    }
}
