//! Compares what owners have in their rows with the runs, while no run goes on; and makes rows again from the runs.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::id::RunId;
use bellhop_core::run::Group;

use crate::Engine;
use crate::call;
use crate::drive::runs::{LoadError, Loaded};
use crate::mail::{self, Message, Told, Wish};
use crate::owners::concurrency_group::{self, Member};
use crate::owners::keyed_lock::{self, Holder, KeyId, Owner};
use bellhop_journal::key::{self, Space};
use bellhop_journal::{self as journal, Write};

/// Marks of open runs that are read at one time.
const PAGE: usize = 1_000;
/// The spaces of owners' rows and messages.
const SPACES: [Space; 3] = [Space::Mail, Space::Member, Space::Lock];

/// What was looked at, and what does not fit.
#[derive(Debug, Default)]
pub struct Verified {
    /// Open runs.
    pub runs: u64,
    /// Those that cannot be read: nothing is said of what they hold.
    pub unread: u64,
    /// Rows of owners, and messages on their way.
    pub rows: u64,
    /// What does not fit.
    pub differences: Vec<Difference>,
}

/// A row that is not as the runs are, or one that is missing.
#[derive(Debug, thiserror::Error)]
#[error("{said}")]
pub struct Difference {
    /// A sentence.
    said: String,
    mend: Mend,
}

/// What makes a row again.
#[derive(Debug)]
enum Mend {
    /// It cannot be read: what it said is made again from the runs, and it goes.
    Unreadable,
    /// Nobody has a place there.
    NoMember { group: String, turn: u64 },
    /// The run is no more: whoever is next has its place.
    Leave { run: RunId, group: String },
    /// The run was told that it has its place, and has not heard it.
    Admitted(RunId),
    /// The run asks anew.
    Join { run: RunId, group: Group, admitted: bool },
    /// Nobody holds the key.
    NoHolder(KeyId),
    /// This is who holds it.
    Holds(KeyId, Holder),
}

impl Difference {
    fn of(mend: Mend, said: String) -> Self {
        Self { said, mend }
    }
}

/// What owners have.
struct Rows {
    members: BTreeMap<RunId, (u64, Member)>,
    locks: BTreeMap<KeyId, Holder>,
    /// Runs that have asked for a place, or were told that there is none, and have not been heard.
    asking: BTreeSet<RunId>,
    /// Runs whose place is free as soon as its owner hears of it.
    leaving: BTreeSet<RunId>,
    /// Runs that are about to hear that they have their place.
    told: BTreeSet<RunId>,
    count: u64,
}

impl Rows {
    async fn read(journal: &journal::Journal) -> Result<Self, journal::Error> {
        let members = concurrency_group::rows(journal).await?;
        let locks = keyed_lock::rows(journal).await?;
        let mail = mail::left(journal, &key::all(Space::Mail)).await?;
        let count = (members.len() + locks.len() + mail.len()) as u64;
        let members = members.into_iter().map(|(turn, member)| (member.run, (turn, member))).collect();
        let mut rows =
            Self { members, locks, asking: BTreeSet::new(), leaving: BTreeSet::new(), told: BTreeSet::new(), count };
        for (_, message) in mail {
            match message {
                Message::Group { wish: Wish::Join { run, .. }, .. } | Message::Run { run, told: Told::Rejected } => {
                    rows.asking.insert(run)
                }
                Message::Group { wish: Wish::Leave { run }, .. } => rows.leaving.insert(run),
                Message::Run { run, told: Told::Admitted } => rows.told.insert(run),
                Message::Run { .. } => continue,
            };
        }
        Ok(rows)
    }

    /// Members and holders whose runs are not open.
    fn stale(&self, open: &BTreeSet<RunId>) -> impl Iterator<Item = Difference> {
        let gone = |run: &RunId| !open.contains(run);
        let members = self.members.values().filter(move |(_, of)| gone(&of.run) && !self.leaving.contains(&of.run));
        let members = members.map(|(_, Member { run, group, .. })| {
            let said = format!("{run} has a place in the group `{}`, and is not open", group.name);
            Difference::of(Mend::Leave { run: *run, group: group.name.clone() }, said)
        });
        let holders = self.locks.iter().filter(move |(_, holder)| gone(&holder.owner.run));
        members.chain(holders.map(|(key, holder)| {
            let said = format!("{} holds a key, and that run is not open", holder.owner);
            Difference::of(Mend::NoHolder(*key), said)
        }))
    }
}

fn stranger(turn: u64, Member { run, group, .. }: &Member) -> Difference {
    let said = format!("{run} has a place in the group `{}`, and is not of it", group.name);
    Difference::of(Mend::NoMember { group: group.name.clone(), turn }, said)
}

impl Engine {
    /// Compares the rows of owners with the open runs. For an engine that was not started: of runs that go on, the rows
    /// change while they are read.
    ///
    /// # Errors
    /// The store cannot be read. A run that cannot be is counted.
    pub async fn verify(&self) -> Result<Verified, LoadError> {
        let journal = &self.services.journal;
        let rows = Rows::read(journal).await?;
        let damaged = journal.damages().into_iter().filter(|damage| SPACES.contains(&damage.space));
        let damaged = damaged.map(|damage| Difference::of(Mend::Unreadable, format!("{} cannot be read", damage.fact)));
        let mut verified = Verified { rows: rows.count, differences: damaged.collect(), ..Verified::default() };
        let mut open = BTreeSet::new();
        let mut after = None;
        loop {
            let page = journal.open_runs(PAGE, after).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (run, mark) in page {
                open.insert(run);
                verified.runs += 1;
                let loaded = if mark.deadly { None } else { self.readable(run).await? };
                match loaded {
                    Some(loaded) => differences(&loaded, &rows, &mut verified.differences).await?,
                    None => verified.unread += 1,
                }
            }
        }
        verified.differences.extend(rows.stale(&open));
        Ok(verified)
    }

