//! A run's events as lines for people: when, which task, what.

use std::collections::HashMap;

use serde_json::Value;

use super::browse::cell;
use super::output::plain;

/// Remembers what has begun, so that its end can say how long it took.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    began_ms: Option<i64>,
    now_ms: i64,
    tasks: HashMap<String, i64>,
    calls: HashMap<(String, u64), (String, i64)>,
}

/// Tasks that are remembered; a run with more open ones says no durations for the others.
const REMEMBERED_MAX: usize = 10_000;

/// Whether nothing comes after this event.
pub(crate) fn is_last(event: &Value) -> bool {
    matches!(kind(event), "run.completed" | "run.faulted" | "run.cancelled")
}

/// The event's `type`.
pub(crate) fn kind(event: &Value) -> &str {
    event.get("type").and_then(Value::as_str).unwrap_or_default()
}

impl Timeline {
    /// The event as one line without a line end.
    pub(crate) fn line(&mut self, event: &Value) -> String {
        if let Some(at) = event.get("at").and_then(Value::as_str).and_then(milliseconds) {
            self.now_ms = at;
            self.began_ms.get_or_insert(at);
        }
        let since = self.now_ms - self.began_ms.unwrap_or(self.now_ms);
        let task = event.get("task").and_then(Value::as_str).unwrap_or_default().to_owned();
        let what = self.what(event, &task);
        let shown = if task.is_empty() { "run".to_owned() } else { plain(&task) };
        format!("{:>10}  {shown:<24}  {what}", seconds(since))
    }

    fn what(&mut self, event: &Value, task: &str) -> String {
        let data = event.get("data").unwrap_or(&Value::Null);
        let text = |name: &str| cell(data.get(name));
        let attempt = || match data.get("attempt").and_then(Value::as_u64) {
            Some(attempt) if attempt > 1 => format!(", attempt {attempt}"),
            _ => String::new(),
        };
        let call = (task.to_owned(), data.get("ordinal").and_then(Value::as_u64).unwrap_or(0));
        match kind(event) {
            "task.started" => {
                if self.tasks.len() < REMEMBERED_MAX {
                    self.tasks.insert(task.to_owned(), self.now_ms);
                }
                "begins".to_owned()
            }
            "action.started" => {
                format!("action {} on {}{}{}", text("action"), text("connection"), about(data), attempt())
            }
            "call.started" => {
                let line = format!("  -> {}{}", text("function"), attempt());
                if self.calls.len() < REMEMBERED_MAX {
                    self.calls.insert(call, (text("function"), self.now_ms));
                }
                line
            }
            "call.ended" => {
                let ended = self.calls.remove(&call);
                let function = ended.as_ref().map_or("the call", |(function, _)| function);
                let took = ended.as_ref().map(|(_, at)| format!(", {}", span(self.now_ms - at))).unwrap_or_default();
                format!("  <- {function} {}{took}{}", answered(data), how(data))
            }
            "call.read" => {
                let function = match text("function") {
                    none if none.is_empty() => "a read".to_owned(),
                    function => function,
                };
                format!("  <- {function} {}{}", answered(data), how(data))
            }
            "call.not-sent" => {
                let again = match text("retryAt") {
                    none if none.is_empty() => String::new(),
                    at => format!(", again at {at}"),
                };
                format!("  -- not sent: {}{again}", text("reason"))
            }
            "call.resolved" => {
                let done = data.get("done").and_then(Value::as_bool).unwrap_or(false);
                let by = match text("by") {
                    none if none.is_empty() => String::new(),
                    by => format!(" by {by}"),
                };
                format!("  == resolved{by}: {}", if done { "it was done" } else { "it was not done" })
            }
            "task.completed" => {
                let changed = match data.get("changed").and_then(Value::as_bool) {
                    Some(true) => ", changed something",
                    Some(false) => ", changed nothing",
                    None => "",
                };
                format!("done{}{changed}", self.took(task))
            }
            "task.faulted" => format!("faulted{}: {}", self.took(task), fault(data)),
            "task.skipped" => "skipped".to_owned(),
            "task.waiting" => format!("waits {}until {}", self.span_until(data), text("until")),
            "task.retrying" => {
                format!("tries again {}at {}, after {}", self.span_until(data), text("until"), fault(data))
            }
            "task.caught" => format!("caught {}", fault(data)),
            "task.tolerated" => format!("went on after {}", fault(data)),
            "run.accepted" => match text("by") {
                none if none.is_empty() => "accepted".to_owned(),
                by => format!("accepted, asked for by {by}"),
            },
            "run.asked" => format!("{} asked {}", text("by"), text("for")),
            "run.started" => "begins".to_owned(),
            "run.completed" => format!("completed in {}", self.whole()),
            "run.faulted" => format!("faulted after {}: {}", self.whole(), fault(data)),
            "run.cancelled" => format!("cancelled after {}", self.whole()),
            "run.parked" | "run.rollback-incomplete" => {
                format!("parked, a person has to decide: {}", fault_of(data.get("reason")))
            }
            "run.unparked" => "goes on".to_owned(),
            "run.suspended" => "suspended".to_owned(),
            "run.resumed" => "resumed".to_owned(),
            "run.queued" => {
                format!("waits for its turn in the group `{}` ({} at a time)", text("group"), text("limit"))
            }
            "run.admitted" => "has its turn".to_owned(),
            "run.displaced" => format!("makes room for the newer run {}", text("by")),
            "run.blocked" => format!("cannot begin until this is mended: {}", codes(data)),
            "run.redefined" => format!("goes on with version {}", text("version")),
            "run.unblocked" => "what was missing is there".to_owned(),
            "run.retried" | "call.retried" => "tried again".to_owned(),
            "run.killed" => "ended by force".to_owned(),
            "run.noticed" => "people are told".to_owned(),
            "rollback.started" => "takes back what it changed".to_owned(),
            "undo.started" => {
                format!("takes back change {} with {}{}{}", text("change"), text("action"), about(data), attempt())
            }
            "undo.retrying" => {
                let span = self.span_until(data);
                format!(
                    "tries to take back change {} again {span}at {}, after {}",
                    text("change"),
                    text("until"),
                    fault(data)
                )
            }
            "undo.settled" => format!("change {}: {}", text("change"), text("fate")),
            "note" => format!("{}: {}", text("level"), text("text")),
            other => format!("{} {}", plain(other), cell(Some(data))),
        }
    }

