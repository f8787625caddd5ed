//! The one door to the core's decisions: for drivers, for those who redefine a run, and for blocked ones.
//!
//! A decision runs where it is asked for as long as it is short. A run that has more to decide than that decides on
//! beside the threads that carry runs, one of a few at a time and for a longer span each, so that runs which only compute
//! share what the machine has left, and the others and everybody who asks over HTTP do not wait for them.

use std::sync::Arc;

use bellhop_core::cost::Cost;
use bellhop_core::expression::{Answer, Error, Evaluator, Inspection};
use bellhop_core::run::{self, Budget, Cause, Decided, Input, State};
use bellhop_core::time::Timestamp;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::drive::evaluating::beside;
use bellhop_clock::Clock;
use bellhop_limits::Limits;

/// How long a decision may take where it is asked for.
const SHORT: Cost = Cost::from_micros(10_000);

/// What a decision is made with.
pub(crate) struct Deciding {
    evaluator: Arc<dyn Evaluator + Send + Sync>,
    clock: Arc<dyn Clock>,
    /// Whoever decides on holds one.
    long: Semaphore,
    budget: Budget,
}

impl Deciding {
    /// Over an evaluator.
    pub(crate) fn new(evaluator: Arc<dyn Evaluator + Send + Sync>, clock: Arc<dyn Clock>, limits: &Limits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let budget = Budget {
            events_max: usize::try_from(limits.decision_events_max).unwrap_or(usize::MAX),
            bytes_max: limits.decision_bytes_max,
            evaluations_max: u32::try_from(limits.decision_evaluations_max).unwrap_or(u32::MAX),
            cost_max: Cost::from_micros(limits.decision_ms_max.saturating_mul(1_000)),
            value_bytes_max: limits.value_bytes_max,
            decisions_max: u32::try_from(limits.decisions_max).unwrap_or(u32::MAX),
        };
        Self { evaluator, clock, long: Semaphore::new(cores.saturating_sub(1).max(1)), budget }
    }

    /// What follows from `cause`; see [`run::decide`].
    pub(crate) async fn decide(&self, state: &State, at: Timestamp, entropy: u64, cause: Cause) -> Option<Decided> {
        let evaluator = Measured { evaluator: self.evaluator.as_ref(), clock: self.clock.as_ref() };
        if !state.is_unfinished() {
            let budget = Budget { cost_max: self.budget.cost_max.min(SHORT), ..self.budget };
            return run::decide(state, &Input { at, entropy, cause, budget }, &evaluator);
        }
        // The semaphore is never closed.
        let _place = self.long.acquire().await.ok();
        beside(|| run::decide(state, &Input { at, entropy, cause, budget: self.budget }, &evaluator))
    }

    /// The same for a run that nobody carries yet, of which something is to be decided that evaluates nothing.
    pub(crate) fn at_once(&self, state: &State, at: Timestamp, cause: Cause) -> Option<Decided> {
        run::decide(state, &Input { at, entropy: 0, cause, budget: self.budget }, self.evaluator.as_ref())
    }
}

/// An evaluator whose answers cost at least the time that they took here: what counts is how long a thread was kept.
struct Measured<'a> {
    evaluator: &'a (dyn Evaluator + Send + Sync),
    clock: &'a dyn Clock,
}

impl Evaluator for Measured<'_> {
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer {
        let began = self.clock.monotonic();
        let answer = self.evaluator.answer(program, arguments, input);
        let took = self.clock.monotonic().saturating_sub(began).as_micros();
        let took = Cost::from_micros(u64::try_from(took).unwrap_or(u64::MAX));
        Answer { cost: answer.cost.max(took), ..answer }
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        self.evaluator.inspect(program)
    }
}
