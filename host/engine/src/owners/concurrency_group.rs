//! The owners of concurrency groups: who is in, who waits, who has to go (semantics, section 3).
//!
//! A run asks, by its core's command, and is told by a message; no record is of two runs. Held in memory, and made again
//! at start from the marks of the open runs. Whatever was lost on the way is asked or told again, which changes nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bellhop_core::definition::WhenFull;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Group};

/// A run in a group.
#[derive(Debug, Clone)]
struct Member {
    run: RunId,
    limit: u32,
    when_full: WhenFull,
    admitted: bool,
    /// It was told to make room.
    displaced: bool,
}

/// Something to tell a run.
pub(crate) type Message = (RunId, Cause);

/// The order in which members asked. Those that were there when the process started asked before all others, in the order
/// of their names, since runs are named by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    Restored(RunId),
    Asked(u64),
}

/// The members of one group. Every step costs about as much in a group of many as in a small one: a queue of a hundred
/// thousand runs is moved on a hundred thousand times.
#[derive(Default)]
struct Members {
    by_turn: BTreeMap<Turn, Member>,
    /// How many have their place.
    admitted: usize,
    /// All that came before were told to make room, or have their place.
    settled: Option<Turn>,
}

/// All groups.
#[derive(Default)]
pub(crate) struct Groups {
    all: Mutex<All>,
}

#[derive(Default)]
struct All {
    groups: BTreeMap<String, Members>,
    /// In which group a run is, and where.
    runs: HashMap<RunId, (String, Turn)>,
    asked: u64,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run back where it was when the process ended.
    pub(crate) fn restore(&self, run: RunId, group: &Group, admitted: bool) {
        self.lock().join(Turn::Restored(run), Member::of(run, group, admitted), &group.name);
    }

    /// What follows from everything that was put back.
    pub(crate) fn restored(&self) -> Vec<Message> {
        self.lock().groups.values_mut().flat_map(Members::settle).collect()
    }

    /// Whether one more run would be refused.
    pub(crate) fn refuses(&self, group: &Group) -> bool {
        group.when_full == WhenFull::Reject && self.lock().is_full(group)
    }

    /// A run asks for a place. Asking again is told again.
    pub(crate) fn ask(&self, run: RunId, group: &Group) -> Vec<Message> {
        let mut all = self.lock();
        if let Some(member) = all.member(run) {
            if member.admitted {
                return vec![(run, Cause::Admitted)];
            }
        } else if group.when_full == WhenFull::Reject && all.is_full(group) {
            return vec![(run, Cause::Rejected)];
        } else {
            all.asked += 1;
            let turn = Turn::Asked(all.asked);
            all.join(turn, Member::of(run, group, false), &group.name);
        }
        all.groups.get_mut(&group.name).map(Members::settle).unwrap_or_default()
    }

    /// A run has ended: whoever is next has its place.
    pub(crate) fn leave(&self, run: RunId) -> Vec<Message> {
        let mut all = self.lock();
        let Some((name, turn)) = all.runs.remove(&run) else { return Vec::new() };
        let Some(members) = all.groups.get_mut(&name) else { return Vec::new() };
        members.leave(turn);
        let messages = members.settle();
        if members.by_turn.is_empty() {
            all.groups.remove(&name);
        }
        messages
    }
}

impl All {
    fn member(&self, run: RunId) -> Option<&Member> {
        let (name, turn) = self.runs.get(&run)?;
        self.groups.get(name)?.by_turn.get(turn)
    }

    fn is_full(&self, group: &Group) -> bool {
        self.groups.get(&group.name).is_some_and(|members| members.by_turn.len() >= group.limit as usize)
    }

    fn join(&mut self, turn: Turn, member: Member, name: &str) {
        if self.runs.contains_key(&member.run) {
            return;
        }
        self.runs.insert(member.run, (name.to_owned(), turn));
        let members = self.groups.entry(name.to_owned()).or_default();
        members.admitted += usize::from(member.admitted);
        members.by_turn.insert(turn, member);
    }
}

impl Member {
    fn of(run: RunId, group: &Group, admitted: bool) -> Self {
        Self { run, limit: group.limit, when_full: group.when_full, admitted, displaced: false }
    }
}

