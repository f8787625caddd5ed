//! Backups: of one instant while others write, whole or known not to be, and damaged where the store is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bellhop_core::time::Timestamp;

use super::{Random, image, noise, open};
use crate::backup::{Error, Part, Reader, Restoring, Taking, Trailer};
use crate::memory::Memory;
use crate::sled::Options;
use crate::store::{Batch, Store};

type Image = BTreeMap<Vec<u8>, Vec<u8>>;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

fn begun(store: &Arc<dyn Store>, bytes_max: usize) -> Taking {
    Taking::of(Arc::clone(store), "1.2.3", NOW, bytes_max)
}

/// A whole backup; `between` comes before each of its steps.
async fn taken(store: &Arc<dyn Store>, mut between: impl FnMut()) -> Result<(Vec<u8>, Trailer), Error> {
    let mut taking = begun(store, usize::MAX);
    let mut bytes = Vec::new();
    loop {
        between();
        match taking.next().await? {
            Some(more) => bytes.extend(more),
            None => break,
        }
    }
    let (end, trailer) = taking.end(Some(b"sealed"), NOW).await?;
    bytes.extend(end);
    Ok((bytes, trailer))
}

/// What is restored of a backup that comes in pieces of so many bytes.
fn read(bytes: &[u8], piece: usize) -> Result<Image, Error> {
    let (mut reader, mut found) = (Reader::new(), Image::new());
    for some in bytes.chunks(piece) {
        reader.push(some);
        while let Some(part) = reader.next_part()? {
            match part {
                Part::Changes(changes) => {
                    for (key, value) in changes {
                        match value {
                            Some(value) => found.insert(key.to_vec(), value.to_vec()),
                            None => found.remove(&*key),
                        };
                    }
                }
                Part::Secrets(sealed) => assert_eq!(sealed, b"sealed"),
                Part::Header(header) => assert_eq!((header.began_at, header.program.as_str()), (NOW, "1.2.3")),
                Part::Trailer(_) => {}
            }
        }
    }
    reader.finish()?;
    Ok(found)
}

fn put(store: &Arc<dyn Store>, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    store.commit(batch).unwrap();
}

/// Some puts and deletes of few keys.
fn some(random: &mut Random) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..=random.below(4) {
        let key = format!("k{:04}", random.below(1_500)).into_bytes();
        match random.below(4) {
            0 => batch.delete(key),
            1 => batch.put(key, noise(random.below(u64::MAX), 2_000)),
            _ => batch.put(key, random.below(u64::MAX).to_be_bytes().to_vec()),
        }
    }
    batch
}

#[tokio::test]
async fn a_backup_of_a_store_that_is_written_to_is_of_one_instant() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        for _ in 0..random.below(1_200) {
            store.commit(some(&mut random)).unwrap();
        }
        // As it stands after each batch from the begin on: the backup is one of these, and the last that it can be.
        let mut images = vec![image(&*store).unwrap()];
        let (bytes, trailer) = taken(&store, || {
            for _ in 0..random.below(6) {
                store.commit(some(&mut random)).unwrap();
                images.push(image(&*store).unwrap());
            }
        })
        .await
        .unwrap();
        let restored = read(&bytes, 1 + usize::try_from(random.below(100_000)).unwrap()).unwrap();
        let at = images.iter().position(|image| *image == restored);
        assert!(at.is_some(), "seed {seed}: it is no state of the store after it began: {trailer:?}");
    }
}

