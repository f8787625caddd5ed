//! Up to which ticket everything is durable, and those who wait for more.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::store::{Error, Ticket};

#[derive(Debug, Default)]
pub(super) struct Watermark {
    durable: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why the mark will not move any more.
    end: Option<Error>,
    waiter_last: u64,
    /// By ticket, so that a group wakes only those whom it makes durable.
    waiters: BTreeMap<(u64, u64), Waker>,
}

impl Watermark {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Everything up to `ticket` is durable: whoever waits for it goes on.
    pub(super) fn advance(&self, ticket: u64) {
        let ready = {
            let mut state = self.state();
            // After a failed synchronisation a later one that works proves nothing about the earlier bytes.
            if state.end.is_some() {
                return;
            }
            self.durable.fetch_max(ticket, Ordering::Release);
            let later = state.waiters.split_off(&(ticket.saturating_add(1), 0));
            std::mem::replace(&mut state.waiters, later)
        };
        ready.into_values().for_each(Waker::wake);
    }

    /// Nothing more will become durable: everybody who still waits gets `why`. The first reason stays.
    pub(super) fn end(&self, why: Error) {
        let left = {
            let mut state = self.state();
            state.end.get_or_insert(why);
            std::mem::take(&mut state.waiters)
        };
        left.into_values().for_each(Waker::wake);
    }

    pub(super) fn wait(self: &Arc<Self>, ticket: Ticket) -> Durable {
        Durable { watermark: Arc::clone(self), ticket: ticket.0, waiter: None }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state().waiters.len()
    }
}

/// Ends when everything up to its ticket is durable; see [`super::store::Store::durable`].
#[derive(Debug)]
#[must_use = "a ticket is durable only after this was awaited"]
pub struct Durable {
    watermark: Arc<Watermark>,
    ticket: u64,
    waiter: Option<u64>,
}

impl Future for Durable {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.watermark.get() >= this.ticket {
            return Poll::Ready(Ok(()));
        }
        let mut state = this.watermark.state();
        // Looked at again under the lock, under which the mark moves: otherwise a wake could be missed.
        if this.watermark.get() >= this.ticket {
            return Poll::Ready(Ok(()));
        }
        if let Some(why) = &state.end {
            return Poll::Ready(Err(why.clone()));
        }
        let waiter = match this.waiter {
            Some(waiter) => waiter,
            None => {
                state.waiter_last += 1;
                state.waiter_last
            }
        };
        state.waiters.insert((this.ticket, waiter), context.waker().clone());
        this.waiter = Some(waiter);
        Poll::Pending
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.watermark.state().waiters.remove(&(self.ticket, waiter));
        }
    }
}
