//! A host's refusals (`application/problem+json`) as what people see: diagnostics in the same form as `check`, the
//! request's id for whoever reads the host's log.

use bellhop_core::diagnostic::{Code, Diagnostic, Has, HttpRemedy, Needs, Place, Remedy, Retryable, Severity, code};
use reqwest::StatusCode;
use serde_json::Value;

use super::output::{Exit, Failure};

/// At most so many are shown; a host does not send more.
const DIAGNOSTICS_MAX: usize = 1_000;

/// The refusal as the end of the program.
pub(crate) fn failure(status: StatusCode, problem: &Value, with_token: bool) -> Failure {
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let code = text("code").unwrap_or("unexpected-answer");
    let diagnostics: Vec<Diagnostic> = problem
        .get("diagnostics")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .take(DIAGNOSTICS_MAX)
        .map(diagnostic)
        .collect();
    let exit = match status.as_u16() {
        401 | 403 | 408 | 429 => Exit::Failed,
        404 | 405 | 409 | 412 => Exit::Missing,
        400..=499 => Exit::Diagnostics,
        _ if code.starts_with("store-") || code.starts_with("storage-") => Exit::Storage,
        _ => Exit::Failed,
    };
    let what = text("detail").or_else(|| text("title")).unwrap_or("the host answered something that is no answer");
    let request = text("request_id").map(|id| format!(", request {id}")).unwrap_or_default();
    let mut failure = Failure::failed(code, format!("{what} ({code}, {}{request})", status.as_u16()));
    failure.exit = exit;
    failure.diagnostics = diagnostics;
    failure.problem = problem.is_object().then(|| problem.clone());
    failure.help = problem
        .pointer("/remedies/0/title")
        .and_then(Value::as_str)
        .map(super::output::plain)
        .filter(|t| !t.is_empty());
    if status == StatusCode::UNAUTHORIZED {
        failure.help = Some(match with_token {
            true => "put a valid token into BELLHOP_TOKEN: bellhop token create --name NAME --scope SCOPE".to_owned(),
            false => "put a token into BELLHOP_TOKEN; the host printed the first one when it first started".to_owned(),
        });
    }
    failure
}

/// A diagnostic as it was before it became JSON, as far as JSON has it.
pub(crate) fn diagnostic(value: &Value) -> Diagnostic {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let action = text("action");
    let connection = text("connection");
    let methods = texts(value.get("methods"));
    let needs = value.get("needs").map(needs);
    // What typed facts say is not said again in JSON.
    let message = text("message").unwrap_or_else(|| {
        let what = action.as_deref().and_then(|a| a.split(':').next()).unwrap_or("this");
        match &connection {
            Some(connection) => format!("`{what}` cannot run on connection `{connection}`"),
            None => format!("`{what}` cannot run"),
        }
    });
    let number = |name: &str| value.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let place = text("file").zip(number("line")).map(|(file, line)| Place {
        file,
        line,
        column: number("column").unwrap_or(1),
        length: 1,
        text: String::new(),
    });
    let label = (!methods.is_empty()).then(|| format!("calls {}", methods.join(", ")));
    let known = text("code").and_then(|code| known(&code));
    let mut diagnostic = Diagnostic::error(known.unwrap_or(Code("diagnostic")), message);
    if known.is_none() {
        // A newer host's code, which this program has no page of.
        diagnostic.message = format!("{}: {}", text("code").unwrap_or_default(), diagnostic.message);
    }
    if text("severity").as_deref() == Some("warning") {
        diagnostic.severity = Severity::Warning;
    }
    diagnostic.label = label.filter(|_| place.is_some());
    diagnostic.place = place;
    diagnostic.task = text("task");
    diagnostic.pointer = text("pointer");
    diagnostic.action = action;
    diagnostic.methods = methods;
    diagnostic.connection = connection;
    diagnostic.needs = needs;
    diagnostic.has = value.get("has").map(has);
    diagnostic.retryable = match text("retryable").as_deref() {
        Some("after-remedy") => Retryable::AfterRemedy,
        Some("later") => Retryable::Later,
        _ => Retryable::No,
    };
    diagnostic.who = text("who");
    diagnostic.remedies = value.get("remedies").and_then(Value::as_array).into_iter().flatten().map(remedy).collect();
    diagnostic
}

/// The core's codes, the pages of the book, and the host's own problems.
fn known(text: &str) -> Option<Code> {
    code::find(text).map(|entry| entry.code).or_else(|| super::explain::name(text).map(Code))
}

fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn words<T: std::str::FromStr>(value: Option<&Value>) -> Vec<T> {
    texts(value).iter().filter_map(|text| text.parse().ok()).collect()
}

fn word<T: std::str::FromStr>(value: Option<&Value>) -> Option<T> {
    value.and_then(Value::as_str).and_then(|text| text.parse().ok())
}

fn needs(value: &Value) -> Needs {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Needs {
        kinds: words(value.get("kinds")),
        title: text("title"),
        plans: words(value.get("plans")),
        permission: word(value.get("permission")),
        scopes: texts(value.get("scopes")),
        token: text("token"),
        text: text("text"),
    }
}

fn has(value: &Value) -> Has {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Has {
        kind: word(value.get("kind")),
        title: text("title"),
        plan: word(value.get("plan")),
        permission: word(value.get("permission")),
        scopes: texts(value.get("scopes")),
        text: text("text"),
    }
}

fn remedy(value: &Value) -> Remedy {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Remedy {
        title: text(value, "title").unwrap_or_default(),
        command: text(value, "command"),
        http: value.get("http").map(|http| HttpRemedy {
            method: text(http, "method").unwrap_or_default(),
            path: text(http, "path").unwrap_or_default(),
            body: http.get("body").cloned().unwrap_or(Value::Null),
        }),
    }
}

#[cfg(test)]
mod tests {
    use bellhop_core::diagnostic::render;
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    fn sent() -> Value {
        json!({
            "type": "https://bellhop.dev/errors/preflight-refused", "title": "t", "status": 422, "code": "preflight-refused",
            "detail": "nothing was changed: one thing is missing", "request_id": "req_01",
            "diagnostics": [{
                "code": "plan-required", "severity": "error", "file": "workflows/send-notification.yaml", "line": 21,
                "column": 13, "task": "/do/0/notify", "action": "message.send:1@slack", "methods": ["chat.postMessage"],
                "connection": "acme",
                "needs": {"kinds": ["grid-workspace", "workspace"], "title": "Enterprise Grid: Workspace"},
                "has": {"kind": "grid-org", "title": "Enterprise Grid: Grid account"}, "retryable": "after-remedy",
                "who": "a Workspace Owner of that workspace",
                "remedies": [{"title": "connect the workspace too",
                              "command": "bellhop connect slack --kind grid-workspace --name acme-hq",
                              "http": {"method": "POST", "path": "/v1/connections", "body": {"kind": "grid-workspace"}}}]
            }]
        })
    }

    #[test]
    fn a_refusal_reads_as_check_writes_it() {
        let failure = failure(StatusCode::UNPROCESSABLE_ENTITY, &sent(), true);
        assert_eq!(failure.exit, Exit::Diagnostics);
        assert_eq!(
            failure.message,
            "nothing was changed: one thing is missing (preflight-refused, 422, request req_01)"
        );
        expect![[r#"
            error[plan-required]: `message.send` cannot run on connection `acme`
              --> workflows/send-notification.yaml:21:13 (task /do/0/notify)
               = note:  calls chat.postMessage
               = needs: a connection of kind "Enterprise Grid: Workspace" (or a Pro / Business+ workspace)
               = has:   "Enterprise Grid: Grid account"
               = fix:   connect the workspace too: bellhop connect slack --kind grid-workspace --name acme-hq
               = who:   a Workspace Owner of that workspace
               = more:  bellhop explain plan-required
        "#]]
        .assert_eq(&render(&failure.diagnostics[0]));
    }

    #[test]
    fn what_a_diagnostic_has_in_json_is_kept() {
        let value = &sent()["diagnostics"][0];
        assert_eq!(&json!(diagnostic(value)), value);
    }

    #[test]
    fn statuses_become_exit_codes() {
        for (status, code, exit) in [
            (404, "run-unknown", Exit::Missing),
            (409, "run-ended", Exit::Missing),
            (412, "precondition-failed", Exit::Missing),
            (400, "request-invalid", Exit::Diagnostics),
            (401, "token-invalid", Exit::Failed),
            (403, "token-scope-missing", Exit::Failed),
            (500, "internal", Exit::Failed),
            (503, "store-full", Exit::Storage),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(failure(status, &json!({ "code": code }), true).exit, exit, "{code}");
        }
        assert_eq!(failure(StatusCode::BAD_GATEWAY, &Value::Null, false).code, "unexpected-answer");
    }
}
