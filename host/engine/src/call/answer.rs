//! What a guest gets to hear, and what a task ends with.

use std::collections::BTreeSet;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::fault::{self, Class, Fault, SlackAnswer, is_reserved};
use bellhop_core::json;
use bellhop_core::manifest::DeclaredError;
use bellhop_core::run::{Effect, Returned, Undo};
use bellhop_core::value::{self, Field};
use bellhop_slack::catalog::outcome::{Kind, classify};
use bellhop_slack::catalog::{Method, Transport};
use bellhop_slack::client::Answer;
use serde::Deserialize;
use serde_json::{Value, json};

/// Slack's answer as the guest gets it: the body, or our error object.
pub(super) fn to_guest(method: &Method, answer: &Answer, bytes_max: u64) -> Result<String, String> {
    if answer.ok {
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
    // That nobody knows what became of a write is a state of a run, and is never told to a guest.
    let (ours, kind) = match class.kind {
        Kind::Unknown => ("slack-unavailable", Kind::Transient),
        kind => (class.code, kind),
    };
    let scim = method.transport == Transport::Scim;
    let slack_code = if scim { format!("scim-{code}") } else { code.to_owned() };
    let details = if scim {
        Some(json!({ "status": answer.status, "detail": scim_detail(&answer.body) }))
    } else {
        explained(&answer.body)
    };
    let said = details.as_ref().and_then(|details| match &details["detail"] {
        Value::String(detail) if scim => Some(detail.as_str()),
        _ => details["messages"].as_array()?.first()?.as_str(),
    });
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    let slack = json!({
        "method": method.name, "error": slack_code, "needed": answer.needed, "provided": answer.provided,
    });
    let guest_class = match kind {
        Kind::Transient => "retry",
        Kind::Plan | Kind::Scope | Kind::Token | Kind::Permission => "denied",
        _ => "fatal",
    };
    Err(error(
        ours,
        &format!("Slack answered `{slack_code}` to {}{said}", method.name),
        guest_class,
        Some(slack),
        details,
    ))
}

/// What a guest would get for this refusal, of which nothing more is on record.
pub(super) fn refused_with(method: &Method, error: &str) -> String {
    let answered = Answer {
        status: 200,
        ok: false,
        error: Some(error.to_owned()),
        body: Value::Null,
        needed: None,
        provided: None,
        bytes: 0,
        scopes: None,
        request_id: None,
    };
    to_guest(method, &answered, 0).err().unwrap_or_default()
}

/// What a guest gets when a call went out once more, by another token, after it was refused to the first one with `first`.
/// That what was asked for is so already counts, whoever heard it. Any other refusal is told as what it was refused with
/// first, because that is what somebody can mend, with what came of it the second time. That somebody is in no channel says
/// nothing: it may be the person whose token it is.
pub(super) fn once_more(
    method: &Method,
    first: &str,
    answered: &Answer,
    second: Result<String, String>,
) -> Result<String, String> {
    let told = match second {
        Ok(done) => return Ok(done),
        Err(told) => told,
    };
    let code = answered.error.as_deref().unwrap_or("unknown");
    let class = classify(method, code);
    if class.already_done && class.kind != Kind::Membership {
        return Err(told);
    }
    let Ok(mut both) = serde_json::from_str::<Value>(first) else { return Err(first.to_owned()) };
    let message = both["message"].as_str().unwrap_or_default();
    both["message"] = format!("{message}, and `{code}` when it was made once more by the user token").into();
    let mut details = both["details"].take();
    if !details.is_object() {
        details = json!({});
    }
    details["user"] = serde_json::from_str(&told).unwrap_or(Value::Null);
    both["details"] = details;
    Err(both.to_string())
}

/// What SCIM says of a refusal: where 2.0 has it, or where 1.1 does, whose form Slack's samples of 2.0 have as well.
fn scim_detail(body: &Value) -> Option<Value> {
    let said = body.get("detail").or_else(|| body.pointer("/Errors/description"))?;
    said.is_string().then(|| shortened(said))
}

/// What Slack says of a refusal beside its code: `response_metadata.messages`, `errors`, `error_description` and the like
/// fields of text, so many of each and so long.
fn explained(body: &Value) -> Option<Value> {
    let texts = |value: Option<&Value>| -> Option<Value> {
        let texts: Vec<Value> = match value? {
            Value::Array(list) => list.iter().take(EXPLAINED_MAX).map(shortened).collect(),
            single => vec![shortened(single)],
        };
        (!texts.is_empty()).then(|| Value::from(texts))
    };
    let mut details = serde_json::Map::new();
    for (name, value) in [
        ("messages", body.pointer("/response_metadata/messages")),
        ("warnings", body.pointer("/response_metadata/warnings")),
        ("errors", body.get("errors")),
        ("detail", body.get("detail")),
    ] {
        if let Some(texts) = texts(value.filter(|value| !value.is_null())) {
            details.insert(name.to_owned(), texts);
        }
    }
    (!details.is_empty()).then_some(Value::Object(details))
}

/// Explanations of one sort that are passed on, and the characters of each.
const EXPLAINED_MAX: usize = 10;
const EXPLAINED_CHARS_MAX: usize = 500;

/// Text as it is, anything else as JSON, both cut.
fn shortened(value: &Value) -> Value {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Value::from(text.chars().take(EXPLAINED_CHARS_MAX).collect::<String>())
}

/// The code of an error as a guest gets it.
pub(super) fn code_of(error: &str) -> Option<String> {
    let failure: Value = serde_json::from_str(error).ok()?;
    failure["code"].as_str().map(str::to_owned)
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
    #[serde(default, rename = "retryAfterMs")]
    retry_after_ms: Option<u64>,
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

/// Characters of a code, and of a text that is not of the contract's form, that are shown.
const CODE_CHARS_MAX: usize = 64;
const TEXT_CHARS_MAX: usize = 1_000;
/// No guest has a `retry` wait longer.
const RETRY_AFTER_MS_MAX: u64 = 7 * 86_400_000;

/// The status of a code that a guest ends with, if it may speak in it: one that its manifest declares, or one that a call of
/// this slice was answered (`told`) and that it passes on.
pub(super) fn status_of(code: &str, declared: &[DeclaredError], told: &BTreeSet<String>) -> Option<u16> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if code.is_empty() || code.len() > CODE_CHARS_MAX || !code.chars().all(is_plain) || is_reserved(code) {
        return None;
    }
    let status = declared.iter().find(|error| error.code == code).map(|error| error.status);
    status.or_else(|| told.contains(code).then(|| fault::status_of_call(code).unwrap_or(500)))
}

/// Reads an action's answer. `status_of` knows the statuses of the codes that it may speak in.
pub(super) fn meaning(answer: Result<String, String>, status_of: impl Fn(&str) -> Option<u16>) -> Meaning {
    match answer {
        Ok(text) => match read::<GuestDone>(&text) {
            Err(error) => Meaning::Broken(not_of_the_form("answer", &error, &text, &DONE)),
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
        Err(text) => match read::<GuestError>(&text) {
            Err(error) => Meaning::Broken(not_of_the_form("error", &error, &text, &FAILED)),
            Ok(guest) => failed(guest, status_of),
        },
    }
}

/// An object of the contract. A list would do for serde, which takes its items for the fields in their order.
fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    let given: T = serde_json::from_str(text)?;
    if text.trim_start().starts_with('{') { Ok(given) } else { Err(serde::de::Error::custom("no object")) }
}

/// The author's own text is what helps; what is wrong with its form comes after.
fn not_of_the_form(what: &str, error: &serde_json::Error, text: &str, fields: &[Field]) -> String {
    let shown: String = text.chars().take(TEXT_CHARS_MAX).collect();
    let cut = if shown.len() < text.len() { "…" } else { "" };
    let why = match serde_json::from_str::<Value>(text) {
        Ok(given) => value::wrong(&given, fields).unwrap_or_else(|| "a field of it stands twice".to_owned()),
        Err(_) => json::not_json(error),
    };
    format!("the plugin's {what} is `{shown}{cut}`, which is not of the contract's form: {why}")
}

/// What an answer has; see [`GuestDone`].
const DONE: [Field; 2] = [
    Field { name: "changed", is_required: false, needed: "true or false", fits: Value::is_boolean },
    Field {
        name: "undo",
        is_required: false,
        needed: "an object with the text `action` and an `input`",
        fits: is_undo,
    },
];

/// What an error has; see [`GuestError`].
const FAILED: [Field; 5] = [
    Field { name: "code", is_required: true, needed: "text", fits: Value::is_string },
    Field { name: "message", is_required: false, needed: "text", fits: Value::is_string },
    Field { name: "class", is_required: false, needed: "text", fits: Value::is_string },
    fault::RETRY_AFTER,
    fault::SLACK,
];

fn is_undo(value: &Value) -> bool {
    value.is_null() || value.get("action").is_some_and(Value::is_string)
}

fn failed(guest: GuestError, status_of: impl Fn(&str) -> Option<u16>) -> Meaning {
    let status = status_of(&guest.code);
    let mut fault = match status {
        Some(status) => Fault::declared(&guest.code, status, guest.message),
        // Its own code is none that the guest can speak in.
        None => Fault::of_code("plugin-error", guest.message),
    };
    fault.slack = guest.slack;
    fault.details = match status {
        Some(_) => guest.details,
        None => {
            let code: String = guest.code.chars().take(CODE_CHARS_MAX).collect();
            Some(json!({ "code": code, "details": guest.details }))
        }
    };
    fault.class = Some(match guest.class.as_str() {
        "park" => return Meaning::Park(fault),
        "retry" => Class::Retry,
        "denied" => Class::Denied,
        // What the host does not know fails again.
        _ => Class::Fatal,
    });
    // Only what may pass is worth waiting for.
    fault.retry_after_ms =
        guest.retry_after_ms.filter(|_| fault.class == Some(Class::Retry)).map(|ms| ms.min(RETRY_AFTER_MS_MAX));
    Meaning::Returned(Returned::Fault(fault))
}

#[cfg(test)]
mod tests {
    use bellhop_slack::catalog::Catalog;

    use super::*;

    fn end(text: &str, declared: &[(&str, u16)], told: &[&str]) -> Meaning {
        let declared: Vec<DeclaredError> = declared
            .iter()
            .map(|(code, status)| DeclaredError {
                code: (*code).to_owned(),
                status: *status,
                description: String::new(),
            })
            .collect();
        let told = told.iter().map(|code| (*code).to_owned()).collect();
        meaning(Err(text.to_owned()), |code| status_of(code, &declared, &told))
    }

    fn fault(meaning: Meaning) -> Fault {
        match meaning {
            Meaning::Returned(Returned::Fault(fault)) | Meaning::Park(fault) => fault,
            Meaning::Broken(detail) => panic!("{detail}"),
            _ => panic!("no failure"),
        }
    }

    #[test]
    fn house_d4_an_answer_of_another_form_is_told_what_is_there_and_what_is_needed() {
        let broken = |answer: Result<&str, &str>| {
            let answer = answer.map(str::to_owned).map_err(str::to_owned);
            match meaning(answer, |_| None) {
                Meaning::Broken(detail) => detail,
                _ => panic!("it is of the form"),
            }
        };
        for (answer, why) in [
            (Ok(r#"{"chann"#), "it ends before its JSON does (line 1, column 7)"),
            (Ok("done"), "it is not JSON (line 1, column 1)"),
            (Ok("[]"), "it is a list, and an object is needed"),
            (Ok(r#"{"changed":"yes"}"#), "`changed` is the text `yes`, and true or false is needed"),
            (Ok(r#"{"undo":{"input":{}}}"#), "`undo` is an object, and an object with the text `action`"),
            (Err(r#"{"message":"m"}"#), "`code` is missing, and text is needed"),
            (Err(r#"{"code":404}"#), "`code` is `404`, and text is needed"),
            (Err(r#"{"code":"c","retryAfterMs":1.5}"#), "`retryAfterMs` is `1.5`, and a whole number of milliseconds"),
        ] {
            let detail = broken(answer);
            assert!(detail.contains(why), "{detail}");
        }
    }

    #[test]
    fn house_a12_author_12_a_guest_speaks_only_its_own_codes() {
        for (code, declared, told, expected, status) in [
            ("own", &[("own", 418)][..], &[][..], "own", 418),
            ("other", &[("own", 418)], &[], "plugin-error", 500),
            ("Never Declared", &[("Never Declared", 418)], &[], "plugin-error", 500),
            ("../x", &[("../x", 418)], &[], "plugin-error", 500),
            ("", &[], &[], "plugin-error", 500),
            // Passed on, and made up.
            ("not-found", &[], &["not-found"], "not-found", 404),
            ("not-found", &[], &[], "plugin-error", 500),
            ("token-invalid", &[], &["token-invalid"], "token-invalid", 401),
            ("capability-not-granted", &[], &["capability-not-granted"], "capability-not-granted", 403),
            // The host's states, declared or not.
            ("outcome-unknown", &[("outcome-unknown", 500)], &["outcome-unknown"], "plugin-error", 500),
            ("run-poisoned", &[("run-poisoned", 500)], &[], "plugin-error", 500),
        ] {
            for class in ["retry", "fatal", "denied", "park", "other"] {
                let text = json!({"code": code, "message": "m", "class": class, "details": {"n": 1}}).to_string();
                let fault = fault(end(&text, declared, told));
                assert_eq!((fault.code(), fault.status), (expected, status), "{code} {class}");
                assert_eq!(fault.detail.as_deref(), Some("m"));
                let details = fault.details.unwrap();
                if expected == "plugin-error" {
                    assert_eq!(details, json!({"code": code, "details": {"n": 1}}));
                } else {
                    assert_eq!(details, json!({"n": 1}));
                }
            }
        }
    }

    #[test]
    fn house_a13_what_a_guest_says_of_its_failure_reaches_the_file() {
        for (class, expected, waits) in [
            ("retry", Some(Class::Retry), Some(5_000)),
            ("fatal", Some(Class::Fatal), None),
            ("denied", Some(Class::Denied), None),
            ("unheard-of", Some(Class::Fatal), None),
        ] {
            let text = json!({"code": "own", "message": "m", "class": class, "retryAfterMs": 5_000}).to_string();
            let fault = fault(end(&text, &[("own", 418)], &[]));
            assert_eq!((fault.class, fault.retry_after_ms), (expected, waits), "{class}");
        }
        let long = r#"{"code":"own","message":"m","class":"retry","retryAfterMs":18446744073709551615}"#;
        assert_eq!(fault(end(long, &[("own", 418)], &[])).retry_after_ms, Some(RETRY_AFTER_MS_MAX));
    }

    #[test]
    fn author_c5_an_error_of_plain_text_is_shown() {
        for text in ["the frobnicator is jammed", "\"the frobnicator is jammed\"", "{\"message\":\"jammed\"}", "[]", ""]
        {
            let Meaning::Broken(detail) = end(text, &[], &[]) else { panic!("{text}") };
            assert!(detail.contains(&format!("`{text}`")), "{detail}");
        }
        let Meaning::Broken(detail) = end(&"x".repeat(1 << 20), &[], &[]) else { panic!("it has a form") };
        assert!(detail.len() < 2_000);
    }

    #[test]
    fn author_11_what_slack_says_of_a_refusal_reaches_the_author() {
        let body = json!({
            "ok": false, "error": "invalid_arguments", "errors": ["no channel", {"field": "x"}],
            "response_metadata": {"messages": ["[ERROR] missing required field: channel"]},
        });
        let details = explained(&body).unwrap();
        assert_eq!(details["messages"], json!(["[ERROR] missing required field: channel"]));
        assert_eq!(details["errors"], json!(["no channel", "{\"field\":\"x\"}"]));
        assert_eq!(explained(&json!({"ok": false, "error": "not_found"})), None);
        let flood = json!({ "errors": vec!["x".repeat(10_000); 1_000] });
        assert!(explained(&flood).unwrap().to_string().len() < 6_000);
    }

    #[test]
    fn slack_13_what_is_refused_twice_is_told_as_what_it_was_refused_with_first() {
        let method = |name: &str| Catalog::built_in().by_name(name).unwrap();
        let answered = |error: &str| Answer {
            status: 200,
            ok: false,
            error: Some(error.to_owned()),
            body: json!({ "ok": false, "error": error }),
            needed: None,
            provided: None,
            bytes: 0,
            scopes: None,
            request_id: None,
        };
        for (name, first, second, code) in [
            ("usergroups.users.update", "permission_denied", "permission_denied", "permission-denied"),
            ("usergroups.users.update", "permission_denied", "missing_scope", "permission-denied"),
            ("conversations.kick", "restricted_action", "not_in_channel", "permission-denied"),
            ("conversations.unarchive", "not_in_channel", "not_archived", "not-found"),
            ("usergroups.create", "permission_denied", "name_already_exists", "already-exists"),
        ] {
            let method = method(name);
            let first = to_guest(method, &answered(first), 10_000).unwrap_err();
            let again = answered(second);
            let told = once_more(method, &first, &again, to_guest(method, &again, 10_000)).unwrap_err();
            let told: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["code"], code, "{name} {second}");
            assert!(told["message"].as_str().unwrap().contains(second), "{told}");
        }
        assert_eq!(once_more(method("usergroups.create"), "", &answered(""), Ok("{}".to_owned())), Ok("{}".to_owned()));
    }

    #[test]
    fn house_a6_the_answer_to_a_write_is_cut_and_not_refused() {
        let body = json!({"ok": true, "ts": "1.2", "message": {"text": "x".repeat(100_000)}});
        let cut = cut_to(&body, 50_000);
        assert!(cut.len() <= 50_000);
        let cut: Value = serde_json::from_str(&cut).unwrap();
        assert_eq!(cut, json!({"ok": true, "ts": "1.2", "bellhop_left_out": ["message"]}));
    }
}
