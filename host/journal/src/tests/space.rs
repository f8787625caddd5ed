//! A full disk: met before the embedded store meets it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use futures_util::FutureExt as _;

use super::{image, noise, now, put, wait};
use crate::sled::{Asked, OpenError, Options, Sled};
use crate::store::{Batch, Durable, Error, Room, Store};
use crate::{Entry, Journal, Json, Write};

/// A store on a disk of which a test says what is free.
fn on(dir: &Path, free: &Arc<AtomicU64>) -> Sled {
    let free = Arc::clone(free);
    let asked = Asked(Arc::new(move || Some(Room { free: free.load(Ordering::SeqCst), total: 1 << 40 })));
    Sled::open(&Options { space: Some(asked), ..Options::new(dir) }, Box::new(|_| {})).unwrap()
}

fn note(by: Option<&str>) -> Entry {
    Entry::Note {
        at: Timestamp::from_millis(1),
        level: "info".to_owned(),
        text: "cancel".to_owned(),
        by: by.map(str::to_owned),
    }
}

#[test]
fn a_full_disk_lets_nothing_begin_and_remembers_whom_a_person_gave_an_order() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let journal = Journal::checked(Arc::new(on(dir.path(), &free)));
    let [old, other, new] = [1, 2, 3].map(|n| RunId::new(Timestamp::from_millis(1_000), n));
    let (mut old_seq, mut other_seq) = (0, 0);
    let accepted = Entry::Accepted { pins: Json::from(&serde_json::Value::Null) };
    journal.append(old, &mut old_seq, std::slice::from_ref(&accepted), Write::new()).unwrap();
    journal.append(other, &mut other_seq, std::slice::from_ref(&accepted), Write::new()).unwrap();

    free.store(30 << 20, Ordering::SeqCst);
    let refused = journal.append(new, &mut 0, &[accepted], Write::new()).unwrap_err();
    assert!(matches!(&refused, crate::Error::Store(Error::NoRoom { .. })), "{refused:?}");
    assert_eq!(journal.room().unwrap_err(), refused);
    assert_eq!(now(journal.entries(new, 0, 1)).unwrap(), []);
    // What is open goes on.
    journal.append(other, &mut other_seq, &[note(None)], Write::new()).unwrap();
    journal.append(old, &mut old_seq, &[note(Some("an operator"))], Write::new()).unwrap();
    wait(journal.durable(journal.tip())).unwrap();
    assert!(journal.is_ordered(old) && !journal.is_ordered(other));

    free.store(1 << 30, Ordering::SeqCst);
    journal.room().unwrap();
    journal.append(other, &mut other_seq, &[note(Some("an operator"))], Write::new()).unwrap();
    assert!(!journal.is_ordered(old) && !journal.is_ordered(other));
    journal.close().unwrap();
}

#[test]
fn a_store_that_is_opened_on_a_full_disk_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let free = Arc::new(AtomicU64::new(1 << 20));
    let store = on(dir.path(), &free);
    let mut batch = Batch::new();
    batch.put(b"a".as_slice(), b"1".as_slice());
    let ticket = store.commit(batch).unwrap();
    assert!(store.durable(ticket).now_or_never().is_none());
    assert_eq!(now(store.get(b"a")).unwrap().as_deref(), Some(b"1".as_slice()));
    free.store(1 << 30, Ordering::SeqCst);
    wait(store.durable(ticket)).unwrap();
    store.close().unwrap();
    drop(store);
    assert_eq!(image(&on(dir.path(), &free)).unwrap().len(), 1);
}

