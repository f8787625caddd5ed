//! The writer: order, grouping, back pressure, and what happens when the disk says no.

#![allow(clippy::disallowed_methods, reason = "a wait has a deadline")]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::{Random, image, wait};
use crate::group::{Changes, Image, Limits, Medium, Queue, Refused};
use crate::memory::Memory;
use crate::store::{Batch, Error, Lack, Room, Store};

const LIMITS: Limits = Limits {
    queue_batches_max: 100,
    queue_bytes_max: 10_000,
    group_batches_max: 10,
    group_bytes_max: 1_000,
    gather: Duration::ZERO,
    linger: Duration::ZERO,
    reserve_bytes: 1_000,
    look_again: Duration::from_millis(1),
};

/// A disk that works step by step: each `settle` takes one answer from the test.
struct Steps {
    log: Arc<Mutex<Vec<Vec<u8>>>>,
    answers: mpsc::Receiver<Result<(), String>>,
}

impl Medium for Steps {
    fn apply(&mut self, changes: &Changes) -> Result<(), Refused> {
        self.log.lock().unwrap().push(changes.keys().map(|key| key[0]).collect());
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        match self.answers.recv() {
            Ok(Err(text)) if text == "panic" => panic!("an assertion inside the engine"),
            Ok(answer) => answer,
            Err(_) => Ok(()),
        }
    }
}

struct Bench {
    /// Bytes that are free on a disk of 100,000.
    free: Arc<AtomicU64>,
    /// How often somebody looked.
    looks: Arc<AtomicU64>,
    queue: Arc<Queue>,
    log: Arc<Mutex<Vec<Vec<u8>>>>,
    disk: mpsc::Sender<Result<(), String>>,
    fatal: Arc<AtomicUsize>,
    writer: std::thread::JoinHandle<()>,
}

fn bench() -> Bench {
    bench_with(LIMITS)
}

fn bench_with(limits: Limits) -> Bench {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (disk, answers) = mpsc::channel();
    let fatal = Arc::new(AtomicUsize::new(0));
    let told = Arc::clone(&fatal);
    let on_fatal = Box::new(move |_: &Error| {
        told.fetch_add(1, Ordering::SeqCst);
    });
    let free = Arc::new(AtomicU64::new(50_000));
    let looks = Arc::new(AtomicU64::new(0));
    let (asked, looked) = (Arc::clone(&free), Arc::clone(&looks));
    let space = Box::new(move || {
        looked.fetch_add(1, Ordering::SeqCst);
        Some(Room { free: asked.load(Ordering::SeqCst), total: 100_000 })
    });
    let (queue, writer) = Queue::start(Steps { log: Arc::clone(&log), answers }, limits, space, on_fatal).unwrap();
    Bench { free, looks, queue, log, disk, fatal, writer }
}

/// Until the writer has looked at the room several times more.
fn is_waited_for(looks: &AtomicU64) {
    let (before, begun) = (looks.load(Ordering::SeqCst), Instant::now());
    while looks.load(Ordering::SeqCst) < before + 20 {
        assert!(begun.elapsed() < Duration::from_secs(60), "nobody looks at the room");
        std::thread::sleep(LIMITS.look_again);
    }
}

fn one(key: u8) -> Batch {
    let mut batch = Batch::new();
    batch.put([key].as_slice(), [key].as_slice());
    batch
}

