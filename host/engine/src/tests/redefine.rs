//! A failed run goes on on another version of its workflow, if that would have come to where the run stands.

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use super::ports::Point;
use crate::operate::reopen::RedefineError;
use crate::setup::definitions::{self, Expect};
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const BEGINS: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - both:
      do:
        - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ $workflow.input.who }'}, output: {as: '{who: \"x\"}'}}
        - three: {call: message.send:1@slack, with: {connection: team, channel: C0NOWHERE, text: three}}";
/// The failed task goes elsewhere, and more comes after it.
const MENDED: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - both:
      do:
        - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ $workflow.input.who }'}, output: {as: '{who: \"x\"}'}}
        - three: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: mended}}
        - four: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: four}}
  - five: {set: {done: true}}";

impl Life {
    /// Puts a version of one workflow.
    fn put(&self, version: &str, head: &str, tasks: &str) -> bellhop_core::definition::WorkflowName {
        let text = format!(
            "document: {{dsl: 1.0.3, namespace: test, name: redefined, version: {version}}}\n{head}do:{tasks}\n"
        );
        let (definition, _, diagnostics) = definitions::read("workflow.yaml", &text);
        let shown: Vec<String> = diagnostics.iter().map(bellhop_core::diagnostic::render).collect();
        let definition = definition.unwrap_or_else(|| panic!("{}", shown.join("\n")));
        let name = definition.workflow.document.name.clone();
        let services = &self.engine().services;
        let now = services.clock.now();
        self.wait(services.definitions.put(&name, definition, "workflow.yaml", &text, &Expect::Any, now)).unwrap();
        name
    }

    fn redefined(&self, run: RunId, version: &str) -> Result<bool, RedefineError> {
        self.until("it has left", || self.engine().runs().live() == 0);
        self.wait(self.engine().redefine(run, version))
    }
}