#[test]
fn what_the_system_said_and_of_which_file_is_in_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "x").unwrap();
    let error = Sled::open(&Options::new(file.join("store")), Box::new(|_| {})).unwrap_err();
    assert!(matches!(&error, OpenError::Io { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("a-file/store") && text.contains("Not a directory"), "{text}");
}

/// A file system of 24 MiB that really fills: the store takes what it can, waits, loses nothing and never fails.
#[test]
fn attack_a_disk_that_really_fills_is_met_before_the_store_meets_it() {
    let dir = tempfile::tempdir().unwrap();
    if !mount(dir.path(), "24m") {
        println!("skipped: a file system cannot be mounted here");
        return;
    }
    let unmounted = Unmount(dir.path());
    let store = Sled::open(&Options::new(dir.path().join("store")), Box::new(|why| panic!("{why}"))).unwrap();
    // Looked at for a while: on a busy machine a synchronisation takes long too.
    let (written, waits) = until_held(&store, 100_000, 100);
    assert!(store.stats().lack.is_some());
    assert!(written > 20, "{written} of 100 kB fit into 24 MiB");
    assert!(now(store.get(&(written - 1).to_be_bytes())).unwrap().is_some());
    // Room is made, and nothing is started anew.
    let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(dir.path()).status().unwrap();
    assert!(grown.success());
    wait(waits).unwrap();
    put(&store, b"more", b"1");
    store.close().unwrap();
    drop(store);
    let again = Sled::open(&Options::new(dir.path().join("store")), Box::new(|_| {})).unwrap();
    assert_eq!(again.verify().unwrap(), written + 1);
    drop(again);
    drop(unmounted);
}

/// Writes values of so many bytes until one is held back at so many looks in a row; how many, and the wait for that one.
fn until_held(store: &Sled, bytes: usize, looks: u32) -> (u64, Durable) {
    for number in 0..1_000_u64 {
        let mut batch = Batch::new();
        batch.put(number.to_be_bytes().as_slice(), noise(number, bytes));
        let mut durable = store.durable(store.commit(batch).unwrap());
        let mut held = 0;
        while (&mut durable).now_or_never().is_none() {
            held = if store.stats().held.is_some() { held + 1 } else { 0 };
            if held == looks {
                return (number + 1, durable);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    panic!("the disk does not fill");
}

/// Whoever looks at the room says that there is plenty, as one did who looked a moment before.
#[test]
fn a_disk_that_others_fill_between_the_look_and_the_write_is_no_failed_write() {
    let dir = tempfile::tempdir().unwrap();
    if !mount(dir.path(), "64m") {
        println!("skipped: a file system cannot be mounted here");
        return;
    }
    let unmounted = Unmount(dir.path());
    let plenty = Asked(Arc::new(|| Some(Room { free: 1 << 40, total: 1 << 40 })));
    let options = Options { space: Some(plenty), ..Options::new(dir.path().join("store")) };
    let store = Sled::open(&options, Box::new(|why| panic!("{why}"))).unwrap();
    put(&store, b"first", b"1");
    let filler = dir.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[7; 4_096]).is_ok() {}
    drop(file);
    let (written, waits) = until_held(&store, 500_000, 1);
    // What was taken before is used.
    assert!(written > 1, "{written}");
    fs::remove_file(&filler).unwrap();
    wait(waits).unwrap();
    store.close().unwrap();
    drop(store);
    let again = Sled::open(&Options::new(dir.path().join("store")), Box::new(|_| {})).unwrap();
    assert_eq!(again.verify().unwrap(), written + 1);
    drop(again);
    drop(unmounted);
}

/// What a group can make the file grow by is less than what is taken for it: a debug build asserts that after each group.
#[test]
fn no_group_outgrows_what_is_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Sled::open(&Options::new(dir.path().join("store")), Box::new(|why| panic!("{why}"))).unwrap();
    let mut random = super::Random(7);
    for round in 0..100_u64 {
        let mut batch = Batch::new();
        for _ in 0..=random.below(20) {
            // Large and small ones, and as many that are written again.
            let size = [10, 200, 4_000, 4_100, 60_000, 900_000][usize::try_from(random.below(6)).unwrap()];
            let key = random.below(400).to_be_bytes();
            if random.below(4) == 0 {
                batch.delete(key.as_slice());
            } else {
                batch.put(key.as_slice(), noise(round, size));
            }
            if batch.bytes() > 3_000_000 {
                break;
            }
        }
        let ticket = store.commit(batch).unwrap();
        wait(store.durable(ticket)).unwrap();
    }
    // Many small ones, each in a page with larger ones.
    for round in 0..40_u64 {
        let mut batch = Batch::new();
        for number in 0..1_500_u64 {
            let (key, size) = if round < 4 {
                (1_000 + round * 1_500 + number, [10, 200, 4_000][usize::try_from(number % 3).unwrap()])
            } else {
                (1_000 + random.below(6_000), 20)
            };
            batch.put(key.to_be_bytes().as_slice(), noise(round, size));
        }
        wait(store.durable(store.commit(batch).unwrap())).unwrap();
    }
    // One as large as a plugin, three times.
    for number in 0..3_u64 {
        let mut batch = Batch::new();
        batch.put((6_900 + number).to_be_bytes().as_slice(), noise(number, 31 << 20));
        wait(store.durable(store.commit(batch).unwrap())).unwrap();
    }
    // All that is there goes at once.
    let mut batch = Batch::new();
    for key in 0..7_000_u64 {
        batch.delete(key.to_be_bytes().as_slice());
    }
    wait(store.durable(store.commit(batch).unwrap())).unwrap();
    store.close().unwrap();
}

/// A file system of its own at `path`; false where nobody may make one.
fn mount(path: &Path, size: &str) -> bool {
    let options = format!("size={size}");
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path).status().is_ok_and(|status| status.success())
}

struct Unmount<'p>(&'p Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg(self.0).status();
    }
}
