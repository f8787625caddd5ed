//! Damaged, foreign, newer and full: never believed silently.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::{Random, image, noise, now, open, put, wait};
use crate::sled::{Asked, FORMAT, OpenError, Options, Sled};
use crate::store::{Batch, Error, Store};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            found.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn refusal(dir: &Path) -> OpenError {
    Sled::open(&Options::new(dir), Box::new(|_| {})).unwrap_err()
}

/// A store with a past: written, overwritten, deleted, opened again.
fn aged(dir: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    for round in 0_u64..4 {
        let store = open(dir);
        for group in 0..60 {
            let mut batch = Batch::new();
            for item in 0..10 {
                let seed = round << 32 | group << 16 | item;
                let key = format!("{:04}", (group * 10 + item + round * 200) % 1_000);
                let length = if item == 7 { 10_000 } else { 40 + seed % 400 };
                batch.put(key.into_bytes(), noise(seed, length as usize));
            }
            let ticket = store.commit(batch).unwrap();
            wait(store.durable(ticket)).unwrap();
        }
        store.close().unwrap();
    }
    let store = open(dir);
    let all = image(&store).unwrap();
    store.close().unwrap();
    all
}

#[derive(Debug, Default)]
struct Tally {
    harmless: u32,
    refused: u32,
    found: u32,
    /// Only [`Sled::verify`] notices.
    verified: u32,
    silent: u32,
}

/// Opens a damaged copy and compares everything that it says with what was written.
fn judge(dir: &Path, truth: &BTreeMap<Vec<u8>, Vec<u8>>, tally: &mut Tally) -> bool {
    let options = Options { verify_bytes_max: 0, ..Options::new(dir) };
    let store = match Sled::open(&options, Box::new(|_| {})) {
        Ok(store) => store,
        Err(
            OpenError::Damaged { .. }
            | OpenError::NotAStore { .. }
            | OpenError::NewerFormat { .. }
            | OpenError::OlderFormat { .. },
        ) => {
            tally.refused += 1;
            return true;
        }
        Err(OpenError::Io { source, .. }) => {
            // The system's words for a file that is too short.
            assert_ne!(source.kind(), std::io::ErrorKind::PermissionDenied);
            tally.refused += 1;
            return true;
        }
        Err(OpenError::InUse { .. }) => panic!("nobody has it"),
    };
    let (mut found, mut silent) = (false, false);
    for (key, value) in truth {
        match now(store.get(key)) {
            Ok(Some(read)) => silent |= *read != value[..],
            Ok(None) => silent = true,
            Err(Error::Corrupt { .. }) => found = true,
            Err(why) => panic!("{why}"),
        }
    }
    match image(&store) {
        Ok(all) => silent |= all != *truth,
        Err(Error::Corrupt { .. }) => found = true,
        Err(why) => panic!("{why}"),
    }
    let verification = store.verify();
    let verified = verification.as_ref().ok().copied();
    match (silent, found) {
        (true, _) if verified.is_none() => tally.verified += 1,
        (true, _) => tally.silent += 1,
        (false, true) => tally.found += 1,
        // sled, once it has panicked over a damaged page, may say something else the next time it is asked.
        (false, false) if verified.is_none() => tally.verified += 1,
        (false, false) => {
            assert_eq!(verified, Some(truth.len() as u64), "{verification:?}");
            tally.harmless += 1;
        }
    }
    store.close().unwrap();
    drop(store);
    // As a program opens it: what was not read at all is refused too.
    let refused = Sled::open(&Options::new(dir), Box::new(|_| {})).is_err();
    assert!(refused || !(silent || found));
    !silent || verified.is_none()
}

#[test]
fn damage_is_never_read_as_if_nothing_were() {
    let rounds: u64 = std::env::var("BELLHOP_TEST_ROUNDS").map_or(60, |rounds| rounds.parse().unwrap());
    let home = tempfile::tempdir().unwrap();
    let original = home.path().join("original");
    let truth = aged(&original);
    // As a process leaves it that was killed before the next start: the log since the last start is still to be read.
    let killed = home.path().join("killed");
    let store = open(&original);
    for number in 0_u32..200 {
        put(&store, format!("late {number:03}").as_bytes(), &noise(number.into(), 300));
    }
    copy(&original, &killed);
    let truth_killed = image(&store).unwrap();
    store.close().unwrap();
    drop(store);
    fs::remove_dir_all(&original).unwrap();
    let original = home.path().join("again");
    assert!(aged(&original) == truth);

    let mut random = Random(7);
    for (name, source, truth) in [("at rest", &original, &truth), ("killed", &killed, &truth_killed)] {
        let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
        let names: Vec<String> = files(source).into_keys().filter(|name| name != "lock").collect();
        for round in 0..rounds * 3 {
            let dir = home.path().join("damaged");
            copy(source, &dir);
            // Most of it is in one file; each of the others gets its turn.
            let file = if round % 3 == 2 { &names[random.below(names.len() as u64) as usize] } else { "db" };
            let mut bytes = fs::read(dir.join(file)).unwrap();
            // The tree's file is as long as its last segment; what is behind the last bytes written is not damaged.
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1) as u64;
            let kind = match round % 3 {
                1 if file == "db" => {
                    let page = random.below(used.div_ceil(4_096)) as usize * 4_096;
                    let end = bytes.len().min(page + 4_096);
                    bytes[page..end].fill(0);
                    "page"
                }
                2 if random.below(2) == 0 => {
                    bytes.truncate(random.below(used) as usize);
                    "cut"
                }
                _ => {
                    let bit = random.below(used * 8) as usize;
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    "bit"
                }
            };
            fs::write(dir.join(file), bytes).unwrap();
            let tally = tallies.entry(kind).or_default();
            if !judge(&dir, truth, tally) {
                eprintln!("{name}: round {round}: silent damage of {kind} in {file}");
            }
            fs::remove_dir_all(&dir).unwrap();
        }
        println!("{name}: {tallies:?}");
        assert!(tallies.values().all(|tally| tally.silent == 0), "{name}: {tallies:?}");
    }
}