/// The embedded store, with a writer on a thread of its own: each batch has two keys of one number, which are equal in every
/// state between two batches.
#[tokio::test]
async fn what_was_acknowledged_before_is_in_it_and_no_batch_is_torn() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn Store> = Arc::new(open(from.path()));
    for number in 0..3_000_u32 {
        let mut batch = Batch::new();
        batch.put(format!("m{number:05}").into_bytes(), noise(u64::from(number), 700));
        store.commit(batch).unwrap();
    }
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let writer = std::thread::spawn({
        let (store, count, stop) = (store.clone(), count.clone(), stop.clone());
        move || {
            // Nobody here waits for the disk, so that the writer could keep ahead of whoever reads.
            while !stop.load(Ordering::SeqCst) && count.load(Ordering::SeqCst) < 5_000 {
                let number = count.load(Ordering::SeqCst) + 1;
                let mut batch = Batch::new();
                batch.put(*b"a", number.to_be_bytes());
                batch.put(format!("n{number:09}").into_bytes(), *b"x");
                batch.put(*b"z", number.to_be_bytes());
                if store.commit(batch).is_ok() {
                    count.store(number, Ordering::SeqCst);
                } else {
                    std::thread::yield_now();
                }
            }
        }
    });
    while count.load(Ordering::SeqCst) < 100 {
        std::thread::yield_now();
    }
    let before = count.load(Ordering::SeqCst);
    let (bytes, _) = taken(&store, || ()).await.unwrap();
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();

    let mut reader = Reader::new();
    let mut restoring = Restoring::begin(&Options::new(to.path().join("store"))).unwrap();
    reader.push(&bytes);
    while let Some(part) = reader.next_part().unwrap() {
        if let Part::Changes(changes) = part {
            restoring.carry_out(changes).await.unwrap();
        }
    }
    reader.finish().unwrap();
    let restored = restoring.end().await.unwrap();
    restored.journal.close().unwrap();
    drop(restored);
    let restored = image(&open(&to.path().join("store"))).unwrap();
    let number = |key: &[u8]| u64::from_be_bytes(restored[key].clone().try_into().unwrap());
    assert_eq!(number(b"a"), number(b"z"));
    assert!(number(b"a") >= before, "{} of {before}", number(b"a"));
    let rows = restored.keys().filter(|key| key.starts_with(b"n")).count() as u64;
    assert_eq!(rows, number(b"a"), "every batch up to that one, and none behind it");
    assert_eq!(restored.keys().filter(|key| key.starts_with(b"m")).count(), 3_000);
}

#[tokio::test]
async fn a_backup_that_is_cut_or_changed_anywhere_is_refused() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    for number in 0..20_u8 {
        put(&store, &[b'k', number], &noise(number.into(), 30));
    }
    let (bytes, _) = taken(&store, || ()).await.unwrap();
    assert_eq!(read(&bytes, 7).unwrap(), image(&*store).unwrap());
    for end in 0..bytes.len() {
        let error = read(&bytes[..end], 64).unwrap_err();
        assert!(matches!(error, Error::Cut { .. } | Error::NotABackup), "cut at {end}: {error}");
    }
    for at in 0..bytes.len() {
        for flip in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(read(&changed, bytes.len()).is_err(), "byte {at}");
        }
    }
    let behind = [bytes.as_slice(), b"x"].concat();
    assert!(matches!(read(&behind, behind.len()), Err(Error::Damaged { .. })));
    let twice = [bytes.as_slice(), bytes.as_slice()].concat();
    assert!(read(&twice, 100).is_err());
    let newer = [b"bellhop-backup 2\n".as_slice(), &bytes[17..]].concat();
    assert_eq!(read(&newer, 100), Err(Error::Newer { found: 2, known: 1 }));
    assert_eq!(read(b"PK\x03\x04 something else", 100), Err(Error::NotABackup));
    assert_eq!(read(b"", 100), Err(Error::NotABackup));
}

#[tokio::test]
async fn a_reader_that_takes_nothing_holds_up_no_writer_and_is_told() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    put(&store, b"a", b"1");
    let mut taking = begun(&store, 100_000);
    taking.next().await.unwrap();
    for number in 0..2_000_u32 {
        put(&store, &number.to_be_bytes(), &[0; 100]);
    }
    assert_eq!(taking.next().await, Err(Error::TooSlow { bytes_max: 100_000 }));
    // The next one is whole.
    let (bytes, _) = taken(&store, || ()).await.unwrap();
    assert_eq!(read(&bytes, 1_000).unwrap(), image(&*store).unwrap());
}

/// Whoever has a part of a backup is told why there is no more of it.
#[tokio::test]
async fn a_backup_that_was_broken_off_says_why() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    put(&store, b"a", b"1");
    let mut taking = begun(&store, 100_000);
    let mut bytes = Vec::new();
    while let Some(more) = taking.next().await.unwrap() {
        bytes.extend(more);
    }
    bytes.extend(taking.broken_off("draining", "the host is stopping"));
    let error = read(&bytes, 10).unwrap_err();
    assert_eq!(error, Error::BrokenOff { code: "draining".into(), detail: "the host is stopping".into() });
}

#[tokio::test]
async fn a_key_with_a_value_that_is_empty_is_there_after_a_restore() {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let mut batch = Batch::new();
    batch.put(*b"empty", *b"");
    batch.put(*b"large", noise(1, 3 << 20));
    store.commit(batch).unwrap();
    let (bytes, trailer) = taken(&store, || ()).await.unwrap();
    assert_eq!((trailer.items, trailer.changes, trailer.damaged), (2, 0, 0));
    assert_eq!(read(&bytes, 64 << 10).unwrap(), image(&*store).unwrap());
}
