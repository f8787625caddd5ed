//! What a run changed is taken back, a failed task is tried again, people are told, groups hold: through the engine,
//! against the simulated Slack.

use bellhop_core::id::RunId;
use bellhop_core::requirement::{Kind, TokenKind};
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::World;
use crate::accept::trigger::Refused;

const GROUP: &str = "S0HQENGINEERING";
const PERSON: &str = "U0ACMEBOTH";

impl World {
    async fn with_hq() -> Self {
        let world = Self::new().await;
        let tokens = [(TokenKind::Bot, "xoxb-hq"), (TokenKind::User, "xoxp-hq-admin")];
        world.connect("hq", Kind::GridWorkspace, &tokens).await;
        world
    }

    async fn file(&self, extras: Value, tasks: Value) -> bellhop_core::definition::WorkflowName {
        let document = json!({
            "dsl": "1.0.3", "namespace": "test", "name": "rollback", "version": "1.0.0",
            "metadata": { "bellhop": extras },
        });
        self.apply(&json!({ "document": document, "do": tasks }).to_string()).await
    }

    async fn kinds(&self, run: RunId) -> Vec<String> {
        let events = self.engine.events(run, 0, 1_000).await.unwrap().unwrap();
        events.into_iter().map(|e| e.kind.to_owned()).collect()
    }

    async fn until(&self, run: RunId, status: Status) {
        self.comes_to(run, status.as_str(), |summary| summary.status == status).await;
    }
}

fn join() -> Value {
    json!({ "join": { "call": "usergroup.add-user:1@slack",
        "with": { "connection": "hq", "usergroup": GROUP, "user": PERSON } } })
}

