//! Unknown outcomes, resolved against a scripted Slack: each request must be the one expected, and the verdict too.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::{Catalog, Reconcile};
use bellhop_slack::client::Answer;
use bellhop_slack::reconcile::{Question, Step, Verdict, begin, stamp};
use serde_json::{Value, json};

/// 2026-10-21T07:28:00Z.
const INTENT_AT: Timestamp = Timestamp::from_millis(1_792_567_680_000);
/// Ten minutes later.
const NOW: Timestamp = Timestamp::from_millis(1_792_568_280_000);
const KEY: &str = "run_1/do/0#1";

fn answer(body: &Value) -> Answer {
    let error = body.get("error").and_then(Value::as_str).map(str::to_owned);
    Answer {
        status: 200,
        ok: error.is_none(),
        error,
        body: body.clone(),
        needed: None,
        provided: None,
        bytes: 0,
        scopes: None,
        request_id: None,
    }
}

/// Resolves one call; `script` has the expected requests with their answers.
fn resolve(method: &str, arguments: &Value, before: Option<&Value>, script: &[(&str, Value, Value)]) -> Verdict {
    let question = Question {
        method: Catalog::built_in().by_name(method).unwrap(),
        arguments,
        key: KEY,
        intent_at: INTENT_AT,
        now: NOW,
        acting: Some("UBOT"),
        before,
    };
    let mut script = script.iter();
    let (mut reconciler, mut request) = match begin(&question) {
        Ok(begun) => begun,
        Err(verdict) => {
            assert!(script.next().is_none(), "{method}: asked nothing");
            return verdict;
        }
    };
    loop {
        let (name, arguments, body) = script.next().unwrap_or_else(|| panic!("{method} asks {request:?} besides"));
        assert_eq!((request.method, &request.arguments), (*name, arguments), "{method}");
        match reconciler.next(&answer(body)) {
            Step::Ask(next) => request = next,
            Step::Done(verdict) => {
                assert!(script.next().is_none(), "{method}: the script goes on");
                return verdict;
            }
        }
    }
}

fn cannot_tell(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::CannotTell(why) if why.len() > 10)
}

fn message(ts: &str, key: Option<&str>) -> Value {
    match key {
        Some(key) => json!({"ts": ts, "metadata": {"event_type": "x", "event_payload": {"bellhop": key, "own": 1}}}),
        None => json!({"ts": ts, "text": "hello"}),
    }
}

fn page(messages: &[Value], cursor: &str) -> Value {
    json!({"ok": true, "messages": messages, "has_more": !cursor.is_empty(), "response_metadata": {"next_cursor": cursor}})
}

fn history(channel: &str, cursor: Option<&str>) -> Value {
    let mut arguments = json!({"channel": channel, "oldest": "1792567620.000000", "inclusive": true, "include_all_metadata": true, "limit": 200});
    if let Some(cursor) = cursor {
        arguments["cursor"] = cursor.into();
    }
    arguments
}

const HISTORY: &str = "conversations.history";

#[test]
fn a_message_is_found_on_whichever_page_it_is() {
    let sent = json!({"channel": "C1", "text": "hi"});
    let found = resolve(
        "chat.postMessage",
        &sent,
        None,
        &[
            (HISTORY, history("C1", None), page(&[message("3", None), message("2", Some("another"))], "next")),
            (HISTORY, history("C1", Some("next")), page(&[message("1.5", Some(KEY))], "more")),
        ],
    );
    let Verdict::Found(body) = found else { panic!("{found:?}") };
    assert_eq!((&body["ok"], &body["channel"], &body["ts"]), (&json!(true), &json!("C1"), &json!("1.5")));

    let absent = resolve(
        "chat.postMessage",
        &sent,
        None,
        &[
            (HISTORY, history("C1", None), page(&[message("3", None)], "next")),
            (HISTORY, history("C1", Some("next")), page(&[], "")),
        ],
    );
    assert_eq!(absent, Verdict::Absent);
}