    /// `2 d 4 h, `: how long it is until then.
    fn span_until(&self, data: &Value) -> String {
        let until = data.get("until").and_then(Value::as_str).and_then(milliseconds);
        until.map(|until| format!("{}, ", span(until - self.now_ms))).unwrap_or_default()
    }

    /// Since it began.
    fn whole(&self) -> String {
        span(self.now_ms - self.began_ms.unwrap_or(self.now_ms))
    }

    fn took(&mut self, task: &str) -> String {
        self.tasks.remove(task).map(|at| format!(" in {}", span(self.now_ms - at))).unwrap_or_default()
    }
}

fn answered(data: &Value) -> String {
    if data.get("ok").and_then(Value::as_bool).unwrap_or(false) {
        return "ok".to_owned();
    }
    match (cell(data.get("error")), cell(data.get("detail"))) {
        (code, _) if code.is_empty() => "refused".to_owned(),
        (code, detail) if detail.is_empty() => format!("refused, {code}"),
        (code, detail) => format!("refused, {code}: {detail}"),
    }
}

/// Whom an action is about: `, channel #it, user U1`.
fn about(data: &Value) -> String {
    let subjects = data.get("to").and_then(Value::as_object);
    subjects.into_iter().flatten().map(|(name, value)| format!(", {} {}", plain(name), cell(Some(value)))).collect()
}

/// What keeps a run from beginning.
fn codes(data: &Value) -> String {
    let all = data.get("diagnostics").and_then(Value::as_array);
    let blocking = all.into_iter().flatten().filter(|d| d.get("severity").and_then(Value::as_str) != Some("warning"));
    let codes: Vec<String> = blocking
        .map(|d| match d.get("message").or_else(|| d.get("action")).and_then(Value::as_str) {
            Some(more) => format!("{} ({})", cell(d.get("code")), plain(more)),
            None => cell(d.get("code")),
        })
        .collect();
    codes.join(", ")
}

fn how(data: &Value) -> String {
    match data.get("how").and_then(Value::as_str) {
        None | Some("" | "slack" | "sent") => String::new(),
        Some(how) => format!(" ({})", plain(how)),
    }
}

/// A fault's class and what happened.
fn fault(data: &Value) -> String {
    fault_of(data.get("error"))
}

fn fault_of(error: Option<&Value>) -> String {
    let Some(error) = error.filter(|e| e.is_object()) else { return cell(error) };
    let class = error.get("type").and_then(Value::as_str).and_then(|t| t.rsplit('/').next()).unwrap_or("a fault");
    match error.get("detail").or_else(|| error.get("title")).and_then(Value::as_str) {
        Some(detail) => plain(&format!("{class}: {detail}")),
        None => plain(class),
    }
}

fn milliseconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond)
}

