//! What every store has to do: one list of cases, run over each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;

use super::{Random, commit, image, noise, now, open, put, wait};
use crate::memory::Memory;
use crate::sled::Sled;
use crate::store::{
    BATCH_BYTES_MAX, Batch, Error, Expect, KEY_BYTES_MAX, SCAN_BYTES_MAX, SCAN_ITEMS_MAX, Store, Topic, VALUE_BYTES_MAX,
};

/// A store that can be closed and opened again.
trait Bed {
    fn store(&self) -> Arc<dyn Store>;
    fn reopen(&mut self);
}

struct MemoryBed(Arc<Memory>);

impl Bed for MemoryBed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.0) as Arc<dyn Store>
    }

    fn reopen(&mut self) {
        self.0.close().unwrap();
        self.0 = Arc::new(self.0.crash(0));
    }
}

struct SledBed {
    dir: tempfile::TempDir,
    store: Arc<Sled>,
}

impl Bed for SledBed {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    fn reopen(&mut self) {
        self.store.close().unwrap();
        self.store = Arc::new(open(self.dir.path()));
    }
}

fn beds() -> Vec<(&'static str, Box<dyn Bed>)> {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    vec![("memory", Box::new(MemoryBed(Arc::new(Memory::new())))), ("sled", Box::new(SledBed { dir, store }))]
}

macro_rules! cases {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                for (name, mut bed) in beds() {
                    println!("{name}");
                    case::$name(&mut *bed);
                }
            }
        )*
    };
}

cases! {
    a_value_is_there_until_it_is_overwritten_or_deleted,
    a_later_change_of_a_batch_overrides_an_earlier_one,
    what_was_accepted_is_seen_before_it_is_durable,
    tickets_ascend_and_an_empty_batch_is_a_barrier,
    a_scan_is_ascending_half_open_and_limited,
    a_scan_goes_on_where_it_ended,
    a_scan_ends_early_when_its_values_are_large,
    values_of_every_size_are_kept_whole,
    keys_of_any_bytes_are_kept_apart,
    what_is_too_large_is_refused_whole,
    a_closed_store_says_so_and_keeps_what_it_had,
    a_reader_sees_no_half_of_a_batch,
    any_sequence_of_changes_equals_a_map,
    many_wait_and_some_give_up,
    a_guard_that_does_not_hold_refuses_the_whole_batch,
    what_is_kept_is_written_unless_its_key_has_a_value,
    a_batch_tells_its_topic_and_no_other_batch_does,
    /// A counter that everybody reads, raises, and writes if nobody else has.
    guards_lose_no_update,
}

mod case {
    use super::*;

    pub(super) fn a_value_is_there_until_it_is_overwritten_or_deleted(bed: &mut dyn Bed) {
        let store = bed.store();
        assert_eq!(now(store.get(b"k")).unwrap(), None);
        put(&*store, b"k", b"one");
        assert_eq!(now(store.get(b"k")).unwrap().as_deref(), Some(&b"one"[..]));
        put(&*store, b"k", b"two");
        bed.reopen();
        let store = bed.store();
        assert_eq!(now(store.get(b"k")).unwrap().as_deref(), Some(&b"two"[..]));
        let mut batch = Batch::new();
        batch.delete(b"k".as_slice());
        batch.delete(b"never there".as_slice());
        commit(&*store, batch);
        assert_eq!(now(store.get(b"k")).unwrap(), None);
        bed.reopen();
        assert_eq!(now(bed.store().get(b"k")).unwrap(), None);
    }

    pub(super) fn a_later_change_of_a_batch_overrides_an_earlier_one(bed: &mut dyn Bed) {
        let mut batch = Batch::new();
        batch.put(b"a".as_slice(), b"1".as_slice());
        batch.delete(b"a".as_slice());
        batch.delete(b"b".as_slice());
        batch.put(b"b".as_slice(), b"1".as_slice());
        batch.put(b"b".as_slice(), b"2".as_slice());
        commit(&*bed.store(), batch);
        bed.reopen();
        assert_eq!(image(&*bed.store()).unwrap(), BTreeMap::from([(b"b".to_vec(), b"2".to_vec())]));
    }

