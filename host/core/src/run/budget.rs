//! What one decision may use, and the account of what it has used.

use std::cell::Cell;

use serde_json::Value;

use crate::cost::Cost;
use crate::expression::{Answer, Error, Evaluator, Inspection};

/// What one decision may use. It stops at the first step after any of these is used up; a step that has begun is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Events.
    pub events_max: usize,
    /// Bytes of these as JSON, about.
    pub bytes_max: u64,
    /// Evaluations of expressions.
    pub evaluations_max: u32,
    /// The time of evaluations and checks, as their answers say, and of the decision's own steps, as estimated.
    pub cost_max: Cost,
    /// The longest value that an expression or a task may give, in bytes of JSON.
    pub value_bytes_max: u64,
    /// Decisions in a row that ended with their budget, before the run is stopped as one that never waits.
    pub decisions_max: u32,
}

impl Budget {
    /// What is usual: about 100 ms, and records far below what a store takes.
    pub const USUAL: Self = Self {
        events_max: 2_000,
        bytes_max: 4 << 20,
        evaluations_max: 2_000,
        cost_max: Cost::from_micros(100_000),
        value_bytes_max: 1 << 20,
        decisions_max: 500,
    };
}

impl Default for Budget {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What a decision used up before it came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// [`Budget::events_max`].
    Events,
    /// [`Budget::bytes_max`].
    Bytes,
    /// [`Budget::evaluations_max`].
    Evaluations,
    /// [`Budget::cost_max`].
    Cost,
}

/// Counts what is evaluated and what that costs.
pub(super) struct Meter<'a> {
    evaluator: &'a dyn Evaluator,
    evaluations: Cell<u32>,
    cost: Cell<Cost>,
    bytes: Cell<u64>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(evaluator: &'a dyn Evaluator) -> Self {
        Self { evaluator, evaluations: Cell::new(0), cost: Cell::default(), bytes: Cell::new(0) }
    }

    /// Something else took so long.
    pub(super) fn add(&self, cost: Cost) {
        self.cost.set(self.cost.get() + cost);
    }

    /// An event has so many bytes.
    pub(super) fn weigh(&self, bytes: u64) {
        self.bytes.set(self.bytes.get().saturating_add(bytes));
    }

    /// What of `budget` is used up, now that there are so many events.
    pub(super) fn spent(&self, budget: &Budget, events: usize) -> Option<Spent> {
        if events >= budget.events_max {
            Some(Spent::Events)
        } else if self.bytes.get() >= budget.bytes_max {
            Some(Spent::Bytes)
        } else if self.evaluations.get() >= budget.evaluations_max {
            Some(Spent::Evaluations)
        } else if self.cost.get() >= budget.cost_max {
            Some(Spent::Cost)
        } else {
            None
        }
    }
}

impl Evaluator for Meter<'_> {
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer {
        let answer = self.evaluator.answer(program, arguments, input);
        self.evaluations.set(self.evaluations.get().saturating_add(1));
        self.add(answer.cost);
        answer
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        self.evaluator.inspect(program)
    }
}
