//! What ended runs leave on the disk when they are removed in time: the store alone, with many more runs written than are
//! kept.

use std::path::Path;
use std::sync::Arc;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::{Figures, Options, clock};
use crate::cli::child::{Outcome, failed};
use crate::cli::output::say;
use bellhop_journal::sled::{self, Sled};
use bellhop_journal::store::Store;
use bellhop_journal::{Answer, Content, Entry, Journal, Json, Summary, Write, key};

/// When the first run began; each begins a millisecond after the one before.
const BEGAN_MS: u64 = 1_767_600_000_000;
/// A block of runs is written, then the block is removed that was written so many blocks before.
const KEPT: u32 = 2;
const BLOCKS: u32 = 40;
/// Runs between two synchronisations.
const TOGETHER: u32 = 64;
/// Records removed at a time.
const RECORDS: usize = 500;

/// Writes runs and removes old ones, and measures the files.
pub(super) async fn measure(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let folder = folder.join("rolling");
    let store: Arc<dyn Store> = Arc::new(Sled::open(&sled::Options::new(&folder), Box::new(|_| {}))?);
    let journal = Journal::new(store);
    let block = options.rolling / BLOCKS;
    // The largest that the files ever were, in each half.
    let mut largest = [0, 0];
    let began = clock();
    for number in 0..BLOCKS {
        for n in number * block..(number + 1) * block {
            record(&journal, n)?;
            synchronise(&journal, n).await?;
        }
        if let Some(old) = number.checked_sub(KEPT) {
            for n in old * block..(old + 1) * block {
                forget(&journal, n).await?;
                synchronise(&journal, n).await?;
            }
        }
        journal.durable(journal.tip()).await?;
        let half = usize::from(number >= BLOCKS / 2);
        largest[half] = largest[half].max(bytes_in(&folder)?);
    }
    journal.close()?;
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let [first, second] = largest.map(|bytes| bytes as f64);
    say!(
        "{} runs written with {} kept, in {:.0} s: the files were at most {:.0} MB in the first half and {:.0} MB in the second",
        block * BLOCKS,
        block * KEPT,
        began.elapsed().as_secs_f64(),
        first / 1e6,
        second / 1e6
    );
    figures.insert("rolling_disk_mb", second / 1e6);
    figures.insert("rolling_disk_ratio", second / first);
    Ok(())
}

async fn synchronise(journal: &Journal, n: u32) -> Outcome<()> {
    if n.is_multiple_of(TOGETHER) {
        journal.durable(journal.tip()).await?;
    }
    Ok(())
}

fn at(n: u32) -> Timestamp {
    Timestamp::from_millis(BEGAN_MS + u64::from(n))
}

fn run(n: u32) -> RunId {
    // As runs come: the time in front, and something of its own behind.
    let own = Digest::of(&n.to_be_bytes());
    let own = own.as_bytes().iter().take(10).fold(0_u128, |sum, byte| sum << 8 | u128::from(*byte));
    RunId::new(at(n), own)
}

/// What a run of one action with one write leaves.
fn record(journal: &Journal, n: u32) -> Outcome<()> {
    let (run, at, hash) = (run(n), at(n), Digest::of(&n.to_be_bytes()));
    let pins = json!({ "run": run, "definition": hash, "input": { "value": { "text": "x".repeat(200) } }, "more": "y".repeat(300) });
    let decision = |text: &str| Entry::Decision {
        events: vec![Content::Value(Json::from(&json!({ "event": text, "output": "z".repeat(200) })))],
    };
    let (key, attempt, ordinal) = ("/do/0/one".to_owned(), 1, 0);
    let intent = Entry::Intent {
        key: key.clone(),
        attempt,
        ordinal,
        hash,
        at,
        function: "chat.post-message".to_owned(),
        connection: Some("acme".to_owned()),
        token: None,
    };
    let answer =
        Answer::Ok(Content::Value(Json::from(&json!({ "ok": true, "ts": "1767600000.000100", "channel": "C0" }))));
    let outcome = Entry::Outcome { key, attempt, ordinal, hash, at, answer, how: "sent".to_owned() };
    let summary = |status| Summary::new(status, "it".to_owned(), "one".to_owned(), "1.0.0".to_owned(), at);
    let mut seq = 0;
    let mut write = Write::new();
    write.put(&key::listing(at, run), &Value::Null)?;
    write.put(&key::open(run), &json!({}))?;
    write.put(&key::summary(run), &summary(Status::Running))?;
    journal.append(run, &mut seq, &[Entry::Accepted { pins: Json::from(&pins) }], write)?;
    for entry in [decision("started"), intent, outcome] {
        journal.append(run, &mut seq, &[entry], Write::new())?;
    }
    let mut write = Write::new();
    write.put(&key::summary(run), &summary(Status::Completed))?;
    write.delete(&key::open(run));
    write.put(&key::expiry(at, &key::summary(run)), &Value::Null)?;
    journal.append(run, &mut seq, &[decision("ended")], write)?;
    Ok(())
}

async fn forget(journal: &Journal, n: u32) -> Outcome<()> {
    let (_, gone) = journal.forget(run(n), RECORDS).await?;
    if !gone {
        return failed("a run of a few records does not go at once");
    }
    let mut write = Write::new();
    write.delete(&key::expiry(at(n), &key::summary(run(n))));
    journal.commit(write)?;
    Ok(())
}

fn bytes_in(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.path().is_dir() { bytes_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
