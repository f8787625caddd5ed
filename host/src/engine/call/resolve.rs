//! Resolves writes whose outcome is unknown, by the method's rule in the catalog.

use bellhop_core::id::RunId;
use bellhop_slack::catalog::Method;
use bellhop_slack::reconcile::{self, Question, Step, Verdict};
use serde_json::Value;

use crate::engine::execution::Intent;
use crate::engine::gateway::{Connected, Gateway};

/// How often one page is asked for again when no answer came.
const PAGE_ATTEMPTS: u32 = 4;

/// Reads back what became of a write, every page of it. Whatever keeps an answer from coming (a limit, a scope, a lost
/// connection) is [`Verdict::CannotTell`]: it is never taken for absence.
pub(in crate::engine) async fn read_back(
    gateway: &Gateway,
    connection: &Connected,
    method: &Method,
    arguments: &Value,
    intent: &Intent,
    key: &str,
    run: RunId,
) -> Verdict {
    let question =
        Question { method, arguments, key, intent_at: intent.at, acting: connection.acting.as_deref(), before: None };
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
