//! What a person says of a call in doubt, what reading back may take for it, and what a run's plugins may do.

use bellhop_core::requirement::{Grant, Permission};
use bellhop_core::run::{Cause, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::execution::open::{Open, What};
use crate::execution::{Settle, Word};
use crate::operate::resolve::{ResolveError, Settled};
use crate::pins::Pins;
use crate::tests::at_once;
use bellhop_journal::{Answer, Content, Entry, Resolution};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POOR: &[(&str, &str)] = &[("team", "poor")];
const ONE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ .text }'}}";

/// A run that is parked because it cannot be told whether its message was posted: it was.
fn in_doubt(slack: &Slack) -> (Life, bellhop_core::id::RunId) {
    let withheld = slack.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
    let life = Life::start(fresh(), slack);
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "in doubt" }), POOR, None));
    slack.happened(withheld);
    let life = Life::start(life.die(usize::MAX), slack);
    life.until_status(run, Status::Parked);
    (life, run)
}

fn settled(life: &Life, run: bellhop_core::id::RunId) -> Vec<Value> {
    let entries = life.entries(run).into_iter();
    entries
        .filter_map(|entry| match entry {
            Entry::Resolved { how: Resolution::Done(Answer::Ok(Content::Value(answer))), .. } => answer.read().ok(),
            _ => None,
        })
        .collect()
}

#[test]
fn whoever_says_that_a_message_was_posted_has_to_say_which_unless_it_can_be_read_back() {
    let slack = Slack::start();
    let (life, run) = in_doubt(&slack);
    let resolve =
        |answer: Option<Value>| life.wait(life.engine().resolve(run, None, true, answer, "a test".to_owned()));
    // The connection may not read, and nobody else knows the message's `ts`.
    for (answer, why) in [
        (None, "missing_scope"),
        (Some(json!({"ok": true})), "the answer lacks `/channel`, `/ts`"),
        (Some(json!({"ok": true, "channel": "C0HQGENERAL", "ts": null})), "the answer lacks `/ts`"),
        (Some(json!("done")), "is not an object"),
    ] {
        let Err(ResolveError::AnswerNeeded(diagnostics)) = resolve(answer.clone()) else { panic!("{answer:?}") };
        let [only] = &diagnostics[..] else { panic!("{diagnostics:?}") };
        assert_eq!((only.code.0, only.task.as_deref()), ("answer-needed", Some("/do/0/one")));
        assert!(only.message.contains(why), "{answer:?}: {}", only.message);
        let needs = only.needs.as_ref().unwrap().text.as_ref().unwrap();
        assert!(needs.contains("`/channel` and `/ts`") && needs.contains(r#""ts":"…""#), "{needs}");
        assert!(only.remedies[0].command.as_ref().unwrap().contains("--done --answer"), "{only:?}");
    }
    assert_eq!(life.status(run), Status::Parked);
    assert_eq!(settled(&life, run), Vec::<Value>::new());
    let answer = json!({"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"});
    resolve(Some(answer.clone())).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(settled(&life, run), [answer]);
    assert_eq!(slack.messages(), ["in doubt"]);
}

#[test]
fn what_can_be_read_back_by_now_needs_no_answer() {
    let slack = Slack::start();
    let (life, run) = in_doubt(&slack);
    // Somebody gives the connection the scope that it lacked.
    life.connect("poor", "xoxb-hq", Permission::Act);
    life.wait(life.engine().resolve(run, None, true, None, "a test".to_owned())).unwrap();
    let view = life.ended(run).unwrap();
    life.connect("poor", "xoxb-poor", Permission::Act);
    assert_eq!(view.status, Status::Completed, "{view:?}");
    let [answer] = &settled(&life, run)[..] else { panic!("{:?}", settled(&life, run)) };
    assert_eq!(answer["ts"], view.output.unwrap()["ts"]);
    assert_eq!(answer["message"]["text"], "in doubt");
    assert_eq!(slack.messages(), ["in doubt"]);
}

#[test]
fn a_message_that_is_sent_again_on_purpose_is_not_taken_for_the_first() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    // The first attempt posts and fails behind it; the second posts something else, on purpose, and its answer is lost.
    let workflow = life.apply(
        "
  - careful:
      try:
        - say:
            call: message.send:1@slack
            with: {connection: team, channel: C0HQGENERAL, text: '${ if $context == null then \"first\" else \"second\" end }'}
            export: {as: '${ {said: true} }'}
            metadata: {bellhop: {onRetry: again}}
        - fail:
            if: '${ $context.again == null }'
            call: message.send:1@slack
            with: {connection: team, channel: C0HQIT, text: other}
            export: {as: '${ {again: true} }'}
      catch:
        errors: {with: {status: 404}}
        retry: {delay: {milliseconds: 1}, limit: {attempt: {count: 2}}}",
    );
    let lost = json!({ "method": "chat.postMessage", "match": {"text": "second"}, "action": "cut_after_accept" });
    let lost = slack.fault(&lost);
    slack.fault(&json!({
        "method": "chat.postMessage", "match": {"text": "other"}, "action": {"refuse": {"error": "channel_not_found"}},
    }));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(lost);
    let view = life.ended(run).unwrap();
    assert_eq!(view.status, Status::Completed, "{view:?}");
    assert_eq!(slack.messages(), ["first", "second", "other"]);
    slack.check_once("sent again on purpose");
    let found: Vec<Value> = life
        .entries(run)
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Outcome { how, answer: Answer::Ok(Content::Value(answer)), .. } if how == "found" => {
                answer.read().ok()
            }
            _ => None,
        })
        .collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["message"]["text"], "second");
}

