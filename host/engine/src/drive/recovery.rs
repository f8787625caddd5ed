//! What a start does with the runs of the process before.
//!
//! A process that ended in order says so. After any other end one of the open runs may have been what ended it, so the
//! runs that were not at rest are carried one after another, each until it has made a durable record or waits for
//! somebody outside: should the process end again and once more with the same run alone, that one is set aside at the next
//! start. While runs go on nothing is written for this.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde::{Deserialize, Serialize};

use crate::Engine;
use crate::drive::runs::{Live, LoadError, Loaded};
use crate::execution;
use bellhop_faults::{Point, pass};
use bellhop_journal::{self as journal, Open, Rest, Summary, Write, key};

/// The fact of the host that says how its processes ended.
const LIVES: &str = "lives";

/// How long a run is carried alone that makes no record, after the first death in a row; ten times as long after each
/// further one, because what ends a process may take its time.
const ALONE_MS: u64 = 20;
/// All of them together take no longer than this for it: a start is waited for.
const ALL_ALONE_MS_MAX: u64 = 4_000;

/// A process that lived so long did not die of how it began.
const LONG_LIFE_MS: u64 = 600_000;

/// How the processes before this one ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lives {
    /// The last one ended in order.
    in_order: bool,
    /// How many before it did not, in a row.
    deaths: u32,
    /// When the last one began, in milliseconds since 1970.
    began_ms: u64,
    /// The runs that it was carrying while it looked for the one that ends processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    alone: Vec<RunId>,
    /// The run that was alone when the process before that one died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suspect: Option<RunId>,
}

impl Lives {
    /// The run that was alone at the last two deaths. One death is not enough: a host may be killed at any moment, also
    /// at the one in which it carries a run alone.
    fn deadly(&self) -> Option<RunId> {
        self.suspect.filter(|suspect| self.alone == [*suspect])
    }

    /// How many of those that wait in line are carried alone where there are so many places: as many with each death in a
    /// row but the first. After one death, which may be a kill, a start does not wait for them, and each costs it a write.
    fn of_the_line(&self, places: u64) -> usize {
        usize::try_from(places.saturating_mul(u64::from(self.deaths.saturating_sub(1)))).unwrap_or(usize::MAX)
    }

    /// The run that was alone at the last death.
    fn last(&self) -> Option<RunId> {
        match self.alone[..] {
            [run] => Some(run),
            _ => None,
        }
    }
}

/// A run that goes on with this start.
struct Taken {
    run: RunId,
    loaded: Loaded,
    live: Live,
}

/// The next process begins as one after an end in order.
pub(crate) fn forget_lives(write: &mut Write) {
    write.delete(&key::host(LIVES));
}

impl Engine {
    /// Takes up the open runs after a start: what was running goes on, what waits or is parked stays where it is, and
    /// what it holds of things that runs share stands in their owners' rows. After Ok all of that is so.
    pub(crate) async fn recover(self: &Arc<Self>) -> Result<u64, LoadError> {
        let lives = self.begin_life().await?;
        self.runs().places.hold();
        let (found, taken) = self.take_up_all(&lives).await?;
        self.runs().places.found(found);
        let again = if lives.deaths > 0 {
            self.carry_one_by_one(lives, taken).await?
        } else {
            for Taken { run, loaded, live } in taken {
                self.take(run, live, loaded);
            }
            Vec::new()
        };
        self.runs().places.let_go();
        for run in again {
            self.wake(run).await;
        }
        self.next_in_line();
        Ok(found)
    }

    /// The process ends in order: no run of it is suspected by the next, which knows until when this one has lived.
    pub async fn end_life(&self) -> Result<(), journal::Error> {
        self.beat().await?;
        let mut write = Write::new();
        let lives = Lives { in_order: true, began_ms: self.services.clock.now().as_millis(), ..Lives::default() };
        write.put(&key::host(LIVES), &lives)?;
        self.services.journal.commit(write).map(|_| ())
    }

