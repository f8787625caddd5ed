//! What the runs do whose hosts die: small workflows, one for each promise, and the client that goes with each.

use serde_json::{Value, json};

use crate::stage::{Outcome, Stage, Start};

/// A set of runs and the client that starts them.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Does everything that the client does, asking again wherever the host went away, and gives what is worth
    /// comparing with an undisturbed life.
    pub(crate) script: fn(&mut Stage) -> Outcome<Value>,
    /// Changes that Slack has after an undisturbed life: a scenario that does nothing shows nothing.
    pub(crate) effects: usize,
}

/// Several writes of different methods, one after the other.
pub(crate) const PLAIN: Scenario = Scenario { name: "plain", script: plain, effects: 4 };

/// All of them.
pub(crate) const ALL: &[Scenario] = &[
    PLAIN,
    Scenario { name: "onboarding", script: onboarding, effects: 8 },
    Scenario { name: "timer", script: timer, effects: 2 },
    Scenario { name: "rollback", script: rollback, effects: 5 },
    Scenario { name: "undone", script: undone, effects: 5 },
    Scenario { name: "cancel", script: cancel, effects: 2 },
    Scenario { name: "queue", script: queue, effects: 4 },
    Scenario { name: "supersede", script: supersede, effects: 2 },
    Scenario { name: "notice", script: notice, effects: 2 },
    Scenario { name: "blocked", script: blocked, effects: 1 },
    Scenario { name: "differs", script: differs, effects: 1 },
    Scenario { name: "slices", script: slices, effects: 3 },
];

/// By name.
pub(crate) fn named(name: &str) -> &'static Scenario {
    ALL.iter().find(|s| s.name == name).unwrap_or(&PLAIN)
}

/// What every host has; all its connections are named here but `later`, which is not there at first.
pub(crate) const WORKFLOWS: &[(&str, &str)] = &[
    ("traced", crate::bellhop::traced::TEXT),
    (
        "plain",
        "\
document: { dsl: 1.0.3, namespace: it, name: plain, version: 1.0.0 }
do:
  - tell: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: one } }
  - join: { call: 'usergroup.add-user:1@slack', with: { connection: plus, usergroup: '@it', user: U0PLUSMEMBER } }
  - invite: { call: 'channel.invite:1@slack', with: { connection: plus, channel: C0PLUSIT, user: U0PLUSMEMBER } }
  - tell-again: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: two } }
",
    ),
    (
        "timer",
        "\
document: { dsl: 1.0.3, namespace: it, name: timer, version: 1.0.0 }
do:
  - before: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: before } }
  - sleep: { wait: { milliseconds: 60 } }
  - after: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: after } }
",
    ),
    // One of those who are invited is there already, and stays; the message has nothing that takes it back.
    (
        "rollback",
        "\
document:
  dsl: 1.0.3
  namespace: it
  name: rollback
  version: 1.0.0
  metadata: { bellhop: { onFault: { rollback: completed } } }
do:
  - invite: { call: 'channel.invite:1@slack', with: { connection: plus, channel: C0PLUSIT, user: U0PLUSMEMBER } }
  - there: { call: 'channel.invite:1@slack', with: { connection: plus, channel: C0PLUSIT, user: U0PLUSADMIN } }
  - join: { call: 'usergroup.add-user:1@slack', with: { connection: plus, usergroup: S0PLUSIT, user: U0PLUSMEMBER } }
  - tell: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: done } }
  - fail: { raise: { error: { type: 'https://example.com/no', status: 400, title: No } } }
