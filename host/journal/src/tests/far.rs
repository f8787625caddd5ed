//! What happens between a read and what is done about it, over a store whose reads take their time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::Random;
use crate::memory::Memory;
use crate::store::{Batch, Bytes, Durable, Error, Page, Read, Stats, Store, Tap, Ticket, Topic, Watch};
use crate::{Content, Entry, Journal, Json, Summary, Write, key};

/// A store in memory on another machine: others have their turns before something is read, and before it is there.
struct Far {
    memory: Arc<Memory>,
    random: Mutex<Random>,
    reads: AtomicU64,
}

impl Far {
    fn over(memory: Memory, seed: u64) -> Self {
        Self { memory: Arc::new(memory), random: Mutex::new(Random(seed)), reads: AtomicU64::new(0) }
    }

    fn slowly<T: Unpin + Send + 'static>(&self, read: impl FnOnce(&Memory) -> Read<T> + Send + 'static) -> Read<T> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let mut random = self.random.lock().unwrap();
        let (before, after, memory) = (1 + random.below(4), random.below(4), Arc::clone(&self.memory));
        Read::later(async move {
            for _ in 0..before {
                tokio::task::yield_now().await;
            }
            let read = read(&memory).await;
            for _ in 0..after {
                tokio::task::yield_now().await;
            }
            read
        })
    }
}

impl Store for Far {
    fn commit(&self, batch: Batch) -> Result<Ticket, Error> {
        self.memory.commit(batch)
    }

    fn durable(&self, ticket: Ticket) -> Durable {
        self.memory.durable(ticket)
    }

    fn tip(&self) -> Ticket {
        self.memory.tip()
    }

    fn get(&self, key: &[u8]) -> Read<Option<Bytes>> {
        let key = key.to_vec();
        self.slowly(move |memory| memory.get(&key))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Read<Page> {
        let (from, to) = (from.to_vec(), to.to_vec());
        self.slowly(move |memory| memory.scan(&from, &to, limit))
    }

    fn watch(&self, topic: Topic) -> Watch {
        self.memory.watch(topic)
    }

    fn tap(&self, bytes_max: usize) -> Tap {
        self.memory.tap(bytes_max)
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }

    fn close(&self) -> Result<(), Error> {
        self.memory.close()
    }
}

fn run(n: u64) -> RunId {
    RunId::new(Timestamp::from_millis(n), n.into())
}

/// Has a run name this value, as its only record.
fn names(journal: &Journal, run: RunId, value: &Value) -> Content {
    let mut write = Write::new();
    let content = journal.content(&mut write, value).unwrap();
    let text = String::new;
    let summary = Summary::new(Status::Completed, text(), text(), text(), Timestamp::from_millis(1));
    write.put(&key::summary(run), &summary).unwrap();
    journal.append(run, &mut 0, &[Entry::Accepted { pins: Json::from(&Value::Null) }], write).unwrap();
    content
}

/// A run is removed while another begins to name the same large value: whatever comes first, the other has it. When both
/// are removed at one time, nothing is left of it.
#[tokio::test]
async fn a_large_value_stays_as_long_as_anybody_names_it_whoever_comes_in_between() {
    let mut in_between = 0;
    for seed in 0..400 {
        let store = Arc::new(Far::over(Memory::new(), seed));
        let journal = Journal::checked(Arc::clone(&store) as Arc<dyn Store>);
        let value = json!({ "text": "x".repeat(crate::journal::INLINE_BYTES_MAX + 1) });
        let content = names(&journal, run(1), &value);
        let turns = seed % 40;
        let naming = async {
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            if seed % 2 == 0 {
                names(&journal, run(2), &value);
            } else {
                // For good.
                let mut write = Write::new();
                write.blob(&serde_json::to_vec(&value).unwrap());
                journal.commit(write).unwrap();
            }
            store.reads.load(Ordering::Relaxed)
        };
        let removing = async {
            let (_, is_gone) = journal.forget(run(1), 100).await.unwrap();
            assert!(is_gone);
            store.reads.load(Ordering::Relaxed)
        };
        let (named_at, removed_at) = futures_util::future::join(naming, removing).await;
        in_between += u64::from(named_at > 0 && named_at < removed_at);
        assert_eq!(journal.read::<Value>(&content).await.as_ref(), Ok(&value), "seed {seed}");
        if seed % 2 == 0 {
            names(&journal, run(3), &value);
            let (one, other) =
                futures_util::future::join(journal.forget(run(2), 100), journal.forget(run(3), 100)).await;
            assert!(one.unwrap().1 && other.unwrap().1);
            assert_eq!(journal.blob(content.digest().unwrap()).await, Ok(None), "seed {seed}");
        }
    }
    assert!(in_between > 50, "only {in_between} came in between");
}

/// What is read and not decoded yet is the same as what is decoded at once.
#[tokio::test]
async fn values_and_entries_are_read_first_and_decoded_later() {
    let journal = Journal::checked(Arc::new(Far::over(Memory::new(), 7)));
    let (large, small) = (json!("y".repeat(crate::journal::INLINE_BYTES_MAX + 1)), json!("small"));
    let content = names(&journal, run(1), &large);
    let stored = journal.stored_entries(run(1), 0, 10).await.unwrap();
    assert_eq!(stored.decode(), journal.entries(run(1), 0, 10).await);
    assert!(journal.stored_entries(run(1), 1, 10).await.unwrap().is_empty());
    let values = journal.values([content.digest().unwrap(), Digest::of(b"nobody's")]).await;
    assert_eq!(values.read::<Value>(&content), Ok(large));
    assert_eq!(values.read::<Value>(&Content::Value(Json::from(&small))), Ok(small));
    let missing = Content::Stored { digest: Digest::of(b"nobody's"), bytes: 1 };
    assert!(values.read::<Value>(&missing).unwrap_err().is_damage());
    let not_asked_for = Content::Stored { digest: Digest::of(b"another's"), bytes: 1 };
    assert!(values.read::<Value>(&not_asked_for).unwrap_err().is_damage());
}

/// A list that somebody stops to wait for goes on where it was.
#[tokio::test]
async fn a_list_loses_nothing_when_its_reader_does_not_wait() {
    let journal = Journal::checked(Arc::new(Far::over(Memory::new(), 3)));
    let mut write = Write::new();
    for n in 0..1_000 {
        write.put(&key::connection(&format!("c{n:04}")), &n).unwrap();
    }
    journal.commit(write).unwrap();
    let mut list = journal.list::<u64>(key::Space::Connection, &key::all(key::Space::Connection));
    let (mut seen, mut given_up) = (Vec::new(), 0);
    loop {
        let next = tokio::select! {
            biased;
            next = list.next() => next,
            () = tokio::task::yield_now() => {
                given_up += 1;
                if given_up % 4 == 0 { list.next().await } else { continue }
            }
        };
        let Some(read) = next else { break };
        seen.push(read.unwrap().1);
    }
    assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    assert!(given_up > 0);
}
