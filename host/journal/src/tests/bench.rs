//! Figures of the writer, for people: `cargo test -p bellhop bench::figures -- --ignored --nocapture`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{noise, open, wait};
use crate::sled::{Options, Sled};
use crate::store::{Batch, Store as _};
use bellhop_clock::{Clock as _, System};

fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let index = ((sorted.len() - 1) as f64 * part) as usize;
    sorted[index].as_secs_f64() * 1_000.0
}

/// Three records of about 300 bytes, as a step of a run writes.
fn batch(task: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    for part in 0..3_u8 {
        let key = [&[b'e', part][..], &task.to_be_bytes(), &number.to_be_bytes()].concat();
        batch.put(key, noise(task ^ number, 300));
    }
    batch.put([b"s".as_slice(), &task.to_be_bytes()].concat(), noise(number, 400));
    batch
}

#[test]
#[ignore = "prints figures"]
fn figures() {
    let clock = System::new();
    let home = std::env::var_os("BELLHOP_BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut raw = Vec::new();
    {
        use std::io::Write as _;
        let mut file = tempfile::tempfile_in(&home).unwrap();
        for _ in 0..500 {
            let start = clock.monotonic();
            file.write_all(&[7; 300]).unwrap();
            file.sync_data().unwrap();
            raw.push(clock.monotonic() - start);
        }
        raw.sort();
    }
    println!("fdatasync of a 300-byte append: p50 {:.3} ms, p99 {:.3} ms", quantile(&raw, 0.5), quantile(&raw, 0.99));
    for (tasks, commits) in [(1_u64, 3_000_u64), (4, 2_000), (16, 1_000), (64, 500), (256, 150), (1, 2_000)] {
        let dir = tempfile::tempdir_in(&home).unwrap();
        let store = Arc::new(open(dir.path()));
        let start = clock.monotonic();
        let mut latencies: Vec<Duration> = runtime.block_on(async {
            let mut set = tokio::task::JoinSet::new();
            for task in 0..tasks {
                let store = Arc::clone(&store);
                set.spawn(async move {
                    let mut latencies = Vec::new();
                    for number in 0..commits {
                        let start = clock.monotonic();
                        let ticket = store.commit(batch(task, number)).unwrap();
                        store.durable(ticket).await.unwrap();
                        latencies.push(clock.monotonic() - start);
                    }
                    latencies
                });
            }
            set.join_all().await.concat()
        });
        let seconds = (clock.monotonic() - start).as_secs_f64();
        latencies.sort();
        let stats = store.stats();
        println!(
            "{tasks:>4} at once: {:>7.0} commits/s, p50 {:.3} ms, p99 {:.3} ms, {:.1} commits a group, {:.3} ms a group",
            latencies.len() as f64 / seconds,
            quantile(&latencies, 0.5),
            quantile(&latencies, 0.99),
            stats.batches as f64 / stats.groups as f64,
            seconds * 1_000.0 / stats.groups as f64,
        );
        store.close().unwrap();
    }
    opening(clock, &home);
}

fn opening(clock: System, home: &Path) {
    let dir = tempfile::tempdir_in(home).unwrap();
    let store = open(dir.path());
    for number in 0..1_000 {
        let mut all = Batch::new();
        for task in 0..25 {
            all.changes.extend(batch(task, number).changes);
        }
        store.commit(all).unwrap();
        if number % 50 == 0 {
            wait(store.durable(store.tip())).unwrap();
        }
    }
    store.close().unwrap();
    drop(store);
    // The first start after it reads the log.
    for verify_bytes_max in [0, 0, u64::MAX] {
        let start = clock.monotonic();
        let store = Sled::open(&Options { verify_bytes_max, ..Options::new(dir.path()) }, Box::new(|_| {})).unwrap();
        let took = clock.monotonic() - start;
        let bytes = dir.path().join("db").metadata().unwrap().len();
        let verified = if verify_bytes_max == 0 { "" } else { ", verified" };
        println!("opening {} MiB{verified}: {took:.0?}", bytes >> 20);
        store.close().unwrap();
    }
}