",
    ),
    (
        "undone",
        "\
document:
  dsl: 1.0.3
  namespace: it
  name: undone
  version: 1.0.0
  metadata: { bellhop: { onFault: { rollback: completed } } }
do:
  - first: { call: 'usergroup.add-user:1@slack', with: { connection: plus, usergroup: S0PLUSENGINEERING, user: U0PLUSOWNER } }
  - second: { call: 'usergroup.add-user:1@slack', with: { connection: plus, usergroup: S0PLUSIT, user: U0PLUSOWNER } }
  - fail: { raise: { error: { type: 'https://example.com/no', status: 400, title: No } } }
",
    ),
    (
        "cancel",
        "\
document: { dsl: 1.0.3, namespace: it, name: cancel, version: 1.0.0 }
do:
  - invite: { call: 'channel.invite:1@slack', with: { connection: plus, channel: C0PLUSIT, user: U0PLUSMEMBER } }
  - sleep: { wait: { hours: 1 } }
  - never: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: never } }
",
    ),
    (
        "queue",
        "\
document:
  dsl: 1.0.3
  namespace: it
  name: queue
  version: 1.0.0
  metadata: { bellhop: { concurrency: { group: desk, limit: 1, whenFull: queue } } }
do:
  - first: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ .name + \" begins\" }' }, output: { as: $workflow.input } }
  - second: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ .name + \" ends\" }' } }
",
    ),
    (
        "supersede",
        "\
document:
  dsl: 1.0.3
  namespace: it
  name: supersede
  version: 1.0.0
  metadata: { bellhop: { concurrency: { group: date, limit: 1, whenFull: supersede } } }
do:
  - first: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ .name }' }, output: { as: $workflow.input } }
  - sleep: { if: '${ .sleeps }', wait: { hours: 1 } }
  - never: { if: '${ .sleeps }', call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: never } }
",
    ),
    (
        "notice",
        "\
document:
  dsl: 1.0.3
  namespace: it
  name: notice
  version: 1.0.0
  metadata: { bellhop: { onFault: { notify: { connection: plus, channel: C0PLUSGENERAL } } } }
do:
  - tell: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: before } }
  - fail: { raise: { error: { type: 'https://example.com/no', status: 400, title: No } } }
",
    ),
    (
        "blocked",
        "\
document: { dsl: 1.0.3, namespace: it, name: blocked, version: 1.0.0 }
do:
  - tell: { call: 'message.send:1@slack', with: { connection: later, channel: C0PROIT, text: at last } }
",
    ),
    (
        "differs",
        "\
document: { dsl: 1.0.3, namespace: it, name: differs, version: 1.0.0 }
do:
  - promote:
      try:
        - role: { call: 'user.set-role:1@slack', with: { connection: acme, workspace: T0HQ, user: U0HQGUEST, role: owner } }
      catch:
        errors: { with: { type: 'https://bellhop.dev/errors/slack-error' } }
        retry: { delay: { milliseconds: 5 }, limit: { attempt: { count: 2 } } }
",
    ),
    (
        "slices",
        "\
document: { dsl: 1.0.3, namespace: it, name: slices, version: 1.0.0 }
do:
  - write: { call: 'slices.write:1@slicer', with: { connection: plus } }
",
    ),
    // What can be read back of these needs scopes that the connection does not have.
    (
        "doubtful",
        "\
document: { dsl: 1.0.3, namespace: it, name: doubtful, version: 1.0.0 }
do:
  - one: { call: 'message.send:1@slack', with: { connection: poor, channel: C0HQIT, text: one } }
  - invite: { call: 'channel.invite:1@slack', with: { connection: poor, channel: C0HQIT, user: U0HQMEMBER } }
  - two: { call: 'message.send:1@slack', with: { connection: poor, channel: C0HQIT, text: two } }
  - rest: { wait: { milliseconds: 20 } }
  - more: { wait: { milliseconds: 20 } }
",
    ),
    (
        "busy",
        "\
document: { dsl: 1.0.3, namespace: it, name: busy, version: 1.0.0 }
do:
  - one: { call: 'message.send:1@slack', with: { connection: plus, channel: '${ .channel }', text: '${ .name + \" one\" }' }, output: { as: $workflow.input } }
  - rest: { wait: { milliseconds: 5 } }
  - two: { call: 'message.send:1@slack', with: { connection: plus, channel: '${ .channel }', text: '${ .name + \" two\" }' }, output: { as: $workflow.input } }
  - three: { call: 'message.send:1@slack', with: { connection: plus, channel: '${ .channel }', text: '${ .name + \" three\" }' } }
",
    ),
    (
        "add",
        "\
document: { dsl: 1.0.3, namespace: it, name: add, version: 1.0.0 }
do:
  - add: { call: 'usergroup.add-user:1@slack', with: { connection: plus, usergroup: S0PLUSIT, user: '${ .user }' } }
",
    ),
];

