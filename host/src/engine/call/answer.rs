//! What a guest gets to hear, and what a task ends with.

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::fault::{Fault, SlackAnswer};
use bellhop_core::run::{Effect, Returned, Undo};
use bellhop_slack::catalog::outcome::{Kind, classify};
use bellhop_slack::catalog::{Method, Transport};
use bellhop_slack::client::Answer;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::faults::{Plant, planted};

/// Slack's answer as the guest gets it: the body, or our error object.
pub(super) fn to_guest(method: &Method, answer: &Answer, bytes_max: u64) -> Result<String, String> {
    let was_so = planted(Plant::ClaimWhatWasSo) && answer.error.as_deref().is_some_and(|e| e.starts_with("already_"));
    if answer.ok || was_so {
        let text = answer.body.to_string();
        if text.len() as u64 > bytes_max && method.writes {
            // It was carried out, and must count so: told as an error, a retry would do it again.
            return Ok(cut_to(&answer.body, bytes_max));
        }
        if text.len() as u64 > bytes_max {
            return Err(error(
                "answer-too-large",
                &format!(
                    "{} answered {} bytes, a plugin gets at most {bytes_max}: ask for smaller pages",
                    method.name,
                    text.len()
                ),
                "fatal",
                None,
                None,
            ));
        }
        return Ok(text);
    }
    let code = answer.error.as_deref().unwrap_or("unknown");
    let class = classify(method, code);
    let scim = method.transport == Transport::Scim;
    let slack_code = if scim { format!("scim-{code}") } else { code.to_owned() };
    let details = scim.then(|| json!({ "status": answer.status, "detail": answer.body.get("detail") }));
    let slack = json!({
        "method": method.name, "error": slack_code, "needed": answer.needed, "provided": answer.provided,
    });
    let guest_class = match class.kind {
        Kind::Transient => "retry",
        Kind::Plan | Kind::Scope | Kind::Token | Kind::Permission => "denied",
        _ => "fatal",
    };
    Err(error(
        class.code,
        &format!("Slack answered `{slack_code}` to {}", method.name),
        guest_class,
        Some(slack),
        details,
    ))
}

/// The answer to a write in at most `bytes_max`: its largest fields are left out, and named.
fn cut_to(body: &Value, bytes_max: u64) -> String {
    let mut fields: Vec<(&String, &Value)> = body.as_object().into_iter().flatten().collect();
    fields.sort_by_cached_key(|(name, value)| name.len() + value.to_string().len());
    let (mut kept, mut left, mut bytes) = (serde_json::Map::new(), Vec::new(), CUT_BYTES);
    for (name, value) in fields {
        bytes += (name.len() + value.to_string().len() + 8) as u64;
        if bytes <= bytes_max {
            kept.insert(name.clone(), value.clone());
        } else if left.len() < CUT_NAMED_MAX {
            left.push(name.chars().take(CUT_NAME_CHARS_MAX).collect::<String>());
        }
    }
    kept.insert("bellhop_left_out".to_owned(), json!(left));
    Value::Object(kept).to_string()
}

/// Names of fields that [`cut_to`] says were left out, the characters of each, and room for all of them.
const CUT_NAMED_MAX: usize = 10;
const CUT_NAME_CHARS_MAX: usize = 40;
const CUT_BYTES: u64 = 4_096;

/// The host's refusal as the guest gets it.
pub(super) fn refusal(diagnostic: &Diagnostic) -> String {
    let details = json!({ "diagnostic": diagnostic });
    error(diagnostic.code.0, &diagnostic.message, "denied", None, Some(details))
}

/// Any other error of a call as the guest gets it.
pub(super) fn error(code: &str, message: &str, class: &str, slack: Option<Value>, details: Option<Value>) -> String {
    let mut object = json!({ "code": code, "message": message, "class": class });
    if let Some(slack) = slack {
        object["slack"] = slack;
    }
    if let Some(details) = details {
        object["details"] = details;
    }
    object.to_string()
}

#[derive(Deserialize)]
struct GuestUndo {
    action: String,
    #[serde(default)]
    input: Value,
}

/// The action's answer in the contract's form. Unknown fields are ignored (semantics 7).
#[derive(Deserialize)]
struct GuestDone {
    #[serde(default)]
    output: Value,
    #[serde(default)]
    changed: bool,
    #[serde(default)]
    undo: Option<GuestUndo>,
    #[serde(default)]
    again: Option<Value>,
}

#[derive(Deserialize)]
struct GuestError {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    class: String,
    #[serde(default)]
    slack: Option<SlackAnswer>,
    #[serde(default)]
    details: Option<Value>,
}

/// What an action's answer means for its task.
pub(super) enum Meaning {
    /// It ended.
    Returned(Returned),
    /// It wants a next slice with this state.
    Again(Value),
    /// It wants a person.
    Park(Fault),
    /// It is not in the contract's form.
    Broken(String),
}

/// Reads an action's answer. `status_of` knows the statuses of the codes that the manifest declares.
pub(super) fn meaning(answer: Result<String, String>, status_of: impl Fn(&str) -> Option<u16>) -> Meaning {
    match answer {
        Ok(text) => match serde_json::from_str::<GuestDone>(&text) {
            Err(error) => Meaning::Broken(format!("its answer is not of the contract's form: {error}")),
            Ok(GuestDone { again: Some(state), .. }) => Meaning::Again(state),
            Ok(done) => Meaning::Returned(Returned::Ok {
                output: done.output,
                effect: Effect {
                    changed: done.changed,
                    undo: done.undo.map(|u| Undo { action: u.action, input: u.input, connection: None }),
                    ..Effect::default()
                },
            }),
        },
        Err(text) => match serde_json::from_str::<GuestError>(&text) {
            Err(error) => Meaning::Broken(format!("its error is not of the contract's form: {error}")),
            Ok(guest) => {
                // A code that the manifest does not declare may be the host's own, passed on; else it has no status.
                let status = status_of(&guest.code).or_else(|| status_of_host(&guest.code)).unwrap_or(500);
                let mut fault = Fault::of_code(&guest.code, status, guest.message);
                fault.slack = guest.slack;
                fault.details = guest.details;
                if guest.class == "park" { Meaning::Park(fault) } else { Meaning::Returned(Returned::Fault(fault)) }
            }
        },
    }
}

/// Statuses of the error classes that the host itself makes (semantics 4, "Errors").
fn status_of_host(code: &str) -> Option<u16> {
    Some(match code {
        "plan-required" => 402,
        "scope-missing"
        | "token-kind-missing"
        | "capability-not-granted"
        | "not-in-channel"
        | "permission-read-only"
        | "permission-denied"
        | "purpose-not-allowed" => 403,
        "not-found" => 404,
        "already-exists" => 409,
        "answer-too-large" => 413,
        "rate-limited" => 429,
        "invalid-arguments" => 400,
        _ => return None,
    })
}
