//! A machine's clock that is wrong, at a start or because it was set: nothing is lost by it, and nothing is done twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use super::ports::START;
use crate::execution::not_before_its_time;
use crate::setup::tokens::Scope;
use crate::tests::at_once;
use bellhop_clock::belief::Why;
use bellhop_clock::{Clock as _, Manual, System};
use bellhop_journal::memory::Memory;
use bellhop_journal::store::Batch;
use bellhop_journal::{Store as _, key};
use bellhop_limits::Limits;

const DAY_MS: u64 = 86_400_000;
const HQ: &[(&str, &str)] = &[("team", "hq")];
const SLEEP: &str = "\n  - sleep: {wait: {days: 1}}";
const ONE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: '${ .text }'}}";

/// Runs and keys are kept for a day after a run's end.
fn limits() -> Limits {
    Limits { runs_kept_ms: DAY_MS, ..Limits::default() }
}

fn start(memory: Memory, at: Timestamp, slack: &Slack) -> (Life, Manual) {
    let clock = Manual::new(at);
    (Life::start_doubting(memory, limits(), Arc::new(clock.clone()), slack), clock)
}

fn doubted(life: &Life) -> Option<Why> {
    life.engine().services.time.doubt().map(|doubt| doubt.why)
}

/// Starts a run that sends this text under a key of its own, and waits for its end. True where it was started before. A start
/// over other runs has no budget yet, so time has to pass.
fn said(life: &Life, clock: &Manual, text: &str) -> (RunId, bool) {
    let workflow = life.apply(ONE);
    let accepted = life.trigger(trigger(&workflow, json!({ "text": text }), HQ, Some(text))).unwrap().unwrap();
    life.until("it ends", || {
        clock.advance(Duration::from_millis(10));
        life.status(accepted.run) == Status::Completed
    });
    life.until("it has left", || !life.engine().runs().is_live(accepted.run));
    (accepted.run, accepted.replayed)
}

fn row(life: &Life) -> Value {
    at_once(life.journal().get::<Value>(&key::host("clock"))).unwrap().unwrap_or_default()
}

fn swept(life: &Life) -> u64 {
    life.wait(life.engine().sweep()).unwrap()
}

#[test]
fn surroundings_s11_while_a_clock_is_doubted_nothing_goes_and_no_timer_fires() {
    let slack = Slack::start();
    let (life, clock) = start(fresh(), START, &slack);
    let engine = life.engine();
    let (first, _) = said(&life, &clock, "first");
    let sleeps = life.apply(SLEEP);
    let asleep = life.started(trigger(&sleeps, json!({}), &[], None));
    life.until_asleep(asleep);
    let scopes = BTreeSet::from([Scope::parse("runs:read").unwrap()]);
    let ends = Some(START.plus_millis(DAY_MS));
    let (_, secret) = life.wait(engine.tokens.create("for a day", scopes, ends, START, 7)).unwrap();
    let is_valid = || life.wait(engine.tokens.find(&secret, engine.services.clock.settled())).unwrap().is_some();

    clock.set(START.plus_millis(2 * DAY_MS));
    assert_eq!(doubted(&life), Some(Why::SetAhead));
    assert_eq!(swept(&life), 0);
    assert!(is_valid());
    // Starts and calls go on, and are those of before.
    assert_eq!(said(&life, &clock, "first"), (first, true));
    let (second, _) = said(&life, &clock, "second");
    // Who is woken for another reason does not take its time for come.
    for cause in [Cause::Suspend, Cause::Resume] {
        assert!(life.wait(engine.signal(asleep, cause)).unwrap());
    }
    life.until("it has left", || !engine.runs().is_live(asleep));
    clock.advance(Duration::from_secs(3_600));
    assert_eq!((swept(&life), life.status(asleep)), (0, Status::Waiting));
    let mut runs = life.runs();
    runs.sort();
    assert_eq!(runs, [first, asleep, second]);

    // A person says that it is right.
    assert!(life.wait(engine.confirm_clock("somebody")).unwrap());
    assert_eq!((doubted(&life), life.wait(engine.confirm_clock("somebody")).unwrap()), (None, false));
    life.until_status(asleep, Status::Completed);
    assert!(!is_valid());
    swept(&life);
    assert!(!life.runs().contains(&first) && life.runs().contains(&second));
    assert_eq!(slack.messages(), ["first", "second"]);
    // The next start knows that it was.
    let now = clock.now();
    let (life, _) = start(life.die(usize::MAX), now, &slack);
    assert_eq!(doubted(&life), None);
}