/// A run that has sent two messages and failed at the third.
fn failed(life: &Life) -> RunId {
    let name = life.put("1.0.0", "", BEGINS);
    let run = life.started(trigger(&name, json!({ "who": "two" }), HQ, None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    run
}

#[test]
fn a_failed_run_goes_on_on_a_version_in_which_only_what_is_to_come_differs() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let run = failed(&life);
    life.put("2.0.0", "", MENDED);
    assert!(life.redefined(run, "2.0.0").unwrap());
    let view = life.ended(run).unwrap();
    assert_eq!((view.status, view.version.as_str()), (Status::Completed, "2.0.0"), "{view:?}");
    assert_eq!(view.output, Some(json!({ "done": true })));
    assert_eq!(slack.messages(), ["one", "two", "mended", "four"]);
    slack.check_once("redefined");
    // Nobody asks for it any more, and it is known after a restart.
    assert!(matches!(life.redefined(run, "1.0.0"), Err(RedefineError::NothingToRetry(_))));
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(life.view(run).version, "2.0.0");
    let kinds: Vec<&str> =
        life.wait(life.engine().events(run, 0, 100)).unwrap().unwrap().iter().map(|e| e.kind).collect();
    let at = kinds.iter().position(|kind| *kind == "run.redefined").unwrap();
    assert_eq!(kinds[at + 1], "run.retried", "{kinds:?}");
}

#[test]
fn a_version_that_would_not_have_come_there_is_refused_and_names_the_first_difference() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let run = failed(&life);
    let other = |from: &str, to: &str| MENDED.replace(from, to);
    let refused = [
        ("another text of a task that is done", "", other("text: one", "text: uno"), "/do/0/one"),
        ("another name", "", other("- one:", "- uno:"), "/do/0/one"),
        ("a task before", "", format!("\n  - zero: {{set: {{a: 1}}}}{MENDED}"), "/do/0/one"),
        ("a task between", "", other("  - both:", "  - zero: {set: {a: 1}}\n  - both:"), "/do/1/both"),
        (
            "what goes on around the failed one",
            "",
            other("  - both:", "  - both:\n      timeout: {after: PT1H}"),
            "/do/1/both",
        ),
        ("an earlier output", "", other("\"x\"", "\"y\""), "/do/1/both/do/0/two"),
        ("fewer", "", "\n  - one: {set: {a: 1}}".to_owned(), "/do/1/both"),
        ("the input", "input: {from: '${ {who: .who} }'}\n", MENDED.to_owned(), "/input"),
        ("the time", "timeout: {after: PT1H}\n", MENDED.to_owned(), "/timeout"),
    ];
    for (number, (what, head, tasks, pointer)) in refused.into_iter().enumerate() {
        let version = format!("3.0.{number}");
        life.put(&version, head, &tasks);
        let before = life.entries(run).len();
        match life.redefined(run, &version) {
            Err(RedefineError::Differs(diagnostic)) => {
                assert_eq!(diagnostic.code.0, "definition-differs", "{what}");
                assert_eq!(diagnostic.pointer.as_deref(), Some(pointer), "{what}: {}", diagnostic.message);
            }
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!((life.entries(run).len(), life.status(run)), (before, Status::Faulted), "{what}");
    }
    assert!(matches!(life.redefined(run, "9.9.9"), Err(RedefineError::Refused(_))));
    // What preflight refuses is refused here, too.
    life.put("4.0.0", "", &other("- five:", "- gone: {call: nothing.at-all:1@slack}\n  - five:"));
    assert!(matches!(life.redefined(run, "4.0.0"), Err(RedefineError::Refused(_))));
    assert_eq!(slack.messages(), ["one", "two"]);
    // The one that it is on is no other: it is simply tried again.
    assert!(!life.redefined(run, "1.0.0").unwrap());
    assert!(life.wait(life.engine().signal(run, Cause::Retry)).unwrap());
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
}

#[test]
fn a_parked_call_is_made_anew_as_the_version_says_and_one_in_doubt_is_not() {
    let slack = Slack::start();
    let limits = Limits { slack_attempts_max: 1, ..Limits::default() };
    let life = Life::start_with(fresh(), limits.clone(), &slack);
    let busy = json!({ "http": { "status": 503, "body": { "ok": false, "error": "service_unavailable" } } });
    slack.fault(&json!({ "method": "chat.postMessage", "match": { "text": "three" }, "action": busy }));
    let name = life.put("1.0.0", "", &BEGINS.replace("C0NOWHERE", "C0HQGENERAL"));
    let run = life.started(trigger(&name, json!({ "who": "two" }), HQ, None));
    life.until_status(run, Status::Parked);
    // It is read from its snapshot.
    let life = Life::start_with(life.die(usize::MAX), limits, &slack);
    life.put("2.0.0", "", MENDED);
    assert!(life.redefined(run, "2.0.0").unwrap());
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "two", "mended", "four"]);
    assert_eq!(life.view(run).version, "2.0.0");

    slack.fault(&json!({ "method": "chat.postMessage", "match": { "text": "two" }, "action": "accept_then_withhold" }));
    let sent = slack.count("chat.postMessage");
    let run = life.started(trigger(&name, json!({ "who": "two" }), &[("team", "poor")], None));
    life.until("it is sent", || slack.count("chat.postMessage") == sent + 2);
    let life = Life::start(life.die(usize::MAX), &slack);
    life.until_status(run, Status::Parked);
    life.put("5.0.0", "", &MENDED.replace("four}", "cinco}"));
    assert!(matches!(life.redefined(run, "5.0.0"), Err(RedefineError::NothingToRetry(_))));
}

/// The run goes on in a process that dies there. Gives whether it died, and how much was at stake.
fn dies_at(point: Point) -> Option<usize> {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let run = failed(&life);
    life.put("2.0.0", "", MENDED);
    life.until("it has left", || life.engine().runs().live() == 0);
    life.store.die_at(point.at);
    let acknowledged = life.unless_dead(life.engine().redefine(run, "2.0.0")).is_some();
    if acknowledged {
        life.ended(run);
    }
    let died = life.store.is_dead().then(|| life.store.at_stake());
    let life = Life::start(life.die(point.keep), &slack);
    // It is on the one version or on the other, and in each case goes on from there.
    let version = life.view(run).version;
    match (version.as_str(), life.status(run)) {
        ("1.0.0", Status::Faulted) => {
            assert!(!acknowledged, "{point:?}: an acknowledged version is forgotten");
            assert!(life.redefined(run, "2.0.0").unwrap(), "{point:?}");
        }
        ("2.0.0", _) => {}
        other => panic!("{point:?}: {other:?}"),
    }
    assert_eq!(life.ended(run).unwrap().status, Status::Completed, "{point:?}");
    assert_eq!(slack.messages(), ["one", "two", "mended", "four"], "{point:?}");
    slack.check_once(&format!("{point:?}"));
    died
}

#[test]
fn whenever_the_host_dies_the_run_is_on_one_version_and_each_message_stands_once() {
    let mut deaths = 0;
    for at in 1.. {
        let mut keep = 0;
        loop {
            let Some(at_stake) = dies_at(Point { at, keep }) else {
                assert!(deaths > 10, "only {deaths} deaths");
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
