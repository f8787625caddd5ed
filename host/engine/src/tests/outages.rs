//! A network, or a Slack, that is away for a while: what was on its way is found out when it is back, and nobody is asked
//! about what passes by itself.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, open_intents, trigger};
use bellhop_clock::Manual;
use bellhop_journal::Entry;
use bellhop_journal::memory::Memory;
use bellhop_limits::Limits;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POOR: &[(&str, &str)] = &[("team", "poor")];
const START: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const TICK: Duration = Duration::from_millis(100);
const ONE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQIT, text: '${ .text }'}}";

struct Outage {
    slack: Slack,
    clock: Manual,
    limits: Limits,
}

impl Outage {
    /// The answers of so many messages are lost, and from then on nothing can be read.
    fn begin(messages: usize, limits: Limits) -> Self {
        let slack = Slack::start();
        slack.fault(&json!({ "method": "chat.postMessage", "times": messages, "action": "cut_after_accept" }));
        slack.fault(&json!({ "method": "conversations.*", "times": 0, "action": "cut_before" }));
        Self { slack, clock: Manual::new(START), limits }
    }

    /// The network is back.
    fn ends(&self) {
        self.slack.control("DELETE", "faults", &Value::Null);
    }

    fn life(&self, memory: Memory) -> Life {
        Life::start_at(memory, self.limits.clone(), Arc::new(self.clock.clone()), &self.slack)
    }

    /// Lets time pass until `holds`; gives how much.
    fn until(&self, life: &Life, what: &str, holds: impl Fn() -> bool) -> Duration {
        let before = bellhop_clock::Clock::monotonic(&self.clock);
        life.until(what, || {
            self.clock.advance(TICK);
            holds()
        });
        bellhop_clock::Clock::monotonic(&self.clock) - before
    }

    /// How often it was tried to read back.
    fn reads(&self) -> usize {
        self.slack.count("conversations.history")
    }
}

#[test]
fn house_a8_a_network_that_is_away_for_half_a_minute_parks_none_of_fifty_writes() {
    let limits = Limits { waiting_runs_max: 4, ..Limits::default() };
    let outage = Outage::begin(50, limits);
    let life = outage.life(fresh());
    let workflow = life.apply(ONE);
    let runs: Vec<RunId> =
        (0..50).map(|n| life.started(trigger(&workflow, json!({ "text": format!("m{n}") }), HQ, None))).collect();
    outage.until(&life, "each was looked for in vain", || outage.reads() >= 4 * 50);
    let away = outage.until(&life, "half a minute is over", || {
        bellhop_clock::Clock::now(&outage.clock) >= START.plus_millis(30_000)
    });
    assert!(away <= Duration::from_secs(30));
    life.until("most are put down", || life.engine().services.partition.waiting.count().1 > 0);
    outage.ends();
    outage.until(&life, "all have ended", || runs.iter().all(|run| life.status(*run).is_final()));
    for run in &runs {
        assert_eq!(life.status(*run), Status::Completed);
        assert!(life.parked(*run) == 0, "{run} was parked");
    }
    assert_eq!(outage.slack.messages().len(), 50);
    outage.slack.check_once("after the outage");
    life.until("nothing is left behind", || life.engine().services.partition.waiting.count() == (0, 0));
}

#[test]
fn house_a8_what_a_read_back_lacks_and_what_does_not_pass_parks_at_once() {
    let outage = Outage::begin(1, Limits::default());
    outage.ends();
    outage.slack.fault(&json!({ "method": "chat.postMessage", "times": 1, "action": "cut_after_accept" }));
    let life = outage.life(fresh());
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "unread" }), POOR, None));
    let took = outage.until(&life, "it is parked", || life.status(run) == Status::Parked);
    assert!(took < Duration::from_secs(60), "it took {took:?}");
    assert_eq!(outage.reads(), 1, "a scope does not come by asking again");
}

#[test]
fn house_a8_what_cannot_be_read_back_for_as_long_as_the_limit_says_parks_then_and_not_before() {
    let limits = Limits { read_back_ms_max: 600_000, ..Limits::default() };
    let outage = Outage::begin(1, limits);
    let life = outage.life(fresh());
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "away" }), HQ, None));
    let took = outage.until(&life, "it is parked", || life.status(run) == Status::Parked);
    // The last wait is over some time after the limit.
    assert!(took >= Duration::from_secs(600) && took < Duration::from_secs(720), "it took {took:?}");
    let reads = outage.reads();
    assert!((20..200).contains(&reads), "{reads} attempts in ten minutes");
    assert_eq!(open_intents(&life.entries(run)), 1);
    // A person says that it was done, when it can be read.
    outage.ends();
    life.wait(life.engine().resolve(run, None, true, None, "a test".to_owned())).unwrap();
    outage.until(&life, "it has ended", || life.status(run).is_final());
    assert_eq!(life.status(run), Status::Completed);
    assert_eq!(outage.slack.messages(), ["away"]);
}

#[test]
fn house_a8_a_process_that_starts_before_the_network_is_there_parks_nothing() {
    let outage = Outage::begin(1, Limits::default());
    let life = outage.life(fresh());
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "over" }), HQ, None));
    outage.until(&life, "it was looked for in vain", || outage.reads() >= 4);
    let memory = life.die(usize::MAX);
    // Much later than the message was sent.
    outage.clock.advance(Duration::from_secs(7_200));
    let before = outage.reads();
    let life = outage.life(memory);
    outage.until(&life, "it is looked for again", || outage.reads() >= before + 8);
    assert_eq!(life.status(run), Status::Running);
    outage.ends();
    outage.until(&life, "it has ended", || life.status(run).is_final());
    assert_eq!(life.status(run), Status::Completed);
    assert!(life.parked(run) == 0);
    assert_eq!(outage.slack.messages(), ["over"]);
}