    /// Keeps that a process has begun, and says how those before it ended. Durable after Ok.
    async fn begin_life(&self) -> Result<Lives, LoadError> {
        let journal = &self.services.journal;
        let before = match journal.get::<Lives>(&key::host(LIVES)).await {
            Ok(before) => before.unwrap_or_else(|| Lives { in_order: true, ..Lives::default() }),
            Err(error @ journal::Error::Store(_)) => return Err(error.into()),
            // It only says where to look first.
            Err(_) => Lives::default(),
        };
        let now = self.services.clock.now().as_millis();
        let lived_long = before.alone.is_empty() && now.saturating_sub(before.began_ms) >= LONG_LIFE_MS;
        let deaths = match (before.in_order, lived_long) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => before.deaths + 1,
        };
        let lives = Lives { in_order: false, deaths, began_ms: now, alone: before.alone, suspect: before.suspect };
        self.keep_lives(&Lives { alone: Vec::new(), suspect: lives.last(), ..lives.clone() }).await?;
        Ok(lives)
    }

    async fn keep_lives(&self, lives: &Lives) -> Result<(), LoadError> {
        let mut write = Write::new();
        write.put(&key::host(LIVES), lives)?;
        let ticket = self.services.journal.commit(write)?;
        Ok(self.services.journal.durable(ticket).await.map_err(journal::Error::from)?)
    }

    /// Reads the open runs; gives how many there are, and those that go on. The run that was alone when the process
    /// before this one died is not read. When processes died one after another, each run is alone while it is read, too.
    async fn take_up_all(self: &Arc<Self>, lives: &Lives) -> Result<(u64, Vec<Taken>), LoadError> {
        let (mut after, mut found, mut taken) = (None, 0, Vec::new());
        loop {
            let page = self.services.journal.open_runs(1_000, after).await?;
            let Some((last, _)) = page.last() else { return Ok((found, taken)) };
            after = Some(*last);
            for (run, open) in page {
                found += 1;
                self.services.partition.tally.moves(None, Some(open.rest));
                if open.deadly || lives.deadly() == Some(run) {
                    self.mark_deadly(run, open)?;
                    let reason = "the process ended again and again while it was carried, the last two times with no other beside it";
                    self.set_aside(run, &LoadError::Damaged(reason.to_owned())).await;
                    continue;
                }
                pass(Point::FoundOpen);
                match open.rest {
                    Rest::No => {}
                    Rest::Waits | Rest::Parked | Rest::Suspended => continue,
                    Rest::Blocked => {
                        self.blocked().add(run);
                        continue;
                    }
                }
                match self.take_up(run, lives).await {
                    Ok(None) => {}
                    Ok(Some(_)) if taken.len() as u64 >= self.services.limits.live_runs_max => {
                        self.runs().places.line_up(run);
                    }
                    Ok(Some((loaded, live))) => taken.push(Taken { run, loaded, live }),
                    Err(error) if error.is_of_the_run() => self.set_aside(run, &error).await,
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// No start reads the run any more, until a person has it taken back.
    fn mark_deadly(&self, run: RunId, open: Open) -> Result<(), LoadError> {
        let mut write = Write::new();
        write.put(&key::open(run), &Open { deadly: true, ..open })?;
        self.services.journal.commit(write)?;
        Ok(())
    }

    /// Carries each run alone for a moment, some of those that wait in line for a place after the others; gives them back,
    /// to be carried beside each other.
    async fn carry_one_by_one(self: &Arc<Self>, lives: Lives, taken: Vec<Taken>) -> Result<Vec<RunId>, LoadError> {
        let mut taken: Vec<(RunId, Option<(Loaded, Live)>)> =
            taken.into_iter().map(|Taken { run, loaded, live }| (run, Some((loaded, live)))).collect();
        let mut line = self.runs().places.clear();
        let stay = line.split_off(lives.of_the_line(self.services.limits.live_runs_max).min(line.len()));
        taken.extend(line.into_iter().map(|run| (run, None)));
        stay.into_iter().for_each(|run| self.runs().places.line_up(run));
        // The one that was alone last comes first: no other is suspected before it is known.
        let mut suspect = lives.last();
        taken.sort_by_key(|(run, _)| Some(*run) != suspect);
        let factor = 10_u64.saturating_pow(lives.deaths - 1);
        let share = ALL_ALONE_MS_MAX / (taken.len() as u64).max(1);
        let patience = Duration::from_millis(ALONE_MS.saturating_mul(factor).min(share).max(1));
        tracing::warn!(
            runs = taken.len(),
            deaths = lives.deaths,
            "the process before this one did not end in order: its runs are carried one by one first"
        );
        let mut again = Vec::with_capacity(taken.len());
        let mut beside: Vec<RunId> = Vec::new();
        for (run, read) in taken {
            beside.retain(|run| self.runs().is_live(*run));
            beside.push(run);
            self.keep_lives(&Lives { alone: beside.clone(), suspect, ..lives.clone() }).await?;
            match read {
                Some((loaded, live)) => self.take(run, live, loaded),
                None => self.bring(run).await,
            }
            self.until_it_is_on_record(run, patience).await?;
            self.runs().put_down(run);
            tokio::select! {
                biased;
                () = self.runs().left(run) => {}
                // What it has sent goes on to its end: from here on two are suspected.
                () = self.services.clock.pause(patience) => {}
            }
            suspect = None;
            again.push(run);
        }
        self.keep_lives(&Lives { alone: Vec::new(), suspect: None, ..lives }).await?;
        Ok(again)
    }

    /// Waits until a run has made a record that is durable, has left memory, or the time is over.
    async fn until_it_is_on_record(&self, run: RunId, patience: Duration) -> Result<(), LoadError> {
        let Some(mut moved) = self.runs().moved(run) else { return Ok(()) };
        let recorded = async {
            // The sender goes with the run.
            let _gone = moved.changed().await;
        };
        tokio::select! {
            biased;
            () = recorded => {}
            () = self.services.clock.pause(patience) => {}
        }
        let tip = self.services.journal.tip();
        Ok(self.services.journal.durable(tip).await.map_err(journal::Error::from)?)
    }

    /// Reads one open run, and gives it back if it has anything to go on with.
    async fn take_up(&self, run: RunId, lives: &Lives) -> Result<Option<(Loaded, Live)>, LoadError> {
        let Some(summary) = self.services.journal.get::<Summary>(&key::summary(run)).await? else { return Ok(None) };
        let was_aside = summary.poisoned;
        if lives.deaths > 1 {
            self.keep_lives(&Lives { alone: vec![run], suspect: lives.last(), ..lives.clone() }).await?;
        }
        let (opening, live) = self.opening(run, summary);
        let loaded = Box::pin(self.load(run, opening)).await?;
        if was_aside {
            self.shown_as_it_is(&loaded)?;
        }
        self.services.partition.tally.moves(Some(Rest::No), Some(execution::rest_of(&loaded.state)));
        if loaded.state.status() == Status::Blocked {
            // Perhaps people have to be told of that still.
            self.blocked().add(run);
        }
        Ok((execution::rest_of(&loaded.state) == Rest::No).then_some((loaded, live)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_waits_for_more_of_the_line_with_each_death() {
        let of_256 = |deaths| Lives { deaths, ..Lives::default() }.of_the_line(256);
        assert_eq!([0, 1, 2, 3, 4].map(of_256), [0, 0, 256, 512, 768]);
        assert!(Lives { deaths: u32::MAX, ..Lives::default() }.of_the_line(u64::MAX) > 1 << 31);
    }
}