#[test]
fn what_queues_while_the_disk_is_busy_becomes_one_group() {
    let bench = bench();
    let first = bench.queue.commit(one(0), &Image::new()).unwrap();
    // Somebody waits for it, so that the disk is busy with it from then on.
    let waited = bench.queue.durable(first);
    // The writer has the first group when it left the queue's view of what is pending.
    while bench.queue.pending(&[0]).is_some() {
        std::thread::yield_now();
    }
    let later: Vec<_> = (1..=15).map(|key| bench.queue.commit(one(key), &Image::new()).unwrap()).collect();
    assert!(bench.queue.durable(first).now_or_never().is_none());
    bench.disk.send(Ok(())).unwrap();
    wait(waited).unwrap();
    assert!(bench.queue.durable(later[0]).now_or_never().is_none());
    bench.disk.send(Ok(())).unwrap();
    bench.disk.send(Ok(())).unwrap();
    wait(bench.queue.durable(later[14])).unwrap();
    // Ten is the cap of a group.
    let expected: [Vec<u8>; 3] = [vec![0], (1..=10).collect(), (11..=15).collect()];
    assert_eq!(*bench.log.lock().unwrap(), expected);
    let stats = bench.queue.stats();
    assert_eq!((stats.batches, stats.groups, stats.queue_batches, stats.queue_bytes), (16, 3, 0, 0));
    // The last two share one, if nobody had waited for the second yet when the third was written.
    assert!((2..=3).contains(&stats.syncs), "{}", stats.syncs);
    bench.queue.finish();
    bench.writer.join().unwrap();
    assert_eq!(bench.fatal.load(Ordering::SeqCst), 0);
}

/// What nobody waits for is written at once, and synchronised with what follows it.
#[test]
fn what_nobody_waits_for_shares_the_synchronisation_of_what_follows() {
    let bench = bench_with(Limits { linger: Duration::from_secs(1_000_000), ..LIMITS });
    for key in 0..3 {
        bench.queue.commit(one(key), &Image::new()).unwrap();
        while bench.queue.pending(&[key]).is_some() {
            std::thread::yield_now();
        }
    }
    let expected: [Vec<u8>; 3] = [vec![0], vec![1], vec![2]];
    assert_eq!(*bench.log.lock().unwrap(), expected);
    let waited = bench.queue.commit(one(3), &Image::new()).unwrap();
    assert_eq!((bench.queue.stats().syncs, bench.queue.stats().queue_batches), (0, 4));
    bench.disk.send(Ok(())).unwrap();
    wait(bench.queue.durable(waited)).unwrap();
    assert_eq!((bench.queue.stats().syncs, bench.queue.stats().groups, bench.queue.stats().queue_batches), (1, 4, 0));
    // There is an end to lingering, though each time something follows.
    bench.disk.send(Ok(())).unwrap();
    for key in 10..26 {
        bench.queue.commit(one(key), &Image::new()).unwrap();
        while bench.queue.pending(&[key]).is_some() {
            std::thread::yield_now();
        }
    }
    while bench.queue.stats().syncs < 2 {
        std::thread::yield_now();
    }
    assert_eq!(bench.queue.stats().groups, 20);
    // The end of the store does not wait for those who linger.
    bench.queue.commit(one(4), &Image::new()).unwrap();
    bench.disk.send(Ok(())).unwrap();
    bench.queue.finish();
    bench.writer.join().unwrap();
    assert_eq!(bench.queue.stats().syncs, 3);
}

/// Each group costs the store as much, whatever is in it.
#[test]
fn what_nobody_waits_for_is_written_with_what_follows() {
    let bench = bench_with(Limits { gather: Duration::from_secs(1_000_000), ..LIMITS });
    for key in 0..3 {
        bench.queue.commit(one(key), &Image::new()).unwrap();
    }
    let waited = bench.queue.commit(one(3), &Image::new()).unwrap();
    bench.disk.send(Ok(())).unwrap();
    wait(bench.queue.durable(waited)).unwrap();
    assert_eq!(*bench.log.lock().unwrap(), [vec![0, 1, 2, 3]]);
    // Half a group is enough to begin with.
    bench.disk.send(Ok(())).unwrap();
    for key in 10..15 {
        bench.queue.commit(one(key), &Image::new()).unwrap();
    }
    while bench.queue.pending(&[14]).is_some() {
        std::thread::yield_now();
    }
    // The end of the store does not wait for what may follow.
    bench.queue.commit(one(20), &Image::new()).unwrap();
    bench.disk.send(Ok(())).unwrap();
    bench.queue.finish();
    bench.writer.join().unwrap();
    assert_eq!(bench.log.lock().unwrap().concat(), [0, 1, 2, 3, 10, 11, 12, 13, 14, 20]);
}

