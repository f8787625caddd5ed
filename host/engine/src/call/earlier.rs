//! What earlier attempts at an action carried out, which a later one is answered from (semantics 1, "Retry").
//!
//! A write is found again by its place. Since an attempt reads anew, and may come to the same write a call earlier or later
//! than the one before it, one that finds no success at its place is answered from the same request elsewhere. Each success
//! answers once.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::fault::Fault;
use bellhop_core::run::Why;

use super::attempt::Attempt;
use super::request::Request;
use super::scope::Stopped;
use crate::execution::{Answer, Execution, How};

/// A call of an earlier attempt: its attempt, its ordinal.
type Place = (u32, u32);

/// See the module.
#[derive(Default)]
pub(super) struct Earlier {
    /// The writes that were carried out, by their request's hash.
    done: BTreeMap<String, BTreeSet<Place>>,
    /// Those of them that answered a call of this attempt, by that call's ordinal.
    used: BTreeMap<u32, Place>,
    /// Writes that were sent and of which nobody knows what became, by their request's hash.
    doubtful: BTreeMap<String, Place>,
}

impl Earlier {
    /// Which success answers a call with this `hash` at `ordinal`: the one at its place, of the last attempt that has one;
    /// else the first that is left.
    fn find(&self, hash: &str, ordinal: u32) -> Option<Place> {
        let used: BTreeSet<&Place> = self.used.values().collect();
        let mut left = self.done.get(hash)?.iter().filter(|place| !used.contains(place));
        left.clone().rev().find(|(_, at)| *at == ordinal).or_else(|| left.next()).copied()
    }

    /// The same; it answers no other call any more. A call that a guest makes once more, because it replays, has the
    /// one that it had.
    fn take(&mut self, hash: &str, ordinal: u32) -> Option<Place> {
        if let Some(place) = self.used.get(&ordinal) {
            return Some(*place);
        }
        let place = self.find(hash, ordinal)?;
        self.used.insert(ordinal, place);
        Some(place)
    }

    /// A call of this attempt with this `hash` was answered from an earlier one.
    pub(super) fn answered(&mut self, hash: &str, ordinal: u32) {
        // Which one follows from the order of the calls.
        let _place = self.take(hash, ordinal);
    }

    /// Whether this attempt did not come to everything again that was carried out before it.
    fn leaves_any(&self) -> bool {
        self.done.values().map(BTreeSet::len).sum::<usize>() > self.used.len()
    }
}

impl<E: Execution> Attempt<E> {
    /// Everything that there is when this attempt comes to the call `ordinal`.
    async fn load_earlier(&self, ordinal: u32) -> Result<Earlier, Stopped> {
        let scope = &self.scope;
        let mut earlier = Earlier::default();
        for attempt in 1..scope.attempt {
            // Every call that is on record, whatever is missing between two of them.
            for ordinal in scope.port.calls(&scope.execution, attempt) {
                let (kept, open) = scope.look(&scope.call(attempt, ordinal)).await?;
                match kept {
                    // What this one was answered from is counted where it was carried out.
                    Some(answer) if answer.writes && answer.result.is_ok() && !answer.how.is_reused() => {
                        earlier.done.entry(answer.hash).or_default().insert((attempt, ordinal));
                    }
                    Some(_) | None => {}
                }
                if let Some(intent) = open {
                    earlier.doubtful.insert(intent.hash, (attempt, ordinal));
                }
            }
        }
        // What this attempt has on record from before: an earlier slice's is not asked for again.
        let own = scope.port.calls(&scope.execution, scope.attempt);
        for ordinal in own.into_iter().take_while(|own| *own < ordinal) {
            if let Some(answer) = scope.kept(&scope.call(scope.attempt, ordinal)).await?
                && answer.how.is_reused()
            {
                earlier.answered(&answer.hash, ordinal);
            }
        }
        Ok(earlier)
    }

