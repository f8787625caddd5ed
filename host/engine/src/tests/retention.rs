//! What is kept of runs, for how long, and that nothing is left of one afterwards.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::tests::at_once;
use bellhop_clock::Manual;
use bellhop_journal::memory::Memory;
use bellhop_journal::store::Batch;
use bellhop_journal::{Store as _, key};
use bellhop_limits::Limits;

const DAY: Duration = Duration::from_secs(86_400);
const DAY_MS: u64 = 86_400_000;

fn workflow(name: &str, extras: &str, tasks: &str) -> String {
    format!(
        "document:
  {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0, metadata: {{bellhop: {{{extras}}}}}}}
do:
{tasks}
"
    )
}

const PASS: &str = "  - pass: {set: '${ . }'}";

/// Ten days, by a clock that stands still.
fn start(memory: Memory, clock: &Manual, slack: &Slack, kept_days: u64) -> Life {
    let limits = Limits { runs_kept_ms: kept_days * DAY_MS, ..Limits::default() };
    Life::start_at(memory, limits, Arc::new(clock.clone()), slack)
}

fn passed(life: &Life, name: &WorkflowName, input: Value) -> RunId {
    let run = life.started(trigger(name, input, &[], None));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    life.until("it has left", || !life.engine().runs().is_live(run));
    run
}

/// Every key of the store in which the run is named.
fn named(life: &Life, run: RunId) -> Vec<String> {
    let id = run.to_string();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (mut found, mut from) = (Vec::new(), Some(Vec::new()));
    while let Some(start) = from {
        let page = at_once(life.store.scan(&start, &[], usize::MAX)).unwrap();
        let keys = page.items.iter().map(|(key, value)| (text(key), text(value)));
        found.extend(keys.filter(|(key, value)| key.contains(&id[4..]) || value.contains(&id)).map(|(key, _)| key));
        from = page.next.map(|next| next.to_vec());
    }
    found
}

fn blobs(life: &Life) -> usize {
    let range = key::all(key::Space::Blob);
    at_once(life.store.scan(&range.from, &range.to, usize::MAX)).unwrap().items.len()
}

/// A value that is kept beside the log. A run writes it into each of its snapshots.
fn large(seed: &str) -> Value {
    json!({ "text": seed.repeat(6_000) })
}

#[test]
fn an_ended_run_goes_in_time_with_everything_of_it() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = start(fresh(), &clock, &slack, 10);
    let short = life.apply_text(&workflow("short", "retention: P2D", PASS));
    let usual = life.apply_text(&workflow("usual", "", PASS));
    let long = life.apply_text(&workflow("long", "retention: {days: 30}", PASS));
    let sleeps = life.apply_text(&workflow("sleeps", "", "  - sleep: {wait: {days: 20}}"));
    let before = blobs(&life);
    // One value is the short one's and the usual one's, another the short one's alone.
    let runs: Vec<RunId> = [&short, &usual, &long].map(|name| passed(&life, name, large("shared"))).to_vec();
    let alone = passed(&life, &short, large("alone"));
    let open = life.started(trigger(&sleeps, json!({}), &[], None));
    let keyed = life.started(trigger(&short, json!({}), &[], Some("key")));
    life.ended(keyed);
    assert!(blobs(&life) > before);
    let sweep = || life.wait(life.engine().sweep()).unwrap();
    clock.advance(2 * DAY - Duration::from_millis(1));
    sweep();
    assert!(!named(&life, alone).is_empty());
    clock.advance(Duration::from_millis(1));
    sweep();
    for gone in [runs[0], alone] {
        assert_eq!(named(&life, gone), [""; 0]);
        assert!(life.wait(life.engine().run_view(gone)).unwrap().is_none());
        assert!(at_once(life.engine().follow(gone, 0)).unwrap().is_none());
    }
    let with_shared = blobs(&life);
    assert_eq!(life.view(runs[1]).output.unwrap(), large("shared"));
    clock.advance(8 * DAY);
    sweep();
    assert_eq!(named(&life, runs[1]), [""; 0]);
    assert_eq!(blobs(&life), with_shared, "the long one names it still");
    assert_eq!(life.view(runs[2]).output.unwrap(), large("shared"));
    clock.advance(20 * DAY);
    life.until_status(open, Status::Completed);
    sweep();
    assert_eq!(named(&life, runs[2]), [""; 0]);
    assert_eq!(blobs(&life), before, "nothing is left of their values");
    assert_eq!(life.runs(), [open], "it has ended just now");
    assert!(life.trigger(trigger(&usual, json!({}), &[], None)).unwrap().is_ok(), "definitions stay");
}

