//! Messages between runs and the owners of what runs share.
//!
//! A message is a record. It is put in the batch of its sender and consumed in the batch of its receiver, so that what the
//! one has decided and what the other has heard cannot differ, wherever a process dies. What nobody has consumed is
//! brought again by the next process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bellhop_core::id::{Partition, RunId};
use bellhop_core::run::{Cause, Group};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use bellhop_clock::Clock;
use bellhop_journal::key::{self, Parts, Range, Space};
use bellhop_journal::{self as journal, Journal, Write};

/// Bits of a message's number that count within a millisecond; those before them are the time.
const COUNT_BITS: u32 = 20;

/// A message, and for whom it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Message {
    /// For a run.
    Run {
        /// Which.
        run: RunId,
        /// What it is told.
        told: Told,
    },
    /// For the owner of a group.
    Group {
        /// The group's name.
        group: String,
        /// What a run wants of it.
        wish: Wish,
    },
}

/// What owners of shared things tell a run, and what a run tells the one whose place it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Told {
    /// It has its place in its group.
    Admitted,
    /// Its group has no place for it.
    Rejected,
    /// Another run takes its place.
    Displaced {
        /// Which.
        by: RunId,
        /// Whether what it did is taken back.
        rollback: bool,
    },
}

impl From<Told> for Cause {
    fn from(told: Told) -> Self {
        match told {
            Told::Admitted => Self::Admitted,
            Told::Rejected => Self::Rejected,
            Told::Displaced { by, rollback } => Self::Displaced { by, rollback },
        }
    }
}

/// What a run wants of the owner of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Wish {
    /// A place.
    Join {
        /// The run.
        run: RunId,
        /// The group as the run knows it.
        group: Group,
        /// It had its place already when it ended, and was opened again: it has it whoever else is there.
        admitted: bool,
    },
    /// None any more.
    Leave {
        /// The run.
        run: RunId,
    },
}

impl Message {
    fn partition(&self) -> Partition {
        match self {
            Self::Run { run, .. } => run.partition(),
            Self::Group { group, .. } => Partition::of(group.as_bytes()),
        }
    }
}

/// A message by its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Id {
    partition: Partition,
    number: u64,
    salt: u64,
}

impl Id {
    /// The message is gone if and only if this write is accepted.
    pub(crate) fn consume(self, write: &mut Write) {
        write.delete(&key::mail(self.partition, self.number, self.salt));
    }
}

/// A message that stands in a write. It is to be [handed over](Mail::hand_over) when that is accepted.
#[must_use = "nobody hears of a message that is not handed over, before the next start"]
#[derive(Debug)]
pub(crate) struct Posted {
    id: Id,
    message: Message,
}

/// Messages on their way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Mail {
    clock: Arc<dyn Clock>,
    last: Arc<AtomicU64>,
    /// How many were handed over, and how many of them were brought.
    handed: Arc<AtomicU64>,
    brought: watch::Sender<u64>,
    /// Another one in each process.
    salt: u64,
    out: mpsc::UnboundedSender<(Id, Message)>,
}

/// Where messages come out, in the order in which they were sent.
pub(crate) type Inbox = mpsc::UnboundedReceiver<(Id, Message)>;

impl Mail {
    /// What nobody has consumed comes out first.
    pub(crate) async fn read(
        journal: &Journal,
        clock: Arc<dyn Clock>,
        salt: u64,
    ) -> Result<(Self, Inbox), journal::Error> {
        let (out, inbox) = mpsc::unbounded_channel();
        let left = left(journal, &key::all(Space::Mail)).await?;
        let last = left.last().map_or(0, |(id, _)| id.number);
        let handed = Arc::new(AtomicU64::new(0));
        let mail =
            Self { clock, last: Arc::new(AtomicU64::new(last)), handed, brought: watch::channel(0).0, salt, out };
        mail.hand_over(left.into_iter().map(|(id, message)| Posted { id, message }));
        Ok((mail, inbox))
    }

    /// Puts a message into a write: it is there if and only if that is accepted.
    pub(crate) fn post(&self, write: &mut Write, message: Message) -> Result<Posted, journal::Error> {
        let id = Id { partition: message.partition(), number: self.number(), salt: self.salt };
        write.put(&key::mail(id.partition, id.number, id.salt), &message)?;
        Ok(Posted { id, message })
    }

    /// The write in which these stand was accepted: they are brought to their receivers.
    pub(crate) fn hand_over(&self, posted: impl IntoIterator<Item = Posted>) {
        for Posted { id, message } in posted {
            self.handed.fetch_add(1, Ordering::AcqRel);
            // The engine has the other end as long as anything runs; the next process finds what this one did not bring.
            let _gone = self.out.send((id, message));
        }
    }

    /// One more was brought to its receiver, or could not be.
    pub(crate) fn count_brought(&self) {
        self.brought.send_modify(|count| *count += 1);
    }