#[test]
fn a_removal_from_a_group_is_resolved_by_what_was_read_before() {
    let members = |slack: &Slack| slack.world()["groups"]["S0HQIT"]["users"].clone();
    for action in ["hold_before_accept", "accept_then_withhold"] {
        let slack = Slack::start();
        slack.control(
            "POST",
            "world",
            &json!([{"add_user": {
                "id": "U0LEAVER", "name": "leaver", "email": "leaver@acme.example", "workspaces": {"T0HQ": "member"},
            }}]),
        );
        let life = Life::start(fresh(), &slack);
        let add = life.apply(
            "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0LEAVER}}",
        );
        let run = life.started(trigger(&add, json!({}), HQ, None));
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
        let held = slack.fault(&json!({ "method": "usergroups.users.update", "action": action }));
        let remove = life.apply(
            "
  - remove: {call: usergroup.remove-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0LEAVER}}",
        );
        let run = life.started(trigger(&remove, json!({}), HQ, None));
        slack.happened(held);
        // The next process knows of the list only by the record.
        let life = Life::start(life.die(usize::MAX), &slack);
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Completed, "{action}: {view:?}");
        assert!(!members(&slack).as_array().unwrap().contains(&json!("U0LEAVER")), "{action}: {}", members(&slack));
    }
}

/// Installs the plugin again, with other grants.
fn granted(life: &Life, grants: &[&str]) {
    let services = &life.engine().services;
    let grants = grants.iter().map(|text| text.parse::<Grant>().unwrap()).collect();
    let installed = services.plugins.all().into_iter().next().unwrap();
    let bytes = at_once(services.journal.blob(installed.stored.inspection.digest)).unwrap().unwrap();
    let install = services.plugins.install(&bytes, Some(grants), &services.gateway.rules, services.clock.now());
    life.wait(install).unwrap();
}

#[test]
fn a_run_may_do_what_was_granted_when_it_was_accepted() {
    let slack = Slack::start();
    let held =
        slack.fault(&json!({ "method": "chat.postMessage", "match": {"text": "one"}, "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(
        "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: two}}",
    );
    let before = life.started(trigger(&workflow, json!({}), HQ, None));
    slack.happened(held);
    granted(&life, &["users.info"]);
    let refused = life.trigger(trigger(&workflow, json!({}), HQ, None)).unwrap();
    assert!(refused.is_err(), "what is accepted now is judged by what is granted now");
    // The next process finds the grants by their digest.
    let life = Life::start(life.die(usize::MAX), &slack);
    let view = life.ended(before).unwrap();
    assert_eq!(view.status, Status::Completed, "{view:?}");
    assert_eq!(slack.messages(), ["one", "two"]);
    let Some(Entry::Accepted { pins }) = life.entries(before).into_iter().next() else { panic!("it was accepted") };
    let pins: Pins = pins.read().unwrap();
    let pinned = &pins.actions[0];
    assert_ne!(pinned.grants, pinned.plugin);
    let kept = at_once(life.journal().blob(pinned.grants)).unwrap().unwrap();
    let kept: Vec<Grant> = serde_json::from_slice(&kept).unwrap();
    assert!(kept.iter().any(|grant| grant.to_string() == "chat.postMessage"), "{kept:?}");
}

#[test]
fn a_grant_for_channels_of_a_name_allows_their_ids_and_no_others() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    granted(&life, &["chat.postMessage@hq:#it*"]);
    let to = |channel: &str, text: &str| {
        format!(
            "\n  - one: {{call: message.send:1@slack, with: {{connection: team, channel: '{channel}', text: {text}}}}}"
        )
    };
    let sent = |channel: &str, text: &str| {
        let workflow = life.apply(&to(channel, text));
        let run = life.started(trigger(&workflow, json!({}), HQ, None));
        life.ended(run).unwrap()
    };
    let by_id = sent("C0HQIT", "by-its-id");
    assert_eq!(by_id.status, Status::Completed, "{by_id:?}");
    let by_name = sent("#it", "by-name");
    assert_eq!(by_name.status, Status::Completed, "{by_name:?}");
    let other = sent("C0HQGENERAL", "elsewhere-by-id");
    assert_eq!(other.status, Status::Faulted, "{other:?}");
    assert!(other.error.unwrap()["type"].as_str().unwrap().ends_with("/capability-not-granted"));
    assert_eq!(slack.messages(), ["by-its-id", "by-name"]);
}

const BOTH: &str = "
  - both:
      fork:
        branches:
          - left: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: left}}
          - right: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: right}}";