impl Members {
    fn leave(&mut self, turn: Turn) {
        if let Some(gone) = self.by_turn.remove(&turn) {
            self.admitted -= usize::from(gone.admitted);
        }
    }

    /// What members are to be told: the older to make room for the newer where the newest says so, then the next in turn
    /// that they have their place. A member that makes room has its place until it has ended.
    fn settle(&mut self) -> Vec<Message> {
        let mut messages = self.make_room();
        // Whoever has its place or makes room stays so: the look goes on where it ended the last time.
        let from = self.settled.map_or(Bound::Unbounded, Bound::Excluded);
        for (turn, member) in self.by_turn.range_mut((from, Bound::Unbounded)) {
            if !member.admitted && !member.displaced {
                if self.admitted >= member.limit as usize {
                    break;
                }
                member.admitted = true;
                self.admitted += 1;
                messages.push((member.run, Cause::Admitted));
            }
            self.settled = Some(*turn);
        }
        messages
    }

    fn make_room(&mut self) -> Vec<Message> {
        let Some((_, last)) = self.by_turn.last_key_value() else { return Vec::new() };
        if !matches!(last.when_full, WhenFull::Supersede | WhenFull::Cancel) {
            return Vec::new();
        }
        // The newest is the one that was accepted last, whoever asks last: a run's first decision may be made before that of
        // the run which came before it.
        let newest = self.by_turn.values().max_by_key(|member| member.run).unwrap_or(last);
        let (by, rollback, limit) = (newest.run, newest.when_full == WhenFull::Cancel, newest.limit as usize);
        let mut runs: Vec<RunId> = self.by_turn.values().map(|member| member.run).collect();
        runs.sort_unstable();
        let Some(first_to_stay) = runs.get(runs.len().saturating_sub(limit)).copied() else { return Vec::new() };
        let mut messages = Vec::new();
        for old in self.by_turn.values_mut().filter(|member| !member.displaced && member.run < first_to_stay) {
            old.displaced = true;
            messages.push((old.run, Cause::Displaced { by, rollback }));
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use bellhop_core::time::Timestamp;

    use super::*;

    fn run(n: u64) -> RunId {
        RunId::new(Timestamp::from_millis(n), 1)
    }

    fn group(limit: u32, when_full: WhenFull) -> Group {
        Group { name: "g".to_owned(), limit, when_full }
    }

    #[test]
    fn one_at_a_time_in_turn() {
        let groups = Groups::default();
        let g = group(1, WhenFull::Queue);
        assert_eq!(groups.ask(run(1), &g), [(run(1), Cause::Admitted)]);
        assert_eq!(groups.ask(run(1), &g), [(run(1), Cause::Admitted)], "asked again, told again");
        assert_eq!(groups.ask(run(2), &g), []);
        assert_eq!(groups.ask(run(3), &g), []);
        assert_eq!(groups.leave(run(2)), [], "one that waits gives up its turn only");
        assert_eq!(groups.leave(run(1)), [(run(3), Cause::Admitted)]);
        assert_eq!(groups.leave(run(3)), []);
        assert!(groups.lock().groups.is_empty() && groups.lock().runs.is_empty());
    }

    #[test]
    fn the_newest_is_the_one_that_was_accepted_last_whoever_asks_first() {
        for (when_full, rollback) in [(WhenFull::Supersede, false), (WhenFull::Cancel, true)] {
            let groups = Groups::default();
            let g = group(1, when_full);
            assert_eq!(groups.ask(run(2), &g), [(run(2), Cause::Admitted)]);
            assert_eq!(groups.ask(run(1), &g), [(run(1), Cause::Displaced { by: run(2), rollback })]);
            assert_eq!(groups.leave(run(1)), []);
            assert_eq!(groups.leave(run(2)), []);
            let g = group(2, when_full);
            for asks in [3, 1] {
                assert_eq!(groups.ask(run(asks), &g), [(run(asks), Cause::Admitted)]);
            }
            assert_eq!(groups.ask(run(2), &g), [(run(1), Cause::Displaced { by: run(3), rollback })]);
            assert_eq!(groups.leave(run(1)), [(run(2), Cause::Admitted)]);
        }
    }

    #[test]
    fn a_full_group_refuses() {
        let groups = Groups::default();
        let g = group(2, WhenFull::Reject);
        groups.ask(run(1), &g);
        assert!(!groups.refuses(&g));
        groups.ask(run(2), &g);
        assert!(groups.refuses(&g));
        assert_eq!(groups.ask(run(3), &g), [(run(3), Cause::Rejected)]);
        groups.leave(run(1));
        assert_eq!(groups.ask(run(4), &g), [(run(4), Cause::Admitted)]);
    }

    #[test]
    fn the_newest_wins_when_the_older_have_ended() {
        for (when_full, rollback) in [(WhenFull::Supersede, false), (WhenFull::Cancel, true)] {
            let groups = Groups::default();
            let g = group(1, when_full);
            groups.ask(run(1), &g);
            assert_eq!(groups.ask(run(2), &g), [(run(1), Cause::Displaced { by: run(2), rollback })]);
            // One that has not begun makes room as well; the oldest was told already.
            assert_eq!(groups.ask(run(3), &g), [(run(2), Cause::Displaced { by: run(3), rollback })]);
            assert_eq!(groups.leave(run(2)), []);
            assert_eq!(groups.leave(run(1)), [(run(3), Cause::Admitted)]);
        }
    }

    #[test]
    fn what_was_lost_is_told_again() {
        let groups = Groups::default();
        let g = group(1, WhenFull::Supersede);
        groups.restore(run(2), &g, false);
        groups.restore(run(1), &g, true);
        assert_eq!(groups.restored(), [(run(1), Cause::Displaced { by: run(2), rollback: false })]);
        let groups = Groups::default();
        groups.restore(run(2), &g, false);
        assert_eq!(groups.restored(), [(run(2), Cause::Admitted)]);
    }
    /// Each of these goes through all that are there, if anything does: then it takes minutes.
    #[test]
    fn house_a5_a_crowd_in_one_group_is_moved_on_one_by_one() {
        const CROWD: u64 = 100_000;
        let groups = Groups::default();
        let g = group(2, WhenFull::Queue);
        for n in (0..CROWD / 2).rev() {
            groups.restore(run(n), &g, n < 2);
        }
        assert_eq!(groups.restored(), []);
        for n in CROWD / 2..CROWD {
            assert_eq!(groups.ask(run(n), &g), []);
        }
        for n in 0..CROWD - 2 {
            assert_eq!(groups.leave(run(n)), [(run(n + 2), Cause::Admitted)]);
        }
        assert_eq!(groups.leave(run(CROWD)), [], "one that is in no group");
    }

    #[test]
    fn one_that_waits_behind_others_of_a_smaller_limit_waits_for_them() {
        let groups = Groups::default();
        assert_eq!(groups.ask(run(1), &group(1, WhenFull::Queue)), [(run(1), Cause::Admitted)]);
        assert_eq!(groups.ask(run(2), &group(1, WhenFull::Queue)), []);
        assert_eq!(groups.ask(run(3), &group(5, WhenFull::Queue)), [], "it is not its turn");
        assert_eq!(groups.leave(run(1)), [(run(2), Cause::Admitted), (run(3), Cause::Admitted)]);
    }

    /// Members that make room while others have theirs, and a place that is free in front of them.
    #[test]
    fn whoever_makes_room_is_passed_over_and_counts_until_it_has_ended() {
        let groups = Groups::default();
        let queue = group(2, WhenFull::Queue);
        groups.ask(run(1), &queue);
        groups.ask(run(2), &queue);
        assert_eq!(groups.ask(run(3), &queue), []);
        let displaced = |old: u64| (run(old), Cause::Displaced { by: run(4), rollback: false });
        assert_eq!(groups.ask(run(4), &group(2, WhenFull::Supersede)), [displaced(1), displaced(2)]);
        assert_eq!(groups.leave(run(2)), [(run(3), Cause::Admitted)]);
        assert_eq!(groups.leave(run(1)), [(run(4), Cause::Admitted)]);
    }
}
