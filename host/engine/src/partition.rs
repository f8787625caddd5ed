//! What a partition has: the runs of some organisations, and the owners of what these runs share.
//!
//! One process has one partition today. [`Services`](crate::Services) is what a process has, whichever runs it carries. A
//! process that gives a partition up drops all that is here, and one that takes a partition over makes it from the records;
//! so nothing here is a fact of its own.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use tokio::sync::mpsc;

use crate::accept::blocked;
use crate::call;
use crate::drive::runs;
use crate::execution::tally::Tally;
use crate::mail::{self, Mail};
use crate::notices;
use crate::owners::{concurrency_group, keyed_lock, timers};
use crate::turns;
use crate::waiting;
use bellhop_clock::Clock;
use bellhop_journal::{self as journal, Journal};

/// See the module.
pub(crate) struct Partition {
    /// The runs in memory, those that wait for a place there, and those that are set aside.
    pub runs: runs::Runs,
    /// Runs that wait for a remedy.
    pub blocked: blocked::Blocked,
    /// Taking up, by run.
    pub loading: turns::Turns,
    /// The owner of exclusive keys.
    pub keys: keyed_lock::Keys,
    /// The owner of places in groups.
    pub groups: concurrency_group::Groups,
    /// What is due.
    pub timers: timers::Timers,
    /// What people are to be told.
    pub notices: notices::Notices,
    /// The turns of calls that wait, for runs that are in memory and for runs that are not.
    pub waiting: waiting::Waiting,
    /// What guests that may begin again have said.
    pub said: Arc<call::Said>,
    /// What runs and owners tell each other.
    pub mail: Mail,
    /// How many of its runs are open, by how they stand.
    pub tally: Arc<Tally>,
    /// Runs that have something to do though nobody told them anything.
    wakes: mpsc::UnboundedSender<RunId>,
    /// When every request had ended that somebody sent who had this partition before, by [`Clock::monotonic`]: what was in
    /// doubt then can be read back [some time later](crate::Services::quiet_since).
    pub quiet_from: Duration,
}

/// Where what is for the runs and owners of a partition comes out.
pub(crate) struct Arrivals {
    /// Messages.
    pub mail: mail::Inbox,
    /// Runs that are to be woken.
    pub wakes: mpsc::UnboundedReceiver<RunId>,
}

impl Partition {
    /// Made from the records; `salt` tells this process's messages from another's.
    pub(crate) async fn read(
        journal: &Journal,
        clock: &Arc<dyn Clock>,
        salt: u64,
    ) -> Result<(Self, Arrivals), journal::Error> {
        let (sender, wakes) = mpsc::unbounded_channel();
        let (mail, inbox) = Mail::read(journal, clock.clone(), salt).await?;
        let partition = Self {
            runs: runs::Runs::default(),
            blocked: blocked::Blocked::default(),
            loading: turns::Turns::default(),
            keys: keyed_lock::Keys::read(journal.clone()).await?,
            groups: concurrency_group::Groups::read(journal.clone(), mail.clone()).await?,
            timers: timers::Timers::read(journal.clone(), clock.clone()).await?,
            notices: notices::Notices::new(journal.clone()),
            waiting: waiting::Waiting::default(),
            said: Arc::default(),
            mail,
            tally: Arc::default(),
            wakes: sender,
            // The process before this one held the store's folder, and what it had sent ended with it.
            quiet_from: clock.monotonic(),
        };
        Ok((partition, Arrivals { mail: inbox, wakes }))
    }

    /// Reads the rows of owners again, which were made anew while no run went on.
    pub(crate) async fn read_again(&self) -> Result<(), journal::Error> {
        self.keys.read_again().await?;
        self.groups.read_again().await
    }

    /// Has a run looked at. What is lost at the end of the process is found by the next start.
    pub(crate) fn wake(&self, run: RunId) {
        // The engine has the other end as long as anything runs.
        let _gone = self.wakes.send(run);
    }
}