#[test]
fn one_answer_is_that_of_one_task() {
    let slack = Slack::start();
    slack.fault(&json!({ "method": "chat.postMessage", "times": 2, "action": "cut_after_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(BOTH);
    let run = life.started(trigger(&workflow, json!({}), POOR, None));
    life.until("both are parked", || life.parked(run) == 2);
    let answer = Some(json!({"ok": true, "channel": "C0HQIT", "ts": "1790000000.000100"}));
    let resolve =
        |task: Option<String>| life.wait(life.engine().resolve(run, task, true, answer.clone(), "a test".to_owned()));
    let Err(ResolveError::Ambiguous(both)) = resolve(None) else { panic!("one answer for two") };
    assert_eq!(both.len(), 2);
    for open in both {
        assert_eq!(life.status(run), Status::Parked);
        // One call of this task is open: its pointer says which.
        resolve(Some(open.task().to_owned())).unwrap();
    }
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(settled(&life, run).len(), 2);
    slack.check_once("settled one by one");
}

/// Three messages of one task, side by side: none has an answer, and one was not carried out.
const EACH: &str = "
  - each:
      for: {in: '${ [\"one\", \"two\", \"three\"] }'}
      metadata: {bellhop: {concurrency: 3}}
      do:
        - say: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ $item }'}}";

fn each_in_doubt(slack: &Slack) -> (Life, bellhop_core::id::RunId) {
    for (text, action) in [("one", "cut_after_accept"), ("two", "cut_before"), ("three", "cut_after_accept")] {
        slack.fault(&json!({ "method": "chat.postMessage", "match": {"text": text}, "action": action }));
    }
    let life = Life::start(fresh(), slack);
    let workflow = life.apply(EACH);
    let run = life.started(trigger(&workflow, json!({}), POOR, None));
    life.until("all are parked", || life.parked(run) == 3);
    (life, run)
}

/// The addresses of what is open, as the run's object has them.
fn addresses(life: &Life, run: bellhop_core::id::RunId) -> Vec<String> {
    let summary = at_once(life.engine().summary(run)).unwrap().unwrap();
    summary.open.iter().map(|open| open["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn house_d1_each_iteration_in_doubt_has_an_address_and_an_answer_of_its_own() {
    let slack = Slack::start();
    let (life, run) = each_in_doubt(&slack);
    let all = addresses(&life, run);
    let task = "/do/0/each/do/0/say";
    assert_eq!(all, [0, 1, 2].map(|item| format!("{task}#0.{item}.0@1.0")));
    let engine = life.engine();
    let resolve = |named: &str, done: bool, ts: Option<&str>| {
        let answer = ts.map(|ts| json!({"ok": true, "channel": "C0HQGENERAL", "ts": ts}));
        life.wait(engine.resolve(run, Some(named.to_owned()), done, answer, "a test".to_owned()))
    };
    let Err(ResolveError::Ambiguous(three)) = resolve(task, true, Some("1790000000.000100")) else { panic!("which?") };
    assert_eq!(three.iter().map(Open::address).collect::<Vec<_>>(), all);
    assert_eq!(settled(&life, run), Vec::<Value>::new());
    // The process of later knows them by the same addresses.
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(addresses(&life, run), all);
    let resolve = |named: &str, done: bool, ts: Option<&str>| {
        let answer = ts.map(|ts| json!({"ok": true, "channel": "C0HQGENERAL", "ts": ts}));
        life.wait(life.engine().resolve(run, Some(named.to_owned()), done, answer, "a test".to_owned()))
    };
    resolve(&all[2], true, Some("1790000000.000300")).unwrap();
    life.until("the others are left", || addresses(&life, run) == all[..2]);
    resolve(&all[1], false, None).unwrap();
    life.until("it was sent again", || slack.messages().len() == 3);
    // The execution alone names it where one call of it is open.
    resolve(all[0].split('@').next().unwrap(), true, Some("1790000000.000100")).unwrap();
    let view = life.ended(run).unwrap();
    assert_eq!((view.status, view.open.len()), (Status::Completed, 0), "{view:?}");
    let output = view.output.unwrap();
    assert_eq!((&output[0]["ts"], &output[2]["ts"]), (&json!("1790000000.000100"), &json!("1790000000.000300")));
    let mut sent = slack.messages();
    sent.sort();
    assert_eq!(sent, ["one", "three", "two"], "each once");
}

#[test]
fn house_d1_more_is_open_than_is_shown_and_that_is_said() {
    let slack = Slack::start();
    slack.fault(&json!({ "method": "chat.postMessage", "times": 3, "action": "cut_before" }));
    let limits = Limits { open_shown_max: 2, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let workflow = life.apply(EACH);
    let run = life.started(trigger(&workflow, json!({}), POOR, None));
    life.until("all are parked", || life.parked(run) == 3);
    let view = life.view(run);
    assert_eq!((view.open.len(), view.open_more), (2, 1), "{view:?}");
    life.wait(life.engine().resolve(run, Some(addresses(&life, run)[0].clone()), false, None, "t".to_owned())).unwrap();
    let more = || at_once(life.engine().summary(run)).unwrap().unwrap().open_more;
    life.until("what was behind them is shown", || more() == 0);
    assert_eq!(life.view(run).open.len(), 2);
}

#[test]
fn house_d2_nothing_is_said_to_be_settled_that_was_not() {
    let slack = Slack::start();
    let (life, run) = each_in_doubt(&slack);
    let all = addresses(&life, run);
    let resolve = |named: &str, done: bool, answer: Option<Value>| {
        life.wait(life.engine().resolve(run, Some(named.to_owned()), done, answer, "a test".to_owned()))
    };
    for wrong in ["/do/0/each", "/do/9/no", "/do/0/each/do/0/say#0.7.0", "/do/0/each/do/0/say#0.1.0@2.0", ""] {
        let Err(ResolveError::NotOpen { open, .. }) = resolve(wrong, false, None) else { panic!("{wrong}") };
        assert_eq!(open.len(), 3, "what is open is said");
    }
    // It was not carried out, and reading it back tells nothing.
    let Err(ResolveError::AnswerNeeded(one)) = resolve(&all[1], true, None) else { panic!("nobody knows its `ts`") };
    assert!(one[0].remedies[0].command.as_ref().unwrap().contains(&all[1]), "{one:?}");
    let Ok(Settled::One(open)) = resolve(&all[1], false, None) else { panic!("it is open") };
    assert_eq!(open.address(), all[1], "exactly this was settled");
    life.until("it was sent again", || slack.messages().len() == 3);
    let Err(ResolveError::NotOpen { open, .. }) = resolve(&all[1], false, None) else { panic!("settled already") };
    assert_eq!(open.len(), 2);
    assert_eq!(life.entries(run).iter().filter(|entry| matches!(entry, Entry::Resolved { .. })).count(), 1);
}

#[test]
fn house_d2_a_word_about_what_was_sent_before_is_not_one_about_what_was_sent_since() {
    let slack = Slack::start();
    slack.fault(&json!({ "method": "chat.postMessage", "times": 2, "action": "cut_before" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "twice in doubt" }), POOR, None));
    life.until_status(run, Status::Parked);
    let open = life.wait(life.engine().open_of(run)).unwrap();
    let [Open { execution, what: What::Call(call, intent) }] = &open[..] else { panic!("{open:?}") };
    life.wait(life.engine().resolve(run, None, false, None, "one".to_owned())).unwrap();
    life.until("it is in doubt again", || life.parked(run) == 2);
    // Somebody else had looked before, and says it now.
    let word = Word { sent_at: Timestamp::from_millis(intent.at.as_millis() - 1), answer: None };
    let late = Settle { calls: [(call.clone(), word)].into(), by: "another".to_owned() };
    let cause = Cause::Settle { of: Some(execution.clone()), done: false };
    assert!(!life.wait(life.engine().send_and_wait(run, cause, Some(late))).unwrap(), "nothing was settled");
    assert_eq!(life.status(run), Status::Parked);
    assert_eq!(slack.count("chat.postMessage"), 2);
}

#[test]
fn house_d2_what_was_surely_not_sent_was_not_carried_out() {
    let slack = Slack::start();
    let busy = json!({ "http": { "status": 503, "body": { "ok": false, "error": "service_unavailable" } } });
    slack.fault(&json!({ "method": "chat.postMessage", "action": busy }));
    let limits = Limits { slack_attempts_max: 1, ..Limits::default() };
    let life = Life::start_with(fresh(), limits, &slack);
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "once" }), HQ, None));
    life.until_status(run, Status::Parked);
    let resolve = |named: Option<String>, done, answer| {
        life.wait(life.engine().resolve(run, named, done, answer, "a test".to_owned()))
    };
    let answer = json!({"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"});
    for answer in [None, Some(answer)] {
        let Err(ResolveError::NotInDoubt(open)) = resolve(None, true, answer) else { panic!("it was not sent") };
        assert_eq!(open.address(), "/do/0/one#0");
    }
    assert_eq!(life.status(run), Status::Parked);
    resolve(addresses(&life, run).pop(), false, None).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["once"]);
}

