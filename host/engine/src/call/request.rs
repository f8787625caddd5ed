//! What a guest asks for.

use bellhop_core::requirement::TokenKind;
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::Method;
use serde_json::Value;

use super::answer;
use crate::execution::{Answer, CallKey, How, Intent};

/// A call of a guest, as it asks for it.
pub(super) struct Request {
    pub(super) method: &'static Method,
    pub(super) arguments: Value,
    /// Under which it is kept.
    pub(super) key: CallKey,
    /// Of its function and arguments, before anything was added to these.
    pub(super) hash: String,
}

impl Request {
    /// What is kept once it is known what became of it.
    pub(super) fn answer(&self, result: Result<String, String>, how: How) -> Answer {
        let (hash, function) = (self.hash.clone(), self.method.function.clone());
        Answer { hash, function, writes: self.method.writes, result, how, token: None }
    }

    /// What is kept when it was never sent, and will not be: the guest's error with this code.
    pub(super) fn refused(&self, code: &str, message: &str) -> Answer {
        self.denied(answer::error(code, message, "fatal", None, None))
    }

    /// The same, with the guest's error.
    pub(super) fn denied(&self, error: String) -> Answer {
        Answer { writes: false, ..self.answer(Err(error), How::Denied) }
    }

    /// That it is about to be sent, by this token of the connection.
    pub(super) fn intent(&self, connection: &str, at: Timestamp, token: Option<TokenKind>) -> Intent {
        let (hash, function) = (self.hash.clone(), self.method.function.clone());
        Intent { hash, at, function, connection: connection.to_owned(), token }
    }
}
