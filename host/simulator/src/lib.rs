//! A Slack to test against: it answers the Web API, SCIM and the audit log as Slack does, from a small world in memory.
//!
//! It checks token kind, scope, plan, where the app is installed, `team_id`, arguments and rate limits by rules of its
//! own ([`rules`]), writes every accepted change into a ledger before it answers, and can be told to delay, refuse,
//! withhold or cut any call. The world that it starts with, and its tokens, are described in [`seed`].
//!
//! ```no_run
//! # async fn example() -> Result<(), bellhop_simulator::Error> {
//! let running = bellhop_simulator::start(bellhop_simulator::Options::default()).await?;
//! println!("Web API at http://{}/api/", running.address);
//! running.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! # The control API
//!
//! JSON over HTTP under `/_sim/`, without a token, and from this machine alone:
//!
//! | | |
//! |---|---|
//! | `POST /_sim/faults` | adds a rule `{method, match, place, nth, times, action}` and answers its `id`; `GET` lists, `DELETE` takes all away and cuts what they hold |
//! | `GET /_sim/signals/wait?fault=ID&timeout_ms=N&count=N` | answers once that fault has happened (`count` times) |
//! | `POST /_sim/faults/ID/release` | lets the held calls go on; `{"as": "cut"}` closes their connections instead |
//! | `GET /_sim/ledger`, `/_sim/requests` | the lines of both books (`?from=N` skips) |
//! | `GET /_sim/state` | the whole world |
//! | `POST /_sim/world` | edits it: a list of `{"add_user": {…}}`, `{"set_plan": {…}}`, … |
//! | `POST /_sim/clock` | `{"advance_ms": N}` on a manual clock |
//! | `POST /_sim/reset` | the default world, no faults, empty books |
//!
//! A fault's `action` is one of `{"delay_ms": N}`, `{"refuse": {"error": E}}`, `{"http": {"status": N, "body": …, "accepted": false}}`,
//! `{"rate_limit": {"retry_after": S}}`, `"accept_then_withhold"`, `"hold_before_accept"`, `"cut_before"`, `"cut_after_accept"`,
//! `{"cut_response_at": BYTES}`, `{"slow_drip": {"bytes": 1, "every_ms": N}}`, `"garbage"`.
#![forbid(unsafe_code)]

mod admission;
mod answer;
mod arguments;
mod audit;
mod blocks;
mod call;
mod clock;
mod control;
mod cursor;
mod edit;
mod faults;
mod journal;
mod limits;
mod local_ids;
mod methods;
mod policy;
pub mod rules;
mod scim;
pub mod seed;
mod server;
mod service;
mod state_file;
mod views;
mod wire;
mod world;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

pub use clock::Clock;
pub use server::Running;

/// How to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The file that gets one line for every accepted change before the change is answered. It is appended to.
    pub ledger: Option<PathBuf>,
    /// The file that gets a line for every request as it arrives and another when it was answered. It is appended to.
    pub requests: Option<PathBuf>,
    /// The file in which the world is kept over restarts; none: it ends with the process. The books are not in it, nor are
    /// faults and spent budgets.
    pub state: Option<PathBuf>,
    /// Multiplies every rate budget; 1 is Slack's own.
    pub budget_scale: f64,
    /// The time of timestamps and rate windows.
    pub clock: Clock,
}

impl Default for Options {
    /// A free port of the loopback, no files, Slack's own budgets, the real time.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            ledger: None,
            requests: None,
            state: None,
            budget_scale: 1.0,
            clock: Clock::real(),
        }
    }
}

/// Why the simulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on: choose another.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The ledger or the request log cannot be opened for appending.
    #[error("cannot open the ledger or the request log")]
    Journal(#[source] io::Error),
    /// The world that was kept cannot be read: take the file away to begin with the world of the start.
    #[error("the world that is kept in {} cannot be read: {why}: take the file away to begin anew", path.display())]
    State {
        /// The file, which is as it was.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The budget scale is not a positive number.
    #[error("the budget scale must be a positive number, not {0}")]
    BudgetScale(f64),
}

/// Starts a simulator on the current tokio runtime. After Ok it accepts connections at the address that it names.
///
/// # Errors
/// See [`Error`]; nothing is left running then.
pub async fn start(options: Options) -> Result<Running, Error> {
    server::start(options).await
}
