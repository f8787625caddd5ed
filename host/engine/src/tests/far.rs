//! The engine over a store whose reads take their time: whatever happens between a read and what is done about it, all goes
//! as over one that answers at once.

use bellhop_core::run::{Cause, Status};
use serde_json::json;

use super::life::{Life, Slack, fresh, open_intents, trigger};
use super::rows::{ADDS, UPDATE, grouped, members};
use super::simulate::dice::Dice;
use crate::owners::keyed_lock;
use crate::setup::tokens::Scope;
use crate::tests::at_once;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const SEEDS: u64 = 6;

/// Sends a message until it is taken, and others after it.
const RETRIED: &str = "
  - careful:
      try:
        - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
      catch:
        retry: {delay: {milliseconds: 1}, limit: {attempt: {count: 3}}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}
  - rest: {wait: {milliseconds: 20}}
  - three: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: three}}";

/// A run is refused, tries again, rests and ends; wherever its process dies, and whoever asks again.
#[test]
fn a_run_is_tried_again_and_survives_every_death_over_a_store_that_is_far() {
    let mut deaths = 0;
    for seed in 0..30 {
        let slack = Slack::start();
        slack.fault(&json!({ "method": "chat.postMessage", "action": { "refuse": { "error": "internal_error" } } }));
        let life = Life::start_far(fresh(), seed, &slack);
        let workflow = life.apply(RETRIED);
        if seed > 0 {
            life.store.die_at(seed);
        }
        let order = trigger(&workflow, json!({}), HQ, Some("key"));
        let answered = life.trigger(order.clone()).map(|accepted| accepted.unwrap().run);
        let ended = answered.and_then(|run| life.ended(run));
        assert!(ended.is_some() || life.store.is_dead(), "seed {seed}");
        deaths += usize::from(ended.is_none());
        let life = Life::start_far(life.die(usize::try_from(seed % 4).unwrap()), seed + 1_000, &slack);
        let run = life.started(order);
        assert!(answered.is_none_or(|answered| answered == run), "seed {seed}: another run for the key");
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Completed, "seed {seed}: {view:?}");
        assert_eq!(life.runs(), [run], "seed {seed}");
        assert_eq!(slack.messages(), ["one", "two", "three"], "seed {seed}");
        slack.check_once(&format!("seed {seed}"));
        assert_eq!(open_intents(&life.entries(run)), 0, "seed {seed}");
        // What people see of it goes over the same reads.
        let events = life.wait(life.engine().events(run, 0, usize::MAX)).unwrap().unwrap();
        assert_eq!(events.last().map(|event| event.kind), Some("run.completed"), "seed {seed}");
    }
    assert!(deaths > 10, "only {deaths} deaths");
}

/// Two runs of a group of one, each of which needs the same exclusive key; their process dies while one has both.
#[test]
fn a_place_in_a_group_and_a_key_are_one_runs_over_a_store_that_is_far() {
    for seed in 0..SEEDS {
        let slack = Slack::start();
        let life = Life::start_far(fresh(), seed, &slack);
        let workflow = life.apply_text(&grouped("queue", ADDS));
        let held = slack.fault(&json!({ "method": UPDATE, "action": "hold_before_accept" }));
        let first = life.started(trigger(&workflow, json!({}), HQ, None));
        slack.happened(held);
        let second = life.started(trigger(&workflow, json!({}), HQ, None));
        life.until("the second waits for its place", || members(&life).len() == 2);
        let memory = life.die(usize::MAX);
        slack.release(held, "answer");
        let life = Life::start_far(memory, seed + 1_000, &slack);
        for run in [first, second] {
            assert_eq!(life.ended(run).unwrap().status, Status::Completed, "seed {seed}");
        }
        life.until("nothing is left", || {
            members(&life).is_empty() && at_once(keyed_lock::rows(life.journal())).unwrap().is_empty()
        });
        let verified = life.wait(life.engine().verify()).unwrap();
        assert!(verified.differences.is_empty(), "seed {seed}: {:?}", verified.differences);
    }
}

/// Many tell one run something at one time, while it is taken up, and while it leaves.
#[test]
fn whoever_tells_a_run_something_is_heard_over_a_store_that_is_far() {
    for seed in 0..SEEDS {
        let slack = Slack::start();
        let life = Life::start_far(fresh(), seed, &slack);
        let workflow = life.apply("\n  - rest: {wait: {hours: 1}}");
        let run = life.started(trigger(&workflow, json!({}), &[], None));
        life.until_asleep(run);
        let engine = life.engine();
        let told = [Cause::Suspend, Cause::Resume, Cause::Wake, Cause::Cancel, Cause::Wake, Cause::Cancel];
        let told = told.map(|cause| engine.signal(run, cause));
        for heard in life.wait(futures_util::future::join_all(told)) {
            heard.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert_eq!(life.ended(run).unwrap().status, Status::Cancelled, "seed {seed}");
        life.until("it has left memory", || !life.engine().runs().is_live(run));
    }
}

/// A token that is looked up while it is ended is not believed afterwards.
#[test]
fn a_token_that_is_looked_up_while_it_is_ended_is_ended_over_a_store_that_is_far() {
    let slack = Slack::start();
    let life = Life::start_far(fresh(), 1, &slack);
    let (tokens, now) = (&life.engine().tokens, life.engine().services.clock.now());
    let mut dice = Dice::new(7);
    for round in 0..100 {
        let scopes = [Scope::parse("runs:read").unwrap()].into();
        let (stored, secret) = life.wait(tokens.create("t", scopes, None, now, round)).unwrap();
        let turns = dice.below(8);
        let looking = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            tokens.find(&secret, now).await
        };
        let (found, ended) = life.wait(futures_util::future::join(looking, tokens.revoke(stored.id)));
        found.unwrap();
        ended.unwrap();
        assert!(life.wait(tokens.find(&secret, now)).unwrap().is_none(), "round {round}");
    }
}

/// Whoever starts the same thing at one time starts it once.
#[test]
fn triggers_with_one_key_start_one_run_over_a_store_that_is_far() {
    for seed in 0..SEEDS {
        let slack = Slack::start();
        let life = Life::start_far(fresh(), seed, &slack);
        let workflow = life.apply("\n  - one: {set: {x: 1}}");
        let started = (0..8).map(|_| life.engine().trigger(trigger(&workflow, json!({}), &[], Some("key"))));
        let started: Vec<_> = started.collect();
        let runs = life.wait(futures_util::future::join_all(started)).into_iter().map(|one| one.unwrap().run);
        let first = life.runs();
        assert_eq!(first.len(), 1, "seed {seed}");
        assert!(runs.into_iter().all(|run| run == first[0]), "seed {seed}");
    }
}