#[test]
fn what_is_on_its_way_beside_a_doubt_is_not_settled_with_it() {
    let slack = Slack::start();
    let message = |text: &str| json!({ "text": text });
    slack.fault(&json!({ "method": "chat.postMessage", "match": message("left"), "action": "cut_before" }));
    let held = slack
        .fault(&json!({ "method": "chat.postMessage", "match": message("right"), "action": "hold_before_accept" }));
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(BOTH);
    let run = life.started(trigger(&workflow, json!({}), POOR, None));
    slack.happened(held);
    life.until_status(run, Status::Parked);
    life.wait(life.engine().resolve(run, None, false, None, "a test".to_owned())).unwrap();
    life.until("it is sent again", || slack.messages() == ["left"]);
    let resolved = |entry: &Entry| matches!(entry, Entry::Resolved { .. });
    assert_eq!(life.entries(run).iter().filter(|entry| resolved(entry)).count(), 1);
    slack.release(held, "answer");
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["left", "right"]);
    assert_eq!(slack.count("chat.postMessage"), 3);
}

/// A person is in a channel by an invitation of which nobody heard; it is sent again and answered that it was done. The
/// process dies at its `at`-th commit after the first sending. Gives whether it did.
fn invited_twice(at: Option<u64>) -> bool {
    let slack = Slack::start();
    let person = json!({"add_user": {
        "id": "U0NEW", "name": "new", "email": "new@acme.example", "workspaces": {"T0HQ": "member"},
    }});
    slack.control("POST", "world", &json!([person]));
    slack.fault(&json!({ "method": "conversations.invite", "action": "cut_after_accept" }));
    let unread = json!({"refuse": {"error": "missing_scope"}});
    slack.fault(&json!({ "method": "conversations.members", "times": 0, "action": unread }));
    let mut life = Life::start(fresh(), &slack);
    let workflow = life.apply(
        "
  - invite:
      call: channel.invite:1@slack
      with: {connection: team, channel: C0HQIT, user: U0NEW}
      metadata: {bellhop: {onUnknown: resend}}
  - rest: {wait: {hours: 1}}",
    );
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until("it is sent", || slack.count("conversations.invite") > 0);
    if let Some(at) = at {
        life.store.die_at(at);
    }
    let done = life.unless_dead(async {
        while life.status(run) != Status::Waiting {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    let died = life.store.is_dead() || done.is_none();
    if died {
        life = Life::start(life.die(usize::MAX), &slack);
    } else {
        // What comes now is not what is looked at.
        life.store.die_at(1_000_000);
    }
    life.until_status(run, Status::Waiting);
    assert_eq!(slack.count("conversations.invite"), 2, "{at:?}");
    // The second sending found the person there. That the first one did it is as likely as anything.
    assert!(life.wait(life.engine().signal(run, Cause::CancelAndUndo)).unwrap());
    life.until_status(run, Status::Parked);
    let waiting = life.view(run).waiting.unwrap().to_string();
    assert!(waiting.contains("undo-doubtful"), "{at:?}: {waiting}");
    died
}

#[test]
fn that_a_change_may_be_ours_is_known_whenever_the_host_dies() {
    assert!(!invited_twice(None));
    let mut deaths = 0;
    while invited_twice(Some(deaths + 1)) {
        deaths += 1;
    }
    // The end of the first sending, the second intent, its outcome, the decision.
    assert!(deaths >= 3, "only {deaths} deaths");
}
