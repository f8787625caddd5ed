//! What a partition has: the runs of some organisations, and the owners of what these runs share.
//!
//! One process has one partition today. [`Services`](crate::Services) is what a process has, whichever runs it carries. A
//! process that gives a partition up drops all that is here, and one that takes a partition over makes it from the records;
//! so nothing here is a fact of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::call;
use crate::notices;
use crate::owners::{concurrency_group, keyed_lock, timers};
use crate::waiting;
use bellhop_clock::Clock;
use bellhop_journal::{self as journal, Journal};

/// See the module.
pub(crate) struct Partition {
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
    /// What owners of shared facts tell runs.
    messages: mpsc::UnboundedSender<concurrency_group::Message>,
    /// When every request had ended that somebody sent who had this partition before, by [`Clock::monotonic`]: what was in
    /// doubt then can be read back [some time later](crate::Services::quiet_since).
    pub quiet_from: Duration,
}

impl Partition {
    /// Made from the records. Gives also the end at which messages to its runs come out.
    pub(crate) fn read(
        journal: &Journal,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<concurrency_group::Message>), journal::Error> {
        let (sender, messages) = mpsc::unbounded_channel();
        let partition = Self {
            keys: keyed_lock::Keys::default(),
            groups: concurrency_group::Groups::default(),
            timers: timers::Timers::read(journal.clone(), clock.clone())?,
            notices: notices::Notices::new(journal.clone()),
            waiting: waiting::Waiting::default(),
            said: Arc::default(),
            messages: sender,
            // The process before this one held the store's folder, and what it had sent ended with it.
            quiet_from: clock.monotonic(),
        };
        Ok((partition, messages))
    }

    /// Has runs told.
    pub(crate) fn post(&self, messages: Vec<concurrency_group::Message>) {
        for message in messages {
            // The engine has the other end as long as anything runs.
            let _gone = self.messages.send(message);
        }
    }
}
