//! What people do to a run, in each phase of a call: every cell of the table is a run of its own.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use super::ports::START;
use bellhop_clock::Manual;
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const PERSON: &str = "U0ACMEBOTH";
const POST: &str = "chat.postMessage";
const UPDATE: &str = "usergroups.users.update";
/// Joins a group, which can be taken back, and says two things, which cannot.
const PLAIN: &str = "
  - join: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: '${ .user }'}}
  - tell: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: tell}}
  - last: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: last}}";
const SLEEPS: &str = "
  - join: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: '${ .user }'}}
  - tell: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: tell}}
  - sleep: {wait: {hours: 1}}
  - last: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: last}}";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Slack wants to be left alone for a while.
    Budget,
    /// The intent is written and not durable yet.
    Intent,
    /// Slack has the request.
    Sent,
    /// The outcome is written, and not durable yet.
    Answered,
    /// One task is over, and the next has not begun.
    Between,
    Timer,
    /// The inverse of the first change is at Slack.
    Rollback,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Suspend,
    Resume,
    Cancel,
    CancelAndUndo,
    Kill,
}

/// What holds the run in its phase.
enum Held {
    Nothing,
    ByFault(u64),
    ByStore,
}

struct Cell {
    slack: Slack,
    life: Life,
    clock: Manual,
    /// A workflow that only lets time pass.
    pause: WorkflowName,
    run: RunId,
    held: Held,
}

impl Cell {
    /// A run in that phase.
    fn in_phase(phase: Phase) -> Self {
        let slack = Slack::start();
        let clock = Manual::new(START);
        let life = Life::start_at(fresh(), Limits::default(), Arc::new(clock.clone()), &slack);
        let tasks = if matches!(phase, Phase::Timer | Phase::Rollback) { SLEEPS } else { PLAIN };
        let workflow = life.apply(tasks);
        let pause = life.apply("\n  - pause: {wait: {hours: 2}}");
        let hold = |method: &str, nth: u64| {
            slack.fault(&json!({ "method": method, "nth": nth, "action": "hold_before_accept" }))
        };
        if phase == Phase::Budget {
            // Another run is told to come back in a minute, and closes the door for all.
            let other = life.apply(
                "\n  - other: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: other}}",
            );
            slack.fault(&json!({ "method": POST, "action": { "rate_limit": { "retry_after": 60 } } }));
            life.started(trigger(&other, json!({}), HQ, None));
            life.until("the door is closed", || life.engine().services.gateway.limiter.snapshot().len() == 1);
        }
        let sent = matches!(phase, Phase::Sent | Phase::Between | Phase::Answered).then(|| hold(POST, 1));
        let join = (phase == Phase::Intent).then(|| hold(UPDATE, 1));
        let run = life.started(trigger(&workflow, json!({ "user": PERSON }), HQ, None));
        let mut cell = Self { slack, life, clock, pause, run, held: Held::Nothing };
        if let Some(fault) = sent.or(join) {
            cell.slack.happened(fault);
            cell.held = Held::ByFault(fault);
        }
        match phase {
            Phase::Sent => {}
            Phase::Budget => {
                cell.begun("tell");
                let limiter = &cell.life.engine().services.gateway.limiter;
                cell.life.until("it waits at the door", || limiter.waiting() == 1);
                assert_eq!(cell.slack.count(POST), 1, "the door is open");
            }
            Phase::Intent | Phase::Answered => {
                // From here on nothing is durable: what comes next is written, and waits.
                let before = cell.life.store.commits();
                cell.life.store.hold();
                cell.go();
                let written = if phase == Phase::Intent { "tell" } else { "last" };
                cell.begun(written);
                cell.life.until("the intent is written", || cell.life.store.commits() >= before + 3);
                cell.held = Held::ByStore;
            }
            Phase::Between => {
                let told = cell.tell(Cause::Suspend);
                cell.told(told);
                cell.go();
                cell.life.until_status(run, Status::Suspended);
                cell.life.until("it has left", || cell.life.engine().runs().live() == 0);
            }
            Phase::Timer => cell.life.until("it sleeps", || cell.sleeps()),
            Phase::Rollback => {
                cell.life.until("it sleeps", || cell.sleeps());
                let fault = cell.slack.fault(&json!({ "method": UPDATE, "action": "hold_before_accept" }));
                let told = cell.tell(Cause::CancelAndUndo);
                cell.slack.happened(fault);
                cell.told(told);
                cell.held = Held::ByFault(fault);
            }
        }
        cell
    }

    fn kinds(&self) -> Vec<(&'static str, Option<String>)> {
        let events = self.life.wait(self.life.engine().events(self.run, 0, 1_000)).unwrap().unwrap();
        events.into_iter().map(|event| (event.kind, event.task)).collect()
    }

    fn sleeps(&self) -> bool {
        self.life.status(self.run) == Status::Waiting && self.life.engine().runs().live() == 0
    }

    /// Waits until a task has begun, also where that is not durable yet.
    fn begun(&self, task: &str) {
        let begun = || {
            let entries = self.life.entries(self.run);
            let (scheduled, name) = ("\"call-scheduled\"", format!("\"text\":\"{task}\""));
            entries.iter().any(|entry| {
                let text = serde_json::to_string(entry).unwrap();
                text.contains(scheduled) && text.contains(&name)
            })
        };
        self.life.until(task, begun);
    }

    fn tell(&self, cause: Cause) -> tokio::task::JoinHandle<bool> {
        let (engine, run) = (self.life.engine().clone(), self.run);
        self.life.spawn(async move { engine.signal(run, cause).await.unwrap() })
    }

