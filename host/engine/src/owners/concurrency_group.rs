//! The owners of concurrency groups: who is in, who waits, who has to go (semantics, section 3).
//!
//! A run asks, and is told, by mail. An owner keeps a row for each member, which it changes in the batch that consumes the
//! message and posts the answers; so a start reads the rows, and no run.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bellhop_core::definition::WhenFull;
use bellhop_core::id::RunId;
use bellhop_core::run::Group;
use serde::{Deserialize, Serialize};

use crate::mail::{self, Mail, Message, Told, Wish};
use bellhop_journal::key::{self, Parts, Space};
use bellhop_journal::{self as journal, Journal, Write};

/// So many members are changed in one batch; where a message changes more, it is consumed in the last one.
const CHANGES_PER_BATCH_MAX: usize = 1_000;

/// A run in a group; its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Member {
    /// Which.
    pub run: RunId,
    /// The group as the run knows it.
    pub group: Group,
    /// It has its place.
    pub admitted: bool,
    /// It was told to make room.
    pub displaced: bool,
}

/// What a message has changed of a member, and what its run is told.
#[derive(Debug, PartialEq)]
struct Change {
    turn: u64,
    run: RunId,
    told: Option<Told>,
}

/// The members of one group, in the order in which they asked. Every step costs about as much in a group of many as in a
/// small one: a queue of a hundred thousand runs is moved on a hundred thousand times.
#[derive(Default)]
struct Members {
    by_turn: BTreeMap<u64, Member>,
    /// How many have their place.
    admitted: usize,
    /// All that came before were told to make room, or have their place.
    settled: Option<u64>,
}

/// The members of all groups.
#[derive(Default)]
struct All {
    groups: BTreeMap<String, Members>,
    /// In which group a run is, and its turn.
    runs: HashMap<RunId, (String, u64)>,
    asked: u64,
}

/// All groups.
pub(crate) struct Groups {
    journal: Journal,
    mail: Mail,
    all: Mutex<All>,
}

impl Groups {
    /// As the rows have them.
    pub(crate) async fn read(journal: Journal, mail: Mail) -> Result<Self, journal::Error> {
        let groups = Self { journal, mail, all: Mutex::default() };
        groups.read_again().await?;
        Ok(groups)
    }

