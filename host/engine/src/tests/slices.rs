//! An action of 2,000 pages: its work and its journal grow with the pages, what is behind a slice is forgotten, and a
//! process that dies in the middle is followed by one that goes on from there.

use std::sync::Arc;

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use crate::tests::at_once;
use bellhop_journal::memory::Memory;
use bellhop_journal::{Entry, Journal, Store as _, Write, key};
use bellhop_tests::guest::Plugin;

const HQ: &[(&str, &str)] = &[("team", "hq")];
const METHOD: &str = "users.list";
/// Calls of one slice: what the host's limits allow.
const SLICE: usize = 200;
/// Where the guest keeps what it sends and answers.
const TEXTS: &str = r#"
    (data (i32.const 50000) "{\"limit\":1}")
    (data (i32.const 50100) "{\"again\":1000}")
    (data (i32.const 50200) "{\"output\":{},\"changed\":false}")
    (func $digit (param $at i32) (param $times i32) (result i32)
      (i32.mul (i32.sub (i32.load8_u (local.get $at)) (i32.const 48)) (local.get $times)))
    (func $four (param $at i32) (result i32)
      (i32.add
        (i32.add (call $digit (local.get $at) (i32.const 1000))
                 (call $digit (i32.add (local.get $at) (i32.const 1)) (i32.const 100)))
        (i32.add (call $digit (i32.add (local.get $at) (i32.const 2)) (i32.const 10))
                 (call $digit (i32.add (local.get $at) (i32.const 3)) (i32.const 1)))))
    (func $write (param $at i32) (param $number i32) (param $of i32)
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $number) (local.get $of)) (i32.const 10)))))"#;

/// Reads `pages` pages, as many in a slice as it may, and keeps their number, 1,000 more, as its state: that is always
/// four digits and stands last in what it is called with.
fn pager(pages: usize) -> Vec<u8> {
    let run = format!(
        r"(local $read i32) (local $left i32) (local $last i32)
        (local.set $last (i32.add (local.get $input) (i32.sub (local.get $length) (i32.const 5))))
        (if (i32.le_u (i32.sub (i32.load8_u offset=3 (local.get $last)) (i32.const 48)) (i32.const 9))
          (then (local.set $read (i32.sub (call $four (local.get $last)) (i32.const 1000)))))
        (local.set $left (i32.const {SLICE}))
        (block $enough (loop $more
          (br_if $enough (i32.or (i32.eqz (local.get $left)) (i32.ge_u (local.get $read) (i32.const {pages}))))
          (i32.store8 (i32.const 50009) (i32.add (i32.const 49) (i32.rem_u (local.get $read) (i32.const 9))))
          (call $users.list (i32.const 50000) (i32.const 11) (i32.const 128))
          (local.set $read (i32.add (local.get $read) (i32.const 1)))
          (local.set $left (i32.sub (local.get $left) (i32.const 1)))
          (br $more)))
        (if (i32.ge_u (local.get $read) (i32.const {pages}))
          (then (return (call $ok (i32.const 50200) (i32.const 29)))))
        (local.set $read (i32.add (local.get $read) (i32.const 1000)))
        (call $write (i32.const 50109) (local.get $read) (i32.const 1000))
        (call $write (i32.const 50110) (local.get $read) (i32.const 100))
        (call $write (i32.const 50111) (local.get $read) (i32.const 10))
        (call $write (i32.const 50112) (local.get $read) (i32.const 1))
        (call $ok (i32.const 50100) (i32.const 14))"
    );
    let manifest = json!({
        "publisher": "nobody", "name": format!("pager-{pages}"), "version": "1.0.0",
        "actions": [{
            "name": "pages.read", "title": "Read pages", "description": "Reads pages.", "effect": "read",
            "input": { "type": "object" }, "output": { "type": "object" },
            "calls": [{ "on": ["grid-workspace"], "methods": [{ "function": METHOD, "when": "always" }] }],
        }],
    });
    let plugin =
        Plugin { imports: &[METHOD], run: &run, description: &manifest.to_string(), items: TEXTS, ..Plugin::default() };
    plugin.build()
}

