//! Evaluates for whoever asks over HTTP without holding up others: a hostile expression takes all the time that it may.

use bellhop_core::expression::{Error, Evaluator, Inspection};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::sandbox::expression::Expressions;

/// The evaluator, with this thread's other tasks handed to another thread while a guest runs. Where nothing is evaluated
/// nothing is handed over.
pub(super) struct Aside(pub(super) Expressions);

impl Evaluator for Aside {
    fn evaluate(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Result<Value, Error> {
        beside(|| self.0.evaluate(program, arguments, input))
    }

    fn inspect(&self, program: &str) -> Result<Inspection, Error> {
        // What was inspected before is remembered, and costs nothing.
        if self.0.is_known(program) { self.0.inspect(program) } else { beside(|| self.0.inspect(program)) }
    }
}

/// Does `work`, which may take long, here, while others do what this thread has to do besides.
fn beside<T>(work: impl FnOnce() -> T) -> T {
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
