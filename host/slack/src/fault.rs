//! A refusal or a failure as the fault that a file can catch and a plugin can read.

use bellhop_core::fault::{Fault, SlackAnswer};

use crate::catalog::Method;
use crate::catalog::outcome::classify;
use crate::client::{Answer, Failure, NotSent};

/// The fault of an answer; none when the call was carried out. Its class is that of semantics section 4, and it
/// carries Slack's own words.
#[must_use]
pub fn of_answer(method: &Method, answer: &Answer) -> Option<Fault> {
    if answer.ok {
        return None;
    }
    let error = answer.error.as_deref().unwrap_or("unknown_error");
    let class = classify(method, error);
    let words = SlackAnswer {
        method: method.name.clone(),
        error: error.to_owned(),
        needed: answer.needed.clone(),
        provided: answer.provided.clone(),
    };
    Some(Fault {
        slack: Some(words),
        ..Fault::of_code(class.code, class.status, format!("{} answered `{error}`", method.name))
    })
}

/// The fault of a failure, for when the host does not try again any more.
#[must_use]
pub fn of_failure(method: &Method, failure: &Failure) -> Fault {
    let (code, status) = match failure {
        Failure::NotSent { reason: NotSent::Arguments(_), .. } => ("invalid-arguments", 400),
        Failure::NotSent { reason: NotSent::RateLimited, .. } => ("rate-limited", 429),
        Failure::NotSent { .. } => ("slack-unavailable", 503),
        Failure::Unknown { .. } => ("outcome-unknown", 500),
    };
    Fault::of_code(code, status, format!("{}: {failure}", method.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::catalog::outcome::codes;
    use crate::client::Unknown;

    #[test]
    fn a_refusal_keeps_slacks_words() {
        let method = Catalog::built_in().by_name("chat.postMessage").unwrap();
        let answer = Answer {
            status: 200,
            ok: false,
            error: Some("missing_scope".into()),
            body: serde_json::Value::Null,
            needed: Some("chat:write".into()),
            provided: Some("users:read".into()),
            bytes: 0,
            scopes: None,
            request_id: None,
        };
        let fault = of_answer(method, &answer).unwrap();
        assert_eq!((fault.code(), fault.status), ("scope-missing", 403));
        assert_eq!(fault.slack.unwrap().needed.as_deref(), Some("chat:write"));
        assert_eq!(of_answer(method, &Answer { ok: true, ..answer }), None);
    }

    #[test]
    fn every_failure_has_a_known_code() {
        let method = Catalog::built_in().by_name("chat.postMessage").unwrap();
        let not_sent = |reason| Failure::NotSent { reason, retry_after_ms: None };
        for (failure, code) in [
            (not_sent(NotSent::Arguments("no".into())), "invalid-arguments"),
            (not_sent(NotSent::RateLimited), "rate-limited"),
            (not_sent(NotSent::Refused), "slack-unavailable"),
            (Failure::Unknown { reason: Unknown::Cut }, "outcome-unknown"),
        ] {
            assert_eq!(of_failure(method, &failure).code(), code);
            assert!(codes().contains(&code), "{code}");
        }
    }
}
