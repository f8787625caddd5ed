//! Who may have an instance, and who waits for one.
//!
//! A place is counted by what a component needs: a call, memories, tables, and the most that its memories can grow to.
//! So an instance that has its place is never refused by the pool, and a memory that grows takes nothing from anybody.
//!
//! Plugins take turns. Of one plugin, who came first is first; the plugin whose turn it is waits until there is enough
//! for it, and nobody passes it, because what is large would otherwise wait for ever beside what is small. A plugin
//! that has its share is passed over, because it waits for its own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::digest::Digest;
use tokio::sync::oneshot;

/// Of everything, one part in so many is left to other plugins.
const RESERVED_PART: u64 = 8;
/// Where there are fewer places than this, none is reserved: a plugin would have none itself.
const RESERVED_FROM: u64 = 4;

/// What one guest needs, or what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) calls: u64,
    pub(super) memories: u64,
    pub(super) tables: u64,
    /// The most that all of its memories together can grow to.
    pub(super) memory_bytes: u64,
}

impl Needs {
    const NOTHING: Self = Self { calls: 0, memories: 0, tables: 0, memory_bytes: 0 };

    fn with(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            calls: each(self.calls, other.calls),
            memories: each(self.memories, other.memories),
            tables: each(self.tables, other.tables),
            memory_bytes: each(self.memory_bytes, other.memory_bytes),
        }
    }

    fn and(self, other: Self) -> Self {
        self.with(other, u64::saturating_add)
    }

    fn without(self, other: Self) -> Self {
        self.with(other, u64::saturating_sub)
    }

    fn fits(self, into: Self) -> bool {
        self.with(into, u64::min) == self
    }

    /// How many such guests there is room for here.
    fn holds(self, guest: Self) -> u64 {
        let each = self.with(guest, |have, need| have.checked_div(need).unwrap_or(u64::MAX));
        each.calls.min(each.memories).min(each.tables).min(each.memory_bytes)
    }
}

/// All places. Cheap to clone.
#[derive(Clone)]
pub(super) struct Places {
    line: Arc<Mutex<Line>>,
}

struct Line {
    capacity: Needs,
    taken: Needs,
    /// Plugins that have a place or wait for one.
    crowds: HashMap<Digest, Crowd>,
    /// Those of them that wait, in the order of their turns.
    turns: VecDeque<Digest>,
    next_ticket: u64,
}

struct Crowd {
    taken: Needs,
    /// By ticket, so that whoever gives up leaves without a search.
    waiting: BTreeMap<u64, Waiter>,
}

struct Waiter {
    needs: Needs,
    tell: oneshot::Sender<Place>,
}

impl Places {
    pub(super) fn new(capacity: Needs) -> Self {
        let (crowds, turns) = (HashMap::new(), VecDeque::new());
        let line = Line { capacity, taken: Needs::NOTHING, crowds, turns, next_ticket: 0 };
        Self { line: Arc::new(Mutex::new(line)) }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing between two changes of a line can panic.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Guests with these needs that there is room for now.
    pub(super) fn free(&self, guest: Needs) -> u64 {
        let line = self.line();
        line.capacity.without(line.taken).holds(guest)
    }

    /// Guests that there are now, and those that wait for a place.
    pub(super) fn crowd(&self) -> (u64, u64) {
        let line = self.line();
        (line.taken.calls, line.crowds.values().map(|crowd| crowd.waiting.len() as u64).sum())
    }

    /// Guests with these needs that one plugin can have when there is nobody else.
    pub(super) fn of_one_plugin(&self, guest: Needs) -> u64 {
        self.line().share(guest).holds(guest)
    }

    /// Waits for a place; it is given back when the result is dropped. What no place could ever hold is counted as all
    /// that there is.
    pub(super) async fn take(&self, plugin: Digest, needs: Needs) -> Place {
        let (ticket, told) = {
            let mut line = self.line();
            let needs = needs.with(line.capacity, u64::min);
            if line.turns.is_empty() && line.has_room(&plugin, needs) {
                line.hand_out(plugin, needs);
                return self.place(plugin, needs);
            }
            let (tell, told) = oneshot::channel();
            (line.join(plugin, Waiter { needs, tell }), told)
        };
        let left = Left { places: self, plugin, ticket };
        self.settle();
        let place = told.await;
        drop(left);
        match place {
            Ok(place) => place,
            // The other end is in the line, which we hold: it goes only with its place.
            Err(_) => std::future::pending().await,
        }
    }

    fn place(&self, plugin: Digest, needs: Needs) -> Place {
        Place { places: self.clone(), plugin, needs }
    }

    /// Gives places to whoever's turn it is, for as long as there are any.
    fn settle(&self) {
        loop {
            let granted = self.line().next();
            let Some((plugin, Waiter { needs, tell })) = granted else { return };
            // Whoever has given up meanwhile hands it back, which needs the line: it must not be held here.
            drop(tell.send(self.place(plugin, needs)));
        }
    }
}

impl Line {
    fn taken_by(&self, plugin: &Digest) -> Needs {
        self.crowds.get(plugin).map_or(Needs::NOTHING, |crowd| crowd.taken)
    }