/// Scopes with which somebody may write, and read nothing back.
const POOR: [&str; 6] =
    ["chat:write", "team:read", "users:read", "channels:write.invites", "channels:manage", "usergroups:write"];

/// Edits of the simulator's world.
pub(crate) fn world() -> Value {
    let poor = json!({ "token": "xoxb-poor", "kind": "bot", "user": "U0HQBOT", "workspace": "T0HQ", "scopes": POOR });
    json!([{ "add_token": poor }])
}

/// The connections of every host.
pub(crate) fn connections() -> Vec<Value> {
    let connection = |name: &str, kind: &str, tokens: Value| json!({ "name": name, "kind": kind, "permission": "act", "tokens": tokens });
    vec![
        connection("plus", "workspace", json!({ "bot": "xoxb-plus", "user": "xoxp-plus-owner" })),
        connection(
            "acme",
            "grid-org",
            json!({ "user": "xoxp-org-admin", "audit": "xoxp-org-owner", "bot": "xoxb-org" }),
        ),
        connection("acme-hq", "grid-workspace", json!({ "bot": "xoxb-hq", "user": "xoxp-hq-admin" })),
        connection("poor", "grid-workspace", json!({ "bot": "xoxb-poor" })),
    ]
}

/// The connection that is missing at first.
fn later() -> Value {
    json!({ "name": "later", "kind": "workspace", "permission": "act", "tokens": { "bot": "xoxb-pro" } })
}

/// A change that Slack accepted, in a few words that are the same in every life.
pub(crate) fn effect(line: &Value) -> String {
    let method = line["method"].as_str().unwrap_or_default();
    let args = &line["args"];
    let word = |name: &str| args[name].as_str().unwrap_or_default();
    let what = match method {
        "chat.postMessage" => format!("{} {}", word("channel"), without_ids(word("text")).replace('\n', " ")),
        "usergroups.users.update" => format!("{} {}", word("usergroup"), args["users"]),
        "conversations.invite" => format!("{} {}", word("channel"), word("users")),
        "conversations.kick" => format!("{} {}", word("channel"), word("user")),
        "admin.users.assign" => format!("{} {}", word("team_id"), word("user_id")),
        _ => String::new(),
    };
    format!("{method} {what}").trim_end().to_owned()
}

/// Whether a line of the ledger is a change of a run. Reading a direct message back opens the conversation, as sending it
/// does.
pub(crate) fn counts(line: &Value) -> bool {
    line["changed"] == true && line["method"] != "conversations.open"
}

/// A text without the ids of runs, which no two lives share.
fn without_ids(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some(at) = rest.find("run_") {
        plain.push_str(&rest[..at + 4]);
        rest = rest[at + 4..].trim_start_matches(|c: char| c.is_ascii_alphanumeric());
    }
    plain + rest
}

/// Who is in which channel, group and place, and whose account is open.
pub(crate) fn memberships(state: &Value) -> Value {
    let each = |list: &str, fields: &[&str]| -> Value {
        let all = state[list].as_object().into_iter().flatten();
        let kept = all.map(|(id, item)| {
            let kept = fields.iter().map(|field| ((*field).to_owned(), item[*field].clone()));
            (id.clone(), Value::Object(kept.collect()))
        });
        Value::Object(kept.collect())
    };
    json!({
        "groups": each("groups", &["users"]),
        "channels": each("channels", &["members"]),
        "users": each("users", &["email", "active", "memberships"]),
    })
}

/// How a run ended.
fn end_of(view: &Value) -> Value {
    json!([view["status"], view["error"]["type"], view["output"]["account"]])
}

