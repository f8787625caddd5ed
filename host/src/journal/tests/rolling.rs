//! What ended runs leave on the disk when they are removed in time.
//!
//! `cargo test --workspace --bin bellhop -- --ignored rolling --nocapture` measures; a minute or two.

use std::path::Path;
use std::sync::Arc;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use crate::journal::sled::{Options, Sled};
use crate::journal::store::Store;
use crate::journal::{Answer, Content, Entry, Journal, Summary, Write, key};

const BLOCK: u64 = 10_000;
/// Blocks that are kept.
const KEPT: u64 = 2;
const BLOCKS: u64 = 10;

fn run(n: u64) -> RunId {
    // As runs come: the time in front, and something of its own behind.
    let own = Digest::of(&n.to_be_bytes());
    let own = own.as_bytes().iter().take(10).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    RunId::new(Timestamp::from_millis(1_767_600_000_000 + n), own)
}

/// What a run of one action with one write leaves.
fn record(journal: &Journal, n: u64) {
    let run = run(n);
    let at = Timestamp::from_millis(1_767_600_000_000 + n);
    let hash = Digest::of(&n.to_be_bytes());
    let pins = json!({ "run": run, "definition": hash, "input": { "value": { "text": "x".repeat(200) } }, "more": "y".repeat(300) });
    let decision = |text: &str| Entry::Decision {
        events: vec![Content::Value(json!({ "event": text, "output": "z".repeat(200) }))],
    };
    let call = ("/do/0/one".to_owned(), 1, 0);
    let intent = Entry::Intent {
        key: call.0.clone(),
        attempt: call.1,
        ordinal: call.2,
        hash,
        at,
        function: "chat.post-message".to_owned(),
        connection: Some("acme".to_owned()),
    };
    let answer = Answer::Ok(Content::Value(json!({ "ok": true, "ts": "1767600000.000100", "channel": "C0" })));
    let outcome =
        Entry::Outcome { key: call.0, attempt: call.1, ordinal: call.2, hash, at, answer, how: "sent".to_owned() };
    let summary = |status| Summary {
        status,
        namespace: "it".to_owned(),
        name: "one".to_owned(),
        version: "1.0.0".to_owned(),
        labels: std::collections::BTreeMap::new(),
        started_at: at,
        updated_at: at,
        ended_at: None,
        waiting: None,
        error: None,
        output: None,
        pins_at: None,
        idempotency_key: None,
        own_key: None,
    };
    let mut seq = 0;
    let mut write = Write::new();
    write.put(&key::listing(at, run), &Value::Null).unwrap();
    write.put(&key::open(run), &json!({})).unwrap();
    write.put(&key::summary(run), &summary(Status::Running)).unwrap();
    journal.append(run, &mut seq, &[Entry::Accepted { pins }], write).unwrap();
    journal.append(run, &mut seq, &[decision("started")], Write::new()).unwrap();
    journal.append(run, &mut seq, &[intent], Write::new()).unwrap();
    journal.append(run, &mut seq, &[outcome], Write::new()).unwrap();
    let mut write = Write::new();
    write.put(&key::summary(run), &summary(Status::Completed)).unwrap();
    write.delete(&key::open(run));
    write.put(&key::expiry(at, &key::summary(run)), &Value::Null).unwrap();
    journal.append(run, &mut seq, &[decision("ended")], write).unwrap();
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| if entry.path().is_dir() { bytes_in(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

#[tokio::test]
#[ignore = "a measurement of a minute or two"]
async fn rolling_runs_take_a_bounded_place_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(Sled::open(&Options::new(folder.path()), Box::new(|_| {})).unwrap());
    let journal = Journal::new(store.clone());
    let mut sizes = Vec::new();
    for block in 0..BLOCKS {
        for n in block * BLOCK..(block + 1) * BLOCK {
            record(&journal, n);
            if n % 64 == 0 {
                journal.durable(journal.tip()).await.unwrap();
            }
        }
        if let Some(old) = block.checked_sub(KEPT) {
            for n in old * BLOCK..(old + 1) * BLOCK {
                let (_, gone) = journal.forget(run(n), 500).unwrap();
                assert!(gone);
                let mut write = Write::new();
                let at = Timestamp::from_millis(1_767_600_000_000 + n);
                write.delete(&key::expiry(at, &key::summary(run(n))));
                journal.commit(write).unwrap();
                if n % 64 == 0 {
                    journal.durable(journal.tip()).await.unwrap();
                }
            }
        }
        journal.durable(journal.tip()).await.unwrap();
        sizes.push(bytes_in(folder.path()));
        println!("{:>7} runs written, {:>6} MB on the disk", (block + 1) * BLOCK, sizes[block as usize] >> 20);
    }
    journal.close().unwrap();
    drop((journal, store));
    let store: Arc<dyn Store> = Arc::new(Sled::open(&Options::new(folder.path()), Box::new(|_| {})).unwrap());
    println!(
        "{:>7} runs kept, {:>6} MB on the disk after opening it again",
        KEPT * BLOCK,
        bytes_in(folder.path()) >> 20
    );
    drop(store);
    let full = sizes[KEPT as usize];
    let last = sizes[sizes.len() - 1];
    assert!(last <= full * 2, "with the same runs kept it has grown from {full} to {last} bytes");
}