    /// What one plugin can have: all but what is left to others, and always enough for one guest.
    fn share(&self, guest: Needs) -> Needs {
        let most = |all: u64, need: u64| {
            let reserved = if all < RESERVED_FROM { 0 } else { all.div_ceil(RESERVED_PART) };
            (all - reserved).max(need)
        };
        self.capacity.with(guest, most)
    }

    fn is_within_share(&self, plugin: &Digest, needs: Needs) -> bool {
        self.taken_by(plugin).and(needs).fits(self.share(needs))
    }

    fn has_room(&self, plugin: &Digest, needs: Needs) -> bool {
        self.taken.and(needs).fits(self.capacity) && self.is_within_share(plugin, needs)
    }

    fn crowd(&mut self, plugin: Digest) -> &mut Crowd {
        let empty = || Crowd { taken: Needs::NOTHING, waiting: BTreeMap::new() };
        self.crowds.entry(plugin).or_insert_with(empty)
    }

    fn hand_out(&mut self, plugin: Digest, needs: Needs) {
        self.taken = self.taken.and(needs);
        let crowd = self.crowd(plugin);
        crowd.taken = crowd.taken.and(needs);
    }

    fn join(&mut self, plugin: Digest, waiter: Waiter) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let crowd = self.crowd(plugin);
        let is_first = crowd.waiting.is_empty();
        crowd.waiting.insert(ticket, waiter);
        if is_first {
            self.turns.push_back(plugin);
        }
        ticket
    }

    /// Whoever is to have a place now; it is counted as taken already.
    fn next(&mut self) -> Option<(Digest, Waiter)> {
        let needs_of = |line: &Self, plugin: &Digest| {
            line.crowds.get(plugin).and_then(|crowd| crowd.waiting.values().next()).map(|waiter| waiter.needs)
        };
        let first = self
            .turns
            .iter()
            .position(|plugin| needs_of(self, plugin).is_none_or(|needs| self.is_within_share(plugin, needs)))?;
        let plugin = *self.turns.get(first)?;
        let needs = needs_of(self, &plugin)?;
        if !self.taken.and(needs).fits(self.capacity) {
            return None;
        }
        self.turns.remove(first);
        let crowd = self.crowds.get_mut(&plugin)?;
        let (_, waiter) = crowd.waiting.pop_first()?;
        if !crowd.waiting.is_empty() {
            self.turns.push_back(plugin);
        }
        self.hand_out(plugin, needs);
        Some((plugin, waiter))
    }

    fn forget_if_idle(&mut self, plugin: &Digest) {
        if self.crowds.get(plugin).is_some_and(|crowd| crowd.taken == Needs::NOTHING && crowd.waiting.is_empty()) {
            self.crowds.remove(plugin);
        }
    }
}

