//! The owners of concurrency groups: who is in, who waits, who has to go (semantics, section 3).
//!
//! A run asks, by its core's command, and is told by a message; no record is of two runs. Held in memory, and made again
//! at start from the marks of the open runs. Whatever was lost on the way is asked or told again, which changes nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bellhop_core::definition::WhenFull;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Group};

use crate::faults::{Plant, planted};

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

/// All groups.
#[derive(Default)]
pub(crate) struct Groups {
    /// The members of each, in the order in which they asked.
    members: Mutex<BTreeMap<String, Vec<Member>>>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Member>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a run back where it was when the process ended.
    pub(crate) fn restore(&self, run: RunId, group: &Group, admitted: bool) {
        let mut all = self.lock();
        let members = all.entry(group.name.clone()).or_default();
        if members.iter().all(|m| m.run != run) {
            members.push(Member::of(run, group, admitted));
            // Runs are named by time.
            members.sort_by_key(|m| m.run);
        }
    }

    /// What follows from everything that was put back.
    pub(crate) fn restored(&self) -> Vec<Message> {
        self.lock().values_mut().flat_map(|members| settle(members)).collect()
    }

    /// Whether one more run would be refused.
    pub(crate) fn refuses(&self, group: &Group) -> bool {
        let full = |members: &Vec<Member>| members.len() >= group.limit as usize;
        group.when_full == WhenFull::Reject && self.lock().get(&group.name).is_some_and(full)
    }

    /// A run asks for a place. Asking again is told again.
    pub(crate) fn ask(&self, run: RunId, group: &Group) -> Vec<Message> {
        let mut all = self.lock();
        let members = all.entry(group.name.clone()).or_default();
        match members.iter().find(|m| m.run == run) {
            Some(member) if member.admitted => return vec![(run, Cause::Admitted)],
            Some(_) => {}
            None if group.when_full == WhenFull::Reject && members.len() >= group.limit as usize => {
                return vec![(run, Cause::Rejected)];
            }
            None => members.push(Member::of(run, group, false)),
        }
        settle(members)
    }

    /// A run has ended: whoever is next has its place.
    pub(crate) fn leave(&self, run: RunId) -> Vec<Message> {
        let mut messages = Vec::new();
        self.lock().retain(|_, members| {
            let before = members.len();
            members.retain(|m| m.run != run);
            if members.len() < before {
                messages.extend(settle(members));
            }
            !members.is_empty()
        });
        messages
    }
}

impl Member {
    fn of(run: RunId, group: &Group, admitted: bool) -> Self {
        Self { run, limit: group.limit, when_full: group.when_full, admitted, displaced: false }
    }
}

/// What members are to be told: the older to make room for the newer where the newest says so, then the next in turn
/// that they have their place. A member that makes room has its place until it has ended.
fn settle(members: &mut [Member]) -> Vec<Message> {
    let mut messages = Vec::new();
    if let Some(newest) = members.last().cloned()
        && matches!(newest.when_full, WhenFull::Supersede | WhenFull::Cancel)
    {
        let stay = members.len().saturating_sub(newest.limit as usize);
        let rollback = newest.when_full == WhenFull::Cancel;
        for old in members[..stay].iter_mut().filter(|m| !m.displaced) {
            old.displaced = true;
            messages.push((old.run, Cause::Displaced { by: newest.run, rollback }));
        }
    }
    let held = members.iter().filter(|m| m.admitted).count();
    for (held, member) in (held..).zip(members.iter_mut().filter(|m| !m.admitted && !m.displaced)) {
        if held >= member.limit as usize && !planted(Plant::IgnoreGroupLimit) {
            break;
        }
        member.admitted = true;
        messages.push((member.run, Cause::Admitted));
    }
    messages
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
        assert!(groups.lock().is_empty());
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
}