/// Nobody ever asks for it.
#[test]
fn what_nobody_waits_for_is_written_after_a_moment() {
    let bench = bench_with(Limits { gather: Duration::from_millis(1), ..LIMITS });
    bench.queue.commit(one(7), &Image::new()).unwrap();
    while bench.queue.pending(&[7]).is_some() {
        std::thread::yield_now();
    }
    bench.disk.send(Ok(())).unwrap();
    bench.queue.finish();
    bench.writer.join().unwrap();
    assert_eq!(*bench.log.lock().unwrap(), [vec![7]]);
}

#[test]
fn a_full_queue_refuses_and_takes_again_when_there_is_room() {
    let bench = bench();
    let tickets: Vec<_> = (0..100).map(|key| bench.queue.commit(one(key), &Image::new()).unwrap()).collect();
    let refused = bench.queue.commit(one(200), &Image::new()).unwrap_err();
    assert_eq!(refused, Error::Full { batches: 100, bytes: 200 });
    assert_eq!(bench.queue.pending(&[200]), None);
    bench.disk.send(Ok(())).unwrap();
    wait(bench.queue.durable(tickets[0])).unwrap();
    bench.queue.commit(one(200), &Image::new()).unwrap();
    drop(bench.disk);
    wait(bench.queue.durable(bench.queue.tip())).unwrap();

    let mut large = Batch::new();
    large.put([1].as_slice(), vec![1; 20_000]);
    let ticket = bench.queue.commit(large, &Image::new()).unwrap();
    wait(bench.queue.durable(ticket)).unwrap();
    bench.queue.finish();
    bench.writer.join().unwrap();
}

fn fails(answer: &str) {
    let bench = bench();
    let good = bench.queue.commit(one(0), &Image::new()).unwrap();
    bench.disk.send(Ok(())).unwrap();
    wait(bench.queue.durable(good)).unwrap();
    let bad = bench.queue.commit(one(1), &Image::new()).unwrap();
    let after = bench.queue.commit(one(2), &Image::new()).unwrap();
    bench.disk.send(Err(answer.to_owned())).unwrap();
    // Whatever the disk says later, it proves nothing about the bytes of the failed group.
    let _ = bench.disk.send(Ok(()));
    let why = wait(bench.queue.durable(bad)).unwrap_err();
    assert!(matches!(&why, Error::Fatal { reason } if reason.contains(answer)), "{why:?}");
    assert_eq!(wait(bench.queue.durable(after)).unwrap_err(), why);
    assert_eq!(bench.queue.commit(one(3), &Image::new()).unwrap_err(), why);
    assert_eq!(bench.queue.failure(), Some(why));
    wait(bench.queue.durable(good)).unwrap();
    bench.writer.join().unwrap();
    assert_eq!(bench.fatal.load(Ordering::SeqCst), 1);
}

#[test]
fn nothing_is_acknowledged_after_the_disk_refused() {
    fails("no space left");
}

#[test]
fn a_panic_of_the_engine_is_a_failure_like_others() {
    fails("panic");
}

#[test]
fn who_stops_waiting_leaves_nothing_behind() {
    let store = Memory::manual();
    let ticket = store.commit(one(0)).unwrap();
    let mut kept = store.durable(ticket);
    for _ in 0..100 {
        assert!(store.durable(ticket).now_or_never().is_none());
    }
    assert!((&mut kept).now_or_never().is_none());
    assert_eq!(store.waiting(), 1);
    store.sync(1);
    assert_eq!(store.waiting(), 0);
    assert_eq!(kept.now_or_never(), Some(Ok(())));
}

