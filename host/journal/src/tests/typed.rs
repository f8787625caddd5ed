//! The journal over a store: what the engine relies on.

use std::sync::Arc;

use bellhop_core::id::{Partition, RunId};
use bellhop_core::run::Status;
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use crate::Json;
use crate::Write;
use crate::entry::{Answer, Content, Entry};
use crate::journal::{Error, INLINE_BYTES_MAX, Journal};
use crate::key::{self, Space};
use crate::memory::Memory;
use crate::record;
use crate::store::Store;
use crate::summary::{Open, Rest, Snapshot, Summary};

fn run(number: u64) -> RunId {
    RunId::new(Timestamp::from_millis(1_000 + number), u128::from(number))
}

fn note(text: impl std::fmt::Display) -> Entry {
    Entry::Note { at: Timestamp::from_millis(1), level: "info".to_owned(), text: format!("{text}"), by: None }
}

fn memory() -> (Arc<Memory>, Journal) {
    let store = Arc::new(Memory::new());
    (Arc::clone(&store), Journal::checked(store))
}

#[tokio::test]
async fn a_run_is_begun_once() {
    let (_, journal) = memory();
    journal.append(run(1), &mut 0, &[note("first")], Write::new()).unwrap();
    let mut seq = 0;
    let refused = journal.append(run(1), &mut seq, &[note("another first")], Write::new()).unwrap_err();
    assert!(refused.is_refused() && seq == 0, "{refused}");
    assert_eq!(journal.entries(run(1), 0, 10).await.unwrap(), [(0, note("first"))]);
}

#[tokio::test]
async fn what_is_damaged_is_seen_as_what_may_be_written_anew() {
    let (store, journal) = memory();
    let key = key::table_current("t");
    let (read, seen) = journal.see::<Value>(&key).await;
    assert_eq!(read, Ok(None));
    let mut batch = crate::store::Batch::new();
    batch.put(key.bytes(), b"no record".as_slice());
    store.commit(batch).unwrap();
    let mut write = Write::new();
    write.rests_on(seen);
    write.put(&key, &json!(1)).unwrap();
    assert!(journal.commit(write.clone()).unwrap_err().is_refused(), "something is there by now");
    let (read, seen) = journal.see::<Value>(&key).await;
    assert!(read.unwrap_err().is_damage());
    let mut write = Write::new();
    write.rests_on(seen);
    write.put(&key, &json!(2)).unwrap();
    let mut refused = write.clone();
    refused.expect_absent(&key);
    assert!(journal.commit(refused).unwrap_err().is_refused());
    assert_eq!(journal.damages().len(), 1, "what was refused has mended nothing");
    journal.commit(write).unwrap();
    assert_eq!(journal.see::<Value>(&key).await.0, Ok(Some(json!(2))));
    assert_eq!(journal.damages().len(), 0);
}

#[tokio::test]
async fn entries_are_numbered_without_a_gap_and_come_with_the_other_records() {
    let (_, journal) = memory();
    let mut seq = 0;
    for round in 0..10 {
        let mut write = Write::new();
        let rest = if round == 9 { Rest::Waits } else { Rest::No };
        write.put(&key::open(run(1)), &Open { rest, group: Some("a group".to_owned()), ..Open::default() }).unwrap();
        journal.append(run(1), &mut seq, &[note(round), note("and")], write).unwrap();
    }
    journal.append(run(2), &mut 0, &[note("other")], Write::new()).unwrap();
    assert_eq!(seq, 20);
    let entries = journal.entries(run(1), 17, 100).await.unwrap();
    assert_eq!(entries, [(17, note("and")), (18, note(9)), (19, note("and"))]);
    assert_eq!(journal.entries(run(1), 0, 3).await.unwrap().len(), 3);
    assert_eq!(journal.entries(run(1), 20, 3).await.unwrap(), []);
    let last = Open { rest: Rest::Waits, group: Some("a group".to_owned()), ..Open::default() };
    assert_eq!(journal.open_runs(10, None).await.unwrap(), [(run(1), last)]);
    assert_eq!(journal.open_runs(10, Some(run(1))).await.unwrap(), []);
}

#[tokio::test]
async fn a_log_with_a_hole_is_not_read() {
    let (_, journal) = memory();
    journal.append(run(1), &mut 0, &[note(0), note(1), note(2)], Write::new()).unwrap();
    let mut write = Write::new();
    write.delete(&key::event(run(1), 1));
    journal.commit(write).unwrap();
    let Err(Error::Record(record::Error::Corrupt { key, .. })) = journal.entries(run(1), 0, 10).await else {
        panic!("a hole was read over");
    };
    assert_eq!(key, key::event(run(1), 1).to_string());
    assert_eq!(journal.entries(run(1), 2, 10).await.unwrap().len(), 1);
}

