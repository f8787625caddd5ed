//! As whom a call goes out: what a bot is refused for policy goes out once more by the user token, and stands once, whatever
//! the host dies of between the two.

use std::sync::OnceLock;

use bellhop_core::id::RunId;
use bellhop_core::requirement::{Permission, TokenKind};
use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, open_intents, trigger};
use super::ports::Point;
use super::scripted::{Script, Slice};
use crate::show::timeline::Public;
use bellhop_journal::Entry;
use bellhop_journal::memory::Memory;

const BOTH: &[(&str, &str)] = &[("team", "both")];
const CREATE: (&str, &str) = ("usergroups.create", r#"{"name":"Night shift","handle":"night-shift"}"#);
const UNARCHIVE: (&str, &str) = ("conversations.unarchive", r#"{"channel":"C0HQOLD"}"#);
const KICK: (&str, &str) = ("conversations.kick", r#"{"channel":"C0HQIT","user":"U0HQADMIN"}"#);
const POST: (&str, &str) = ("chat.post-message", r#"{"channel":"C0HQGENERAL","text":"as whom"}"#);

/// A Slack in which administrators keep user groups, and who is taken out of channels, for themselves.
fn strict() -> Slack {
    let slack = Slack::start();
    let kept = |what: &str| json!({ "keep_for_admins": { "workspace": "T0HQ", "what": what } });
    slack.control("POST", "world", &json!([kept("usergroups"), kept("remove-from-channels"), kept("create-channels")]));
    slack
}

/// A store with the connections `both`, which holds a bot's token and an administrator's, and `scopeless`, whose bot may do
/// nothing.
fn ground() -> Memory {
    static GROUND: OnceLock<Memory> = OnceLock::new();
    let ground = GROUND.get_or_init(|| {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        for (name, bot) in [("both", "xoxb-hq"), ("scopeless", "xoxb-hq-noscope")] {
            let tokens = [(TokenKind::Bot, bot), (TokenKind::User, "xoxp-hq-admin")];
            life.connect_by(name, &tokens, Permission::Act);
        }
        life.die(usize::MAX)
    });
    ground.crash(usize::MAX)
}

fn install(life: &Life, name: &str, call: (&str, &str)) {
    let calls = [call];
    let slices = [Slice { calls: &calls, ..Slice::default() }];
    Script { name, effect: "create", inverse: None, slices: &slices }.install(life);
}

/// Has an action make this one call, with this under `metadata.bellhop`; gives the run at its end.
fn called(life: &Life, name: &str, call: (&str, &str), bellhop: &str) -> (RunId, Status) {
    install(life, name, call);
    let workflow = life.apply_named(
        name,
        &format!(
            "\n  - act: {{call: '{name}.do:1@{name}', with: {{connection: team}}, metadata: {{bellhop: {bellhop}}}}}"
        ),
    );
    let run = life.started(trigger(&workflow, json!({}), BOTH, None));
    (run, life.ended(run).unwrap().status)
}

fn events(life: &Life, run: RunId) -> Vec<Public> {
    life.wait(life.engine().events(run, 0, 1_000)).unwrap().unwrap()
}

/// What the run shows of its calls: the kind of event, and by which token.
fn shown(life: &Life, run: RunId) -> Vec<(&'static str, String)> {
    let calls = events(life, run).into_iter().filter(|event| event.kind.starts_with("call."));
    calls.map(|event| (event.kind, event.data["token"].as_str().unwrap_or_default().to_owned())).collect()
}

#[test]
fn slack_13_what_a_bot_is_refused_for_policy_goes_out_by_the_user_token() {
    let slack = strict();
    let life = Life::start(ground(), &slack);
    let (run, status) = called(&life, "groups", CREATE, "{}");
    assert_eq!(status, Status::Completed, "{:?}", events(&life, run));
    assert_eq!(slack.whom("usergroups.create"), ["bot", "user"]);
    // Each has an intent of its own, under one key.
    let records: Vec<(u32, u32, &str, Option<TokenKind>)> = life
        .entries(run)
        .iter()
        .filter_map(|entry| match entry {
            Entry::Intent { attempt, ordinal, token, .. } => Some((*attempt, *ordinal, "intent", *token)),
            Entry::NotSent { attempt, ordinal, repeats, reason, .. } => {
                assert!(!repeats && reason.contains("permission_denied"), "{reason}");
                Some((*attempt, *ordinal, "not-sent", None))
            }
            Entry::Outcome { attempt, ordinal, .. } => Some((*attempt, *ordinal, "outcome", None)),
            _ => None,
        })
        .collect();
    assert_eq!(
        records,
        [
            (1, 0, "intent", Some(TokenKind::Bot)),
            (1, 0, "not-sent", None),
            (1, 0, "intent", Some(TokenKind::User)),
            (1, 0, "outcome", None),
        ]
    );
    let of = |kind, token: &str| (kind, token.to_owned());
    assert_eq!(
        shown(&life, run),
        [of("call.started", "bot"), of("call.not-sent", "bot"), of("call.started", "user"), of("call.ended", "user"),]
    );
    let object = serde_json::to_value(life.view(run)).unwrap();
    assert_eq!(object["called_as"], json!({ "bot": ["usergroups.create"], "user": ["usergroups.create"] }));
}

#[test]
fn slack_18_an_archived_channel_is_taken_up_again_by_the_user_token() {
    let slack = strict();
    let life = Life::start(ground(), &slack);
    let (run, status) = called(&life, "unarchives", UNARCHIVE, "{}");
    assert_eq!(status, Status::Completed, "{:?}", events(&life, run));
    assert_eq!(slack.whom("conversations.unarchive"), ["bot", "user"]);
    assert_eq!(slack.world()["channels"]["C0HQOLD"]["archived"], false);
}

#[test]
fn slack_20_whoever_is_refused_twice_hears_what_the_policy_is() {
    let slack = strict();
    // The person whose token it is cannot take himself out, and is no member to Slack that could be.
    slack.control(
        "POST",
        "world",
        &json!([{ "set_channel_member": { "channel": "C0HQIT", "user": "U0HQADMIN", "member": false } }]),
    );
    slack.control(
        "POST",
        "world",
        &json!([{ "set_channel_member": { "channel": "C0HQIT", "user": "U0HQMEMBER", "member": true } }]),
    );
    let life = Life::start(ground(), &slack);
    let kick = (KICK.0, r#"{"channel":"C0HQIT","user":"U0HQMEMBER"}"#);
    let (run, status) = called(&life, "kicks", kick, "{}");
    assert_eq!(slack.whom("conversations.kick"), ["bot", "user"]);
    assert_eq!(status, Status::Faulted);
    let ended = events(&life, run).into_iter().find(|event| event.kind == "call.ended").unwrap();
    assert_eq!(ended.data["error"], "permission-denied", "{ended:?}");
    let detail = ended.data["detail"].as_str().unwrap();
    assert!(detail.contains("restricted_action") && detail.contains("not_in_channel"), "{detail}");
    assert_eq!(
        slack.world()["channels"]["C0HQIT"]["members"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|m| *m == "U0HQMEMBER")
            .count(),
        1
    );
}

#[test]
fn slack_13_the_file_says_as_whom() {
    for (said, whom, status) in
        [("{token: bot}", &["bot"][..], Status::Faulted), ("{token: user}", &["user"], Status::Completed)]
    {
        let slack = strict();
        let life = Life::start(ground(), &slack);
        let (run, ended) = called(&life, "says", CREATE, said);
        assert_eq!(ended, status, "{said}: {:?}", events(&life, run));
        assert_eq!(slack.whom("usergroups.create"), whom, "{said}");
    }
}

#[test]
fn slack_13_nothing_is_said_in_a_persons_name_unless_the_file_says_so() {
    let posted_by = |slack: &Slack| -> Vec<Value> {
        let posted = slack.ledger().into_iter().filter(|line| line["method"] == "chat.postMessage");
        posted.map(|line| line["actor"].clone()).collect()
    };
    let slack = strict();
    slack.fault(
        &json!({ "method": "chat.postMessage", "times": 1, "action": { "refuse": { "error": "restricted_action" } } }),
    );
    let life = Life::start(ground(), &slack);
    let (_, status) = called(&life, "speaks", POST, "{}");
    assert_eq!((status, slack.whom("chat.postMessage")), (Status::Faulted, vec!["bot".to_owned()]));
    let (_, status) = called(&life, "speaks-as-user", POST, "{token: user}");
    assert_eq!((status, posted_by(&slack)), (Status::Completed, vec![json!("U0HQADMIN")]));
    // Nor where the bot lacks the scope.
    for (said, status) in [("{}", Status::Faulted), ("{token: user}", Status::Completed)] {
        let name = if said == "{}" { "without" } else { "without-as-user" };
        install(&life, name, POST);
        let workflow = life.apply_named(
            name,
            &format!(
                "\n  - act: {{call: '{name}.do:1@{name}', with: {{connection: team}}, metadata: {{bellhop: {said}}}}}"
            ),
        );
        let run = life.started(trigger(&workflow, json!({}), &[("team", "scopeless")], None));
        assert_eq!(life.ended(run).unwrap().status, status, "{said}: {:?}", events(&life, run));
    }
    assert_eq!(posted_by(&slack), ["U0HQADMIN", "U0HQADMIN"]);
}

#[test]
fn slack_13_without_a_user_token_the_refusal_is_the_answer() {
    let slack = strict();
    let life = Life::start(ground(), &slack);
    install(&life, "alone", CREATE);
    let workflow = life.apply("\n  - act: {call: 'alone.do:1@alone', with: {connection: team}}");
    let run = life.started(trigger(&workflow, json!({}), &[("team", "hq")], None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    assert_eq!(slack.whom("usergroups.create"), ["bot"]);
}

/// What takes a change back acts as whom the file says, because nobody else may.
#[test]
fn slack_13_a_change_is_taken_back_by_whom_it_was_made() {
    let slack = strict();
    let life = Life::start(ground(), &slack);
    let workflow = life.apply_text(
        "document: {dsl: 1.0.3, namespace: test, name: back, version: 1.0.0, metadata: {bellhop: {onFault: {rollback: completed}}}}
do:
  - make:
      call: channel.create:1@slack
      with: {connection: team, name: night-shift}
      metadata: {bellhop: {token: user}}
  - fail: {raise: {error: {type: 'https://example.com/no', status: 500}}}
",
    );
    let run = life.started(trigger(&workflow, json!({}), BOTH, None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted, "{:?}", events(&life, run));
    assert_eq!(
        (slack.whom("conversations.create"), slack.whom("conversations.archive")),
        (vec!["user".to_owned()], vec!["user".to_owned()])
    );
}

/// Dies at `point` on the way to a group that the user token makes, and lets a second process bring the run to its end. Gives
/// how many commits were at stake at the death; none when it did not die.
fn dies(at: &str, fault: Option<&Value>, point: Option<Point>) -> Option<usize> {
    let slack = strict();
    let memory = ground();
    if let Some(fault) = fault {
        slack.fault(fault);
    }
    let life = Life::start(memory, &slack);
    install(&life, "once", CREATE);
    let workflow = life.apply("\n  - act: {call: 'once.do:1@once', with: {connection: team}}");
    if let Some(point) = point {
        life.store.die_at(point.at);
    }
    let order = trigger(&workflow, json!({}), BOTH, Some("key"));
    let run = life.trigger(order.clone()).map(|accepted| accepted.unwrap().run);
    let ended = run.and_then(|run| life.ended(run));
    assert!(ended.is_some() || life.store.is_dead(), "{at}: it did not end and nobody died");
    let died = life.store.is_dead().then(|| life.store.at_stake());
    let life = Life::start(life.die(point.map_or(usize::MAX, |point| point.keep)), &slack);
    let run = life.started(order);
    let view = life.ended(run).unwrap();
    let story = || (slack.whom("usergroups.create"), events(&life, run));
    assert_eq!(view.status, Status::Completed, "{at}: {view:?} {:#?}", story());
    let world = slack.world();
    let groups = world["groups"].as_object().unwrap().values();
    let makers: Vec<&Value> =
        groups.filter(|group| group["handle"] == "night-shift").map(|group| &group["created_by"]).collect();
    assert_eq!(makers, ["U0HQADMIN"], "{at}: {:#?}", story());
    let made = slack.ledger().into_iter().filter(|line| line["method"] == "usergroups.create").count();
    assert_eq!(made, 1, "{at}: {:#?}", story());
    assert_eq!(open_intents(&life.entries(run)), 0, "{at}");
    died
}

#[test]
fn slack_13_what_the_user_token_did_stands_once_whatever_commit_the_host_dies_at() {
    let mut deaths = 0;
    for at in 1.. {
        let mut keep = 0;
        loop {
            let point = Point { at, keep };
            let Some(at_stake) = dies(&format!("died at {point:?}"), None, Some(point)) else {
                assert!(deaths >= 8, "only {deaths} deaths");
                return;
            };
            deaths += 1;
            keep += 1;
            if keep > at_stake {
                break;
            }
        }
    }
}

#[test]
fn slack_13_what_became_of_the_second_sending_is_found_by_who_sent_it() {
    // The first request of the method is the bot's, the second the user's.
    for action in ["cut_before", "cut_after_accept", "garbage"] {
        for nth in [1, 2] {
            let fault = json!({ "method": "usergroups.create", "nth": nth, "action": action });
            assert_eq!(dies(&format!("{action} {nth}"), Some(&fault), None), None);
        }
    }
}

#[test]
fn slack_13_a_process_that_ends_while_slack_has_the_second_sending_finds_out_what_became_of_it() {
    for (action, done) in [("accept_then_withhold", true), ("hold_before_accept", false)] {
        let slack = strict();
        let life = Life::start(ground(), &slack);
        install(&life, "held", CREATE);
        let workflow = life.apply("\n  - act: {call: 'held.do:1@held', with: {connection: team}}");
        let held = slack.fault(&json!({ "method": "usergroups.create", "nth": 2, "action": action }));
        let run = life.started(trigger(&workflow, json!({}), BOTH, None));
        slack.happened(held);
        let open: Vec<Option<TokenKind>> = life
            .entries(run)
            .iter()
            .filter_map(|entry| match entry {
                Entry::Intent { token, .. } => Some(*token),
                _ => None,
            })
            .collect();
        assert_eq!(open, [Some(TokenKind::Bot), Some(TokenKind::User)]);
        let life = Life::start(life.die(usize::MAX), &slack);
        assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{action}: {:?}", events(&life, run));
        let made = slack.ledger().into_iter().filter(|line| line["method"] == "usergroups.create").count();
        assert_eq!(made, 1, "{action}");
        let sent = slack.whom("usergroups.create");
        let expected: &[&str] = if done { &["bot", "user"] } else { &["bot", "user", "user"] };
        assert_eq!(
            sent,
            expected,
            "{action}: {:#?}",
            events(&life, run).iter().map(|e| format!("{} {}", e.kind, e.data)).collect::<Vec<_>>()
        );
    }
}

/// The list of members is replaced, and read back against what was read before.
#[test]
fn slack_13_a_group_is_edited_once_by_the_user_token() {
    for action in [None, Some("cut_before"), Some("cut_after_accept")] {
        let slack = strict();
        let life = Life::start(ground(), &slack);
        if let Some(action) = action {
            slack.fault(&json!({ "method": "usergroups.users.update", "nth": 2, "action": action }));
        }
        let workflow = life.apply(
            "\n  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0HQMEMBER}}",
        );
        let run = life.started(trigger(&workflow, json!({}), BOTH, None));
        assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{action:?}: {:?}", events(&life, run));
        let users = &slack.world()["groups"]["S0HQIT"]["users"];
        assert!(users.as_array().unwrap().contains(&json!("U0HQMEMBER")), "{action:?}: {users}");
        let done = slack.ledger().into_iter().filter(|line| line["method"] == "usergroups.users.update");
        assert_eq!(done.map(|line| line["actor"].clone()).collect::<Vec<_>>(), ["U0HQADMIN"], "{action:?}");
    }
}