    /// Makes the rows that [`Self::verify`] found wrong as the runs are, and removes those that cannot be read. After Ok that
    /// is durable.
    ///
    /// # Errors
    /// The store takes nothing.
    pub async fn mend(&self, differences: &[Difference]) -> Result<(), journal::Error> {
        let (journal, mail) = (&self.services.journal, &self.services.partition.mail);
        let (mut write, mut posted) = (Write::new(), Vec::new());
        journal.remove_damaged(&mut write, &SPACES);
        // What nobody holds goes first: perhaps somebody else holds it.
        let is_no_holder = |difference: &&Difference| matches!(difference.mend, Mend::NoHolder(_));
        let others = differences.iter().filter(|difference| !is_no_holder(difference));
        for Difference { mend, .. } in differences.iter().filter(is_no_holder).chain(others) {
            match mend {
                Mend::Unreadable => {}
                Mend::NoMember { group, turn } => write.delete(&key::member(group, *turn)),
                Mend::Join { run, group, admitted } => {
                    let (name, group, admitted) = (group.name.clone(), group.clone(), *admitted);
                    let wish = Wish::Join { run: *run, group, admitted };
                    let message = Message::Group { group: name, wish };
                    posted.push(mail.post(&mut write, message)?);
                }
                Mend::Leave { run, group } => {
                    let message = Message::Group { group: group.clone(), wish: Wish::Leave { run: *run } };
                    posted.push(mail.post(&mut write, message)?);
                }
                Mend::Admitted(run) => {
                    let message = Message::Run { run: *run, told: Told::Admitted };
                    posted.push(mail.post(&mut write, message)?);
                }
                Mend::NoHolder(id) => keyed_lock::remove(&mut write, *id),
                Mend::Holds(id, holder) => keyed_lock::put(&mut write, *id, holder)?,
            }
        }
        let ticket = journal.commit_or_wait(write).await?;
        mail.hand_over(posted);
        Ok(journal.durable(ticket).await?)
    }

    /// Where rows cannot be read, what they said is made again from the runs before any goes on: a key whose row is damaged
    /// would be anybody's.
    pub(crate) async fn mend_damaged_rows(&self) -> Result<(), LoadError> {
        if !self.services.journal.damages().iter().any(|damage| SPACES.contains(&damage.space)) {
            return Ok(());
        }
        let Verified { differences, .. } = self.verify().await?;
        self.mend(&differences).await?;
        for difference in &differences {
            tracing::warn!(%difference, "what an owner kept is damaged, and was made again from the runs");
        }
        Ok(self.services.partition.read_again().await?)
    }

    async fn readable(&self, run: RunId) -> Result<Option<Loaded>, LoadError> {
        match self.looked_at(run).await {
            Ok(loaded) => Ok(Some(loaded)),
            Err(error) if error.is_of_the_run() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Compares what an open run has with the rows.
async fn differences(loaded: &Loaded, rows: &Rows, found: &mut Vec<Difference>) -> Result<(), LoadError> {
    let Loaded { port, state, .. } = loaded;
    let run = state.facts().run;
    let member = rows.members.get(&run);
    let group = state.group();
    if let Some((turn, member)) = member
        && group.is_none_or(|(group, _)| group.name != member.group.name)
        && !rows.leaving.contains(&run)
    {
        found.push(stranger(*turn, member));
    }
    if let Some((group, admitted)) = group
        && member.is_none_or(|(_, member)| member.group.name != group.name)
        && !rows.asking.contains(&run)
    {
        let said = format!("{run} is of the group `{}`, whose owner does not know it", group.name);
        found.push(Difference::of(Mend::Join { run, group: group.clone(), admitted }, said));
    }
    if let (Some((_, member)), Some((group, false))) = (member, group)
        && member.admitted
        && member.group.name == group.name
        && !rows.told.contains(&run)
    {
        let said = format!("{run} has its place in the group `{}`, and was not told", group.name);
        found.push(Difference::of(Mend::Admitted(run), said));
    }
    for (_, call) in state.calls() {
        let Some(action) = state.facts().actions.get(&call.action) else { continue };
        for key in call::keys_held(port, state.facts(), action, call).await? {
            let holds = rows.locks.get(&key).is_some_and(|h| h.owner.run == run && h.owner.execution == call.key);
            if !holds {
                let owner = Owner { run, execution: call.key.clone(), attempt: call.attempt };
                let said = format!("{owner} has called, and does not hold its key");
                found.push(Difference::of(Mend::Holds(key, Holder { owner, parked: call.parked.is_some() }), said));
            }
        }
    }
    for (key, Holder { owner, parked }) in rows.locks.iter().filter(|(_, holder)| holder.owner.run == run) {
        let call = state.calls().map(|(_, call)| call).find(|call| call.key == owner.execution);
        // What is gone on with or tried anew takes a key over from one that is parked as soon as it begins.
        let fits = call.is_some_and(|call| {
            let same = call.attempt == owner.attempt;
            (same && (call.parked.is_none() || *parked)) || (call.attempt > owner.attempt && *parked)
        });
        if fits {
            continue;
        }
        let (mend, said) = match call.filter(|call| call.attempt == owner.attempt) {
            Some(_) => {
                let holder = Holder { owner: owner.clone(), parked: true };
                (Mend::Holds(*key, holder), format!("{owner} is parked, and the row of its key does not say so"))
            }
            None => (Mend::NoHolder(*key), format!("{owner} holds a key, and the run has no such call")),
        };
        found.push(Difference::of(mend, said));
    }
    Ok(())
}