fn seconds(ms: i64) -> String {
    let ms = ms.max(0);
    if ms < 3_600_000 { format!("{}.{:03} s", ms / 1_000, ms % 1_000) } else { span(ms) }
}

/// `12 ms`, `3.4 s`, `2 min 5 s`, `3 h 10 min`, `2 d 4 h`.
fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1_000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds}.{} s", ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_reads_as_a_story() {
        let at = |ms: u32| format!("2026-01-01T00:00:{:02}.{:03}Z", ms / 1_000, ms % 1_000);
        let task = "/do/0/notify";
        let events = [
            json!({"id": 1, "type": "run.accepted", "at": at(0), "data": {"by": "ada (tok_1)", "input": {}}}),
            json!({"id": 2, "type": "run.started", "at": at(0), "data": {}}),
            json!({"id": 3, "type": "task.started", "task": task, "at": at(1), "data": {}}),
            json!({"id": 4, "type": "action.started", "task": task,
                   "data": {"action": "message.send:1.0.0@slack", "connection": "acme", "attempt": 1}}),
            json!({"id": 5, "type": "call.started", "task": task, "at": at(3),
                   "data": {"function": "chat.post-message", "connection": "acme", "attempt": 1, "ordinal": 0}}),
            json!({"id": 6, "type": "call.ended", "task": task, "at": at(133), "data": {"ordinal": 0, "ok": true, "how": "slack"}}),
            json!({"id": 7, "type": "task.completed", "task": task, "at": at(140), "data": {"changed": true}}),
            json!({"id": 8, "type": "task.faulted", "task": "/do/1/x\u{1b}[31m", "at": at(150),
                   "data": {"error": {"type": "https://bellhop.dev/errors/not-in-channel", "status": 403, "detail": "no\nway"}}}),
            json!({"id": 8, "type": "task.started", "task": "/do/2/look", "at": at(160), "data": {}}),
            json!({"id": 8, "type": "action.started", "task": "/do/2/look",
                   "data": {"action": "user.lookup:1.0.0@slack", "connection": "acme", "attempt": 2,
                            "to": {"email": "***", "channel": "#it"}}}),
            json!({"id": 8, "type": "call.read", "task": "/do/2/look",
                   "data": {"ordinal": 0, "how": "sent", "function": "users.lookup-by-email", "ok": false,
                            "error": "not-found", "detail": "Slack answered `users_not_found`"}}),
            json!({"id": 8, "type": "task.retrying", "task": "/do/2", "data": {"until": at(5_160), "error": {
                   "type": "https://bellhop.dev/errors/not-found", "status": 404, "detail": "nobody"}}}),
            json!({"id": 8, "type": "run.asked", "data": {"by": "ada (tok_1)", "for": "for a pause"}}),
            json!({"id": 8, "type": "run.parked", "task": "/do/2", "at": at(200), "data": {"reason": {
                   "type": "https://bellhop.dev/errors/outcome-unknown", "status": 500, "detail": "who knows"}}}),
            json!({"id": 9, "type": "run.completed", "at": at(31_500), "data": {"output": 1}}),
        ];
        let mut timeline = Timeline::default();
        let text: String = events.iter().map(|event| format!("|{}\n", timeline.line(event))).collect();
        // A bar in front: the margin is part of the text.
        expect![[r#"
            |   0.000 s  run                       accepted, asked for by ada (tok_1)
            |   0.000 s  run                       begins
            |   0.001 s  /do/0/notify              begins
            |   0.001 s  /do/0/notify              action message.send:1.0.0@slack on acme
            |   0.003 s  /do/0/notify                -> chat.post-message
            |   0.133 s  /do/0/notify                <- chat.post-message ok, 130 ms
            |   0.140 s  /do/0/notify              done in 139 ms, changed something
            |   0.150 s  /do/1/x\u{1b}[31m         faulted: not-in-channel: no\u{a}way
            |   0.160 s  /do/2/look                begins
            |   0.160 s  /do/2/look                action user.lookup:1.0.0@slack on acme, channel #it, email ***, attempt 2
            |   0.160 s  /do/2/look                  <- users.lookup-by-email refused, not-found: Slack answered `users_not_found`
            |   0.160 s  /do/2                     tries again 5.0 s, at 2026-01-01T00:00:05.160Z, after not-found: nobody
            |   0.160 s  run                       ada (tok_1) asked for a pause
            |   0.200 s  /do/2                     parked, a person has to decide: outcome-unknown: who knows
            |  31.500 s  run                       completed in 31.5 s
        "#]]
        .assert_eq(&text);
        assert!(is_last(&events[14]) && !is_last(&events[6]));
    }
}