#[test]
fn a_message_is_not_absent_when_the_list_was_not_whole() {
    let sent = json!({"channel": "C1"});
    for body in [
        json!({"error": "missing_scope"}),
        json!({"error": "channel_not_found"}),
        json!({"ok": true}),
        json!({"ok": true, "messages": [], "has_more": true}),
        json!({"ok": true, "messages": [], "is_limited": true}),
    ] {
        let verdict = resolve("chat.postMessage", &sent, None, &[(HISTORY, history("C1", None), body.clone())]);
        assert!(cannot_tell(&verdict), "{body}: {verdict:?}");
    }
    assert!(cannot_tell(&resolve("chat.postMessage", &json!({"channel": "#general"}), None, &[])));
    // A list that never ends is given up.
    let pages: Vec<_> =
        (0..100).map(|n| (HISTORY, history("C1", (n > 0).then_some("again")), page(&[], "again"))).collect();
    assert!(cannot_tell(&resolve("chat.postMessage", &sent, None, &pages)));
}

#[test]
fn a_message_to_a_person_and_one_in_a_thread() {
    let found = resolve(
        "chat.postMessage",
        &json!({"channel": "U7"}),
        None,
        &[
            ("conversations.open", json!({"users": "U7"}), json!({"ok": true, "channel": {"id": "D7"}})),
            (HISTORY, history("D7", None), page(&[message("9", Some(KEY))], "")),
        ],
    );
    assert!(matches!(found, Verdict::Found(body) if body["channel"] == "D7"));

    let mut replies = history("C1", None);
    replies["ts"] = "5.0".into();
    let absent = resolve(
        "chat.postMessage",
        &json!({"channel": "C1", "thread_ts": "5.0"}),
        None,
        &[("conversations.replies", replies, page(&[message("5.0", None)], ""))],
    );
    assert_eq!(absent, Verdict::Absent);
}

#[test]
fn what_was_stamped_is_what_is_looked_for() {
    let method = Catalog::built_in().by_name("chat.postMessage").unwrap();
    let stamped = stamp(method, &json!({"channel": "C1", "text": "x"}), KEY).unwrap();
    let kept = json!({"ts": "1", "metadata": stamped["metadata"]});
    let found = resolve("chat.postMessage", &stamped, None, &[(HISTORY, history("C1", None), page(&[kept], ""))]);
    assert!(matches!(found, Verdict::Found(_)));
}

#[test]
fn an_account_by_its_e_mail_address() {
    let sent = json!({
        "userName": "ada",
        "externalId": "hr-1",
        "emails": [{"value": "old@x.example"}, {"value": "Ada@x.example", "primary": true}],
    });
    let asked = json!({"filter": "email eq \"Ada@x.example\"", "startIndex": 1, "count": 200});
    let account = |created: Option<&str>, external: Option<&str>, email: &str| json!({"id": "U1", "externalId": external, "meta": {"created": created}, "emails": [{"value": email}]});
    for (accounts, wanted) in [
        (vec![], "absent"),
        (vec![account(Some("2026-10-21T07:27:30Z"), None, "ada@x.example")], "found"),
        (vec![account(Some("2026-10-21T00:27:30-07:00"), None, "ada@x.example")], "found"),
        // It stood there before: sending again is answered with 409, which the plugin reads.
        (vec![account(Some("2026-10-20T07:27:30Z"), Some("hr-1"), "ada@x.example")], "absent"),
        (vec![account(None, Some("hr-1"), "ada@x.example")], "found"),
        (vec![account(None, Some("hr-2"), "ada@x.example")], "cannot tell"),
        (vec![account(None, None, "ada@x.example")], "cannot tell"),
        (vec![account(Some("2026-10-21T07:28:30Z"), None, "else@x.example")], "absent"),
    ] {
        let body = json!({"totalResults": accounts.len(), "startIndex": 1, "Resources": accounts});
        let verdict = resolve("scim.v2.post.Users", &sent, None, &[("scim.v2.get.Users", asked.clone(), body.clone())]);
        let word = match verdict {
            Verdict::Found(_) => "found",
            Verdict::Absent => "absent",
            _ => "cannot tell",
        };
        assert_eq!(word, wanted, "{body}");
    }
    let mut second = asked.clone();
    second["startIndex"] = 2.into();
    let other = account(Some("2026-10-21T07:28:30Z"), None, "else@x.example");
    let first_page = json!({"totalResults": 2, "startIndex": 1, "Resources": [other]});
    let verdict = resolve(
        "scim.v2.post.Users",
        &sent,
        None,
        &[
            ("scim.v2.get.Users", asked, first_page),
            ("scim.v2.get.Users", second, json!({"totalResults": 2, "startIndex": 2, "Resources": []})),
        ],
    );
    assert!(cannot_tell(&verdict), "a page that brings nothing is no end");
}