#[test]
fn surroundings_s11_a_start_with_a_wrong_clock_loses_nothing_and_sends_nothing_twice() {
    for (wrong, why) in [
        (START.plus_millis(2 * DAY_MS), Why::StartedAhead),
        (START.plus_millis(36_500 * DAY_MS), Why::StartedAhead),
        (Timestamp::from_millis(START.as_millis() - 400 * DAY_MS), Why::StartedBehind),
        (Timestamp::from_millis(0), Why::StartedBehind),
    ] {
        let slack = Slack::start();
        let (life, clock) = start(fresh(), START, &slack);
        assert_eq!(doubted(&life), None, "there is no record");
        let (first, _) = said(&life, &clock, "first");
        let (life, clock) = start(life.die(usize::MAX), wrong, &slack);
        assert_eq!(doubted(&life), Some(why));
        assert_eq!(said(&life, &clock, "first"), (first, true), "{wrong}");
        let (second, _) = said(&life, &clock, "second");
        assert!(second > first, "{wrong}");
        clock.advance(Duration::from_secs(3_000));
        assert_eq!(swept(&life), 0, "{wrong}");
        // With the right clock everything is there, that of the wrong one too.
        let (life, clock) = start(life.die(usize::MAX), START.plus_millis(60_000), &slack);
        assert_eq!(doubted(&life), None, "{wrong}");
        assert_eq!(swept(&life), 0, "{wrong}");
        assert_eq!(
            (said(&life, &clock, "first"), said(&life, &clock, "second")),
            ((first, true), (second, true)),
            "{wrong}"
        );
        assert_eq!(slack.messages(), ["first", "second"], "{wrong}");
        // And goes in time, where it is not of a time to come.
        clock.advance(Duration::from_millis(DAY_MS));
        swept(&life);
        life.until("it is gone", || !life.runs().contains(&first));
    }
}

#[test]
fn surroundings_s11_what_is_recorded_in_a_doubt_does_not_make_the_same_clock_right() {
    let slack = Slack::start();
    let wrong = START.plus_millis(2 * DAY_MS);
    for without_row in [false, true] {
        let (life, clock) = start(fresh(), START, &slack);
        said(&life, &clock, "first");
        assert_eq!(row(&life), json!({ "at": START.as_millis() }));
        if without_row {
            let mut batch = Batch::new();
            batch.delete(key::host("clock").bytes());
            life.store.commit(batch).unwrap();
        }
        let (life, clock) = start(life.die(usize::MAX), wrong, &slack);
        assert_eq!(doubted(&life), Some(Why::StartedAhead), "{without_row}");
        said(&life, &clock, "second");
        let (life, _) = start(life.die(usize::MAX), wrong.plus_millis(60_000), &slack);
        assert_eq!(doubted(&life), Some(Why::StartedAhead), "{without_row}");
        // Without the row, it is that of the newest run before the doubt.
        assert!(row(&life)["at"].as_u64() < Some(START.as_millis() + 60_000), "{without_row}");
    }
}

#[test]
fn surroundings_s11_slacks_clock_ends_a_doubt_or_says_what_is_wrong() {
    let slack = Slack::start();
    let now = System::new().now();
    let before = || {
        let (life, clock) = start(fresh(), Timestamp::from_millis(now.as_millis() - 2 * DAY_MS), &slack);
        said(&life, &clock, "first");
        life.die(usize::MAX)
    };
    let life = Life::start_doubting(before(), limits(), Arc::new(System::new()), &slack);
    life.until("Slack's clock agrees", || doubted(&life).is_none());
    life.until("that is kept", || row(&life)["at"].as_u64() >= Some(now.as_millis()));
    drop(life);

    let (life, clock) = start(before(), now.plus_millis(2 * DAY_MS), &slack);
    let differs = || life.engine().services.time.doubt().is_some_and(|doubt| doubt.other.is_some());
    life.until("Slack's clock differs", differs);
    assert_eq!(doubted(&life), Some(Why::StartedAhead));
    // Somebody sets it right: Slack is asked again.
    clock.set(System::new().now());
    life.until("Slack's clock agrees", || {
        clock.advance(Duration::from_secs(1));
        doubted(&life).is_none()
    });
}

#[test]
fn surroundings_s11_the_time_is_written_now_and_then_while_it_is_believed() {
    let slack = Slack::start();
    let (life, clock) = start(fresh(), START, &slack);
    let passes = |ms: u64| {
        life.until("it is written", || {
            clock.advance(Duration::from_secs(1));
            row(&life)["at"].as_u64() >= Some(START.as_millis() + ms)
        });
    };
    passes(600_000);
    // Also when it lived for long, a start within what is left of an hour is believed.
    passes(4 * 3_600_000);
    let at = clock.now().plus_millis(2_900_000);
    let (life, _) = start(life.die(usize::MAX), at, &slack);
    assert_eq!(doubted(&life), None);
    life.wait(life.engine().end_life()).unwrap();
    assert_eq!(row(&life), json!({ "at": at.as_millis() }));
}

#[test]
fn surroundings_s11_a_decision_takes_nothing_for_due_that_is_not_by_the_settled_time() {
    let at = Timestamp::from_millis;
    for (now, settled, due, decides) in [
        // Without a doubt.
        (100, 100, Some(50), 100),
        (100, 101, None, 100),
        (100, 10, None, 100),
        (100, 10, Some(50), 49),
        (100, 10, Some(200), 100),
        (100, 10, Some(10), 10),
        (100, 10, Some(5), 10),
        (100, 0, Some(1), 0),
    ] {
        let decided = not_before_its_time(at(now), at(settled), || due.map(at));
        assert_eq!(decided, at(decides), "{now} {settled} {due:?}");
    }
}