/// Every batch says which it is, so that what is left tells how far it goes.
#[test]
fn what_a_crash_leaves_is_a_prefix_with_everything_acknowledged() {
    for seed in 0..300 {
        let mut random = Random(seed);
        let mut store = Memory::manual();
        let mut written = 0_u64;
        for _ in 0..4 {
            let mut acknowledged = written;
            for _ in 0..random.below(30) {
                written += 1;
                let mut batch = Batch::new();
                batch.put(b"last".as_slice(), written.to_be_bytes().as_slice());
                batch.put((written % 16).to_be_bytes().as_slice(), written.to_be_bytes().as_slice());
                let ticket = store.commit(batch).unwrap();
                if random.below(3) == 0 {
                    store.sync(random.below(5) as usize);
                }
                if store.durable(ticket).now_or_never() == Some(Ok(())) {
                    acknowledged = written;
                }
            }
            let unsynced = store.unsynced();
            for keep in 0..=unsynced {
                let left = image(&store.crash(keep)).unwrap();
                let number = |bytes: &Vec<u8>| u64::from_be_bytes(bytes.as_slice().try_into().unwrap());
                let last = left.get(&b"last"[..]).map_or(0, number);
                assert_eq!(last, written - (unsynced - keep) as u64, "seed {seed}");
                assert!(last >= acknowledged, "seed {seed}: {last} is left of {acknowledged} acknowledged");
                for back in 0..last.min(16) {
                    let value = &left[&((last - back) % 16).to_be_bytes()[..]];
                    assert_eq!(number(value), last - back, "seed {seed}");
                }
            }
            let keep = random.below(unsynced as u64 + 1) as usize;
            written -= (unsynced - keep) as u64;
            store = store.crash(keep);
        }
    }
}

#[test]
fn what_is_accepted_waits_for_room_and_is_written_when_there_is_some() {
    let bench = bench();
    drop(bench.disk);
    // Nothing begins, and what goes on is written.
    bench.free.store(999, Ordering::SeqCst);
    assert_eq!(bench.queue.stats().lack, Some(Lack { free: 999, wanted: 1_000 }));
    let goes_on = bench.queue.commit(one(0), &Image::new()).unwrap();
    wait(bench.queue.durable(goes_on)).unwrap();
    // The last of the room is for nobody: the store would fail for good.
    bench.free.store(253, Ordering::SeqCst);
    let waits = bench.queue.commit(one(1), &Image::new()).unwrap();
    let mut durable = bench.queue.durable(waits);
    is_waited_for(&bench.looks);
    assert!((&mut durable).now_or_never().is_none());
    assert_eq!(bench.queue.stats().held, Some(Lack { free: 253, wanted: 254 }));
    // It is seen, and it is nowhere else.
    assert_eq!(bench.queue.pending(&[1]).map(|value| value.is_some()), Some(true));
    assert_eq!(bench.log.lock().unwrap().concat(), [0]);
    bench.free.store(254, Ordering::SeqCst);
    wait(durable).unwrap();
    bench.free.store(50_000, Ordering::SeqCst);
    assert_eq!(
        (bench.queue.stats().lack, bench.queue.stats().held, bench.queue.stats().queue_batches),
        (None, None, 0)
    );
    bench.queue.finish();
    bench.writer.join().unwrap();
    assert_eq!(bench.fatal.load(Ordering::SeqCst), 0);
}

#[test]
fn closing_a_store_on_a_disk_that_is_at_its_end_says_what_was_not_written() {
    for (free, written) in [(900, true), (200, false)] {
        let bench = bench();
        drop(bench.disk);
        bench.free.store(free, Ordering::SeqCst);
        let ticket = bench.queue.commit(one(0), &Image::new()).unwrap();
        bench.queue.finish();
        bench.writer.join().unwrap();
        assert_eq!(wait(bench.queue.durable(ticket)).is_ok(), written);
        match bench.queue.failure() {
            None => assert!(written),
            Some(why) => assert!(!written && why.to_string().contains("200 bytes free"), "{why}"),
        }
    }
}

#[test]
fn a_small_disk_has_a_small_reserve() {
    let bench = bench_with(Limits { reserve_bytes: 1 << 40, ..LIMITS });
    assert_eq!(bench.queue.stats().lack, None);
    bench.free.store(24_999, Ordering::SeqCst);
    assert_eq!(bench.queue.stats().lack, Some(Lack { free: 24_999, wanted: 50_000 }));
    bench.queue.finish();
    bench.writer.join().unwrap();
}