/// Somebody who waits, or waited.
struct Left<'a> {
    places: &'a Places,
    plugin: Digest,
    ticket: u64,
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut line = self.places.line();
        let Some(crowd) = line.crowds.get_mut(&self.plugin) else { return };
        if crowd.waiting.remove(&self.ticket).is_none() {
            // It has had its place.
            return;
        }
        if crowd.waiting.is_empty() {
            line.turns.retain(|plugin| *plugin != self.plugin);
        }
        line.forget_if_idle(&self.plugin);
        drop(line);
        // Those behind may need less.
        self.places.settle();
    }
}

/// One guest's place, until it is dropped.
#[must_use]
pub(super) struct Place {
    places: Places,
    plugin: Digest,
    needs: Needs,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.places.line();
        line.taken = line.taken.without(self.needs);
        if let Some(crowd) = line.crowds.get_mut(&self.plugin) {
            crowd.taken = crowd.taken.without(self.needs);
        }
        line.forget_if_idle(&self.plugin);
        drop(line);
        self.places.settle();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const SMALL: Needs = Needs { calls: 1, memories: 1, tables: 1, memory_bytes: 10 };
    const LARGE: Needs = Needs { calls: 1, memories: 2, tables: 8, memory_bytes: 20 };

    fn places(calls: u64) -> Places {
        Places::new(Needs { calls, memories: 2 * calls, tables: 4 * calls, memory_bytes: 20 * calls })
    }

