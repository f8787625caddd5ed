//! Distinct tuples have distinct keys, and keys sort as the table promises.

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use proptest::prelude::*;

use crate::key::{self, Parts, Range, Space};
use crate::store::KEY_BYTES_MAX;

fn text() -> impl Strategy<Value = String> {
    // Zero bytes, the escape's neighbours and the separators of people.
    prop_oneof![
        prop::collection::vec(prop::sample::select(vec!['\0', '\u{1}', '\u{ff}', 'a', 'b', '/', ':', '@']), 0..6)
            .prop_map(|chars| chars.into_iter().collect()),
        any::<String>(),
    ]
}

fn run() -> impl Strategy<Value = RunId> {
    (0..(1_u64 << 48), any::<u128>()).prop_map(|(at, entropy)| RunId::new(Timestamp::from_millis(at), entropy))
}

fn inside(range: &Range, key: &[u8]) -> bool {
    key >= range.from.as_slice() && (range.to.is_empty() || key < range.to.as_slice())
}

proptest! {
    #[test]
    fn tuples_of_texts_have_keys_of_their_own_that_sort_as_they_do(
        a in (text(), text(), text()),
        b in (text(), text(), text()),
    ) {
        let (left, right) = (key::workflow(&a.0, &a.1, &a.2), key::workflow(&b.0, &b.1, &b.2));
        prop_assert_eq!(left.bytes().cmp(right.bytes()), a.cmp(&b));
        let mut parts = Parts::of(Space::Workflow, left.bytes()).unwrap();
        prop_assert_eq!((parts.text().unwrap(), parts.text().unwrap(), parts.text().unwrap()), a);
        parts.end().unwrap();
    }

    #[test]
    fn a_range_holds_the_keys_of_its_name_and_no_others(a in (text(), text()), b in (text(), text(), text())) {
        let other = key::workflow(&b.0, &b.1, &b.2);
        let range = key::workflow_versions(&a.0, &a.1);
        prop_assert_eq!(inside(&range, other.bytes()), (&a.0, &a.1) == (&b.0, &b.1));
        prop_assert!(inside(&key::workflow_versions(&b.0, &b.1), other.bytes()));
        prop_assert!(inside(&key::all(Space::Workflow), other.bytes()));
        let current = key::workflow_current(&b.0, &b.1);
        prop_assert_eq!(inside(&key::workflows_in(&a.0), current.bytes()), a.0 == b.0);
        prop_assert_eq!(inside(&key::plugin_versions(&a.0), key::plugin(&b.0, &b.1).bytes()), a.0 == b.0);
    }

    #[test]
    fn entries_sort_by_run_and_number(a in (run(), any::<u64>()), b in (run(), any::<u64>())) {
        prop_assert_eq!(key::event(a.0, a.1).cmp(&key::event(b.0, b.1)), a.cmp(&b));
        prop_assert_eq!(key::public(a.0, a.1).cmp(&key::public(b.0, b.1)), a.cmp(&b));
        let owned = |run: RunId| (run.partition(), run);
        prop_assert_eq!(key::open(a.0).cmp(&key::open(b.0)), owned(a.0).cmp(&owned(b.0)));
        prop_assert_eq!(key::notice(a.0, 1).cmp(&key::notice(b.0, 2)), (owned(a.0), 1).cmp(&(owned(b.0), 2)));
        let range = key::events(a.0, a.1);
        prop_assert_eq!(inside(&range, key::event(b.0, b.1).bytes()), a.0 == b.0 && b.1 >= a.1);
        let key = key::event(a.0, a.1);
        let mut parts = Parts::of(Space::Event, key.bytes()).unwrap();
        prop_assert_eq!((parts.run().unwrap(), parts.number().unwrap()), a);
        let rest = key::all(Space::Open).after(&key::open(a.0));
        prop_assert_eq!(inside(&rest, key::open(b.0).bytes()), owned(b.0) > owned(a.0));
    }

    #[test]
    fn timers_sort_by_time_and_lists_by_newest(
        a in (any::<u64>(), run(), any::<u64>()),
        b in (any::<u64>(), run(), any::<u64>()),
    ) {
        let at = Timestamp::from_millis;
        let (left, right) = (key::timer(at(a.0), a.1, a.2), key::timer(at(b.0), b.1, b.2));
        let (ours, theirs) = (a.1.partition(), b.1.partition());
        prop_assert_eq!(left.cmp(&right), (ours, a).cmp(&(theirs, b)));
        let behind = key::timers(ours, Some((at(a.0), a.1)), at(u64::MAX));
        prop_assert_eq!(inside(&behind, right.bytes()), ours == theirs && (b.0, b.1) > (a.0, a.1));
        let until = key::timers(theirs, None, at(a.0));
        prop_assert_eq!(inside(&until, right.bytes()), b.0 <= a.0);
        prop_assert_eq!(inside(&key::of_partition(Space::Timer, ours), right.bytes()), ours == theirs);
        prop_assert_eq!(inside(&key::behind_partition(Space::Timer, ours), right.bytes()), theirs > ours);
        let (left, right) = (key::listing(at(a.0), a.1), key::listing(at(b.0), b.1));
        prop_assert_eq!(left.cmp(&right), b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let summary = key::summary(b.1);
        let expiry = key::expiry(at(b.0), &summary);
        prop_assert_eq!(inside(&key::expiries(ours, at(a.0)), expiry.bytes()), ours == theirs && b.0 <= a.0);
        let mut parts = Parts::of(Space::Expiry, expiry.bytes()).unwrap();
        prop_assert_eq!((parts.partition(), parts.number()), (Some(theirs), Some(b.0)));
        prop_assert_eq!(parts.key(), Some(summary));
    }

    #[test]
    fn an_idempotency_key_is_of_one_workflow(a in (text(), text(), text()), b in (text(), text(), text())) {
        let (left, right) = (key::idempotency(&a.0, &a.1, &a.2), key::idempotency(&b.0, &b.1, &b.2));
        prop_assert_eq!(left == right, a == b);
    }

    #[test]
    fn no_bytes_make_the_reader_of_keys_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        for space in Space::ALL {
            if let Some(parts) = Parts::of(space, &bytes) {
                let (mut texts, mut numbers, mut runs) = (parts.clone(), parts.clone(), parts.clone());
                let _ = (texts.text(), texts.text(), numbers.number(), runs.run(), parts.key());
            }
        }
    }
}

