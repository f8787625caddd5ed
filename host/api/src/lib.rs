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
mod check;
mod connections;
mod definitions;
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
mod request;
pub mod routes;
mod runs;
mod serve;
mod socket;
mod start;
mod tables;
mod tokens;
mod work;

#[cfg(test)]
mod tests;

pub use door::Net;
pub use serve::{Error, Listeners, serve};
pub use socket::Listener;

use bellhop_engine::Engine;

/// What an operator can choose.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Peers through which many clients come.
    pub trusted_proxies: Vec<Net>,
}

/// What all requests share.
pub struct App {
    engine: Arc<Engine>,
    /// True once the server is stopping: who waits is answered.
    stopping: watch::Sender<bool>,
    /// Places for work that computes for longer than a request may hold up others.
    heavy: Arc<Semaphore>,
    /// The same for whoever reads many or large records.
    reading: Arc<Semaphore>,
    counters: Counters,
}

/// For `/metrics`.
#[derive(Default)]
struct Counters {
    /// Connections now.
    connections: AtomicU64,
    /// Readers of event streams now.
    streams: AtomicU64,
    /// Answers by the first digit of their status.
    answers: [AtomicU64; 6],
}

/// Definitions that are read and judged at once. Each keeps a thread busy; further ones wait.
const HEAVY_MAX: usize = 2;
/// Readers of records that are read for at once, likewise. One reads some records and lets others have a turn.
const READING_MAX: usize = 2;

impl App {
    fn new(engine: Arc<Engine>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            stopping: watch::channel(false).0,
            heavy: Arc::new(Semaphore::new(HEAVY_MAX)),
            reading: Arc::new(Semaphore::new(READING_MAX)),
            counters: Counters::default(),
        })
    }

    /// Ends when the server is stopping.
    async fn stopped(&self) {
        // The sender is ours: it does not go away.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}