#[test]
fn a_refused_append_leaves_the_counter_where_it_was() {
    let (store, journal) = memory();
    let mut seq = 5;
    store.fail("no space");
    let refused = journal.append(run(1), &mut seq, &[note(0)], Write::new()).unwrap_err();
    assert!(refused.is_fatal());
    assert_eq!(seq, 5);
}

#[tokio::test]
async fn a_large_value_is_stored_once() {
    let (store, journal) = memory();
    let large = json!({"text": "x".repeat(INLINE_BYTES_MAX)});
    let mut write = Write::new();
    let small = journal.content(&mut write, &json!({"text": "x"})).unwrap();
    assert_eq!(small, Content::Value(Json::from(&json!({"text": "x"}))));
    assert!(write.is_empty());
    let first = journal.content(&mut write, &large).unwrap();
    assert!(matches!(first, Content::Stored { .. }));
    let entry = |answer: &Content| Entry::Read {
        key: "/do/0".to_owned(),
        attempt: 1,
        ordinal: 0,
        hash: bellhop_core::digest::Digest::of(b""),
        at: Timestamp::from_millis(1),
        answer: Answer::Ok(answer.clone()),
        how: "sent".to_owned(),
        function: None,
        token: None,
    };
    let mut seq = 0;
    journal.append(run(1), &mut seq, &[entry(&first)], write).unwrap();
    let before = store.stats().bytes;
    for number in 0..10 {
        let mut write = Write::new();
        let again = journal.content(&mut write, &large).unwrap();
        assert_eq!(again, first);
        journal.append(run(number), &mut seq, &[entry(&again)], write).unwrap();
    }
    assert!(store.stats().bytes - before < 10_000);
    assert_eq!(journal.read::<Value>(&first).await.unwrap(), large);
    assert_eq!(journal.read::<Value>(&small).await.unwrap(), json!({"text": "x"}));
}

#[tokio::test]
async fn a_blob_that_is_not_what_its_digest_says_is_not_given_out() {
    let (_, journal) = memory();
    let mut write = Write::new();
    let digest = write.blob(b"component");
    write.put_raw(&key::blob(bellhop_core::digest::Digest::of(b"other")), b"component");
    journal.commit(write).unwrap();
    assert_eq!(journal.blob(digest).await.unwrap().as_deref(), Some(&b"component"[..]));
    assert!(journal.blob(bellhop_core::digest::Digest::of(b"other")).await.is_err());
    assert_eq!(journal.blob(bellhop_core::digest::Digest::of(b"absent")).await.unwrap(), None);
}

#[tokio::test]
async fn timers_come_due_by_time_whichever_partition_they_are_of() {
    let (_, journal) = memory();
    let at = Timestamp::from_millis;
    // Of three partitions, of which neither the first nor the last has the earliest.
    let run = |number: u64| {
        let partition = Partition::numbered([700, 3, 1_023][usize::try_from(number).unwrap() % 3]).unwrap();
        RunId::of(Timestamp::from_millis(number), partition, 1)
    };
    let mut write = Write::new();
    for (due, owner, n) in [(300, 1, 0), (100, 2, 1), (100, 2, 0), (200, 1, 0), (100, 1, 9)] {
        write.put(&key::timer(at(due), run(owner), n), &json!({"wake": due})).unwrap();
    }
    journal.commit(write).unwrap();
    let all = [(at(100), run(1)), (at(100), run(2)), (at(100), run(2)), (at(200), run(1)), (at(300), run(1))];
    assert_eq!(journal.timers_behind(None, 10).await.unwrap(), all);
    assert_eq!(journal.timers_behind(None, 2).await.unwrap(), all[..2]);
    assert_eq!(journal.timers_behind(Some((at(100), run(1))), 10).await.unwrap(), all[1..]);
    assert_eq!(journal.timers_behind(Some((at(100), run(2))), 1).await.unwrap(), all[3..4]);
    assert_eq!(journal.timers_behind(Some((at(300), run(1))), 10).await.unwrap(), []);
}

