//! Compares what owners have in their rows with the runs, while no run goes on.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::id::RunId;

use crate::Engine;
use crate::call;
use crate::drive::runs::{LoadError, Loaded};
use crate::mail::{self, Message, Told, Wish};
use crate::owners::concurrency_group::{self, Member};
use crate::owners::keyed_lock::{self, Holder, KeyId};
use bellhop_journal::key::{self, Space};
use bellhop_journal::{self as journal, Open};

/// Marks of open runs that are read at one time.
const PAGE: usize = 1_000;

/// What was looked at, and what does not fit.
#[derive(Debug, Default)]
pub struct Verified {
    /// Open runs.
    pub runs: u64,
    /// Those that cannot be read: nothing is said of what they hold.
    pub unread: u64,
    /// Rows of owners, and messages on their way.
    pub rows: u64,
    /// What does not fit, a sentence each.
    pub differences: Vec<String>,
}

/// What owners have.
struct Rows {
    members: BTreeMap<RunId, Member>,
    locks: BTreeMap<KeyId, Holder>,
    /// Runs that have asked for a place, or were told that there is none, and have not been heard.
    asking: BTreeSet<RunId>,
    /// Runs whose place is free as soon as its owner hears of it.
    leaving: BTreeSet<RunId>,
}

impl Rows {
    fn read(journal: &journal::Journal) -> Result<(Self, u64), journal::Error> {
        let members = concurrency_group::rows(journal)?;
        let locks = keyed_lock::rows(journal)?;
        let mail = mail::left(journal, &key::all(Space::Mail))?;
        let count = members.len() + locks.len() + mail.len();
        let members = members.into_iter().map(|(_, member)| (member.run, member)).collect();
        let mut rows = Self { members, locks, asking: BTreeSet::new(), leaving: BTreeSet::new() };
        for (_, message) in mail {
            match message {
                Message::Group { wish: Wish::Join { run, .. }, .. }
                | Message::Run { run, told: Told::Rejected } => rows.asking.insert(run),
                Message::Group { wish: Wish::Leave { run }, .. } => rows.leaving.insert(run),
                Message::Run { .. } => continue,
            };
        }
        Ok((rows, count as u64))
    }
}

impl Engine {
    /// Compares the rows of owners with the open runs. For an engine that was not started: of runs that go on, the rows
    /// change while they are read.
    ///
    /// # Errors
    /// The store cannot be read. A run that cannot be is counted.
    pub async fn verify(&self) -> Result<Verified, LoadError> {
        let journal = &self.services.journal;
        let (rows, count) = Rows::read(journal)?;
        let mut verified = Verified { rows: count, ..Verified::default() };
        let mut open = BTreeSet::new();
        let mut after = None;
        loop {
            let page = journal.open_runs(PAGE, after)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (run, mark) in page {
                open.insert(run);
                verified.runs += 1;
                verify_place(run, &mark, &rows, &mut verified.differences);
                if !self.verify_keys(run, &mark, &rows, &mut verified.differences).await? {
                    verified.unread += 1;
                }
            }
        }
        let stale = rows.members.keys().filter(|run| !open.contains(run) && !rows.leaving.contains(run));
        verified.differences.extend(stale.map(|run| format!("{run} is not open, and has a place in a group")));
        let holders = rows.locks.values().map(|holder| &holder.owner).filter(|owner| !open.contains(&owner.run));
        verified.differences.extend(holders.map(|owner| format!("{owner} holds a key, and that run is not open")));
        Ok(verified)
    }

    /// Compares the keys of a run with its open calls; false where the run cannot be read.
    async fn verify_keys(
        &self,
        run: RunId,
        mark: &Open,
        rows: &Rows,
        differences: &mut Vec<String>,
    ) -> Result<bool, LoadError> {
        if mark.deadly {
            return Ok(false);
        }
        let Loaded { port, state, .. } = match self.looked_at(run).await {
            Ok(loaded) => loaded,
            Err(error) if error.is_of_the_run() => return Ok(false),
            Err(error) => return Err(error),
        };
        for (_, call) in state.calls() {
            let Some(action) = state.facts().actions.get(&call.action) else { continue };
            for key in call::keys_held(&port, state.facts(), action, call).await? {
                let holds = rows.locks.get(&key).is_some_and(|h| h.owner.run == run && h.owner.execution == call.key);
                if !holds {
                    let (attempt, execution) = (call.attempt, &call.key);
                    differences.push(format!("attempt {attempt} of `{execution}` in {run} has called without its key"));
                }
            }
        }
        for Holder { owner, parked } in rows.locks.values().filter(|holder| holder.owner.run == run) {
            let call = state.calls().map(|(_, call)| call).find(|call| call.key == owner.execution);
            // What is gone on with or tried anew takes a key over from one that is parked as soon as it begins.
            let fits = call.is_some_and(|call| {
                let same = call.attempt == owner.attempt;
                (same && (call.parked.is_none() || *parked)) || (call.attempt > owner.attempt && *parked)
            });
            if !fits {
                differences.push(format!("{owner} holds a key, and the run has no such call"));
            }
        }
        Ok(true)
    }
}

/// Compares the mark of an open run with the members of its group.
fn verify_place(run: RunId, mark: &Open, rows: &Rows, differences: &mut Vec<String>) {
    match (&mark.group, rows.members.get(&run)) {
        (Some(group), Some(member)) if *group != member.group.name => {
            differences.push(format!("{run} is of the group `{group}`, and has a place in `{}`", member.group.name));
        }
        (Some(group), None) if !rows.asking.contains(&run) => {
            differences.push(format!("{run} is of the group `{group}`, whose owner does not know it"));
        }
        (None, Some(member)) if !rows.leaving.contains(&run) && !mark.deadly => {
            differences.push(format!("{run} is of no group, and has a place in `{}`", member.group.name));
        }
        _ => {}
    }
}