    /// Whether earlier attempts carried out something that this one was not answered from: then what it says that it changed
    /// is not all.
    pub(super) async fn leaves_earlier(&mut self) -> Result<bool, Stopped> {
        if self.scope.attempt == 1 {
            return Ok(false);
        }
        let next = self.calls.next();
        Ok(self.earlier(next).await?.leaves_any())
    }

    /// What there is of earlier attempts; loaded when this one comes to the call `ordinal`, if it is not yet, and once for
    /// all of its slices, so that a success that answered in one of them answers in none after it.
    async fn earlier(&mut self, ordinal: u32) -> Result<&mut Earlier, Stopped> {
        let loaded = match self.earlier.take() {
            Some(loaded) => loaded,
            None => self.load_earlier(ordinal).await?,
        };
        Ok(self.earlier.insert(loaded))
    }

    /// The answer of an earlier attempt that did the same already, as this one keeps it.
    pub(super) async fn earlier_success(&mut self, request: &Request) -> Result<Option<Answer>, Stopped> {
        let scope = &self.scope;
        if !request.method.writes || scope.attempt == 1 {
            return Ok(None);
        }
        let ordinal = request.key.ordinal;
        let name = &request.method.name;
        let in_doubt = |attempt: u32| {
            let detail = format!("{name} was sent in attempt {attempt}, and what became of it is not known");
            Fault::of_code("outcome-unknown", detail)
        };
        for attempt in (1..scope.attempt).rev() {
            let (kept, open) = scope.look(&scope.call(attempt, ordinal)).await?;
            if open.is_some() {
                // A person had it tried again though nobody knows what became of it.
                return Err(scope.park(Why::Doubt, in_doubt(attempt)));
            }
            let Some(kept) = kept.filter(|kept| kept.writes && kept.result.is_ok()) else { continue };
            // The hash is of the function's name too.
            if kept.hash == request.hash {
                break;
            }
            if scope.retry_again {
                return Ok(None);
            }
            let detail = format!(
                "{name} succeeded with other arguments or on another connection in attempt {attempt}, and doing it again may do it twice"
            );
            return Err(scope.park(Why::Differs, Fault::of_code("retry-differs", detail)));
        }
        let earlier = self.earlier(ordinal).await?;
        let (place, doubtful) = (earlier.take(&request.hash, ordinal), earlier.doubtful.get(&request.hash).copied());
        let scope = &self.scope;
        let Some((attempt, ordinal)) = place else {
            let Some((attempt, _)) = doubtful else { return Ok(None) };
            return Err(scope.park(Why::Doubt, in_doubt(attempt)));
        };
        let kept = scope.kept(&scope.call(attempt, ordinal)).await?;
        Ok(kept.map(|kept| {
            let how = if kept.how == How::Holds { How::ReusedHolds } else { How::Reused };
            Answer { how, ..kept }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier(done: &[(&str, Place)]) -> Earlier {
        let mut earlier = Earlier::default();
        for (hash, place) in done {
            earlier.done.entry((*hash).to_owned()).or_default().insert(*place);
        }
        earlier
    }

    #[test]
    fn a_success_answers_once_at_its_place_before_others() {
        let mut earlier = earlier(&[("a", (1, 2)), ("a", (1, 4)), ("b", (1, 3)), ("a", (2, 4))]);
        assert_eq!(earlier.find("a", 4), Some((2, 4)), "the last attempt's");
        earlier.answered("a", 4);
        assert_eq!(earlier.find("a", 4), Some((1, 4)));
        earlier.answered("a", 4);
        assert_eq!(earlier.find("a", 4), Some((1, 4)), "the same call, made once more");
        earlier.answered("a", 5);
        assert_eq!(earlier.find("a", 4), Some((1, 4)), "the first that is left");
        earlier.answered("a", 6);
        assert_eq!(earlier.find("a", 4), None, "all have answered");
        assert_eq!(earlier.find("b", 0), Some((1, 3)));
        assert_eq!(earlier.find("c", 0), None);
    }
}