    /// Waits until the run has decided about a message.
    fn told(&self, told: tokio::task::JoinHandle<bool>) -> bool {
        self.life.wait(told).unwrap()
    }

    /// The same, where the store may wait to be told.
    fn done(&self, told: tokio::task::JoinHandle<bool>) {
        self.life.until("it is durable", || {
            self.life.store.sync(usize::MAX);
            told.is_finished()
        });
        self.told(told);
    }

    /// Starts another run, where the store may wait to be told.
    fn begin(&self) -> RunId {
        let engine = self.life.engine().clone();
        let order = trigger(&self.pause, json!({}), &[], None);
        let begun = self.life.spawn(async move { engine.trigger(order).await.unwrap().run });
        self.life.until("it is durable", || {
            self.life.store.sync(usize::MAX);
            begun.is_finished()
        });
        self.life.wait(begun).unwrap()
    }

    /// Lets go what holds the run.
    fn go(&mut self) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::ByFault(fault) => self.slack.release(fault, "answer"),
            Held::ByStore | Held::Nothing => {}
        }
    }

    /// Lets the time pass until the run stands like that.
    fn until(&self, status: Status) {
        self.life.until(status.as_str(), || {
            self.life.store.sync(usize::MAX);
            self.clock.advance(Duration::from_secs(2));
            self.life.status(self.run) == status
        });
    }

    /// Does it, lets the run go on, and gives how it ended, what it said, and whether the person is in the group.
    fn act(mut self, phase: Phase, act: Act) -> (Status, Vec<String>, bool) {
        let commits = self.life.store.commits();
        let told = self.tell(match act {
            Act::Suspend => Cause::Suspend,
            Act::Resume => Cause::Resume,
            Act::Cancel => Cause::Cancel,
            Act::CancelAndUndo => Cause::CancelAndUndo,
            Act::Kill => Cause::Kill,
        });
        let by_store = matches!(self.held, Held::ByStore);
        // Nobody hears of a decision that is not durable; that it is written shows in the store. To let a run go on that
        // goes on decides nothing.
        let written = || by_store && (act == Act::Resume || self.life.store.commits() > commits);
        self.life.until("it is decided", || told.is_finished() || written());
        self.go();
        if by_store {
            self.life.store.sync(usize::MAX);
        }
        self.done(told);
        if act == Act::Suspend && phase != Phase::Rollback {
            self.until(Status::Suspended);
            let before = self.slack.requests().len();
            // Longer than anything that this one waits for.
            let other = self.begin();
            self.life.until("the other one is over", || {
                self.life.store.sync(usize::MAX);
                self.clock.advance(Duration::from_secs(120));
                self.life.status(other) == Status::Completed
            });
            let after = self.slack.requests();
            // What was under way ends; nothing begins.
            let begun = |(method, _): &&(String, Option<String>)| method == POST || method == UPDATE;
            let own = match phase {
                Phase::Budget => 2,
                Phase::Intent | Phase::Answered => 1,
                Phase::Sent | Phase::Between | Phase::Timer | Phase::Rollback => 0,
            };
            assert!(after[before..].iter().filter(begun).count() <= own, "{phase:?}: {after:?}");
            assert_eq!(self.life.status(self.run), Status::Suspended, "{phase:?}");
            self.done(self.tell(Cause::Resume));
        } else if act == Act::Resume && phase == Phase::Between {
            // It was suspended to come here.
        }
        let ends = matches!(act, Act::Suspend | Act::Resume) && phase != Phase::Rollback;
        self.until(if ends { Status::Completed } else { Status::Cancelled });
        self.life.store.sync(usize::MAX);
        let said = self.slack.messages().into_iter().filter(|text| text != "other").collect();
        let users = &self.slack.world()["groups"]["S0HQIT"]["users"];
        let is_in = users.as_array().unwrap().iter().any(|user| user == PERSON);
        let kinds = self.kinds();
        assert!(matches!(kinds.last(), Some(("run.completed" | "run.cancelled", _))), "{kinds:?}");
        let _: Value = self.slack.world();
        (self.life.status(self.run), said, is_in)
    }
}

#[test]
fn in_every_phase_of_a_call_everything_can_be_done_to_its_run() {
    use Act::{Cancel, CancelAndUndo, Kill, Resume, Suspend};
    use Phase::{Answered, Between, Budget, Intent, Rollback, Sent, Timer};
    let all: &[&str] = &["tell", "last"];
    // What was said when the run has ended. A call that waits for budget is withdrawn, one whose intent is written is
    // sent and ends; what is answered lets the next begin before anybody hears of the wish.
    let ended_early: &[(Phase, &[&str])] = &[
        (Budget, &[]),
        (Intent, &["tell"]),
        (Sent, &["tell"]),
        (Answered, all),
        (Between, &["tell"]),
        (Timer, &["tell"]),
        (Rollback, &["tell"]),
    ];
    for (phase, early) in ended_early {
        for act in [Suspend, Resume, Cancel, CancelAndUndo, Kill] {
            let (status, said, is_in) = Cell::in_phase(*phase).act(*phase, act);
            let goes_on = matches!(act, Suspend | Resume) && *phase != Rollback;
            let expected = if goes_on { (Status::Completed, all) } else { (Status::Cancelled, *early) };
            assert_eq!(
                (status, &said[..]),
                (expected.0, &expected.1.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()[..]),
                "{phase:?} {act:?}"
            );
            // A rollback that is under way is not stopped by a cancel; an inverse that was sent is not by a kill.
            let stays = *phase != Rollback && act != CancelAndUndo;
            assert_eq!(is_in, stays, "{phase:?} {act:?}");
        }
    }
}