    pub(super) fn what_was_accepted_is_seen_before_it_is_durable(bed: &mut dyn Bed) {
        let store = bed.store();
        let mut last = None;
        for number in 0_u32..500 {
            let mut batch = Batch::new();
            batch.put(number.to_be_bytes().as_slice(), noise(number.into(), 64));
            batch.put(b"last".as_slice(), number.to_be_bytes().as_slice());
            if number > 0 {
                batch.delete((number - 1).to_be_bytes().as_slice());
            }
            last = Some(store.commit(batch).unwrap());
            assert_eq!(now(store.get(b"last")).unwrap().as_deref(), Some(&number.to_be_bytes()[..]));
            let page = now(store.scan(&[], &[], 10)).unwrap();
            let keys: Vec<_> = page.items.iter().map(|(key, _)| key.to_vec()).collect();
            assert_eq!(keys, [number.to_be_bytes().to_vec(), b"last".to_vec()]);
        }
        wait(store.durable(last.unwrap())).unwrap();
        assert_eq!(store.stats().queue_batches, 0);
        assert_eq!(store.stats().batches, 500);
        assert!(store.stats().syncs <= 500 && store.stats().syncs > 0);
    }

    pub(super) fn tickets_ascend_and_an_empty_batch_is_a_barrier(bed: &mut dyn Bed) {
        let store = bed.store();
        let before = store.tip();
        wait(store.durable(before)).unwrap();
        let mut tickets = Vec::new();
        for number in 0_u8..20 {
            let mut batch = Batch::new();
            batch.put([number].as_slice(), [number].as_slice());
            tickets.push(store.commit(batch).unwrap());
        }
        assert!(tickets.is_sorted() && tickets[0] > before);
        assert_eq!(store.tip(), tickets[19]);
        let barrier = store.commit(Batch::new()).unwrap();
        assert_eq!(barrier, tickets[19]);
        wait(store.durable(barrier)).unwrap();
        for ticket in tickets {
            wait(store.durable(ticket)).unwrap();
        }
    }

    pub(super) fn a_scan_is_ascending_half_open_and_limited(bed: &mut dyn Bed) {
        let store = bed.store();
        let keys: [&[u8]; 9] = [b"", b"\0", b"a", b"a\0", b"a\0\0", b"ab", b"b", b"\xFF", b"\xFF\xFF"];
        for key in keys.iter().rev() {
            put(&*store, key, key);
        }
        let found = |from: &[u8], to: &[u8], limit| -> Vec<Vec<u8>> {
            now(store.scan(from, to, limit)).unwrap().items.iter().map(|(key, _)| key.to_vec()).collect()
        };
        assert_eq!(found(b"", b"", 100), keys);
        assert_eq!(found(b"", b"\xFF\xFF", 100), keys[..8]);
        assert_eq!(found(b"a", b"b", 100), keys[2..6]);
        assert_eq!(found(b"a\0", b"", 2), keys[3..5]);
        assert_eq!(found(b"aa", b"b", 100), keys[5..6]);
        assert!(found(b"b", b"a", 100).is_empty());
        assert!(found(b"a", b"a", 100).is_empty());
        assert!(found(b"c", b"d", 100).is_empty());
        let nothing = now(store.scan(b"", b"", 0)).unwrap();
        assert!(nothing.items.is_empty() && nothing.next.as_deref() == Some(&b""[..]));
    }

