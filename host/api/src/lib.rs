//! HTTP in: requests become calls of the engine, and what the engine says becomes answers.
//!
//! [`routes::ROUTES`] is the one table of addresses, methods and what they ask of a token. [`problem`] makes every
//! refusal. [`serve`](fn@serve) holds clients: each can only hold so many connections, headers, bytes and seconds.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{Semaphore, watch};

pub mod actions;
mod answer;
mod auth;
mod backups;
mod behind;
mod check;
mod clock;
mod connections;
mod definitions;
mod doctor;
mod door;
mod events;
mod form;
mod guarded;
mod metrics;
mod operating;
mod pages;
mod params;
mod plugins;
pub mod problem;
mod process;
mod request;
pub mod routes;
mod runs;
mod serve;
mod socket;
mod start;
mod tables;
mod tokens;
mod way;
mod work;

#[cfg(test)]
mod tests;

pub use doctor::Doctor;
pub use door::{Net, descriptors_for, places_of};
pub use serve::{Error, Listeners, serve};
pub use socket::Listener;
pub use way::{PUBLIC_URL_FORMS, PublicUrl};

use behind::Behind;
use bellhop_engine::Engine;
use bellhop_engine::measures::Durations;
use way::Ways;

/// What an operator can choose.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Peers through which many clients come, and whose headers say which way those came.
    pub trusted_proxies: Vec<Net>,
    /// Who looks at what surrounds the host.
    pub doctor: Doctor,
    /// The address of the host, as its callers know it.
    pub public_url: Option<PublicUrl>,
}

/// What all requests share.
pub struct App {
    engine: Arc<Engine>,
    /// By which ways requests come.
    ways: Ways,
    /// Those who come through trusted proxies.
    behind: Arc<Behind>,
    /// True once the server is stopping: who waits is answered.
    stopping: watch::Sender<bool>,
    /// Places for work that computes for longer than a request may hold up others.
    heavy: Arc<Semaphore>,
    /// The same for whoever reads many or large records.
    reading: Arc<Semaphore>,
    /// One backup at a time: each holds what is written meanwhile.
    backups: Arc<Semaphore>,
    counters: Counters,
    /// Who looks at what surrounds the host, one at a time.
    doctor: tokio::sync::Mutex<Doctor>,
}

/// For `/metrics`.
struct Counters {
    /// Connections now.
    connections: AtomicU64,
    /// Readers of event streams now.
    streams: AtomicU64,
    /// How long requests took to be answered, by method, address of the table and status.
    durations: Durations<3>,
}

/// Definitions that are read and judged at once. Each keeps a thread busy; further ones wait.
const HEAVY_MAX: usize = 2;
/// Readers of records that are read for at once, likewise. One reads some records and lets others have a turn.
const READING_MAX: usize = 2;

impl App {
    fn new(engine: Arc<Engine>, options: Options) -> Arc<Self> {
        let Options { trusted_proxies: trusted, public_url: public, doctor } = options;
        Arc::new(Self {
            ways: Ways { public, trusted },
            behind: Behind::new(&engine.services.limits),
            engine,
            stopping: watch::channel(false).0,
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            reading: Arc::new(Semaphore::new(READING_MAX)),
            backups: Arc::new(Semaphore::new(1)),
            counters: Counters::new(),
            doctor: tokio::sync::Mutex::new(doctor),
        })
    }

    /// Ends when the server is stopping.
    async fn stopped(&self) {
        // The sender is ours: it does not go away.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}