#[test]
fn what_a_process_left_that_died_while_opening_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    put(&open(&store), b"k", b"v");
    // sled takes it for a snapshot, of which only a part was written.
    fs::write(store.join("snap.FFFFFFFFFFFFFFFF.generating"), "half").unwrap();
    assert_eq!(now(open(&store).get(b"k")).unwrap().as_deref(), Some(&b"v"[..]));

    let half = dir.path().join("half");
    fs::create_dir(&half).unwrap();
    for (file, content) in
        [("creating", ""), ("format", &*format!("bellhop-store {FORMAT}\n")), ("conf", "segment_si"), ("db", "")]
    {
        fs::write(half.join(file), content).unwrap();
        put(&open(&half), b"k", b"v");
        assert!(!half.join("creating").exists());
        assert_eq!(now(open(&half).get(b"k")).unwrap().as_deref(), Some(&b"v"[..]));
        fs::remove_dir_all(&half).unwrap();
        fs::create_dir(&half).unwrap();
        fs::write(half.join("creating"), "").unwrap();
        fs::write(half.join("format"), format!("bellhop-store {FORMAT}\n")).unwrap();
    }
    // Without the mark it is not ours to make anew.
    fs::remove_file(half.join("creating")).unwrap();
    fs::write(half.join("conf"), "segment_si").unwrap();
    assert!(matches!(refusal(&half), OpenError::Damaged { .. }));
}

#[test]
fn a_store_of_another_format_is_refused_by_name_and_left_as_it_is() {
    for found in [FORMAT - 1, FORMAT + 1] {
        let dir = tempfile::tempdir().unwrap();
        put(&open(dir.path()), b"k", b"v");
        fs::write(dir.path().join("format"), format!("bellhop-store {found}\n")).unwrap();
        let before = files(dir.path());
        match refusal(dir.path()) {
            OpenError::OlderFormat { found: says, known: FORMAT, .. } if says == found && found < FORMAT => {}
            OpenError::NewerFormat { found: says, known: FORMAT, .. } if says == found && found > FORMAT => {}
            other => panic!("format {found}: {other}"),
        }
        assert!(files(dir.path()) == before);
    }
}

#[test]
fn a_folder_of_something_else_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("db"), "somebody's").unwrap();
    let before = files(dir.path());
    assert!(matches!(refusal(dir.path()), OpenError::NotAStore { .. }));
    fs::write(dir.path().join("format"), "something 1\n").unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::NotAStore { .. }));
    fs::remove_file(dir.path().join("format")).unwrap();
    assert!(files(dir.path()) == before);
}

#[test]
fn a_file_that_sled_never_synchronises_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close().unwrap();
    fs::write(dir.path().join("blobs/17"), "x").unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Damaged { reason, .. } if reason.contains("blobs")));
    fs::remove_file(dir.path().join("blobs/17")).unwrap();

    let store = open(dir.path());
    put(&store, b"a", b"1");
    fs::write(dir.path().join("blobs/17"), "x").unwrap();
    let mut batch = Batch::new();
    batch.put(b"b".as_slice(), b"2".as_slice());
    let ticket = store.commit(batch).unwrap();
    assert!(matches!(wait(store.durable(ticket)), Err(Error::Fatal { reason }) if reason.contains("blobs")));
    assert!(matches!(store.close(), Err(Error::Fatal { .. })));
}