#[test]
fn a_run_stays_as_long_as_its_key() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = start(fresh(), &clock, &slack, 10);
    let name = life.apply_text(&workflow("brief", "retention: PT1H", PASS));
    let run = life.started(trigger(&name, json!({}), &[], Some("key")));
    life.ended(run);
    clock.advance(DAY - Duration::from_secs(1));
    life.wait(life.engine().sweep()).unwrap();
    let again = life.trigger(trigger(&name, json!({}), &[], Some("key"))).unwrap().unwrap();
    assert!(again.replayed && again.run == run);
    clock.advance(Duration::from_secs(1));
    life.wait(life.engine().sweep()).unwrap();
    assert_eq!(named(&life, run), [""; 0]);
    assert!(!life.trigger(trigger(&name, json!({}), &[], Some("key"))).unwrap().unwrap().replayed);
}

#[test]
fn another_limit_holds_for_runs_that_have_ended_before() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = start(fresh(), &clock, &slack, 10);
    let name = life.apply_text(&workflow("usual", "", PASS));
    let runs: Vec<RunId> = (0..3).map(|n| passed(&life, &name, json!(n))).collect();
    clock.advance(3 * DAY);
    let life = start(life.die(usize::MAX), &clock, &slack, 2);
    // What names a run goes in more than one batch.
    life.until("nothing is left of them", || runs.iter().all(|run| named(&life, *run).is_empty()));
    assert_eq!(life.runs(), []);
    // And for longer.
    let run = passed(&life, &name, json!({}));
    let life = start(life.die(usize::MAX), &clock, &slack, 20);
    clock.advance(3 * DAY);
    life.wait(life.engine().sweep()).unwrap();
    assert_eq!(life.runs(), [run]);
}

#[test]
fn a_run_that_goes_on_is_not_removed() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = start(fresh(), &clock, &slack, 10);
    let tasks = "  - fail: {raise: {error: {type: 'https://example.com/no', status: 500}}}\n";
    let name = life.apply_text(&workflow("fails", "", tasks));
    let run = life.started(trigger(&name, json!({}), &[], None));
    assert_eq!(life.ended(run).unwrap().status, Status::Faulted);
    clock.advance(9 * DAY);
    life.wait(life.engine().signal(run, Cause::Retry)).unwrap();
    life.until_status(run, Status::Faulted);
    life.until("it has left", || !life.engine().runs().is_live(run));
    clock.advance(2 * DAY);
    life.wait(life.engine().sweep()).unwrap();
    assert_eq!(life.runs(), [run], "it has ended two days ago");
    clock.advance(8 * DAY);
    life.wait(life.engine().sweep()).unwrap();
    assert_eq!(named(&life, run), [""; 0]);
}

