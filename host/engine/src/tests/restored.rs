//! After a restore: nothing goes on before it is said, what was done in the time that was lost is not done again, and what
//! cannot be told waits for a person.

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::json;

use super::life::{Life, Slack, fresh, trigger};
use crate::operate::backup::Backup;
use crate::operate::restore;
use bellhop_clock::{self as clock, Clock as _, Manual};
use bellhop_journal::Entry;
use bellhop_journal::backup::{Part, Reader, Restored, Restoring};
use bellhop_journal::sled::Options;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const POOR: &[(&str, &str)] = &[("team", "poor")];

/// It sleeps before it does anything.
const TWO: &str = "
  - pause: {wait: {seconds: 30}}
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}
  - two: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: two}}";

fn backup(life: &Life) -> Vec<u8> {
    life.wait(async {
        let mut backup = Backup::begin(life.journal(), life.engine().services.clock.clone(), 64 << 20, None);
        let mut bytes = Vec::new();
        while let Some(more) = backup.next().await.unwrap() {
            bytes.extend(more);
        }
        assert!(backup.trailer().is_some());
        bytes
    })
}

/// A life on what is restored of a backup. It waits for the word to go on.
fn restored(bytes: &[u8], folder: &std::path::Path, slack: &Slack) -> Life {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut reader = Reader::new();
        let mut restoring = Restoring::begin(&Options::new(folder)).unwrap();
        let mut instant = None;
        reader.push(bytes);
        while let Some(part) = reader.next_part().unwrap() {
            match part {
                Part::Header(header) => instant = Some(header.began_at),
                Part::Changes(changes) => restoring.carry_out(changes).await.unwrap(),
                Part::Secrets(_) | Part::Trailer(_) => {}
            }
        }
        reader.finish().unwrap();
        let Restored { journal, newest } = restoring.end().await.unwrap();
        let now = clock::System::new().now();
        restore::mark(&journal, instant.unwrap(), newest, now).await.unwrap();
        journal.close().unwrap();
    });
    let life = Life::open_in(folder, slack);
    life.begin_when_it_may();
    life
}

/// A clock that stands still, at about this time.
fn standing() -> Manual {
    Manual::new(clock::System::new().now())
}

fn asleep(slack: &Slack, connections: &[(&str, &str)]) -> (Life, Manual, RunId) {
    let clock = standing();
    let life = Life::open_at(fresh(), &clock, slack);
    life.begin();
    let workflow = life.apply(TWO);
    let run = life.started(trigger(&workflow, json!({}), connections, None));
    life.until_asleep(run);
    (life, clock, run)
}

fn go_on(life: &Life) {
    let gone_on = life.wait(life.engine().go_on()).unwrap().unwrap();
    assert!(gone_on.gone_on_at.is_some());
    assert_eq!(life.wait(life.engine().go_on()).unwrap(), Some(gone_on), "said twice is said once");
}

/// How the writes of a run came to their ends.
fn ends(life: &Life, run: RunId) -> Vec<String> {
    let of = |entry| match entry {
        Entry::Outcome { how, .. } => Some(how),
        Entry::NotSent { .. } => Some("not sent".to_owned()),
        Entry::Resolved { .. } => Some("resolved".to_owned()),
        _ => None,
    };
    life.entries(run).into_iter().filter_map(of).collect()
}

#[test]
fn what_was_done_after_the_backup_is_found_and_not_done_again() {
    let (slack, folder) = (Slack::start(), tempfile::tempdir().unwrap());
    let (life, clock, run) = asleep(&slack, HQ);
    let bytes = backup(&life);
    // The hour that is lost.
    clock.advance(std::time::Duration::from_secs(31));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    life.die(0);

    let life = restored(&bytes, folder.path(), &slack);
    let view = life.view(run);
    assert_eq!((view.status, view.reason), (Status::Suspended, Some("restored")));
    assert!(!life.engine().is_ready() && life.engine().runs().live() == 0);
    let listed = life.wait(life.engine().run_list(None, 10, |summary| summary.status == Status::Suspended)).unwrap();
    assert_eq!(listed.0.len(), 1);
    go_on(&life);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(ends(&life, run), ["found", "found"]);
    assert_eq!(slack.messages(), ["one", "two"]);
    assert_eq!(slack.count("chat.postMessage"), 2, "nothing was sent");

    // A run that is accepted from here on is one like any other.
    let workflow = life
        .apply("\n  - say: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: new}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(ends(&life, run), ["sent"]);
    slack.check_once("after a restore");
}

#[test]
fn what_was_not_done_after_the_backup_is_done_once_also_over_another_death() {
    let (slack, folder) = (Slack::start(), tempfile::tempdir().unwrap());
    let (life, _, run) = asleep(&slack, HQ);
    let bytes = backup(&life);
    life.die(0);
    let life = restored(&bytes, folder.path(), &slack);
    assert_eq!(life.view(run).status, Status::Suspended);
    // A start that dies waiting waits again.
    life.die(usize::MAX);
    let life = Life::open_in(folder.path(), &slack);
    life.begin_when_it_may();
    assert_eq!(life.view(run).status, Status::Suspended);
    go_on(&life);
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(ends(&life, run), ["not sent", "sent", "not sent", "sent"], "looked for first");
    assert_eq!(slack.messages(), ["one", "two"]);
    life.die(usize::MAX);
    // From here on every start goes on by itself.
    let life = Life::open_in(folder.path(), &slack);
    life.begin();
    assert_eq!(life.status(run), Status::Completed);
    slack.check_once("after a restore");
}

#[test]
fn what_cannot_be_told_parks_and_a_word_about_it_counts_once_and_for_all() {
    let (slack, folder) = (Slack::start(), tempfile::tempdir().unwrap());
    let (life, _, run) = asleep(&slack, POOR);
    let bytes = backup(&life);
    life.die(0);
    let life = restored(&bytes, folder.path(), &slack);
    go_on(&life);
    for said in ["one", "two"] {
        life.until_status(run, Status::Parked);
        assert!(!slack.messages().contains(&said.to_owned()), "it is not sent before somebody says so");
        life.wait(life.engine().resolve(run, None, false, None, "a test".to_owned())).unwrap();
        life.until(said, || slack.messages().last().is_some_and(|last| last == said));
    }
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(slack.messages(), ["one", "two"]);
    assert_eq!(ends(&life, run), ["resolved", "sent", "resolved", "sent"]);
    assert_eq!(life.parked(run), 2);
}

#[test]
fn a_host_that_was_not_restored_goes_on_by_itself() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    assert_eq!(life.engine().awaits_go_on(), None);
    assert_eq!(life.wait(life.engine().go_on()).unwrap(), None);
}