#[tokio::test]
async fn runs_are_listed_newest_first_by_pages() {
    let (_, journal) = memory();
    for number in 0..25 {
        let status = if number % 2 == 0 { Status::Completed } else { Status::Waiting };
        let (namespace, name, at) =
            ("people".to_owned(), "onboarding".to_owned(), Timestamp::from_millis(1_000 + number));
        let summary = Summary {
            labels: [("ticket".to_owned(), format!("HR-{number}"))].into(),
            updated_at: Timestamp::from_millis(2_000 + number),
            ..Summary::new(status, namespace, name, "1.0.0".to_owned(), at)
        };
        let mut write = Write::new();
        write.put(&key::summary(run(number)), &summary).unwrap();
        write.put(&key::listing(summary.started_at, run(number)), &()).unwrap();
        journal.commit(write).unwrap();
    }
    let mut found = Vec::new();
    let mut range = None;
    loop {
        let page = journal.runs(range, 10).await.unwrap();
        found.extend(page.items.into_iter().map(|(run, summary)| (run, summary.unwrap().labels["ticket"].clone())));
        range = page.next;
        if range.is_none() {
            break;
        }
    }
    let expected: Vec<_> = (0..25).rev().map(|number| (run(number), format!("HR-{number}"))).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_expired_is_named_by_its_key() {
    let (_, journal) = memory();
    let at = Timestamp::from_millis;
    let subject = key::idempotency("people", "onboarding", "hire-4711");
    let mut write = Write::new();
    write.put(&subject, &json!({"run": run(1)})).unwrap();
    write.put(&key::expiry(at(500), &subject), &()).unwrap();
    journal.commit(write).unwrap();
    assert_eq!(journal.expired(at(499), 10).await.unwrap(), []);
    let expired = journal.expired(at(500), 10).await.unwrap();
    assert_eq!(expired, [(at(500), subject.clone())]);
    assert_eq!(journal.get::<Value>(&expired[0].1).await.unwrap(), Some(json!({"run": run(1)})));
}

#[tokio::test]
async fn snapshots_and_other_records_are_read_back_and_deleted() {
    let (_, journal) = memory();
    let snapshot =
        Snapshot { seq: 256, state: Json::from(&json!({"v": 1})), log: Some(Json::from(&json!({"bytes": 7}))) };
    let mut write = Write::new();
    write.put(&key::snapshot(run(1)), &snapshot).unwrap();
    write.put(&key::connection("acme"), &json!({"kind": "grid-org"})).unwrap();
    write.put(&key::connection("acme-hq"), &json!({"kind": "grid-workspace"})).unwrap();
    assert!(write.bytes() > 0);
    journal.commit(write).unwrap();
    assert_eq!(journal.snapshot(run(1)).await.unwrap(), Some(snapshot));
    let listed = journal.list::<Value>(Space::Connection, &key::all(Space::Connection)).all().await;
    assert_eq!(listed.unwrap().len(), 2);
    let mut write = Write::new();
    write.delete(&key::snapshot(run(1)));
    journal.commit(write).unwrap();
    assert_eq!(journal.snapshot(run(1)).await.unwrap(), None);
}

#[tokio::test]
async fn house_a9_a_list_has_everything_however_long_it_is() {
    let (_, journal) = memory();
    for part in 0..5 {
        let mut write = Write::new();
        for n in 0..1_000 {
            write.put(&key::connection(&format!("c{part}{n:04}")), &json!(part * 1_000 + n)).unwrap();
        }
        journal.commit(write).unwrap();
    }
    let mut write = Write::new();
    for (owner, number) in [(1, 2), (1, 1), (2, 1), (11, 1)] {
        write.put(&key::notice(run(owner), number), &json!(format!("{owner}.{number}"))).unwrap();
    }
    journal.commit(write).unwrap();
    let all = || journal.list::<u64>(Space::Connection, &key::all(Space::Connection));
    let read: Vec<u64> = all().all().await.unwrap().into_iter().map(|(_, n)| n).collect();
    assert_eq!(read, (0..5_000).collect::<Vec<_>>());
    // What is removed while it is read costs nothing that is behind it.
    let mut seen = 0;
    let mut while_removed = all();
    while let Some(read) = while_removed.next().await {
        let (bytes, _) = read.unwrap();
        let name = key::Parts::of(Space::Connection, &bytes).and_then(|mut parts| parts.text()).unwrap();
        let mut write = Write::new();
        write.delete(&key::connection(&name));
        journal.commit(write).unwrap();
        seen += 1;
    }
    assert_eq!((seen, all().all().await.unwrap().len()), (5_000, 0));
    let of_one = journal.list::<String>(Space::Notice, &key::notices(run(1))).all().await.unwrap();
    assert_eq!(of_one.into_iter().map(|(_, name)| name).collect::<Vec<_>>(), ["1.1", "1.2"]);
    assert_eq!(journal.list::<String>(Space::Notice, &key::all(Space::Notice)).all().await.unwrap().len(), 4);
}

#[tokio::test]
async fn house_a9_a_damaged_record_of_a_list_hides_none_behind_it() {
    let (_, journal) = memory();
    let mut write = Write::new();
    for n in 0..600 {
        write.put(&key::connection(&format!("c{n:04}")), &json!(n)).unwrap();
    }
    // Not what the list has.
    write.put(&key::connection("c0300"), &json!("text")).unwrap();
    journal.commit(write).unwrap();
    let listed = journal.list::<u64>(Space::Connection, &key::all(Space::Connection)).all().await;
    assert_eq!(listed.unwrap().len(), 599);
    assert_eq!(journal.damages().len(), 1, "it is named elsewhere");
}
