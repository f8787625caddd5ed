//! What is left when the process dies, and that an acknowledgement follows a synchronisation.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::{Random, again, again_args, noise, now, open, program, wait};
use crate::sled::{OpenError, Options, Sled};
use crate::store::{Batch, Store};

const DIR: &str = "BELLHOP_TEST_JOURNAL_DIR";
const COMMITS: &str = "BELLHOP_TEST_JOURNAL_COMMITS";
const WRITERS: u64 = 4;
/// How many of its batches a writer keeps.
const KEPT: u64 = 40;

fn key(writer: u64, number: u64) -> Vec<u8> {
    [b"w".as_slice(), &writer.to_be_bytes(), &number.to_be_bytes()].concat()
}

fn last_key(writer: u64) -> Vec<u8> {
    [b"last".as_slice(), &writer.to_be_bytes()].concat()
}

/// Some are cut into chunks.
fn value(writer: u64, number: u64) -> Vec<u8> {
    let length = if number % 11 == 3 { 9_000 } else { 50 + number % 300 };
    noise(writer << 32 | number, length as usize)
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

fn batch(writer: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(key(writer, number), value(writer, number));
    // Overwritten by every batch, with sizes that come and go.
    batch.put([b"copy".as_slice(), &writer.to_be_bytes()].concat(), value(writer, number));
    batch.put(last_key(writer), number.to_be_bytes().as_slice());
    if number > KEPT {
        batch.delete(key(writer, number - KEPT));
    }
    batch
}

fn last(store: &dyn Store, writer: u64) -> u64 {
    now(store.get(&last_key(writer))).unwrap().map_or(0, |bytes| number(&bytes))
}

/// Run as a process of its own: writes until it is killed, or as many commits as it is told, and says what is durable.
#[test]
#[ignore = "run by the tests here as a process that is killed"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let commits = std::env::var(COMMITS).ok().map(|text| text.parse::<u64>().unwrap());
    let store = Arc::new(open(Path::new(&dir)));
    std::thread::scope(|scope| {
        for writer in 0..if commits.is_some() { 1 } else { WRITERS } {
            let store = Arc::clone(&store);
            scope.spawn(move || {
                let first = last(&*store, writer) + 1;
                for number in first..commits.map_or(u64::MAX, |commits| first + commits) {
                    let ticket = store.commit(batch(writer, number)).unwrap();
                    wait(store.durable(ticket)).unwrap();
                    // In one write, which a kill cannot tear.
                    std::io::stdout().write_all(format!("acked {writer} {number}\n").as_bytes()).unwrap();
                    std::io::stdout().flush().unwrap();
                }
            });
        }
    });
}

fn acked(line: &str) -> Option<(u64, u64)> {
    // The test program's own words may stand before it on the line.
    let (_, rest) = line.split_once("acked ")?;
    let (writer, number) = rest.split_once(' ')?;
    Some((writer.parse().ok()?, number.parse().ok()?))
}

