//! A guest's calls: allowed? recorded? budget? intent, Slack, outcome (semantics 1).

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bellhop_core::digest::Digest;
use bellhop_core::fault::Fault;
use bellhop_core::json;
use bellhop_core::preflight::{CallQuestion, judge_call};
use bellhop_core::run::Why;
use bellhop_slack::catalog::Method;
use bellhop_slack::reconcile;
use futures_util::FutureExt as _;
use serde_json::Value;

use super::attempt::Attempt;
use super::request::Request;
use super::scope::Stopped;
use super::stamp::request_text;
use super::{answer, channels};
use crate::execution::{Answer, CallKey, Execution, How};

/// What a guest was answered since it began the slice that it is in.
#[derive(Default)]
pub(super) struct Calls {
    /// The ordinal of the first.
    pub(super) first: u32,
    /// How many it made.
    pub(super) made: u32,
    answers_bytes: u64,
    /// The last read that tells what was there before a write, with what was asked.
    before: Option<(&'static str, Value, Value)>,
    /// The codes of the errors that it was answered: it may pass them on.
    pub(super) told: BTreeSet<String>,
    /// When this life of the driver began the slice, by [`Clock::monotonic`](bellhop_clock::Clock::monotonic). What earlier
    /// ones had sent, here or in another process, has ended by then.
    pub(super) began: Duration,
}

impl Calls {
    /// None yet; the next one is `first`.
    pub(super) fn from(first: u32, began: Duration) -> Self {
        Self { first, began, ..Self::default() }
    }

    /// The ordinal of the call that comes next.
    pub(super) const fn next(&self) -> u32 {
        self.first + self.made
    }

    /// What was read of the thing that a write changes.
    pub(super) fn before(&self, method: &Method, arguments: &Value) -> Option<Value> {
        let wanted = reconcile::before(method, arguments)?;
        let (name, asked, body) = self.before.as_ref()?;
        let same = *name == wanted.method && asked.get(wanted.field).and_then(Value::as_str) == Some(wanted.value);
        same.then(|| body.clone())
    }
}

impl<E: Execution> Attempt<E> {
    /// What the guest's next call is answered. A write that was sent comes to its end, whatever is wished meanwhile.
    pub(super) async fn answer(&mut self, function: &str, arguments: &str) -> Result<Result<String, String>, Stopped> {
        let key = self.scope.call(self.scope.attempt, self.calls.next());
        self.calls.made += 1;
        let result = self.call(function, arguments, key).await?;
        self.calls.answers_bytes += result.as_ref().map_or_else(String::len, String::len) as u64;
        if let Err(error) = &result {
            self.calls.told.extend(answer::code_of(error));
        }
        Ok(result)
    }

    async fn call(&mut self, function: &str, text: &str, key: CallKey) -> Result<Result<String, String>, Stopped> {
        let parsed: Result<Value, _> = serde_json::from_str(text);
        // What is no JSON is known by its text: a replay must make the same call all the same.
        let connection = &self.scope.connection.facts.name;
        let hashed = match &parsed {
            Ok(arguments) => request_text(connection, function, arguments),
            Err(_) => request_text(connection, function, &text),
        };
        let hash = Digest::of(hashed.as_bytes()).to_string();
        let refused = |code: &str, message: String| {
            let error = answer::error(code, &message, "fatal", None, None);
            let (hash, function) = (hash.clone(), function.to_owned());
            Answer { hash, function, writes: false, result: Err(error), how: How::Denied, token: None }
        };
        let arguments = match parsed {
            Ok(value @ Value::Object(_)) => value,
            Ok(_) => {
                let answer = refused("invalid-arguments", "the arguments are not an object".to_owned());
                return self.refuse(&key, answer).await;
            }
            Err(error) => {
                let answer =
                    refused("invalid-arguments", format!("the arguments cannot be read: {}", json::not_json(&error)));
                return self.refuse(&key, answer).await;
            }
        };
        let Some(method) = self.scope.services.gateway.catalog.by_function(function) else {
            let answer = refused("method-unknown", format!("there is no `{function}`"));
            return self.refuse(&key, answer).await;
        };
        let asked = reconcile::tells_what_was_before(method).then(|| arguments.clone());
        let answered = self.answered(Request { method, arguments, key, hash }).await;
        if let (Some(asked), Ok(Ok(text))) = (asked, &answered) {
            let body = serde_json::from_str(text).unwrap_or(Value::Null);
            self.calls.before = Some((method.name.as_str(), asked, body));
        }
        answered
    }