    /// Waits until all that was handed over so far was brought.
    pub(crate) async fn all_brought(&self) {
        let handed = self.handed.load(Ordering::Acquire);
        let mut brought = self.brought.subscribe();
        // The sender is in `self`.
        let _brought = brought.wait_for(|brought| *brought >= handed).await;
    }

    /// Brings again what is for a run: nobody knows whether it has heard what was brought before.
    pub(crate) async fn again(&self, journal: &Journal, run: RunId) -> Result<(), journal::Error> {
        for (id, message) in left(journal, &key::of_partition(Space::Mail, run.partition())).await? {
            if matches!(&message, Message::Run { run: whose, .. } if *whose == run) {
                self.hand_over([Posted { id, message }]);
            }
        }
        Ok(())
    }

    /// Later than every number before it, also when the clock was set back.
    fn number(&self) -> u64 {
        let now = self.clock.now().as_millis() << COUNT_BITS;
        let next = |last: u64| now.max(last.saturating_add(1));
        match self.last.fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last))) {
            Ok(last) | Err(last) => next(last),
        }
    }
}

/// What nobody has consumed, in the order in which it was sent.
pub(crate) async fn left(journal: &Journal, range: &Range) -> Result<Vec<(Id, Message)>, journal::Error> {
    let mut left = Vec::new();
    let mut all = journal.list::<Message>(Space::Mail, range);
    while let Some(record) = all.next().await {
        let (key, message) = record?;
        let id = Parts::of(Space::Mail, &key).and_then(|mut parts| {
            Some(Id { partition: parts.partition()?, number: parts.number()?, salt: parts.number()? })
        });
        left.extend(id.map(|id| (id, message)));
    }
    left.sort_by_key(|(id, _)| id.number);
    Ok(left)
}

#[cfg(test)]
mod tests {
    use bellhop_clock::Manual;
    use bellhop_core::definition::WhenFull;
    use bellhop_core::time::Timestamp;
    use bellhop_journal::memory::Memory;

    use super::*;

    fn run(n: u64) -> RunId {
        RunId::new(Timestamp::from_millis(n), 1)
    }

    fn wishes() -> [Message; 3] {
        let group = Group { name: "g".to_owned(), limit: 1, when_full: WhenFull::Queue };
        [
            Message::Group { group: "g".to_owned(), wish: Wish::Join { run: run(9), group, admitted: false } },
            Message::Run { run: run(1), told: Told::Displaced { by: run(9), rollback: true } },
            Message::Group { group: "g".to_owned(), wish: Wish::Leave { run: run(9) } },
        ]
    }

    #[tokio::test]
    async fn what_nobody_consumed_comes_again_in_its_order_whatever_the_clock_says() {
        let journal = Journal::checked(Arc::new(Memory::new()));
        let clock = Manual::new(Timestamp::from_millis(1_000));
        let (mail, mut inbox) = Mail::read(&journal, Arc::new(clock.clone()), 1).await.unwrap();
        for (message, at) in wishes().into_iter().zip([1_000, 900, 900]) {
            clock.set(Timestamp::from_millis(at));
            let mut write = Write::new();
            let posted = mail.post(&mut write, message).unwrap();
            journal.commit(write).unwrap();
            mail.hand_over([posted]);
        }
        let (first, _) = inbox.try_recv().unwrap();
        let mut write = Write::new();
        first.consume(&mut write);
        journal.commit(write).unwrap();
        let (mail, mut inbox) = Mail::read(&journal, Arc::new(clock), 2).await.unwrap();
        let mut write = Write::new();
        let posted = mail.post(&mut write, wishes()[0].clone()).unwrap();
        journal.commit(write).unwrap();
        mail.hand_over([posted]);
        let came: Vec<Message> = std::iter::from_fn(|| inbox.try_recv().ok()).map(|(_, message)| message).collect();
        let [join, displaced, leave] = wishes();
        assert_eq!(came, [displaced, leave, join]);
    }

    #[tokio::test]
    async fn a_message_of_a_write_that_is_refused_is_not_there() {
        let journal = Journal::checked(Arc::new(Memory::new()));
        let (mail, _inbox) = Mail::read(&journal, Arc::new(Manual::new(Timestamp::from_millis(1))), 1).await.unwrap();
        let key = key::host("a fact");
        let mut write = Write::new();
        write.put(&key, &1).unwrap();
        journal.commit(write).unwrap();
        let mut write = Write::new();
        write.expect_absent(&key);
        let _not_there = mail.post(&mut write, wishes()[0].clone()).unwrap();
        assert!(journal.commit(write).unwrap_err().is_refused());
        let (_, mut inbox) = Mail::read(&journal, Arc::new(Manual::new(Timestamp::from_millis(1))), 2).await.unwrap();
        assert!(inbox.try_recv().is_err());
    }
}
