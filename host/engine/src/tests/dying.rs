//! A store whose process dies at a chosen commit, with a chosen part of what was not durable kept.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::sync::{Notify, watch};

use super::simulate::dice::Dice;
use bellhop_journal::memory::Memory;
use bellhop_journal::store::{
    Batch, Bells, Bytes, Durable, Error, Lack, Page, Reach, Read, Stats, Store, Tap, Ticket, Topic, Watch,
};

/// A question to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// [`Store::commit`].
    Commit,
    /// [`Store::get`] or [`Store::scan`].
    Read,
}

/// Synchronises only when somebody waits, so that as much as the program allows is at stake when it dies. Once dead,
/// nothing becomes durable, nothing is accepted, and whoever waits waits for ever.
pub(super) struct Dying {
    /// Where everything goes.
    under: Arc<dyn Store>,
    /// The same, if a part of what is not durable can be kept at a death.
    memory: Arc<Memory>,
    commits: AtomicU64,
    /// 0: lives on.
    die_at: AtomicU64,
    dead: watch::Sender<bool>,
    /// Another process has what this one had: nothing is accepted any more.
    fenced: AtomicBool,
    /// Whether it synchronises only when it is told to.
    held: AtomicBool,
    /// Items that scans gave.
    scanned: Arc<AtomicU64>,
    /// Looks at the room since the disk said last what it has, or a batch was accepted.
    looks: AtomicU64,
    /// Rung when somebody waits for something to become durable.
    waited: Notify,
    /// Requests that may leave before the process is stopped at the next one; 0: it is not.
    stops_at: AtomicU64,
    /// Whether the process is stopped there.
    stopped: watch::Sender<bool>,
    /// What is asked next is refused with this, once, after so many others.
    refuses: Mutex<Option<(Asked, u64, Error)>>,
    /// Done once, when the next batch was accepted and nobody was told yet.
    meanwhile: Mutex<Option<Act>>,
    /// Done once, when the next batch was made and is not accepted yet.
    before: Mutex<Option<Act>>,
    /// Whether it hears nothing of what others write.
    deaf: AtomicBool,
    /// How long reads take; none: they are there at once.
    far: Mutex<Option<Dice>>,
}

type Act = Box<dyn FnOnce() + Send>;

impl Dying {
    /// Over what an earlier process left.
    pub(super) fn over(memory: Memory) -> Self {
        let memory = Arc::new(memory);
        Self { memory: memory.clone(), ..Self::under(memory) }
    }

    /// Over any store: what it has accepted when it dies is kept, as far as the store keeps it.
    pub(super) fn under(under: Arc<dyn Store>) -> Self {
        let memory = Arc::new(Memory::manual());
        Self {
            under,
            memory,
            commits: AtomicU64::new(0),
            die_at: AtomicU64::new(0),
            dead: watch::channel(false).0,
            fenced: AtomicBool::new(false),
            held: AtomicBool::new(false),
            scanned: Arc::default(),
            looks: AtomicU64::new(0),
            waited: Notify::new(),
            stops_at: AtomicU64::new(0),
            stopped: watch::channel(false).0,
            refuses: Mutex::new(None),
            meanwhile: Mutex::new(None),
            before: Mutex::new(None),
            far: Mutex::new(None),
            deaf: AtomicBool::new(false),
        }
    }

    /// Dies with the `commit`-th commit from here, counted from 1: it was accepted, and nothing happens any more.
    pub(super) fn die_at(&self, commit: u64) {
        self.die_at.store(self.commits() + commit, Ordering::SeqCst);
    }

    /// Refuses the `nth` of what is asked from here on, counted from 1, with this error, and takes everything else.
    pub(super) fn refuse(&self, asked: Asked, nth: u64, error: Error) {
        *self.refuses.lock().unwrap() = Some((asked, nth, error));
    }

    /// Whether what was to be refused has been.
    pub(super) fn has_refused(&self) -> bool {
        self.refuses.lock().unwrap().is_none()
    }

    fn may(&self, what: Asked) -> Result<(), Error> {
        let mut refuses = self.refuses.lock().unwrap();
        match refuses.take() {
            Some((asked, 1, error)) if asked == what => return Err(error),
            Some((asked, nth, error)) if asked == what => *refuses = Some((asked, nth - 1, error)),
            other => *refuses = other,
        }
        Ok(())
    }

    /// Does this between the next commit and whatever the one who commits does after it.
    pub(super) fn meanwhile(&self, act: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some(Box::new(act));
    }

    /// Does this between whatever the next commit rests on and that commit.
    pub(super) fn before(&self, act: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap() = Some(Box::new(act));
    }

    /// From now on reads take their time, as those of a store on another machine do: others have their turns before what is
    /// read is read, and before it is there.
    pub(super) fn is_far(&self, dice: Dice) {
        *self.far.lock().unwrap() = Some(dice);
    }

    /// From now on nothing is heard of what others write, as where messages between machines are lost.
    pub(super) fn is_deaf(&self) {
        self.deaf.store(true, Ordering::SeqCst);
    }

    /// How many turns others have before the next read, and how many after it; none where it is there at once.
    fn waits(&self) -> Option<(u64, u64)> {
        let mut far = self.far.lock().unwrap();
        let dice = far.as_mut()?;
        Some((1 + dice.below(3), dice.below(3)))
    }

    /// Dies now.
    pub(super) fn die(&self) {
        self.dead.send_replace(true);
    }

    /// The process is stopped when its `nth` request is about to leave, counted from 1.
    pub(super) fn stop_at(&self, nth: u64) {
        self.stops_at.store(nth, Ordering::SeqCst);
    }