/// The texts of the messages, in the order in which Slack has them.
fn texts(stage: &Stage) -> Outcome<Vec<String>> {
    let ledger = stage.ledger()?;
    let messages = ledger.iter().filter(|line| line["method"] == "chat.postMessage");
    Ok(messages.map(|line| line["args"]["text"].as_str().unwrap_or_default().to_owned()).collect())
}

fn one(stage: &mut Stage, workflow: &str, input: &Value) -> Outcome<Value> {
    let run = stage.run(&Start::of(workflow, "the only one", input))?;
    Ok(end_of(&stage.ended(&run)?))
}

fn plain(stage: &mut Stage) -> Outcome<Value> {
    one(stage, "it/plain", &json!({}))
}

/// Somebody new, as HR tells it.
pub(crate) fn person(number: usize) -> Value {
    json!({ "person": {
        "email": format!("new{number}@acme.example"), "givenName": "New", "familyName": format!("Person {number}"),
        "title": "Engineer", "department": "Engineering", "startDate": "2025-01-06", "timeZone": "Europe/Paris",
        "externalId": format!("hr-{number}"),
    } })
}

/// How an onboarding is started.
pub(crate) fn onboard(number: usize) -> Start {
    let mut start = Start::of("people/onboarding", &format!("hire-{number}"), &person(number));
    start.body["connections"] = json!({ "org": "acme", "team": "acme-hq" });
    start
}

fn onboarding(stage: &mut Stage) -> Outcome<Value> {
    let run = stage.run(&onboard(1))?;
    Ok(end_of(&stage.ended(&run)?))
}

fn slices(stage: &mut Stage) -> Outcome<Value> {
    one(stage, "it/slices", &json!({}))
}

fn timer(stage: &mut Stage) -> Outcome<Value> {
    one(stage, "it/timer", &json!({}))
}

fn rollback(stage: &mut Stage) -> Outcome<Value> {
    let run = stage.run(&Start::of("it/rollback", "the only one", &json!({})))?;
    Ok(end_of(&with_a_person(stage, &run)?))
}

/// Somebody comes into a group by hand after the run has taken them out of it, and before it has taken back everything:
/// they stay, for a change is taken back once.
fn undone(stage: &mut Stage) -> Outcome<Value> {
    // The newest change is taken back first. Where the request for the other one is, that is on record.
    let older = json!({ "usergroup": "S0PLUSENGINEERING", "users": ["U0PLUSADMIN", "U0PLUSMEMBER"] });
    let held = json!({ "method": "usergroups.users.update", "match": older, "action": "hold_before_accept" });
    let held = stage.order(&held)?;
    let run = stage.run(&Start::of("it/undone", "the only one", &json!({})))?;
    stage.happened(held)?;
    let again = json!({ "usergroup": "S0PLUSIT", "users": ["U0PLUSADMIN", "U0PLUSOWNER"] });
    stage.by_hand("xoxp-plus-owner", "usergroups.users.update", &again, "")?;
    stage.release(held)?;
    Ok(end_of(&stage.ended(&run)?))
}

/// Cancelled while Slack has done what was asked and has not said so. What is on record then is all that the plugin does, so
/// it says how that is taken back; after a crash nobody may be able to tell whose the change was, and a person decides.
fn cancel(stage: &mut Stage) -> Outcome<Value> {
    let held = stage.order(&json!({ "method": "conversations.invite", "action": "accept_then_withhold" }))?;
    let run = stage.run(&Start::of("it/cancel", "the only one", &json!({})))?;
    stage.happened(held)?;
    stage.done("POST", &format!("/v1/runs/{run}/cancel"), Some(&json!({ "rollback": true })))?;
    stage.release(held)?;
    Ok(end_of(&with_a_person(stage, &run)?))
}