    fn plugin(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    type Waiting<'a> = Pin<Box<dyn Future<Output = Place> + 'a>>;

    fn ask<'a>(places: &'a Places, name: &str, needs: Needs) -> Waiting<'a> {
        Box::pin(places.take(plugin(name), needs))
    }

    fn poll(waiting: &mut Waiting<'_>) -> Option<Place> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    fn now(places: &Places, name: &str, needs: Needs) -> Place {
        poll(&mut ask(places, name, needs)).expect("there is room")
    }

    #[test]
    fn author_c1_a_place_is_counted_by_what_it_needs() {
        let places = places(8);
        let held: Vec<_> = (0..3).map(|_| now(&places, "a", LARGE)).collect();
        let mut fourth = ask(&places, "b", LARGE);
        let fourth = poll(&mut fourth).expect("four times eight tables are all that there are");
        assert_eq!(places.free(SMALL), 0, "though only four of eight calls are at work");
        assert!(poll(&mut ask(&places, "c", SMALL)).is_none());
        drop(fourth);
        assert_eq!(places.free(SMALL), 5);
        drop(held);
        assert_eq!(places.free(LARGE), 4);
    }

    #[test]
    fn author_c1_one_plugins_crowd_leaves_room_for_the_others() {
        let places = places(16);
        let crowd: Vec<_> = (0..14).map(|_| now(&places, "crowd", SMALL)).collect();
        let mut more: Vec<_> = (0..100).map(|_| ask(&places, "crowd", SMALL)).collect();
        assert!(more.iter_mut().all(|waiting| poll(waiting).is_none()), "the last eighth is not its own");
        let other = now(&places, "other", SMALL);
        let another = now(&places, "another", SMALL);
        drop(crowd);
        let next: Vec<_> = more.iter_mut().filter_map(poll).collect();
        assert_eq!(next.len(), 14);
        drop((other, another));
    }

    /// A line of small ones would otherwise pass it for ever.
    #[test]
    fn author_c1_what_is_large_is_not_passed() {
        let places = places(8);
        let mut held: Vec<_> = (0..3).map(|_| now(&places, "a", LARGE)).collect();
        held.extend((0..2).map(|_| now(&places, "small", SMALL)));
        let mut large = ask(&places, "large", LARGE);
        assert!(poll(&mut large).is_none());
        let mut small = ask(&places, "small", SMALL);
        assert!(poll(&mut small).is_none(), "there is room for it, and somebody before it");
        held.pop();
        assert!(poll(&mut large).is_none() && poll(&mut small).is_none());
        held.pop();
        let large = poll(&mut large).expect("it is its turn");
        assert!(poll(&mut small).is_none());
        drop(large);
        drop(poll(&mut small).expect("and then the small one's"));
    }

    #[test]
    fn plugins_take_turns() {
        let places = places(2);
        let held = [now(&places, "a", SMALL), now(&places, "a", SMALL)];
        let mut crowd: Vec<_> = (0..10).map(|_| ask(&places, "a", SMALL)).collect();
        assert!(crowd.iter_mut().all(|waiting| poll(waiting).is_none()));
        let mut other = ask(&places, "b", SMALL);
        assert!(poll(&mut other).is_none());
        let [first, second] = held;
        drop(first);
        let one = crowd.iter_mut().find_map(poll).expect("who came first is first");
        drop(second);
        let other = poll(&mut other).expect("the second turn is the other plugin's");
        drop((one, other));
    }

    #[test]
    fn whoever_gives_up_leaves_nothing_behind() {
        let places = places(2);
        let held = [now(&places, "a", SMALL), now(&places, "a", SMALL)];
        {
            let mut gone: Vec<_> = (0..1_000).map(|_| ask(&places, "b", LARGE)).collect();
            assert!(gone.iter_mut().all(|waiting| poll(waiting).is_none()));
        }
        assert_eq!(places.line().crowds.len(), 1);
        assert!(places.line().turns.is_empty());
        let mut given = ask(&places, "c", SMALL);
        assert!(poll(&mut given).is_none());
        drop(held);
        // Its place is on its way when it goes.
        drop(given);
        assert!(places.line().crowds.is_empty());
        assert_eq!(places.free(SMALL), 2);
    }

    /// Whoever comes, goes and gives up, in any order: never more is handed out than there is, nobody waits while nobody
    /// has a place, and at the end all of it is there again.
    #[test]
    fn whatever_happens_the_sums_are_right() {
        let mut state = 1_u64;
        let mut dice = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        for capacity in 1..10 {
            let places = places(capacity);
            let (mut held, mut waiting): (Vec<Place>, Vec<Waiting<'_>>) = (Vec::new(), Vec::new());
            for _ in 0..3_000 {
                match dice(5) {
                    0 | 1 if waiting.len() < 50 => {
                        let needs = if dice(3) == 0 { LARGE } else { SMALL };
                        waiting.push(ask(&places, ["a", "b", "c"][usize::try_from(dice(3)).unwrap()], needs));
                    }
                    2 if !held.is_empty() => drop(held.swap_remove(usize::try_from(dice(held.len() as u64)).unwrap())),
                    3 if !waiting.is_empty() => {
                        drop(waiting.swap_remove(usize::try_from(dice(waiting.len() as u64)).unwrap()));
                    }
                    _ => {}
                }
                waiting.retain_mut(|waits| match poll(waits) {
                    Some(place) => {
                        held.push(place);
                        false
                    }
                    None => true,
                });
                let line = places.line();
                assert!(line.taken.fits(line.capacity));
                assert!(!held.is_empty() || waiting.is_empty(), "somebody waits for nothing");
                let sum = held.iter().fold(Needs::NOTHING, |sum, place| sum.and(place.needs));
                assert_eq!(sum, line.taken);
            }
            drop((held, waiting));
            assert_eq!(places.line().taken, Needs::NOTHING);
            assert!(places.line().crowds.is_empty() && places.line().turns.is_empty());
        }
    }

    /// A machine so small that it has not even that still runs one guest at a time.
    #[test]
    fn one_guest_always_has_a_place() {
        let places = Places::new(Needs { calls: 4, memories: 4, tables: 4, memory_bytes: 5 });
        let only = now(&places, "a", LARGE);
        assert!(poll(&mut ask(&places, "b", SMALL)).is_none());
        drop(only);
        drop(now(&places, "b", SMALL));
    }
}