#[test]
fn memberships() {
    let members = |ids: &[&str]| json!({"ok": true, "members": ids});
    let asked = json!({"channel": "C1", "limit": 200});
    let invite = json!({"channel": "C1", "users": "U1,U2"});
    let kick = json!({"channel": "C1", "user": "U1"});
    for (method, sent, listed, found) in [
        ("conversations.invite", &invite, vec!["U1", "U2", "U3"], true),
        ("conversations.invite", &invite, vec!["U1"], false),
        ("conversations.kick", &kick, vec!["U2"], true),
        ("conversations.kick", &kick, vec!["U1", "U2"], false),
    ] {
        let verdict = resolve(method, sent, None, &[("conversations.members", asked.clone(), members(&listed))]);
        // Whether they were in before, nobody has read.
        assert_eq!(matches!(verdict, Verdict::Holds(_)), found, "{method} {listed:?}");
        assert_eq!(verdict == Verdict::Absent, !found, "{method} {listed:?}");
    }
}

#[test]
fn a_replaced_list_is_not_written_over_somebody_elses_change() {
    let update = json!({"usergroup": "S1", "users": ["U1", "U2"], "team_id": "T1"});
    let asked = json!({"usergroup": "S1", "include_disabled": true, "team_id": "T1"});
    let users = |ids: &[&str]| json!({"ok": true, "users": ids});
    for (before, now, wanted) in [
        (Some(vec!["U1"]), vec!["U2", "U1"], "found"),
        (Some(vec!["U1"]), vec!["U1"], "absent"),
        (Some(vec!["U1", "U2", "U3"]), vec!["U1", "U2", "U3"], "absent"),
        (Some(vec!["U1"]), vec!["U1", "U9"], "cannot tell"),
        (None, vec!["U1", "U2"], "holds"),
        (Some(vec!["U1", "U2"]), vec!["U1", "U2"], "holds"),
        (None, vec!["U1"], "absent"),
        (None, vec!["U1", "U2", "U3"], "cannot tell"),
    ] {
        let before = before.as_ref().map(|b| users(b));
        let script = [("usergroups.users.list", asked.clone(), users(&now))];
        let word = match resolve("usergroups.users.update", &update, before.as_ref(), &script) {
            Verdict::Found(body) => {
                assert_eq!(body["usergroup"]["users"], json!(["U1", "U2"]));
                "found"
            }
            Verdict::Holds(_) => "holds",
            Verdict::Absent => "absent",
            _ => "cannot tell",
        };
        assert_eq!(word, wanted, "{before:?} {now:?}");
    }
}

#[test]
fn workspaces_of_an_organisation() {
    let assign = json!({"team_id": "T1", "user_id": "U1"});
    let active = ("admin.users.list", json!({"limit": 100, "team_id": "T1"}));
    let inactive = ("admin.users.list", json!({"limit": 100, "team_id": "T1", "is_active": false}));
    let users = |ids: &[&str], is_active: bool| {
        let list: Vec<_> =
            ids.iter().map(|id| json!({"id": id, "email": format!("{id}@x"), "is_active": is_active})).collect();
        json!({"ok": true, "users": list})
    };
    let list = |ids: &[&str]| (active.0, active.1.clone(), users(ids, true));
    let gone = |ids: &[&str]| (inactive.0, inactive.1.clone(), users(ids, false));
    let holds = |v: Verdict| matches!(v, Verdict::Holds(_));
    let found = |v: Verdict| matches!(v, Verdict::Found(_));
    assert!(holds(resolve("admin.users.assign", &assign, None, &[list(&["U1"])])));
    let was_in = |teams: &[&str]| json!({"ok": true, "user": {"enterprise_user": {"teams": teams}}});
    assert!(found(resolve("admin.users.assign", &assign, Some(&was_in(&["T9"])), &[list(&["U1"])])));
    assert!(holds(resolve("admin.users.assign", &assign, Some(&was_in(&["T9", "T1"])), &[list(&["U1"])])));
    assert_eq!(resolve("admin.users.assign", &assign, None, &[list(&["U2"]), gone(&["U3"])]), Verdict::Absent);
    assert!(cannot_tell(&resolve("admin.users.assign", &assign, None, &[list(&[]), gone(&["U1"])])));
    assert!(holds(resolve("admin.users.remove", &assign, None, &[list(&["U2"])])));
    assert_eq!(resolve("admin.users.remove", &assign, None, &[list(&["U1"])]), Verdict::Absent);
    let invite = json!({"team_id": "T1", "email": "u1@X", "channel_ids": "C1"});
    assert!(holds(resolve("admin.users.invite", &invite, None, &[list(&["U1"])])));
}