/// The largest leaves that there can be stay inside the file.
#[test]
fn no_mixture_of_sizes_makes_a_file_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = Random(3);
    for _ in 0..40 {
        let mut batch = Batch::new();
        for _ in 0..40 {
            let mut key = noise(random.next(), 1 + random.below(384) as usize);
            key[0] = 0xEE;
            batch.put(key, noise(random.next(), 4_000 + random.below(100) as usize));
        }
        batch.put(b"large".as_slice(), noise(random.next(), random.below(3_000_000) as usize));
        let ticket = store.commit(batch).unwrap();
        wait(store.durable(ticket)).unwrap();
    }
    assert!(fs::read_dir(dir.path().join("blobs")).unwrap().next().is_none());
    store.close().unwrap();
    // Nothing of a value stays when it is overwritten by a smaller one.
    let store = open(dir.path());
    put(&store, b"large", b"small");
    store.close().unwrap();
    drop(store);
    let db = unlocked(dir.path());
    let chunks = db.scan_prefix([2]).keys().filter(|key| key.as_ref().unwrap().starts_with(b"\x02large")).count();
    assert_eq!(chunks, 0);
}

#[test]
fn a_full_disk_stops_the_store_and_loses_nothing_acknowledged() {
    struct Mounted(tempfile::TempDir);
    impl Drop for Mounted {
        fn drop(&mut self) {
            // Lazily: sled may let go of its file a moment later.
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(dir.path()).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        println!("skipped: a file system of its own cannot be mounted here");
        return;
    }
    let mount = Mounted(dir);
    let dir = mount.0.path().join("store");
    let told = Arc::new(std::sync::Mutex::new(None));
    let tell = Arc::clone(&told);
    let on_fatal = Box::new(move |why: &Error| *tell.lock().unwrap() = Some(why.clone()));
    // The system does not tell how much room there is, so that the store meets the end of the disk itself.
    let options = Options { space: Some(Asked(Arc::new(|| None))), ..Options::new(&dir) };
    let store = Sled::open(&options, on_fatal).unwrap();
    let mut acknowledged = 0_u32;
    let why = loop {
        let mut batch = Batch::new();
        batch.put(acknowledged.to_be_bytes().as_slice(), noise(acknowledged.into(), 3_000));
        match store.commit(batch).map(|ticket| wait(store.durable(ticket))) {
            Ok(Ok(())) => acknowledged += 1,
            Ok(Err(why)) | Err(why) => break why,
        }
        assert!(acknowledged < 10_000, "the disk never gets full");
    };
    assert!(matches!(why, Error::Fatal { .. }), "{why}");
    assert!(why.to_string().contains("store/db"), "it says of which file: {why}");
    assert!(acknowledged > 100);
    assert_eq!(now(store.get(&0_u32.to_be_bytes())).unwrap().as_deref(), Some(noise(0, 3_000).as_slice()));
    assert!(store.close().is_err());
    assert_eq!(*told.lock().unwrap(), Some(why.clone()));
    drop(store);
    println!("full after {acknowledged} commits: {why}");
    // There is room again.
    let larger = Command::new("mount").args(["-o", "remount,size=32m"]).arg(mount.0.path()).status().unwrap();
    assert!(larger.success());
    let store = open(&dir);
    for number in 0..acknowledged {
        let value = now(store.get(&number.to_be_bytes())).unwrap();
        assert_eq!(value.as_deref(), Some(noise(number.into(), 3_000).as_slice()), "{number}");
    }
    put(&store, b"more", b"v");
    store.close().unwrap();
}

/// The files as sled has them. Its threads hold the lock for a moment after a store was closed.
fn unlocked(folder: &Path) -> ::sled::Db {
    for _ in 0..1_000 {
        match ::sled::Config::new().path(folder).flush_every_ms(None).open() {
            Err(::sled::Error::Io(why)) if why.to_string().contains("lock") => std::thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", folder.display());
}

/// One value that is not what was written costs only itself, in lists too.
#[test]
fn a_damaged_value_is_left_out_of_a_scan_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for key in [b"a", b"b", b"c"] {
        put(&store, key, b"value");
    }
    store.close().unwrap();
    drop(store);
    {
        let tree = unlocked(dir.path());
        let mut head = tree.get(b"\x01b").unwrap().unwrap().to_vec();
        *head.last_mut().unwrap() ^= 1;
        tree.insert(b"\x01b", head).unwrap();
        tree.flush().unwrap();
    }
    let options = Options { verify_bytes_max: 0, ..Options::new(dir.path()) };
    let store = Sled::open(&options, Box::new(|_| {})).unwrap();
    let page = now(store.scan(b"", b"", 10)).unwrap();
    let keys: Vec<&[u8]> = page.items.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, [b"a", b"c"]);
    assert_eq!(page.damaged.iter().map(|(key, _)| &**key).collect::<Vec<_>>(), [b"b"]);
    assert!(matches!(page.whole(), Err(Error::Corrupt { .. })));
    assert!(matches!(now(store.get(b"b")), Err(Error::Corrupt { .. })));
    put(&store, b"b", b"anew");
    assert_eq!(now(store.scan(b"", b"", 10)).unwrap().whole().unwrap().items.len(), 3);
}
