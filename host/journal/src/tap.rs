//! Hearing what a store accepts, for whoever takes a backup of it.
//!
//! What is heard waits in memory, up to a limit: a listener who does not keep up is cut off and told, and whoever writes never
//! waits for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::store::Bytes;

/// A change of a key: what is put there, or nothing where it is deleted.
pub(super) type Change = (Bytes, Option<Bytes>);

/// What a change costs in memory besides its key and value.
const CHANGE_BYTES: usize = 64;

/// What was accepted since it began; see [`Store::tap`](super::Store::tap). Dropping it ends it.
pub struct Tap(Arc<Shared>);

impl fmt::Debug for Tap {
    /// Not what it heard: values hold what people wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard = self.0.lock();
        f.debug_struct("Tap").field("changes", &heard.changes.len()).field("bytes", &heard.bytes).finish()
    }
}

struct Shared {
    heard: Mutex<Heard>,
    bytes_max: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Heard {
    changes: VecDeque<Change>,
    bytes: usize,
    /// Nothing more is heard.
    is_closed: bool,
    /// More was to be heard than there was room for.
    is_cut_off: bool,
}

/// More was accepted than a tap has room for: what it heard is not all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CutOff;

impl Tap {
    /// The oldest changes that were not taken yet, with about `bytes` of keys and values, at least one where there is any.
    pub(super) fn take(&self, bytes: usize) -> Result<Vec<Change>, CutOff> {
        let mut heard = self.0.lock();
        if heard.is_cut_off {
            return Err(CutOff);
        }
        let (mut taken, mut room) = (Vec::new(), bytes);
        while room > 0
            && let Some(change) = heard.changes.pop_front()
        {
            let weight = weight(&change);
            heard.bytes = heard.bytes.saturating_sub(weight);
            room = room.saturating_sub(weight);
            taken.push(change);
        }
        Ok(taken)
    }

    /// Hears nothing from here on; what it heard can still be taken.
    pub(super) fn close(&self) {
        self.0.lock().is_closed = true;
    }
}

fn weight((key, value): &Change) -> usize {
    CHANGE_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len())
}

/// All who listen to one store; in the state that a store holds while it accepts a batch.
#[derive(Default)]
pub(super) struct Taps(Vec<Weak<Shared>>);

impl fmt::Debug for Taps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Taps").field(&self.0.len()).finish()
    }
}

impl Taps {
    /// One more.
    pub(super) fn add(&mut self, bytes_max: usize) -> Tap {
        self.0.retain(|tap| tap.strong_count() > 0);
        let shared = Arc::new(Shared { heard: Mutex::default(), bytes_max });
        self.0.push(Arc::downgrade(&shared));
        Tap(shared)
    }

    /// A batch was accepted that changes this.
    pub(super) fn hear(&mut self, changes: &[Change]) {
        if self.0.is_empty() {
            return;
        }
        self.0.retain(|tap| tap.upgrade().is_some_and(|tap| Self::told(&tap, changes)));
    }

    /// Whether it goes on listening.
    fn told(tap: &Shared, changes: &[Change]) -> bool {
        let mut heard = tap.lock();
        if heard.is_closed {
            return false;
        }
        let bytes = heard.bytes + changes.iter().map(weight).sum::<usize>();
        if bytes > tap.bytes_max {
            // What it has is of no use any more.
            (heard.changes, heard.bytes) = (VecDeque::new(), 0);
            heard.is_cut_off = true;
            return false;
        }
        heard.bytes = bytes;
        heard.changes.extend(changes.iter().cloned());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &[u8], value: Option<&[u8]>) -> Change {
        (Bytes::from(key), value.map(Bytes::from))
    }

    #[test]
    fn a_tap_hears_all_until_it_is_closed() {
        let mut taps = Taps::default();
        taps.hear(&[change(b"before", None)]);
        let tap = taps.add(10_000);
        taps.hear(&[change(b"a", Some(b"1")), change(b"b", None)]);
        assert_eq!(tap.take(1).unwrap(), [change(b"a", Some(b"1"))], "one at least");
        taps.hear(&[change(b"c", None)]);
        tap.close();
        taps.hear(&[change(b"d", None)]);
        assert_eq!(tap.take(usize::MAX).unwrap(), [change(b"b", None), change(b"c", None)]);
        assert_eq!(tap.take(usize::MAX).unwrap(), []);
        assert!(taps.0.is_empty());
    }

    #[test]
    fn one_that_does_not_keep_up_is_cut_off_and_holds_nothing() {
        let mut taps = Taps::default();
        let (slow, quick) = (taps.add(3 * CHANGE_BYTES), taps.add(3 * CHANGE_BYTES));
        for key in [b"1", b"2", b"3", b"4"] {
            taps.hear(&[change(key, Some(b"v"))]);
            assert_eq!(quick.take(usize::MAX).unwrap().len(), 1);
        }
        assert_eq!(slow.take(usize::MAX), Err(CutOff));
        assert!(slow.0.lock().changes.is_empty());
        assert_eq!(taps.0.len(), 1);
        drop(quick);
        taps.hear(&[change(b"5", None)]);
        assert!(taps.0.is_empty());
    }
}