/// The store has everything acknowledged, and of each batch all or nothing.
fn check(store: &dyn Store, acknowledged: &BTreeMap<u64, u64>) {
    for writer in 0..WRITERS {
        let last = last(store, writer);
        let acknowledged = acknowledged.get(&writer).copied().unwrap_or(0);
        assert!(last >= acknowledged, "writer {writer}: {acknowledged} was acknowledged, {last} is left");
        let kept: Vec<u64> = (last.saturating_sub(KEPT) + 1..=last).collect();
        let page = now(store.scan(&key(writer, 0), &key(writer, u64::MAX), 1_000)).unwrap();
        let found: Vec<u64> = page.items.iter().map(|(key, _)| number(&key[9..])).collect();
        assert_eq!(found, kept, "writer {writer}");
        for (kept, (_, found)) in kept.iter().zip(&page.items) {
            assert!(**found == value(writer, *kept), "writer {writer}, batch {kept}");
        }
        if last > 0 {
            let copy = now(store.get(&[b"copy".as_slice(), &writer.to_be_bytes()].concat())).unwrap().unwrap();
            assert!(*copy == value(writer, last), "writer {writer}: a torn batch");
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let rounds: u64 = std::env::var("BELLHOP_TEST_ROUNDS").map_or(100, |rounds| rounds.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(std::process::id().into());
    let mut acknowledged = BTreeMap::new();
    let mut total = 0;
    for round in 0..rounds {
        let mut child = again("crash::child")
            .env(DIR, dir.path())
            .env_remove(COMMITS)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            let mut seen = BTreeMap::new();
            let mut count = 0_u64;
            for (writer, number) in lines.map_while(Result::ok).filter_map(|line| acked(&line)) {
                let before = seen.insert(writer, number);
                assert!(before.is_none_or(|before| before + 1 == number));
                count += 1;
            }
            (seen, count)
        });
        // Some die while they open and recover.
        std::thread::sleep(Duration::from_micros(random.below(if round % 4 == 0 { 25_000 } else { 150_000 })));
        child.kill().unwrap();
        child.wait().unwrap();
        let (seen, count) = reader.join().unwrap();
        total += count;
        acknowledged.extend(seen);
        // Every other time the next process finds what the killed one left.
        if round % 2 == 0 {
            let store = open(dir.path());
            check(&store, &acknowledged);
            store.close().unwrap();
        }
    }
    check(&open(dir.path()), &acknowledged);
    assert!(total > rounds, "only {total} commits were acknowledged in {rounds} rounds");
    println!("{rounds} kills, {total} acknowledged commits, nothing lost or torn");
}

#[test]
fn an_acknowledgement_follows_flush_and_synchronisation() {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        println!("skipped: strace is not installed (Debian: apt-get install strace)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let store = dir.path().join("store");
    let output = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=pwrite64,sync_file_range,fdatasync,fsync,write", "-o"])
        .arg(&trace)
        .arg(program())
        .args(again_args("crash::child"))
        .env(DIR, &store)
        .env(COMMITS, "25")
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let trace = std::fs::read_to_string(&trace).unwrap_or_default();
    if !output.status.success() && trace.is_empty() {
        println!("skipped: strace may not trace here");
        return;
    }
    assert!(output.status.success());
    let db = format!("<{}>", store.join("db").display());
    // What happened since the last acknowledgement, by the database file only.
    let (mut written, mut flushed, mut synchronised) = (false, false, 0);
    let (mut acknowledged, mut synchronisations) = (0, 0);
    for line in trace.lines() {
        let ours = line.contains(&db);
        // A call that another thread's interrupted is complete where it is resumed.
        let finished = line.ends_with("= 0");
        if line.contains("pwrite64(") && ours {
            (written, flushed, synchronised) = (true, false, 0);
        } else if line.contains("sync_file_range") && (ours || line.contains("resumed")) && finished {
            flushed = written;
        } else if line.contains("fdatasync") && (ours || line.contains("resumed")) && finished {
            assert!(flushed, "synchronised before sled's bytes were in the file: {line}");
            synchronised += 1;
            synchronisations += 1;
        } else if line.contains("write(1") && line.contains("acked ") {
            assert!(written && flushed && synchronised >= 1, "acknowledged too early: {line}");
            acknowledged += 1;
            (written, flushed, synchronised) = (false, false, 0);
        }
    }
    assert_eq!(acknowledged, 25);
    println!("{acknowledged} commits, {synchronisations} calls of fdatasync, each before its acknowledgement");
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut child =
        again("crash::child").env(DIR, dir.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| acked(&line.unwrap()).is_some()));
    let refused = Sled::open(&Options::new(dir.path()), Box::new(|_| {})).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(refused, OpenError::InUse { pid: Some(found), .. } if found == pid), "{refused}");
    assert!(refused.to_string().ends_with(&format!("in use by another process (pid {pid})")), "{refused}");
    open(dir.path());
}