/// Waits until a run has ended; what it cannot take back without a person, a person does. A run that found an invitation
/// done after a crash cannot tell whose it was: that of the admin, who was there before, is left as it is.
fn with_a_person(stage: &mut Stage, run: &str) -> Outcome<Value> {
    loop {
        let view = stage.until(run, |view| view["status"] == "parked" || !view["endedAt"].is_null())?;
        if view["status"] != "parked" {
            return Ok(view);
        }
        let reason = &view["waiting"]["reason"];
        let (code, task) = (reason["type"].as_str().unwrap_or_default(), reason["instance"].as_str());
        let ours = match task {
            _ if !code.ends_with("/rollback-incomplete") => return Err(format!("parked for another reason: {view:#}")),
            Some("/do/0/invite") => true,
            Some("/do/1/there") => false,
            _ => return Err(format!("this can be taken back without a person: {view:#}")),
        };
        if ours {
            let gone = json!({ "channel": "C0PLUSIT", "user": "U0PLUSMEMBER" });
            stage.by_hand("xoxb-plus", "conversations.kick", &gone, "not_in_channel")?;
        }
        let body = json!({ "task": task, "done": ours });
        let answer = stage.call("POST", &format!("/v1/runs/{run}/resolve"), Some(&body), &[])?;
        // One that was resolved before the host went away is parked no more.
        if ![200, 409].contains(&answer.status) {
            return Err(format!("the run cannot be resolved: {}", answer.text));
        }
    }
}

/// A person's role takes two calls, of which the second is refused; tried again, the first is not what it was.
fn differs(stage: &mut Stage) -> Outcome<Value> {
    let refused = json!({ "refuse": { "error": "cannot_perform_operation" } });
    stage.order(&json!({ "method": "admin.users.setOwner", "times": 0, "action": refused }))?;
    let run = stage.run(&Start::of("it/differs", "the only one", &json!({})))?;
    let view = stage.until(&run, |view| view["status"] == "parked" || !view["endedAt"].is_null())?;
    let reason = view["waiting"]["reason"]["type"].clone();
    stage.done("POST", &format!("/v1/runs/{run}/cancel"), None)?;
    Ok(json!([reason, end_of(&stage.ended(&run)?)]))
}

fn queue(stage: &mut Stage) -> Outcome<Value> {
    let held = stage.order(&json!({ "method": "chat.postMessage", "action": "hold_before_accept" }))?;
    let first = stage.run(&Start::of("it/queue", "first", &json!({ "name": "first" })))?;
    stage.happened(held)?;
    let second = stage.run(&Start::of("it/queue", "second", &json!({ "name": "second" })))?;
    stage.release(held)?;
    let ends = [end_of(&stage.ended(&first)?), end_of(&stage.ended(&second)?)];
    Ok(json!([ends, texts(stage)?]))
}

fn supersede(stage: &mut Stage) -> Outcome<Value> {
    let first = stage.run(&Start::of("it/supersede", "first", &json!({ "name": "first", "sleeps": true })))?;
    stage.until_changes(1)?;
    let second = stage.run(&Start::of("it/supersede", "second", &json!({ "name": "second", "sleeps": false })))?;
    let ends = [end_of(&stage.ended(&first)?), end_of(&stage.ended(&second)?)];
    Ok(json!([ends, texts(stage)?]))
}

fn notice(stage: &mut Stage) -> Outcome<Value> {
    let end = one(stage, "it/notice", &json!({}))?;
    stage.until_changes(2)?;
    Ok(end)
}

fn blocked(stage: &mut Stage) -> Outcome<Value> {
    let mut start = Start::of("it/blocked", "the only one", &json!({}));
    start.path.push_str("?onRefusal=block");
    let run = stage.run(&start)?;
    let view = stage.until(&run, |view| view["status"] == "blocked")?;
    let blocked = view["status"].clone();
    // A connection that was made before the host died is not made again.
    while stage.call("GET", "/v1/connections/later", None, &[])?.status == 404 {
        stage.call("POST", "/v1/connections", Some(&later()), &[])?;
    }
    Ok(json!([blocked, end_of(&stage.ended(&run)?)]))
}