#[test]
fn roles_names_resources_and_sessions() {
    let holds = |v: Verdict| matches!(v, Verdict::Holds(_));
    let found = |v: Verdict| matches!(v, Verdict::Found(_));
    let roles = json!({"role_id": "Rl0A", "entity_ids": "T1", "user_ids": ["U1", "U2"]});
    let asked = json!({"role_ids": ["Rl0A"], "entity_ids": ["T1"], "limit": 100});
    let listed = |users: &[&str]| {
        let list: Vec<_> = users.iter().map(|u| json!({"role_id": "Rl0A", "entity_id": "T1", "user_id": u})).collect();
        ("admin.roles.listAssignments", asked.clone(), json!({"ok": true, "role_assignments": list}))
    };
    assert!(holds(resolve("admin.roles.addAssignments", &roles, None, &[listed(&["U1", "U2"])])));
    assert_eq!(resolve("admin.roles.addAssignments", &roles, None, &[listed(&["U1"])]), Verdict::Absent);
    assert!(holds(resolve("admin.roles.removeAssignments", &roles, None, &[listed(&[])])));
    assert_eq!(resolve("admin.roles.removeAssignments", &roles, None, &[listed(&["U2"])]), Verdict::Absent);

    let create = json!({"name": "new-hires", "is_private": true, "team_id": "T1"});
    let channel = |created: u64, creator: &str| {
        let asked = json!({"types": "private_channel", "limit": 200, "team_id": "T1"});
        let channel = json!({"id": "C9", "name": "new-hires", "created": created, "creator": creator});
        ("conversations.list", asked, json!({"ok": true, "channels": [channel]}))
    };
    assert!(found(resolve("conversations.create", &create, None, &[channel(1_792_567_681, "UBOT")])));
    for other in [channel(1_792_567_681, "UELSE"), channel(1_792_560_000, "UBOT")] {
        assert_eq!(resolve("conversations.create", &create, None, &[other]), Verdict::Absent);
    }

    let put = json!({"id": "U1", "schemas": ["x"], "userName": "ada", "emails": [{"value": "a@x"}]});
    let get = |name: &str| {
        let body = json!({"id": "U1", "userName": name, "active": true, "emails": [{"value": "a@x", "type": "work"}]});
        ("scim.v2.get.Users.id", json!({"id": "U1"}), body)
    };
    assert!(found(resolve("scim.v2.put.Users.id", &put, None, &[get("ada")])));
    assert!(cannot_tell(&resolve("scim.v2.put.Users.id", &put, None, &[get("eve")])));

    let sessions = |ids: &[u64]| {
        let list: Vec<_> = ids.iter().map(|id| json!({"user_id": "U1", "session_id": id})).collect();
        ("admin.users.session.list", json!({"limit": 200}), json!({"ok": true, "active_sessions": list}))
    };
    let reset = json!({"user_id": "U1"});
    assert!(found(resolve("admin.users.session.reset", &reset, None, &[sessions(&[])])));
    assert!(cannot_tell(&resolve("admin.users.session.reset", &reset, None, &[sessions(&[1])])));
    let end = json!({"user_id": "U1", "session_id": 7});
    assert!(found(resolve("admin.users.session.invalidate", &end, None, &[sessions(&[8])])));
    assert_eq!(resolve("admin.users.session.invalidate", &end, None, &[sessions(&[7])]), Verdict::Absent);
}

