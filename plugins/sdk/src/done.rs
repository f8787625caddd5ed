//! What an action answers when it succeeds.

use serde::Serialize;
use serde_json::Value;

use crate::failure::Failure;

/// The success of an action, or of one slice of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Done<O>(pub(crate) State<O>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State<O> {
    Finished { output: O, changed: bool, undo: Option<Undo> },
    Again(Value),
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Undo {
    pub(crate) action: &'static str,
    pub(crate) input: Value,
}

impl<O> Done<O> {
    /// Something was changed. The host puts it into the run's ledger.
    #[must_use]
    pub fn changed(output: O) -> Self {
        Self(State::Finished { output, changed: true, undo: None })
    }

    /// Nothing was changed: what was asked for held already, or the action only reads. Nothing will be undone.
    #[must_use]
    pub fn unchanged(output: O) -> Self {
        Self(State::Finished { output, changed: false, undo: None })
    }

    /// How to undo the change: the action must be the one that the manifest declares as the inverse. Ignored when
    /// nothing was changed.
    #[must_use]
    pub fn undo(mut self, with: &'static str, by: Value) -> Self {
        if let State::Finished { changed: true, undo, .. } = &mut self.0 {
            *undo = Some(Undo { action: with, input: by });
        }
        self
    }

    /// The action is not done: the host keeps `state`, forgets the answers so far, and runs the action again, which
    /// finds it in [`crate::Context::state`]. For work that takes more calls or answers than one slice may have.
    pub fn again(state: impl Serialize) -> Result<Self, Failure> {
        match serde_json::to_value(state) {
            Ok(state) => Ok(Self(State::Again(state))),
            Err(error) => Err(Failure::new("plugin-output-invalid", format!("the state is not JSON: {error}"))),
        }
    }
}