    /// The same, of one that nobody has asked for anything.
    pub(crate) async fn read_again(&self) -> Result<(), journal::Error> {
        let mut all = All::default();
        for (turn, member) in rows(&self.journal).await? {
            all.asked = all.asked.max(turn);
            all.put(turn, member);
        }
        *self.lock() = all;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more run would be refused.
    pub(crate) fn refuses(&self, group: &Group) -> bool {
        group.when_full == WhenFull::Reject && self.lock().is_full(group)
    }

    /// The group in which a run has a place, or waits for one.
    pub(crate) fn group_of(&self, run: RunId) -> Option<String> {
        self.lock().runs.get(&run).map(|(group, _)| group.clone())
    }

    /// Does what a run wishes, and consumes the message. One message after the other: the rows are written in the order in
    /// which members change. After Ok the rows are as the members, and whoever has to hear of it does.
    pub(crate) async fn hear(&self, id: mail::Id, group: &str, wish: &Wish) -> Result<(), journal::Error> {
        let (changes, rows) = {
            let mut all = self.lock();
            let changes = match wish {
                Wish::Join { run, group, admitted } => all.join(*run, group, *admitted),
                Wish::Leave { run } => all.leave(*run, group),
            };
            let rows: Vec<Option<Member>> = changes.iter().map(|change| all.row(group, change.turn)).collect();
            (changes, rows)
        };
        let all: Vec<(Change, Option<Member>)> = changes.into_iter().zip(rows).collect();
        let mut batches = all.chunks(CHANGES_PER_BATCH_MAX).peekable();
        loop {
            let batch = batches.next().unwrap_or_default();
            let mut write = Write::new();
            let mut posted = Vec::new();
            for (Change { turn, run, told }, row) in batch {
                match row {
                    Some(row) => write.put(&key::member(group, *turn), row)?,
                    None if *turn > 0 => write.delete(&key::member(group, *turn)),
                    None => {}
                }
                if let Some(told) = told {
                    posted.push(self.mail.post(&mut write, Message::Run { run: *run, told: *told })?);
                }
            }
            let is_last = batches.peek().is_none();
            if is_last {
                id.consume(&mut write);
            }
            self.journal.commit_or_wait(write).await?;
            self.mail.hand_over(posted);
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The rows of all members, with their turns.
pub(crate) async fn rows(journal: &Journal) -> Result<Vec<(u64, Member)>, journal::Error> {
    let mut rows = Vec::new();
    let mut all = journal.list::<Member>(Space::Member, &key::all(Space::Member));
    while let Some(record) = all.next().await {
        let (key, member) = record?;
        let turn = Parts::of(Space::Member, &key).and_then(|mut parts| {
            let (_group, _digest) = (parts.partition()?, parts.digest()?);
            parts.number()
        });
        rows.extend(turn.map(|turn| (turn, member)));
    }
    Ok(rows)
}

impl All {
    fn row(&self, group: &str, turn: u64) -> Option<Member> {
        self.groups.get(group)?.by_turn.get(&turn).cloned()
    }

    fn is_full(&self, group: &Group) -> bool {
        self.groups.get(&group.name).is_some_and(|members| members.by_turn.len() >= group.limit as usize)
    }

    fn put(&mut self, turn: u64, member: Member) {
        self.runs.insert(member.run, (member.group.name.clone(), turn));
        let members = self.groups.entry(member.group.name.clone()).or_default();
        members.admitted += usize::from(member.admitted);
        members.by_turn.insert(turn, member);
    }

    /// A run wants a place. One that has asked before keeps its turn.
    fn join(&mut self, run: RunId, group: &Group, admitted: bool) -> Vec<Change> {
        if !self.runs.contains_key(&run) {
            if !admitted && group.when_full == WhenFull::Reject && self.is_full(group) {
                // It is no member: there is no row.
                return vec![Change { turn: 0, run, told: Some(Told::Rejected) }];
            }
            self.asked += 1;
            self.put(self.asked, Member { run, group: group.clone(), admitted, displaced: false });
        }
        let turn = self.runs.get(&run).map_or(0, |(_, turn)| *turn);
        let members = self.groups.entry(group.name.clone()).or_default();
        let mut changes = vec![Change { turn, run, told: None }];
        changes.extend(members.settle());
        changes
    }

    /// A run wants no place any more: whoever is next has it.
    fn leave(&mut self, run: RunId, name: &str) -> Vec<Change> {
        let Some(members) = self.groups.get_mut(name) else { return Vec::new() };
        let mut changes = Vec::new();
        if let Some((_, turn)) = self.runs.remove(&run) {
            members.leave(turn);
            changes.push(Change { turn, run, told: None });
        }
        changes.extend(members.settle());
        if members.by_turn.is_empty() {
            self.groups.remove(name);
        }
        changes
    }
}

impl Members {
    fn leave(&mut self, turn: u64) {
        if let Some(gone) = self.by_turn.remove(&turn) {
            self.admitted -= usize::from(gone.admitted);
        }
    }

    /// What members are to be told: the older to make room for the newer where the newest says so, then the next in turn
    /// that they have their place. A member that makes room has its place until it has ended.
    fn settle(&mut self) -> Vec<Change> {
        let mut changes = self.make_room();
        // Whoever has its place or makes room stays so: the look goes on where it ended the last time.
        let from = self.settled.map_or(Bound::Unbounded, Bound::Excluded);
        for (turn, member) in self.by_turn.range_mut((from, Bound::Unbounded)) {
            if !member.admitted && !member.displaced {
                if self.admitted >= member.group.limit as usize {
                    break;
                }
                member.admitted = true;
                self.admitted += 1;
                changes.push(Change { turn: *turn, run: member.run, told: Some(Told::Admitted) });
            }
            self.settled = Some(*turn);
        }
        changes
    }

    fn make_room(&mut self) -> Vec<Change> {
        let Some((_, last)) = self.by_turn.last_key_value() else { return Vec::new() };
        if !matches!(last.group.when_full, WhenFull::Supersede | WhenFull::Cancel) {
            return Vec::new();
        }
        // The newest is the one that was accepted last, whoever asks last: a run's first decision may be made before that of
        // the run which came before it.
        let newest = self.by_turn.values().max_by_key(|member| member.run).unwrap_or(last);
        let (by, rollback) = (newest.run, newest.group.when_full == WhenFull::Cancel);
        let limit = newest.group.limit as usize;
        let mut runs: Vec<RunId> = self.by_turn.values().map(|member| member.run).collect();
        runs.sort_unstable();
        let Some(first_to_stay) = runs.get(runs.len().saturating_sub(limit)).copied() else { return Vec::new() };
        let mut changes = Vec::new();
        for (turn, old) in &mut self.by_turn {
            if !old.displaced && old.run < first_to_stay {
                old.displaced = true;
                changes.push(Change { turn: *turn, run: old.run, told: Some(Told::Displaced { by, rollback }) });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bellhop_clock::Manual;
    use bellhop_core::time::Timestamp;
    use bellhop_journal::memory::Memory;

    use super::*;

    impl All {
        fn asks(&mut self, run: RunId, group: &Group) -> Vec<(RunId, Told)> {
            told(self.join(run, group, false))
        }

        fn left(&mut self, run: RunId) -> Vec<(RunId, Told)> {
            told(self.leave(run, "g"))
        }
    }

    fn told(changes: Vec<Change>) -> Vec<(RunId, Told)> {
        changes.into_iter().filter_map(|change| Some((change.run, change.told?))).collect()
    }

    fn run(n: u64) -> RunId {
        RunId::new(Timestamp::from_millis(n), 1)
    }

    fn group(limit: u32, when_full: WhenFull) -> Group {
        Group { name: "g".to_owned(), limit, when_full }
    }

    #[test]
    fn one_at_a_time_in_turn() {
        let mut groups = All::default();
        let g = group(1, WhenFull::Queue);
        assert_eq!(groups.asks(run(1), &g), [(run(1), Told::Admitted)]);
        assert_eq!(groups.asks(run(1), &g), [], "it was told");
        assert_eq!(groups.asks(run(2), &g), []);
        assert_eq!(groups.asks(run(3), &g), []);
        assert_eq!(groups.left(run(2)), [], "one that waits gives up its turn only");
        assert_eq!(groups.left(run(1)), [(run(3), Told::Admitted)]);
        assert_eq!(groups.left(run(3)), []);
        assert!(groups.groups.is_empty() && groups.runs.is_empty());
    }

    #[test]
    fn the_newest_is_the_one_that_was_accepted_last_whoever_asks_first() {
        for (when_full, rollback) in [(WhenFull::Supersede, false), (WhenFull::Cancel, true)] {
            let mut groups = All::default();
            let g = group(1, when_full);
            assert_eq!(groups.asks(run(2), &g), [(run(2), Told::Admitted)]);
            assert_eq!(groups.asks(run(1), &g), [(run(1), Told::Displaced { by: run(2), rollback })]);
            assert_eq!(groups.left(run(1)), []);
            assert_eq!(groups.left(run(2)), []);
            let g = group(2, when_full);
            for asks in [3, 1] {
                assert_eq!(groups.asks(run(asks), &g), [(run(asks), Told::Admitted)]);
            }
            assert_eq!(groups.asks(run(2), &g), [(run(1), Told::Displaced { by: run(3), rollback })]);
            assert_eq!(groups.left(run(1)), [(run(2), Told::Admitted)]);
        }
    }

    #[test]
    fn a_full_group_refuses() {
        let mut groups = All::default();
        let g = group(2, WhenFull::Reject);
        groups.asks(run(1), &g);
        assert!(!groups.is_full(&g));
        groups.asks(run(2), &g);
        assert!(groups.is_full(&g));
        assert_eq!(groups.asks(run(3), &g), [(run(3), Told::Rejected)]);
        groups.left(run(1));
        assert_eq!(groups.asks(run(4), &g), [(run(4), Told::Admitted)]);
    }

    #[test]
    fn the_newest_wins_when_the_older_have_ended() {
        for (when_full, rollback) in [(WhenFull::Supersede, false), (WhenFull::Cancel, true)] {
            let mut groups = All::default();
            let g = group(1, when_full);
            groups.asks(run(1), &g);
            assert_eq!(groups.asks(run(2), &g), [(run(1), Told::Displaced { by: run(2), rollback })]);
            // One that has not begun makes room as well; the oldest was told already.
            assert_eq!(groups.asks(run(3), &g), [(run(2), Told::Displaced { by: run(3), rollback })]);
            assert_eq!(groups.left(run(2)), []);
            assert_eq!(groups.left(run(1)), [(run(3), Told::Admitted)]);
        }
    }

    /// The rows say what the members are, also where the process died between the batches of one message.
    #[tokio::test]
    async fn a_start_reads_what_the_owner_had_and_brings_what_nobody_heard() {
        let journal = Journal::checked(Arc::new(Memory::new()));
        let clock = || Arc::new(Manual::new(Timestamp::from_millis(1)));
        let (mail, mut inbox) = Mail::read(&journal, clock(), 1).await.unwrap();
        let groups = Groups::read(journal.clone(), mail.clone()).await.unwrap();
        let g = group(1, WhenFull::Queue);
        let wishes = [
            Wish::Join { run: run(1), group: g.clone(), admitted: false },
            Wish::Join { run: run(2), group: g.clone(), admitted: false },
            Wish::Leave { run: run(1) },
        ];
        for wish in wishes {
            let mut write = Write::new();
            let posted = mail.post(&mut write, Message::Group { group: "g".to_owned(), wish: wish.clone() }).unwrap();
            journal.commit(write).unwrap();
            mail.hand_over([posted]);
        }
        let next = |inbox: &mut mail::Inbox| inbox.try_recv().ok();
        for _ in 0..2 {
            let Some((id, Message::Group { group, wish })) = next(&mut inbox) else { panic!("a wish") };
            groups.hear(id, &group, &wish).await.unwrap();
        }
        // The process dies here: it had heard two wishes, and nobody had heard the answer.
        let (mail, mut inbox) = Mail::read(&journal, clock(), 2).await.unwrap();
        let groups = Groups::read(journal.clone(), mail).await.unwrap();
        let Some((id, Message::Group { group, wish })) = next(&mut inbox) else { panic!("the third wish") };
        assert_eq!(wish, Wish::Leave { run: run(1) });
        assert_eq!(next(&mut inbox).unwrap().1, Message::Run { run: run(1), told: Told::Admitted });
        groups.hear(id, &group, &wish).await.unwrap();
        assert_eq!(next(&mut inbox).unwrap().1, Message::Run { run: run(2), told: Told::Admitted });
        let kept = rows(&journal).await.unwrap();
        assert_eq!(kept, [(2, Member { run: run(2), group: g, admitted: true, displaced: false })]);
    }

    /// Each of these goes through all that are there, if anything does: then it takes minutes.
    #[test]
    fn house_a5_a_crowd_in_one_group_is_moved_on_one_by_one() {
        const CROWD: u64 = 100_000;
        let mut groups = All::default();
        let g = group(2, WhenFull::Queue);
        for n in 0..CROWD {
            let admitted: &[_] = if n < 2 { &[(run(n), Told::Admitted)] } else { &[] };
            assert_eq!(groups.asks(run(n), &g), admitted);
        }
        for n in 0..CROWD - 2 {
            assert_eq!(groups.left(run(n)), [(run(n + 2), Told::Admitted)]);
        }
        assert_eq!(groups.left(run(CROWD)), [], "one that is in no group");
    }

    #[test]
    fn one_that_waits_behind_others_of_a_smaller_limit_waits_for_them() {
        let mut groups = All::default();
        assert_eq!(groups.asks(run(1), &group(1, WhenFull::Queue)), [(run(1), Told::Admitted)]);
        assert_eq!(groups.asks(run(2), &group(1, WhenFull::Queue)), []);
        assert_eq!(groups.asks(run(3), &group(5, WhenFull::Queue)), [], "it is not its turn");
        assert_eq!(groups.left(run(1)), [(run(2), Told::Admitted), (run(3), Told::Admitted)]);
    }

    /// Members that make room while others have theirs, and a place that is free in front of them.
    #[test]
    fn whoever_makes_room_is_passed_over_and_counts_until_it_has_ended() {
        let mut groups = All::default();
        let queue = group(2, WhenFull::Queue);
        groups.asks(run(1), &queue);
        groups.asks(run(2), &queue);
        assert_eq!(groups.asks(run(3), &queue), []);
        let displaced = |old: u64| (run(old), Told::Displaced { by: run(4), rollback: false });
        assert_eq!(groups.asks(run(4), &group(2, WhenFull::Supersede)), [displaced(1), displaced(2)]);
        assert_eq!(groups.left(run(2)), [(run(3), Told::Admitted)]);
        assert_eq!(groups.left(run(1)), [(run(4), Told::Admitted)]);
    }
}
