//! Resolves writes whose outcome is unknown, by the method's rule in the catalog.

use bellhop_core::id::RunId;
use bellhop_slack::catalog::Method;
use bellhop_slack::reconcile::{self, Question, Step, Verdict};
use serde_json::Value;

use crate::engine::execution::Intent;
use crate::engine::gateway::{Connected, Gateway};

/// How often one page is asked for again when no answer came.
const PAGE_ATTEMPTS: u32 = 4;

/// A write of which nobody knows what became.
pub(crate) struct Doubt<'a> {
    /// Its method.
    pub(crate) method: &'a Method,
    /// Its arguments, as the guest gave them.
    pub(crate) arguments: &'a Value,
    /// What was written before it was sent.
    pub(crate) intent: &'a Intent,
    /// The key that it carries.
    pub(crate) stamp: &'a str,
    /// What the same action had read of the thing before, where its rule wants to know.
    pub(crate) before: Option<&'a Value>,
}

/// Reads back what became of a write, every page of it. Whatever keeps an answer from coming (a limit, a scope, a lost
/// connection) is [`Verdict::CannotTell`]: it is never taken for absence.
pub(crate) async fn read_back(gateway: &Gateway, connection: &Connected, doubt: &Doubt<'_>, run: RunId) -> Verdict {
    let question = Question {
        method: doubt.method,
        arguments: doubt.arguments,
        key: doubt.stamp,
        intent_at: doubt.intent.at,
        acting: connection.acting.as_deref(),
        before: doubt.before,
    };
    let (mut reconciler, mut request) = match reconcile::begin(&question) {
        Ok(begun) => begun,
        Err(verdict) => return verdict,
    };
    loop {
        let Some(asked) = gateway.catalog.by_name(request.method) else {
            return Verdict::CannotTell(format!("there is no method {} to read back with", request.method));
        };
        let answer = match gateway.read(connection, asked, &request.arguments, run, PAGE_ATTEMPTS).await {
            Ok(answer) => answer,
            Err(failure) => return Verdict::CannotTell(format!("reading back with {}: {failure}", asked.name)),
        };
        match reconciler.next(&answer) {
            Step::Ask(next) => request = next,
            Step::Done(verdict) => return verdict,
        }
    }
}