fn tell(channel: &str) -> Value {
    json!({ "tell": { "call": "message.send:1@slack",
        "with": { "connection": "hq", "channel": channel, "text": "hello" } } })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_takes_back_what_the_run_changed_and_nothing_else() {
    let world = World::with_hq().await;
    let was_in = world.is_in_group(GROUP, PERSON);
    assert!(!was_in, "the simulated world has changed: choose another person");
    let extras = json!({ "onFault": { "rollback": "completed" } });
    let name = world.file(extras, json!([join(), tell("C0NOWHERE")])).await;
    let (run, view) = world.run(&name, json!({})).await;
    assert_eq!(view.status, Status::Faulted);
    assert!(!world.is_in_group(GROUP, PERSON), "{:#?}", world.story(run).await);
    let changes = world.changes(0);
    assert_eq!(changes, ["usergroups.users.update", "usergroups.users.update"], "{:#?}", world.story(run).await);
    // Tried again there is nothing to go on from, and nothing to undo a second time.
    assert!(!world.engine.signal(run, Cause::Retry).await.unwrap());
    assert!(!world.engine.signal(run, Cause::Undo).await.unwrap());
    assert_eq!(world.changes(0).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_the_file_s_own_takes_back_what_has_no_inverse() {
    let world = World::with_hq().await;
    let mut welcome = tell("C0HQGENERAL")["tell"].take();
    welcome["output"] = json!({ "as": "null" });
    welcome["metadata"]["bellhop"]["compensate"] = json!({
        "call": "message.update:1@slack",
        "with": { "channel": "${ .channel }", "ts": "${ .ts }", "text": "${ \"withdrawn for \" + $input.who }" },
    });
    let extras = json!({ "onFault": { "rollback": "completed" } });
    let name = world.file(extras, json!([{ "welcome": welcome }, join(), tell("C0NOWHERE")])).await;
    let (run, view) = world.run(&name, json!({ "who": "4711" })).await;
    assert_eq!(view.status, Status::Faulted);
    let texts = world.texts("C0HQGENERAL");
    assert!(texts.contains(&"withdrawn for 4711".to_owned()), "{texts:?}\n{:#?}", world.story(run).await);
    assert!(!texts.contains(&"hello".to_owned()), "{texts:?}");
    let expected = ["chat.postMessage", "usergroups.users.update", "usergroups.users.update", "chat.update"];
    assert_eq!(world.changes(0), expected, "{:#?}", world.story(run).await);
    world.assert_keys_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_was_in_before_stays_in() {
    let world = World::with_hq().await;
    let first = world.file(json!({}), json!([join()])).await;
    world.completed(&first, json!({})).await;
    let document = json!({
        "dsl": "1.0.3", "namespace": "test", "name": "second", "version": "1.0.0",
        "metadata": { "bellhop": { "onFault": { "rollback": "completed" } } },
    });
    let second = world.apply(&json!({ "document": document, "do": [join(), tell("C0NOWHERE")] }).to_string()).await;
    let (run, view) = world.run(&second, json!({})).await;
    assert_eq!(view.status, Status::Faulted);
    assert!(world.is_in_group(GROUP, PERSON), "{:#?}", world.story(run).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_run_is_undone_once() {
    let world = World::with_hq().await;
    let name = world.file(json!({}), json!([join()])).await;
    let (run, _) = world.completed(&name, json!({})).await;
    assert!(world.is_in_group(GROUP, PERSON));
    assert!(world.engine.signal(run, Cause::Undo).await.unwrap());
    world.until(run, Status::Cancelled).await;
    assert!(!world.is_in_group(GROUP, PERSON));
    assert!(!world.engine.signal(run, Cause::Undo).await.unwrap());
    assert!(world.engine.services.journal.open_runs(10, None).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulted_run_goes_on_from_its_failed_task() {
    let world = World::with_hq().await;
    let fault = json!({ "method": "chat.postMessage", "action": { "refuse": { "error": "channel_not_found" } } });
    world.control("faults", fault).await;
    let name = world.file(json!({}), json!([join(), tell("C0HQGENERAL")])).await;
    let (run, view) = world.run(&name, json!({})).await;
    assert_eq!(view.status, Status::Faulted, "{:#?}", world.story(run).await);
    assert!(world.engine.signal(run, Cause::Retry).await.unwrap());
    world.until(run, Status::Completed).await;
    let changes = world.changes(0);
    assert_eq!(changes, ["usergroups.users.update", "chat.postMessage"], "{:#?}", world.story(run).await);
    let view = world.engine.run_view(run).await.unwrap().unwrap();
    assert!(view.error.is_none() && view.ended_at.is_some(), "{view:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_once_of_many_faults_for_one_reason() {
    let world = World::with_hq().await;
    let extras = json!({ "onFault": { "notify": { "connection": "hq", "channel": "C0HQGENERAL" } } });
    let name = world.file(extras, json!([tell("C0NOWHERE")])).await;
    for _ in 0..5 {
        let (run, view) = world.run(&name, json!({})).await;
        assert_eq!(view.status, Status::Faulted);
        assert!(world.kinds(run).await.contains(&"run.noticed".to_owned()), "{:#?}", world.story(run).await);
    }
    for _ in 0..1_000_000 {
        if !world.texts("C0HQGENERAL").is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let told: Vec<String> = world.texts("C0HQGENERAL").into_iter().filter(|t| t.contains("test/rollback")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("channel-not-found") || told[0].contains("not-found"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_hold() {
    let world = World::with_hq().await;
    let wait = json!({ "sleep": { "wait": { "hours": 1 } } });
    for (policy, first_ends, second_is) in [
        ("queue", Status::Waiting, Status::Waiting),
        ("supersede", Status::Cancelled, Status::Waiting),
        ("cancel", Status::Cancelled, Status::Waiting),
    ] {
        let document = json!({
            "dsl": "1.0.3", "namespace": "test", "name": format!("group-{policy}"), "version": "1.0.0",
            "metadata": { "bellhop": { "concurrency": { "group": "${ .hire }", "whenFull": policy } } },
        });
        let text = json!({ "document": document, "do": [join(), wait] }).to_string();
        let name = world.apply(&text).await;
        let trigger = || World::trigger(&name, json!({ "hire": "4711" }), None);
        let first = world.engine.trigger(trigger()).await.unwrap().run;
        world.until(first, Status::Waiting).await;
        while !world.kinds(first).await.contains(&"task.waiting".to_owned()) {
            tokio::task::yield_now().await;
        }
        let second = world.engine.trigger(trigger()).await.unwrap().run;
        world.until(second, second_is).await;
        world.until(first, first_ends).await;
        if policy == "queue" {
            assert!(!world.kinds(second).await.contains(&"run.started".to_owned()));
            world.engine.signal(first, Cause::Cancel).await.unwrap();
        }
        while !world.kinds(second).await.contains(&"task.waiting".to_owned()) {
            tokio::task::yield_now().await;
        }
        world.engine.signal(second, Cause::CancelAndUndo).await.unwrap();
        world.until(second, Status::Cancelled).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_group_refuses_its_trigger() {
    let world = World::with_hq().await;
    let extras = json!({ "concurrency": { "group": "all", "whenFull": "reject" } });
    let name = world.file(extras, json!([{ "sleep": { "wait": { "hours": 1 } } }])).await;
    let first = world.engine.trigger(World::trigger(&name, json!({}), None)).await.unwrap().run;
    world.until(first, Status::Waiting).await;
    let refused = world.engine.trigger(World::trigger(&name, json!({}), None)).await;
    assert!(matches!(refused, Err(Refused::GroupFull(_))));
    world.engine.signal(first, Cause::Cancel).await.unwrap();
    world.engine.trigger(World::trigger(&name, json!({}), None)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_run_begins_when_what_was_missing_is_there() {
    let world = World::new().await;
    let name = world.file(json!({}), json!([join()])).await;
    let trigger = World::trigger(&name, json!({}), None);
    assert!(matches!(world.engine.trigger(trigger.clone()).await, Err(Refused::Preflight(_))));
    let run = world.engine.trigger_or(trigger, true).await.unwrap().run;
    let view = world.engine.run_view(run).await.unwrap().unwrap();
    assert_eq!(view.status, Status::Blocked);
    assert!(view.waiting.unwrap()["reason"]["details"]["diagnostics"][0]["code"].is_string());
    let tokens = [(TokenKind::Bot, "xoxb-hq"), (TokenKind::User, "xoxp-hq-admin")];
    world.connect("hq", Kind::GridWorkspace, &tokens).await;
    world.engine.remedied(&crate::accept::blocked::Change::Any);
    world.until(run, Status::Completed).await;
    assert!(world.is_in_group(GROUP, PERSON));
}

/// How a run ended, as everybody sees it.
fn aftermath(view: &crate::show::views::RunView) -> Value {
    let shown = serde_json::to_value(view).unwrap();
    json!([shown["status"], shown["reason"], shown["undone"], shown["left"], shown["by"]])
}

/// What cannot be taken back does not read as if it had been.
#[tokio::test(flavor = "multi_thread")]
async fn attack_b5_a_run_says_what_was_taken_back_and_what_was_not() {
    let world = World::with_hq().await;
    let again = json!({ "again": tell("C0HQGENERAL")["tell"].take() });
    let name = world.file(json!({}), json!([tell("C0HQGENERAL"), again])).await;
    let (run, view) = world.run(&name, json!({})).await;
    assert_eq!(aftermath(&view), json!(["completed", null, null, null, null]));
    assert!(world.engine.signal_by(run, Cause::Undo, Some("ops".to_owned())).await.unwrap());
    world.until(run, Status::Cancelled).await;
    let view = world.engine.run_view(run).await.unwrap().unwrap();
    assert_eq!(aftermath(&view), json!(["cancelled", "cancelled", 0, 2, "ops"]));
    // Refused, it is no order: nothing is written, and nobody else is named.
    let before = world.kinds(run).await;
    for _ in 0..10 {
        assert!(!world.engine.signal_by(run, Cause::Undo, Some("other".to_owned())).await.unwrap());
    }
    assert_eq!(world.kinds(run).await, before);
    let view = world.engine.run_view(run).await.unwrap().unwrap();
    assert_eq!(aftermath(&view), json!(["cancelled", "cancelled", 0, 2, "ops"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn attack_b5_everything_undone_half_of_it_and_nothing_to_undo() {
    for (tasks, expected) in [
        (json!([join()]), json!(["cancelled", "undone", 1, 0, "ops"])),
        (json!([join(), tell("C0HQGENERAL")]), json!(["cancelled", "cancelled", 1, 1, "ops"])),
    ] {
        let world = World::with_hq().await;
        let name = world.file(json!({}), tasks).await;
        let (run, _) = world.run(&name, json!({})).await;
        assert!(world.engine.signal_by(run, Cause::Undo, Some("ops".to_owned())).await.unwrap());
        world.until(run, Status::Cancelled).await;
        let view = world.engine.run_view(run).await.unwrap().unwrap();
        assert_eq!(aftermath(&view), expected);
        let listed = world.engine.run_list(None, 10, |_| true).await.unwrap().0;
        assert_eq!(aftermath(&listed[0]), expected, "a list says the same");
    }
    // Given up while it waits for a person: what it did stands.
    let world = World::with_hq().await;
    let wait = json!({ "rest": { "wait": "P1D" } });
    let name = world.file(json!({}), json!([tell("C0HQGENERAL"), wait])).await;
    let run = world.engine.trigger(World::trigger(&name, json!({}), None)).await.unwrap().run;
    world.until(run, Status::Waiting).await;
    assert!(world.engine.signal_by(run, Cause::Kill, Some("ops".to_owned())).await.unwrap());
    let view = world.engine.run_view(run).await.unwrap().unwrap();
    assert_eq!(aftermath(&view), json!(["cancelled", "given-up", 0, 1, "ops"]));
}