/// A run of more records than go at a time: wherever the process dies, what is left of it goes later and nothing else does.
#[test]
fn what_a_death_leaves_of_a_run_goes_later() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = start(fresh(), &clock, &slack, 10);
    let tasks = "
  - each:
      for: {in: '${ [range(700)] }'}
      do:
        - wait: {wait: {milliseconds: 1}}";
    let many = life.apply_text(&workflow("many", "retention: P1D", tasks));
    let usual = life.apply_text(&workflow("usual", "", PASS));
    let run = life.started(trigger(&many, large("many"), &[], None));
    life.until("it ends", || {
        clock.advance(Duration::from_millis(1));
        life.status(run) == Status::Completed
    });
    let other = passed(&life, &usual, large("many"));
    // Only then: this life would remove it by itself.
    let memory = life.die(usize::MAX);
    clock.advance(2 * DAY);
    let whole = memory.crash(usize::MAX);
    let mut deaths = 0;
    for at in 1..20 {
        // Its own sweep is the one that dies, or one that it is asked for.
        let life = Life::open_at(whole.crash(usize::MAX), &clock, &slack);
        life.store.die_at(at);
        let _swept = life.unless_dead(life.engine().sweep());
        let died = life.store.is_dead();
        deaths += u32::from(died);
        for keep in [0, usize::MAX] {
            let left = life.store.left(keep);
            let life = start(left, &clock, &slack, 10);
            life.until("nothing is left of it", || named(&life, run).is_empty());
            assert_eq!(life.view(other).output.unwrap(), large("many"), "at {at}");
        }
        if !died {
            break;
        }
    }
    assert!(deaths >= 3, "{deaths}");
}

/// What has ended is read by nobody who starts the host, begins a run, carries it or looks at the newest.
#[test]
fn what_has_ended_slows_nobody() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let cost = |memory: Memory| {
        let life = start(memory, &clock, &slack, 90);
        let name = life.apply_text(&workflow("usual", "", PASS));
        passed(&life, &name, json!({}));
        life.wait(life.engine().sweep()).unwrap();
        life.wait(life.engine().run_list(None, 10, |_| true)).unwrap();
        let read = life.store.scanned();
        (read, life)
    };
    let (few, life) = cost(fresh());
    let name = life.apply_text(&workflow("usual", "", PASS));
    for n in 0..300 {
        passed(&life, &name, json!(n));
    }
    let (many, _life) = cost(life.die(usize::MAX));
    assert!(many <= few + 20, "{few} records are read with no run behind, {many} with 300");
}

/// A run that nobody can carry any more goes, once a person has given it up, as any other that has ended.
#[test]
fn a_run_that_is_given_up_goes_in_time_with_everything_of_it() {
    let slack = Slack::start();
    let clock = Manual::new(super::ports::START);
    let life = start(fresh(), &clock, &slack, 10);
    let given_up = ["", "retention: P2D"].map(|extras| {
        let name = life.apply_text(&workflow(&format!("n{}", extras.len()), extras, "  - sleep: {wait: {days: 20}}"));
        let run = life.started(trigger(&name, json!({}), &[], None));
        life.until_asleep(run);
        run
    });
    let mut batch = Batch::new();
    for run in given_up {
        batch.put(key::open(run).bytes(), b"not what was written".as_slice());
    }
    life.store.commit(batch).unwrap();
    let life = start(life.die(usize::MAX), &clock, &slack, 10);
    for run in given_up {
        life.until("it is set aside", || life.engine().is_aside(run));
        assert!(life.wait(life.engine().signal(run, Cause::Kill)).unwrap());
        assert_eq!(life.status(run), Status::Cancelled);
    }
    let sweep = || life.wait(life.engine().sweep()).unwrap();
    // When it would have gone on cannot be read any more: its timer stays until then.
    let timer = |key: &String| key.starts_with('t');
    let kept = || given_up.map(|run| named(&life, run).into_iter().filter(|key| !timer(key)).collect::<Vec<_>>());
    sweep();
    assert!(kept().iter().all(|keys| !keys.is_empty()));
    clock.advance(2 * DAY);
    sweep();
    assert!(!kept()[0].is_empty());
    assert_eq!(kept()[1], [""; 0], "its file says how long");
    clock.advance(8 * DAY);
    sweep();
    assert_eq!(kept()[0], [""; 0]);
    assert!(given_up.iter().all(|run| !named(&life, *run).is_empty()));
    clock.advance(20 * DAY);
    life.until("nothing is left", || given_up.iter().all(|run| named(&life, *run).is_empty()));
}