    /// A call that the host refuses before it looks at what it asks for. It has a record as every call has: what an
    /// attempt has on record has no holes, behind which a later one would miss what was carried out.
    async fn refuse(&mut self, key: &CallKey, answer: Answer) -> Result<Result<String, String>, Stopped> {
        let (kept, open) = self.scope.look(key).await?;
        let is_another = kept.as_ref().is_some_and(|kept| kept.hash != answer.hash) || open.is_some();
        if is_another {
            return Err(Stopped::Park(self.scope.nondeterministic(key)));
        }
        if let Some(kept) = kept {
            return Ok(kept.result);
        }
        self.leaves_record();
        self.record(key, answer).await
    }

    async fn record(&self, key: &CallKey, answer: Answer) -> Result<Result<String, String>, Stopped> {
        Ok(self.scope.record(key, answer).await?.result)
    }

    /// From the record, or by the host's refusal, or by Slack. What is not on record is refused where the guest may have
    /// no more answers.
    async fn answered(&mut self, request: Request) -> Result<Result<String, String>, Stopped> {
        let Request { method, arguments, key, hash } = &request;
        // What is recorded is answered from the record: it was judged and done when it was recorded.
        let (kept, open) = self.scope.look(key).await?;
        if let Some(answer) = kept {
            if answer.hash != *hash {
                return Err(Stopped::Park(self.scope.nondeterministic(key)));
            }
            if answer.how.is_reused()
                && let Some(earlier) = &mut self.earlier
            {
                earlier.answered(hash, key.ordinal);
            }
            self.deeds.note(&answer);
            return Ok(answer.result);
        }
        self.leaves_record();
        if open.is_some() {
            // It was judged before it was sent, and what has changed since does not unsend it.
            return self.begin(request).await;
        }
        let answers_bytes_max = self.scope.guests.answers_bytes_max;
        if self.calls.answers_bytes > answers_bytes_max {
            let message = format!(
                "the answers of this slice have more than {answers_bytes_max} bytes together: answer `again` earlier"
            );
            return self.record(key, request.refused("answer-too-large", &message)).await;
        }
        if let Some(answer) = self.earlier_success(&request).await? {
            self.deeds.note(&answer);
            return self.record(key, answer).await;
        }
        let scope = &self.scope;
        let names = channels::names(scope, method, arguments, key.ordinal).await?;
        let usable = scope.connection.usable();
        let question = CallQuestion {
            action: &scope.action.manifest,
            plugin: &scope.plugin,
            function: &method.function,
            connection: &usable,
            rules: &scope.services.gateway.rules,
            grants: &scope.grants,
            arguments,
            names: &names,
            token: scope.token,
            now: scope.port.now(),
        };
        if let Err(diagnostic) = judge_call(&question) {
            return self.record(key, request.denied(answer::refusal(&diagnostic))).await;
        }
        self.begin(request).await
    }

    async fn begin(&mut self, request: Request) -> Result<Result<String, String>, Stopped> {
        if !request.method.writes {
            return self.perform(request).await;
        }
        // A mistake of ours must not make what was sent look as if it had not been.
        AssertUnwindSafe(self.perform(request)).catch_unwind().await.unwrap_or_else(|_| Err(self.lost()))
    }

    /// A write that the host itself lost sight of. It goes on in its attempt, which finds out what became of it.
    fn lost(&self) -> Stopped {
        let detail = "the host failed while the call was under way, and whether it was carried out is not known";
        self.scope.park(Why::Doubt, Fault::of_code("outcome-unknown", detail))
    }
}