#[test]
fn house_a8_a_run_that_is_cancelled_meanwhile_ends_when_it_is_known_what_it_did() {
    let outage = Outage::begin(1, Limits::default());
    let life = outage.life(fresh());
    let workflow = life.apply(ONE);
    let run = life.started(trigger(&workflow, json!({ "text": "cancelled" }), HQ, None));
    outage.until(&life, "it was looked for in vain", || outage.reads() >= 4);
    assert!(life.wait(life.engine().signal(run, Cause::Cancel)).unwrap());
    let before = outage.reads();
    outage.until(&life, "it is looked for again", || outage.reads() >= before + 8);
    assert!(!life.status(run).is_final(), "nobody knows yet what it did");
    // A process that stops does not wait for it, and the next one goes on.
    assert!(life.wait(life.engine().drain()), "the process waits for what cannot be known");
    assert!(!life.status(run).is_final());
    let life = outage.life(life.die(usize::MAX));
    outage.ends();
    outage.until(&life, "it has ended", || life.status(run).is_final());
    assert_eq!(life.status(run), Status::Cancelled);
    assert_eq!(open_intents(&life.entries(run)), 0, "what it did is on record");
    assert!(life.parked(run) == 0);
    assert_eq!(outage.slack.messages(), ["cancelled"]);
}

/// They are not put down, since they are to end: so only a few stay in memory.
#[test]
fn house_a8_of_a_crowd_that_is_cancelled_meanwhile_only_a_few_stay_in_memory() {
    let limits = Limits { waiting_runs_max: 2, ..Limits::default() };
    let outage = Outage::begin(5, limits);
    let life = outage.life(fresh());
    let workflow = life.apply(ONE);
    let runs: Vec<RunId> =
        (0..5).map(|n| life.started(trigger(&workflow, json!({ "text": format!("m{n}") }), HQ, None))).collect();
    outage.until(&life, "each was looked for in vain", || outage.reads() >= 4 * 5);
    for run in &runs {
        assert!(life.wait(life.engine().signal(*run, Cause::Cancel)).unwrap());
    }
    let parked = || runs.iter().filter(|run| life.parked(**run) > 0).count();
    outage.until(&life, "the others are parked", || parked() == 3 && life.engine().runs().live() == 2);
    outage.ends();
    let cancelled = || runs.iter().filter(|run| life.status(**run) == Status::Cancelled).count();
    outage.until(&life, "those that stayed have ended", || cancelled() == 2);
    assert_eq!(outage.slack.messages().len(), 5);
}

#[test]
fn house_a8_what_is_read_waits_out_an_outage_as_what_is_sent_does() {
    let slack = Slack::start();
    let away = |method: &str| {
        slack.fault(&json!({ "method": method, "times": 0, "action": "cut_before" }));
    };
    away("conversations.*");
    away("users.*");
    let outage = Outage { slack, clock: Manual::new(START), limits: Limits::default() };
    let life = outage.life(fresh());
    // A name that the host looks up, and a read of the guest's own.
    let by_name = life.apply(
        "
  - one: {call: message.send:1@slack, with: {connection: team, channel: '#it', text: by-name}}",
    );
    let run = life.started(trigger(&by_name, json!({}), HQ, None));
    outage.until(&life, "it was looked up in vain", || outage.slack.count("conversations.list") >= 4);
    assert_eq!(life.status(run), Status::Running);
    let shown = life
        .entries(run)
        .iter()
        .any(|entry| matches!(entry, Entry::Note { text, .. } if text.contains("conversations.list is tried again")));
    assert!(shown, "nobody sees for what it waits");
    outage.ends();
    outage.until(&life, "it has ended", || life.status(run).is_final());
    assert_eq!(life.status(run), Status::Completed, "{:?}", life.view(run));
    assert_eq!(outage.slack.messages(), ["by-name"]);
}

/// One of them finds the name for both: the other does not look as if it still waited.
#[test]
fn house_a8_runs_that_wait_for_the_same_name_leave_nothing_behind() {
    let slack = Slack::start();
    slack.fault(&json!({ "method": "conversations.*", "times": 0, "action": "cut_before" }));
    let limits = Limits { waiting_runs_max: 1, ..Limits::default() };
    let outage = Outage { slack, clock: Manual::new(START), limits };
    let life = outage.life(fresh());
    let by_name = life.apply(
        "
  - one: {call: message.send:1@slack, with: {connection: team, channel: '#it', text: '${ .text }'}}
  - rest: {wait: {days: 30}}",
    );
    let runs: Vec<RunId> =
        (0..4).map(|n| life.started(trigger(&by_name, json!({ "text": format!("m{n}") }), HQ, None))).collect();
    outage.until(&life, "most are put down", || life.engine().services.partition.waiting.count().1 >= 3);
    outage.ends();
    outage.until(&life, "all rest", || runs.iter().all(|run| life.status(*run) == Status::Waiting));
    assert_eq!(outage.slack.messages().len(), 4);
    life.until("nothing is left behind", || life.engine().services.partition.waiting.count() == (0, 0));
}
