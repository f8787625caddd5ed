//! Tests of the journal. Those that kill processes or fill disks run this test program again as a process of its own.

mod backup;
mod bench;
mod conformance;
mod crash;
mod damage;
mod far;
mod golden;
mod group;
mod keys;
mod space;
mod typed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::sled::{Options, Sled};
use super::store::{Batch, Durable, Error, Store};

/// What a read of an embedded store gives, which never has anybody wait.
fn now<F: Future>(read: F) -> F::Output {
    read.now_or_never().expect("an embedded store answers at once")
}

/// Blocks for a future that no runtime drives.
fn wait(durable: Durable) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(durable)
}

fn commit(store: &dyn Store, batch: Batch) {
    let ticket = store.commit(batch).unwrap();
    wait(store.durable(ticket)).unwrap();
}

fn put(store: &dyn Store, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(key, value);
    commit(store, batch);
}

fn open(dir: &Path) -> Sled {
    Sled::open(&Options::new(dir), Box::new(|_| {})).unwrap()
}

/// Everything in the store.
fn image(store: &dyn Store) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Error> {
    let mut all = BTreeMap::new();
    let mut from: Arc<[u8]> = Arc::from([].as_slice());
    loop {
        let page = now(store.scan(&from, &[], 100))?.whole()?;
        all.extend(page.items.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        match page.next {
            Some(next) => from = next,
            None => return Ok(all),
        }
    }
}

/// Bytes that look random and are the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// A small generator (splitmix64), so that a seed in a message repeats a failure.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// This test program, about to run only the ignored test `name` of these tests.
fn again(name: &str) -> Command {
    let mut command = Command::new(program());
    command.args(again_args(name));
    command
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn again_args(name: &str) -> [String; 5] {
    [
        "--ignored".to_owned(),
        "--exact".to_owned(),
        format!("tests::{name}"),
        "--nocapture".to_owned(),
        "--test-threads=1".to_owned(),
    ]
}
