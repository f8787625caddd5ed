//! What owners keep: compared with the runs, and made again from them.

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use crate::owners::{concurrency_group, keyed_lock};
use crate::tests::at_once;
use bellhop_journal::Write;
use bellhop_journal::key::{self, Space};
use bellhop_journal::store::{Batch, Store as _};

pub(super) const UPDATE: &str = "usergroups.users.update";

/// Adds to a user group, whose members one action at a time may change.
pub(super) const ADDS: &str = "
  - add: {call: usergroup.add-user:1@slack, with: {connection: team, usergroup: S0HQIT, user: U0HQMEMBER}}";

/// One run at a time.
pub(super) fn grouped(when_full: &str, tasks: &str) -> String {
    format!(
        "document:
  dsl: 1.0.3
  namespace: test
  name: grouped
  version: 1.0.0
  metadata: {{bellhop: {{concurrency: {{group: all, limit: 1, whenFull: {when_full}}}}}}}
do:{tasks}
"
    )
}

/// A process that dies while one run holds a key and its place in a group, and another waits for that place. What is sent
/// is not answered.
fn died(slack: &Slack) -> (bellhop_journal::memory::Memory, [RunId; 2]) {
    let life = Life::start(fresh(), slack);
    let workflow = life.apply_text(&grouped("queue", ADDS));
    let held = slack.fault(&json!({ "method": UPDATE, "action": "hold_before_accept" }));
    let first = life.started(trigger(&workflow, json!({}), &[("team", "hq")], None));
    slack.happened(held);
    let second = life.started(trigger(&workflow, json!({}), &[("team", "hq")], None));
    life.until("the second waits for its place", || members(&life).len() == 2);
    let memory = life.die(usize::MAX);
    slack.release(held, "answer");
    (memory, [first, second])
}

pub(super) fn members(life: &Life) -> Vec<(u64, concurrency_group::Member)> {
    at_once(concurrency_group::rows(life.journal())).unwrap()
}

fn differences(life: &Life) -> Vec<String> {
    let verified = life.wait(life.engine().verify()).unwrap();
    verified.differences.iter().map(ToString::to_string).collect()
}

/// The keys of a space as the store has them.
fn keys(life: &Life, space: Space) -> Vec<Vec<u8>> {
    let range = key::all(space);
    at_once(life.store.scan(&range.from, &range.to, 10)).unwrap().keys().iter().map(|key| key.to_vec()).collect()
}

#[test]
fn what_owners_keep_fits_the_runs_and_is_made_again_where_it_does_not() {
    let slack = Slack::start();
    let (memory, [first, second]) = died(&slack);
    let life = Life::open(memory, &slack);
    assert_eq!(differences(&life), [""; 0]);
    assert_eq!(at_once(keyed_lock::rows(life.journal())).unwrap().len(), 1);

    let mut write = Write::new();
    for (turn, member) in members(&life) {
        write.delete(&key::member(&member.group.name, turn));
        // Somebody else's place, of whom nobody has heard.
        if member.run == first {
            let stranger = concurrency_group::Member {
                run: RunId::of(bellhop_core::time::Timestamp::from_millis(1), first.partition(), 7),
                ..member
            };
            write.put(&key::member(&stranger.group.name, 99), &stranger).unwrap();
        }
    }
    let (lock, _) = at_once(keyed_lock::rows(life.journal())).unwrap().into_iter().next().unwrap();
    keyed_lock::remove(&mut write, lock);
    life.journal().commit(write).unwrap();
    let found = differences(&life);
    assert_eq!(found.len(), 4, "{found:#?}");
    for (run, says) in [(first, "does not know it"), (second, "does not know it"), (first, "does not hold its key")] {
        assert!(found.iter().any(|d| d.contains(&run.to_string()) && d.contains(says)), "{run} {says}: {found:#?}");
    }
    assert!(found.iter().any(|difference| difference.contains("is not open")), "{found:#?}");

    let verified = life.wait(life.engine().verify()).unwrap();
    life.wait(life.engine().mend(&verified.differences)).unwrap();
    assert_eq!(differences(&life), [""; 0]);
    let life = Life::start(life.die(usize::MAX), &slack);
    for run in [first, second] {
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
    life.until("nothing is left", || members(&life).is_empty() && keys(&life, Space::Mail).is_empty());
    assert!(at_once(keyed_lock::rows(life.journal())).unwrap().is_empty());
}

/// A key whose row is damaged would be anybody's, and a place would be two runs'.
#[test]
fn rows_that_are_damaged_are_made_again_before_anything_goes_on() {
    let slack = Slack::start();
    let (memory, [first, second]) = died(&slack);
    let life = Life::open(memory, &slack);
    let mut batch = Batch::new();
    for space in [Space::Lock, Space::Member] {
        keys(&life, space).into_iter().for_each(|key| batch.put(key, b"not what was written".as_slice()));
    }
    life.store.commit(batch).unwrap();
    let life = Life::open(life.die(usize::MAX), &slack);
    let found = differences(&life);
    let unreadable = found.iter().filter(|difference| difference.contains("cannot be read")).count();
    assert_eq!(unreadable, 3, "{found:#?}");
    let life = Life::start(life.die(usize::MAX), &slack);
    assert!(life.journal().damages().is_empty(), "{:?}", life.journal().damages());
    for run in [first, second] {
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    }
}

/// Its mark no longer says of which group it is.
#[test]
fn a_run_that_is_given_up_leaves_its_place_and_its_key_though_its_mark_was_damaged() {
    let slack = Slack::start();
    let (memory, [first, second]) = died(&slack);
    let life = Life::open(memory, &slack);
    let mut batch = Batch::new();
    batch.put(key::open(first).bytes(), b"not what was written".as_slice());
    life.store.commit(batch).unwrap();
    let life = Life::start(life.die(usize::MAX), &slack);
    life.until("it is set aside", || life.engine().is_aside(first));
    assert_eq!(members(&life).len(), 2);
    assert!(life.wait(life.engine().signal(first, bellhop_core::run::Cause::Kill)).unwrap());
    assert_eq!(life.ended(second).unwrap().status, Status::Completed);
    life.until("nothing is left", || members(&life).is_empty() && keys(&life, Space::Mail).is_empty());
    assert!(at_once(keyed_lock::rows(life.journal())).unwrap().is_empty());
}

/// Who hears that a run has ended may have its place.
#[test]
fn whoever_hears_of_an_end_finds_the_place_free() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply_text(&grouped("reject", "\n  - waits: {wait: {hours: 1}}"));
    for _ in 0..20 {
        let run = life.started(trigger(&workflow, json!({}), &[], None));
        life.until("it has its place", || {
            members(&life).iter().any(|(_, member)| member.run == run && member.admitted)
        });
        assert!(life.wait(life.engine().signal(run, bellhop_core::run::Cause::Cancel)).unwrap());
    }
}