    /// Ready when the process is stopped.
    pub(super) async fn is_stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender is here: it cannot go.
        let _stopped = stopped.wait_for(|stopped| *stopped).await;
    }

    /// The process goes on where it was stopped.
    pub(super) fn go_on(&self) {
        self.stopped.send_replace(false);
    }

    /// A request is about to leave: ready at once, or when the process goes on.
    pub(super) async fn passes(&self) {
        let left = self.stops_at.load(Ordering::SeqCst);
        if left > 0 {
            self.stops_at.store(left - 1, Ordering::SeqCst);
            self.stopped.send_if_modified(|stopped| {
                *stopped = left == 1;
                *stopped
            });
        }
        let mut stopped = self.stopped.subscribe();
        let _goes_on = stopped.wait_for(|stopped| !*stopped).await;
    }

    /// Another process takes over what is there: this one may go on, and changes nothing.
    pub(super) fn fence(&self) {
        self.fenced.store(true, Ordering::SeqCst);
    }

    /// Whether another process has what this one had.
    pub(super) fn is_fenced(&self) -> bool {
        self.fenced.load(Ordering::SeqCst)
    }

    /// From now on only [`Self::sync`] makes anything durable.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Makes the next `count` batches durable.
    pub(super) fn sync(&self, count: usize) {
        self.memory.sync(count);
    }

    /// Somebody waits, or did since this was asked last.
    pub(super) async fn asked(&self) {
        self.waited.notified().await;
    }

    /// The disk refuses from now on.
    pub(super) fn fail(&self) {
        self.memory.fail("the disk is gone");
    }

    /// The disk says from now on that it lacks room, or has it again.
    pub(super) fn lacks(&self, lack: Option<Lack>) {
        self.memory.lacks(lack);
        self.looks.store(0, Ordering::SeqCst);
    }

    /// Looks at the room since [`Self::lacks`] and since the last batch. Who writes looks once before each batch, so
    /// several are those of somebody who waits for room.
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }

    /// Items that scans gave so far.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned.load(Ordering::SeqCst)
    }

    /// Batches accepted so far.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::SeqCst)
    }

    /// Batches that a crash now may or may not keep.
    pub(super) fn at_stake(&self) -> usize {
        self.memory.unsynced()
    }

    /// What is left, `keep` of the batches at stake among it.
    pub(super) fn left(&self, keep: usize) -> Memory {
        self.memory.crash(keep)
    }

    /// Whether the process does nothing any more that counts.
    pub(super) fn is_dead(&self) -> bool {
        self.is_gone() || self.is_fenced()
    }

    /// Whether the process does nothing any more.
    pub(super) fn is_gone(&self) -> bool {
        *self.dead.borrow()
    }

    pub(super) async fn died(&self) {
        let mut dead = self.dead.subscribe();
        // The sender is here: it cannot go.
        let _dead = dead.wait_for(|dead| *dead).await;
    }
}

/// Ready when all others have had so many turns.
struct Turns(u64);

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(left) = self.0.checked_sub(1) else { return Poll::Ready(()) };
        self.0 = left;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Store for Dying {
    fn commit(&self, batch: Batch) -> Result<Ticket, Error> {
        if self.is_dead() {
            return Err(Error::Fatal { reason: "the process is dead".into() });
        }
        let empty = batch.is_empty();
        let before = if empty { None } else { self.before.lock().unwrap().take() };
        if let Some(act) = before {
            act();
        }
        self.may(Asked::Commit)?;
        let ticket = self.under.commit(batch)?;
        self.looks.store(0, Ordering::SeqCst);
        if !empty && self.commits.fetch_add(1, Ordering::SeqCst) + 1 == self.die_at.load(Ordering::SeqCst) {
            self.die();
        }
        let meanwhile = if empty { None } else { self.meanwhile.lock().unwrap().take() };
        if let Some(act) = meanwhile {
            act();
        }
        Ok(ticket)
    }

    fn durable(&self, ticket: Ticket) -> Durable {
        self.waited.notify_one();
        if !self.is_dead() && !self.held.load(Ordering::SeqCst) {
            self.memory.sync(usize::MAX);
        }
        self.under.durable(ticket)
    }

    fn tip(&self) -> Ticket {
        self.under.tip()
    }

    fn get(&self, key: &[u8]) -> Read<Option<Bytes>> {
        if let Err(refused) = self.may(Asked::Read) {
            return Read::ready(Err(refused));
        }
        let Some((before, after)) = self.waits() else { return self.under.get(key) };
        let (under, key) = (self.under.clone(), key.to_vec());
        Read::later(async move {
            Turns(before).await;
            let read = under.get(&key).await;
            Turns(after).await;
            read
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Read<Page> {
        if let Err(refused) = self.may(Asked::Read) {
            return Read::ready(Err(refused));
        }
        let (under, scanned) = (self.under.clone(), self.scanned.clone());
        let (from, to) = (from.to_vec(), to.to_vec());
        let (before, after) = self.waits().unwrap_or_default();
        Read::later(async move {
            Turns(before).await;
            let page = under.scan(&from, &to, limit).await?;
            scanned.fetch_add(page.items.len() as u64, Ordering::SeqCst);
            Turns(after).await;
            Ok(page)
        })
    }

    fn watch(&self, topic: Topic) -> Watch {
        if self.deaf.load(Ordering::SeqCst) {
            return Bells::default().watch(topic, Reach::Most);
        }
        self.under.watch(topic)
    }

    fn tap(&self, bytes_max: usize) -> Tap {
        self.under.tap(bytes_max)
    }

    fn stats(&self) -> Stats {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.under.stats()
    }

    fn close(&self) -> Result<(), Error> {
        self.under.close()
    }
}
