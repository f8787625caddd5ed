//! Evaluates for whoever asks over HTTP without holding up others: a hostile expression takes all the time that it may.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bellhop_core::cost::Cost;
use bellhop_core::expression::{Answer, Error, Evaluator, Inspection};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

use bellhop_clock::Clock;
use bellhop_sandbox::expression::Expressions;

/// A program that computed no longer the last time is evaluated where it is asked for. Processor time: on a machine that has
/// much to do everything takes long, and handing threads over would make it longer.
const QUICK: Cost = Cost::from_micros(1_000);

/// And no program that the last time waited so long for an instance of the evaluator.
const WAIT_MAX: Duration = Duration::from_millis(25);

/// So many programs are remembered as quick; then all are forgotten.
const REMEMBERED_MAX: usize = 10_000;

/// The evaluator, with this thread's other tasks handed to another thread while a guest runs that may take long: the
/// handing over costs more than a usual evaluation, so a program that was quick the last time is done without. One that
/// becomes slow holds up a thread once, for the budget of one evaluation.
pub(crate) struct Aside {
    expressions: Expressions,
    clock: Arc<dyn Clock>,
    quick: Mutex<HashSet<u64>>,
}

impl Aside {
    pub(crate) fn new(expressions: Expressions, clock: Arc<dyn Clock>) -> Self {
        Self { expressions, clock, quick: Mutex::default() }
    }
}

impl Evaluator for Aside {
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer {
        let mut hasher = DefaultHasher::new();
        program.hash(&mut hasher);
        let program_hash = hasher.finish();
        let quick = || self.quick.lock().unwrap_or_else(PoisonError::into_inner);
        let was_quick = quick().contains(&program_hash);
        let begun = self.clock.monotonic();
        let work = || self.expressions.answer(program, arguments, input);
        let result = if was_quick { work() } else { beside(work) };
        let is_quick = result.cost <= QUICK && self.clock.monotonic().saturating_sub(begun) <= WAIT_MAX;
        if is_quick != was_quick {
            let mut quick = quick();
            if !is_quick {
                quick.remove(&program_hash);
            } else {
                if quick.len() >= REMEMBERED_MAX {
                    quick.clear();
                }
                quick.insert(program_hash);
            }
        }
        result
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        // What was inspected before is remembered, and costs nothing.
        if self.expressions.is_known(program) {
            self.expressions.inspect(program)
        } else {
            beside(|| self.expressions.inspect(program))
        }
    }
}

/// Does `work`, which may take long, here, while others do what this thread has to do besides.
pub(crate) fn beside<T>(work: impl FnOnce() -> T) -> T {
    let several = Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn others_go_on_while_a_guest_computes() {
        // One thread: whoever holds it up holds up all.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (tell, told) = mpsc::channel();
        let work = runtime.spawn(async move {
            tokio::spawn(async move { tell.send(()) });
            beside(|| told.recv_timeout(Duration::from_secs(20)))
        });
        assert_eq!(runtime.block_on(work).unwrap(), Ok(()), "the other task did not get to run");
    }
}