#[test]
fn spaces_have_bytes_of_their_own() {
    for space in Space::ALL {
        assert_eq!(Space::of(space.byte()), Some(space));
    }
    let known = (0..=255).filter(|byte| Space::of(*byte).is_some()).count();
    assert_eq!(known, Space::ALL.len());
}

#[test]
fn names_of_the_longest_permitted_form_fit_into_a_key() {
    let name = "n".repeat(63);
    let run = RunId::new(Timestamp::from_millis(1), 1);
    let version = "1234567890.1234567890.1234567890-alpha.1234567890+1234567890";
    let longest = [
        key::workflow(&name, &name, version),
        key::idempotency(&name, &name, &"k".repeat(10_000)),
        key::expiry(Timestamp::default(), &key::idempotency(&name, &name, "k")),
        key::limiter(&format!("{name}/admin.conversations.restrictAccess.addGroup/C0123456789")),
        key::timer(Timestamp::from_millis(u64::MAX), run, u64::MAX),
        key::blob(Digest::of(b"")),
        key::token(Digest::of(b"")),
        key::grant(&name, version),
        key::table(&name, u64::MAX),
    ];
    for key in longest {
        assert!(key.bytes().len() <= KEY_BYTES_MAX, "{key}: {}", key.bytes().len());
    }
}