    pub(super) fn a_scan_goes_on_where_it_ended(bed: &mut dyn Bed) {
        let store = bed.store();
        let mut batch = Batch::new();
        for number in 0_u32..10_000 {
            batch.put(number.to_be_bytes().as_slice(), b"x".as_slice());
        }
        commit(&*store, batch);
        // Some of the range is still pending and some of what is stored is deleted there.
        let mut batch = Batch::new();
        for number in (0_u32..10_000).step_by(3) {
            batch.delete(number.to_be_bytes().as_slice());
        }
        store.commit(batch).unwrap();
        let expected: Vec<u32> = (0..10_000).filter(|number| number % 3 != 0).collect();
        for limit in [1, 7, 1_000, usize::MAX] {
            let mut found = Vec::new();
            let mut from: Arc<[u8]> = Arc::from([].as_slice());
            // One by one takes too long for all of them.
            let enough = if limit == 1 { 50 } else { usize::MAX };
            while found.len() < enough {
                let page = now(store.scan(&from, &[], limit)).unwrap();
                assert!(page.items.len() <= limit.min(SCAN_ITEMS_MAX));
                found.extend(page.items.iter().map(|(key, _)| u32::from_be_bytes((&**key).try_into().unwrap())));
                match page.next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            assert_eq!(found, expected[..expected.len().min(enough)], "limit {limit}");
        }
    }

    pub(super) fn a_scan_ends_early_when_its_values_are_large(bed: &mut dyn Bed) {
        let store = bed.store();
        for number in 0_u8..5 {
            put(&*store, &[number], &vec![number; SCAN_BYTES_MAX / 4]);
        }
        let page = now(store.scan(&[], &[], 100)).unwrap();
        assert_eq!(page.items.len(), 4);
        assert_eq!(page.next.as_deref(), Some(&[4][..]));
    }

    pub(super) fn values_of_every_size_are_kept_whole(bed: &mut dyn Bed) {
        let mut sizes = vec![0, 1, 4_086, 4_087, 4_088, 4_096, 4_097, 8_182, 8_183, 8_184, 12_279, 12_280, 70_000];
        sizes.push(1024 * 1024);
        let shrunk: Vec<usize> = sizes.iter().rev().copied().collect();
        for (round, sizes) in [&sizes, &shrunk, &sizes].into_iter().enumerate() {
            let mut batch = Batch::new();
            for (number, size) in sizes.iter().enumerate() {
                batch.put([number as u8].as_slice(), noise((round * 100 + number) as u64, *size));
            }
            commit(&*bed.store(), batch);
            for _ in 0..2 {
                for (number, size) in sizes.iter().enumerate() {
                    let value = now(bed.store().get(&[number as u8])).unwrap().unwrap();
                    assert!(*value == noise((round * 100 + number) as u64, *size), "round {round}, {size} bytes");
                }
                bed.reopen();
            }
        }
        let mut batch = Batch::new();
        for number in 0..sizes.len() {
            batch.delete([number as u8].as_slice());
        }
        commit(&*bed.store(), batch);
        bed.reopen();
        assert!(image(&*bed.store()).unwrap().is_empty());
    }

    pub(super) fn keys_of_any_bytes_are_kept_apart(bed: &mut dyn Bed) {
        let mut expected = BTreeMap::new();
        let mut batch = Batch::new();
        for first in 0_u8..=255 {
            for key in [vec![first], vec![first, 0], vec![first, 0, 0, 0, 1], vec![first, 255, first]] {
                expected.insert(key.clone(), [&b"value of "[..], &key].concat());
            }
        }
        expected.insert(vec![7; KEY_BYTES_MAX], noise(1, 9_000));
        expected.insert(vec![], noise(2, 9_000));
        for (key, value) in &expected {
            batch.put(key.as_slice(), value.as_slice());
        }
        commit(&*bed.store(), batch);
        bed.reopen();
        assert!(image(&*bed.store()).unwrap() == expected);
        for (key, value) in &expected {
            assert_eq!(now(bed.store().get(key)).unwrap().as_deref(), Some(value.as_slice()));
        }
    }

    pub(super) fn what_is_too_large_is_refused_whole(bed: &mut dyn Bed) {
        let store = bed.store();
        let refused = |batch: Batch| match store.commit(batch) {
            Err(Error::TooLarge { what, bytes, bytes_max }) => (what, bytes, bytes_max),
            other => panic!("{other:?}"),
        };
        let small = || {
            let mut batch = Batch::new();
            batch.put(b"small".as_slice(), b"1".as_slice());
            batch
        };
        let mut batch = small();
        batch.put(vec![1; KEY_BYTES_MAX + 1], b"1".as_slice());
        assert_eq!(refused(batch), ("a key", KEY_BYTES_MAX + 1, KEY_BYTES_MAX));
        let mut batch = small();
        batch.put(b"k".as_slice(), vec![1; VALUE_BYTES_MAX + 1]);
        assert_eq!(refused(batch), ("a value", VALUE_BYTES_MAX + 1, VALUE_BYTES_MAX));
        let mut batch = small();
        for number in 0_u8..3 {
            batch.put([number].as_slice(), vec![1; BATCH_BYTES_MAX / 3]);
        }
        assert_eq!(refused(batch).0, "a batch");
        assert!(image(&*store).unwrap().is_empty());
        commit(&*store, small());
    }

    pub(super) fn a_closed_store_says_so_and_keeps_what_it_had(bed: &mut dyn Bed) {
        let store = bed.store();
        let mut batch = Batch::new();
        batch.put(b"k".as_slice(), b"v".as_slice());
        let ticket = store.commit(batch.clone()).unwrap();
        store.close().unwrap();
        store.close().unwrap();
        wait(store.durable(ticket)).unwrap();
        assert_eq!(store.commit(batch).unwrap_err(), Error::Closed);
        assert_eq!(now(store.get(b"k")).unwrap_err(), Error::Closed);
        assert_eq!(now(store.scan(b"", b"", 1)).unwrap_err(), Error::Closed);
        drop(store);
        bed.reopen();
        assert_eq!(now(bed.store().get(b"k")).unwrap().as_deref(), Some(&b"v"[..]));
    }

    pub(super) fn a_reader_sees_no_half_of_a_batch(bed: &mut dyn Bed) {
        let store = bed.store();
        let pair = |value: &[u8]| {
            let mut batch = Batch::new();
            for key in 0_u8..50 {
                batch.put([key].as_slice(), value);
            }
            batch
        };
        commit(&*store, pair(&noise(0, 5_000)));
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let page = now(store.scan(&[], &[], 100)).unwrap();
                        assert_eq!(page.items.len(), 50);
                        let first = &page.items[0].1;
                        assert!(page.items.iter().all(|(_, value)| value == first));
                    }
                });
            }
            for seed in 1..60 {
                let ticket = store.commit(pair(&noise(seed, 5_000 + seed as usize))).unwrap();
                if seed % 3 == 0 {
                    wait(store.durable(ticket)).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    pub(super) fn any_sequence_of_changes_equals_a_map(bed: &mut dyn Bed) {
        for seed in 1..=3 {
            let mut random = Random(seed);
            let mut model = image(&*bed.store()).unwrap();
            for step in 0..400 {
                let store = bed.store();
                let mut batch = Batch::new();
                for _ in 0..random.below(8) {
                    let key = format!("{:03}", random.below(120)).into_bytes();
                    if random.below(4) == 0 {
                        batch.delete(key.as_slice());
                        model.remove(&key);
                    } else {
                        let length = if random.below(10) == 0 { random.below(20_000) } else { random.below(300) };
                        let value = noise(random.next(), length as usize);
                        batch.put(key.as_slice(), value.as_slice());
                        model.insert(key, value);
                    }
                }
                let ticket = store.commit(batch).unwrap();
                match random.below(60) {
                    0 => {
                        drop(store);
                        bed.reopen();
                        assert!(image(&*bed.store()).unwrap() == model, "seed {seed}, step {step}, reopened");
                    }
                    1..5 => {
                        assert!(image(&*store).unwrap() == model, "seed {seed}, step {step}");
                    }
                    5..30 => wait(store.durable(ticket)).unwrap(),
                    _ => {}
                }
            }
            bed.reopen();
            assert!(image(&*bed.store()).unwrap() == model, "seed {seed}");
        }
    }

    /// Each step is tried on a store with the changes before it in the queue, and on one that was opened anew.
    pub(super) fn a_guard_that_does_not_hold_refuses_the_whole_batch(bed: &mut dyn Bed) {
        let large = noise(1, 20_000);
        let of = |value: &[u8]| Expect::of(Some(value));
        for reopens in [false, true] {
            let key = if reopens { b"kept".as_slice() } else { b"queued".as_slice() };
            let mut step = |expect: Expect, value: Option<&[u8]>, holds: bool| {
                if reopens {
                    bed.reopen();
                }
                let store = bed.store();
                let (before, tip) = (image(&*store).unwrap(), store.tip());
                let mut batch = Batch::new();
                batch.put(b"beside".as_slice(), noise(tip.0, 8));
                batch.guard(key, expect);
                match value {
                    Some(value) => batch.put(key, value),
                    None => batch.delete(key),
                }
                match store.commit(batch) {
                    Ok(_) => assert!(holds, "{expect:?}"),
                    Err(error) => {
                        assert!(!holds, "{expect:?}: {error}");
                        assert!(matches!(error, Error::Refused { .. }), "{error}");
                        assert!(image(&*store).unwrap() == before && store.tip() == tip, "nothing of it is there");
                    }
                }
            };
            step(of(b"one"), Some(b"never"), false);
            step(Expect::Absent, Some(b"one"), true);
            step(Expect::Absent, Some(b"two"), false);
            step(of(b"two"), Some(b"three"), false);
            step(of(b"one"), Some(&large), true);
            step(of(b"one"), None, false);
            step(of(&large), None, true);
            step(of(&large), Some(b"four"), false);
            step(Expect::Absent, Some(b"five"), true);
        }
        // One guard of several, and one without changes.
        let store = bed.store();
        let mut batch = Batch::new();
        batch.put(b"new".as_slice(), b"1".as_slice());
        batch.guard(b"kept".as_slice(), of(b"five"));
        batch.guard(b"queued".as_slice(), of(b"six"));
        assert!(matches!(store.commit(batch), Err(Error::Refused { .. })));
        assert_eq!(now(store.get(b"new")).unwrap(), None);
        let mut batch = Batch::new();
        batch.guard(b"new".as_slice(), of(b"1"));
        assert!(matches!(store.commit(batch), Err(Error::Refused { .. })));
    }

    pub(super) fn guards_lose_no_update(bed: &mut dyn Bed) {
        const EACH: u64 = 200;
        let store = bed.store();
        let raise = || {
            for _ in 0..EACH {
                loop {
                    let seen = now(store.get(b"counter")).unwrap();
                    let number = seen.as_deref().map_or(0, |seen| u64::from_be_bytes(seen.try_into().unwrap()));
                    let mut batch = Batch::new();
                    batch.guard(b"counter".as_slice(), Expect::of(seen.as_deref()));
                    batch.put(b"counter".as_slice(), (number + 1).to_be_bytes().as_slice());
                    match store.commit(batch) {
                        // Some are in the queue when the next is judged, and some are in the store.
                        Ok(ticket) if number.is_multiple_of(3) => break wait(store.durable(ticket)).unwrap(),
                        Ok(_) => break,
                        Err(Error::Refused { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(raise);
            }
        });
        assert_eq!(now(store.get(b"counter")).unwrap().as_deref(), Some(&(4 * EACH).to_be_bytes()[..]));
    }

    pub(super) fn what_is_kept_is_written_unless_its_key_has_a_value(bed: &mut dyn Bed) {
        let store = bed.store();
        put(&*store, b"there", b"before");
        let keep = |key: &[u8], value: &[u8]| {
            let mut batch = Batch::new();
            batch.keep(key, value);
            batch
        };
        let large = noise(3, 40_000);
        for _ in 0..2 {
            commit(&*store, keep(b"there", b"after"));
            commit(&*store, keep(b"new", &large));
        }
        assert_eq!(now(store.get(b"there")).unwrap().as_deref(), Some(&b"before"[..]));
        assert_eq!(now(store.get(b"new")).unwrap().as_deref(), Some(large.as_slice()));
        // Behind what it changes, and judged as of before that; a refused batch keeps nothing.
        let mut batch = keep(b"gone", b"kept");
        batch.delete(b"gone".as_slice());
        batch.delete(b"new".as_slice());
        commit(&*store, batch);
        let mut refused = keep(b"more", b"1");
        refused.guard(b"gone".as_slice(), Expect::Absent);
        assert!(matches!(store.commit(refused), Err(Error::Refused { .. })));
        bed.reopen();
        let all = BTreeMap::from([(b"gone".to_vec(), b"kept".to_vec()), (b"there".to_vec(), b"before".to_vec())]);
        assert_eq!(image(&*bed.store()).unwrap(), all);
    }

    pub(super) fn a_batch_tells_its_topic_and_no_other_batch_does(bed: &mut dyn Bed) {
        let store = bed.store();
        let mut watch = store.watch(Topic::Setup);
        let mut told = || {
            let is_told = watch.changed().now_or_never().is_some();
            // What was told is told once.
            assert!(watch.changed().now_or_never().is_none());
            is_told
        };
        put(&*store, b"k", b"one");
        assert!(!told(), "nobody said that anything was set up");
        let batch = |guard: Option<Expect>| {
            let mut batch = Batch::new();
            batch.put(b"k".as_slice(), b"two".as_slice());
            guard.into_iter().for_each(|expect| batch.guard(b"k".as_slice(), expect));
            batch.tells(Topic::Setup);
            batch
        };
        assert!(matches!(store.commit(batch(Some(Expect::Absent))), Err(Error::Refused { .. })));
        assert!(!told(), "it was refused");
        store.commit(batch(None)).unwrap();
        assert_eq!(now(store.get(b"k")).unwrap().as_deref(), Some(&b"two"[..]), "whoever is told finds it");
        store.commit(batch(None)).unwrap();
        assert!(told(), "two of them are told as one");
        assert!(store.watch(Topic::Setup).changed().now_or_never().is_none(), "it was before that watch");
    }

    pub(super) fn many_wait_and_some_give_up(bed: &mut dyn Bed) {
        let store = bed.store();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut tasks = tokio::task::JoinSet::new();
            for task in 0_u32..300 {
                let store = Arc::clone(&store);
                tasks.spawn(async move {
                    for number in 0_u32..5 {
                        let mut batch = Batch::new();
                        batch.put([task.to_be_bytes(), number.to_be_bytes()].concat(), b"v".as_slice());
                        let ticket = store.commit(batch).unwrap();
                        let durable = store.durable(ticket);
                        if (task + number) % 7 == 0 {
                            // Gives up in the middle of waiting.
                            tokio::select! {
                                biased;
                                () = tokio::task::yield_now() => {}
                                done = durable => done.unwrap(),
                            }
                        } else {
                            durable.await.unwrap();
                        }
                    }
                });
            }
            tasks.join_all().await;
            store.durable(store.tip()).await.unwrap();
        });
        assert_eq!(image(&*store).unwrap().len(), 1_500);
    }
}