/// Starts an action of so many pages; gives what stood in the store before.
fn start(life: &Life, pages: usize) -> (RunId, usize) {
    let services = &life.engine().services;
    let bytes = pager(pages);
    life.wait(services.plugins.install(&bytes, None, &services.gateway.rules, services.clock.now())).unwrap();
    let workflow =
        life.apply(&format!("\n  - read: {{call: 'pages.read:1@pager-{pages}', with: {{connection: team}}}}"));
    let before = stored(life);
    (life.started(trigger(&workflow, json!({}), HQ, None)), before)
}

/// What stands in the store, in bytes.
fn stored(life: &Life) -> usize {
    let (mut from, mut bytes) = (Vec::new(), 0);
    loop {
        let page = at_once(life.store.scan(&from, &[], usize::MAX)).unwrap();
        bytes += page.items.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        match page.next {
            Some(next) => from = next.to_vec(),
            None => return bytes,
        }
    }
}

/// A store whose process ended, for all that the next one knows, in order.
fn in_order(memory: Memory) -> Memory {
    let store = Arc::new(memory);
    let journal = Journal::checked(store.clone());
    let mut write = Write::new();
    write.put(&key::host("lives"), &json!({ "in_order": true, "deaths": 0, "began_ms": 0, "alone": [] })).unwrap();
    journal.commit(write).unwrap();
    store.crash(usize::MAX)
}

fn slices(life: &Life, run: RunId) -> usize {
    let (mut from, mut found) = (0, 0);
    loop {
        let page = at_once(life.journal().entries(run, from, 1_000)).unwrap();
        let Some((last, _)) = page.last() else { return found };
        from = last + 1;
        found += page.iter().filter(|(_, entry)| matches!(entry, Entry::Slice { .. })).count();
    }
}

#[test]
fn work_and_journal_grow_with_the_pages_and_a_snapshot_does_not() {
    let grown = |pages: usize| {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let (run, before) = start(&life, pages);
        let mut snapshots = Vec::new();
        while life.status(run) == Status::Running {
            let kept = at_once(life.store.get(key::snapshot(run).bytes())).unwrap();
            let bytes = kept.map_or(0, |bytes| bytes.len());
            if bytes > 0 && snapshots.last() != Some(&bytes) {
                snapshots.push(bytes);
            }
            life.wait(tokio::task::yield_now());
        }
        let view = life.ended(run).unwrap();
        assert_eq!(view.status, Status::Completed, "{view:?}");
        assert_eq!(slack.count(METHOD), pages, "each page once");
        assert_eq!(slices(&life, run), pages / SLICE - 1);
        // The first and the last differ by a few digits: nothing of the pages is in them.
        let (least, most) = (*snapshots.iter().min().unwrap(), *snapshots.iter().max().unwrap());
        assert!(most < least + 1_000, "{snapshots:?}");
        stored(&life) - before
    };
    let (half, whole) = (grown(1_000), grown(2_000));
    assert!(half * 100 >= whole * 48 && half * 100 <= whole * 55, "{half} bytes for 1,000 pages, {whole} for 2,000");
}

#[test]
fn who_dies_in_the_middle_is_followed_from_the_last_slice() {
    for keep in [usize::MAX, 0] {
        let slack = Slack::start();
        let life = Life::start(fresh(), &slack);
        let (run, _) = start(&life, 2_000);
        life.until("most pages are read", || slack.count(METHOD) > 1_850);
        // Nobody is carried alone for a moment first, because a run that is put down then asks once more.
        let memory = in_order(life.die(keep));
        let before = slack.count(METHOD);
        let held = slack.fault(&json!({ "method": METHOD, "action": "hold_before_accept" }));
        let life = Life::start(memory, &slack);
        slack.happened(held);
        // What was read to come here: the snapshot, the slice's answers, and what else there is in a store.
        let scanned = life.store.scanned();
        assert!(scanned < 800, "{scanned} records were read to go on with");
        let slices = slices(&life, run);
        slack.release(held, "answer");
        assert_eq!(life.ended(run).unwrap().status, Status::Completed);
        let again = slack.count(METHOD) - 2_000;
        // The request that was on its way is made again. What was not on the disk yet is, too: never more than a slice.
        let most = if keep == 0 { SLICE + 1 } else { 1 };
        assert!(again <= most, "{again} pages were read again, {before} were read before, {slices} slices");
        let _: Value = slack.world();
    }
}