/// A message for later: by the list that the action had read before, and by the conversation once its time has come.
#[test]
fn a_message_for_later_is_found_where_it_waits_and_where_it_was_posted() {
    const LATER: u64 = 1_792_999_999;
    const PAST: u64 = 1_792_568_000;
    let item = |id: &str, channel: &str, at: u64, text: &str| json!({"id": id, "channel_id": channel, "post_at": at, "date_created": 1_792_567_700, "text": text});
    let list =
        |items: &[Value]| json!({"ok": true, "scheduled_messages": items, "response_metadata": {"next_cursor": ""}});
    let asks = |at: u64, items: &[Value]| {
        (
            "chat.scheduledMessages.list",
            json!({"channel": "C1", "oldest": at - 1, "latest": at + 1, "limit": 100}),
            list(items),
        )
    };
    let sent = |at: u64| json!({"channel": "C1", "post_at": at, "text": "R&D <now>"});
    let ours = item("Q2", "C1", LATER, "R&amp;D &lt;now&gt;");
    let known = item("Q1", "C1", LATER, "R&amp;D &lt;now&gt;");
    let before = list(std::slice::from_ref(&known));
    let schedule = |at: u64, before: Option<&Value>, script: &[(&str, Value, Value)]| {
        resolve("chat.scheduleMessage", &sent(at), before, script)
    };
    let found = |id: Value, at: u64, ts: Value| {
        Verdict::Found(json!({"ok": true, "channel": "C1", "scheduled_message_id": id, "post_at": at, "ts": ts}))
    };
    let both = [known.clone(), ours.clone()];
    assert_eq!(schedule(LATER, Some(&before), &[asks(LATER, &both)]), found("Q2".into(), LATER, Value::Null));
    // Another text may be what Slack makes of ours, and an id may be a number.
    let other = [known.clone(), item("Q3", "C1", LATER, "other")];
    assert!(cannot_tell(&schedule(LATER, Some(&before), &[asks(LATER, &other)])));
    let mut number = ours.clone();
    number["id"] = 12.into();
    assert_eq!(schedule(LATER, Some(&before), &[asks(LATER, &[number])]), found("12".into(), LATER, Value::Null));
    // Nobody else's: another channel, another time, or older than the call.
    let mut old = ours.clone();
    old["date_created"] = 1_792_567_000.into();
    let others = [known, item("Q4", "C2", LATER, "R&D <now>"), item("Q5", "C1", 9, "R&D <now>"), old];
    assert_eq!(schedule(LATER, Some(&before), &[asks(LATER, &others)]), Verdict::Absent);
    // Two that fit, or one where nobody knows what was there before.
    let two = [ours.clone(), item("Q6", "C1", LATER, "R&D <now>")];
    assert!(cannot_tell(&schedule(LATER, Some(&before), &[asks(LATER, &two)])));
    assert!(cannot_tell(&schedule(LATER, None, &[asks(LATER, &[ours])])));
    assert_eq!(schedule(LATER, None, &[asks(LATER, &[])]), Verdict::Absent);
    // Its time has come.
    let posted = |messages: &[Value]| {
        let mut arguments = history("C1", None);
        arguments["oldest"] = format!("{PAST}.000000").into();
        arguments["latest"] = format!("{}.000000", PAST + 3_600).into();
        (HISTORY, arguments, page(messages, ""))
    };
    let is_there = [message("1792568001.000100", None), message("1792568001.000200", Some(KEY))];
    let script = [asks(PAST, &[]), posted(&is_there)];
    assert_eq!(schedule(PAST, Some(&before), &script), found(Value::Null, PAST, "1792568001.000200".into()));
    assert!(cannot_tell(&schedule(PAST, Some(&before), &[asks(PAST, &[]), posted(&is_there[..1])])));
    assert!(cannot_tell(&resolve("chat.scheduleMessage", &json!({"channel": "#it", "post_at": LATER}), None, &[])));
    assert!(cannot_tell(&resolve("chat.scheduleMessage", &json!({"channel": "C1", "post_at": "soon"}), None, &[])));
}

/// Every write of the catalog gets a verdict or a first request that its catalog line allows; none panics on
/// arguments that make no sense.
#[test]
fn every_write_has_a_way() {
    for method in Catalog::built_in().methods().filter(|m| m.writes) {
        for arguments in [json!({}), json!(null), json!({"channel": 1, "users": {}, "id": [], "emails": "x"})] {
            let question = Question {
                method,
                arguments: &arguments,
                key: KEY,
                intent_at: Timestamp::from_millis(0),
                now: NOW,
                acting: None,
                before: None,
            };
            match begin(&question) {
                Ok((_, request)) => assert!(method.asks.iter().any(|a| a == request.method), "{}", method.name),
                Err(Verdict::Repeat) => assert_eq!(method.reconcile, Reconcile::Repeat, "{}", method.name),
                Err(verdict) => assert!(cannot_tell(&verdict), "{}: {verdict:?}", method.name),
            }
        }
    }
}
