//! What people ask of a run.

use super::Decider;
use crate::fault::Fault;
use crate::id::RunId;
use crate::run::event::{Ending, Event, Fate, FrameId, Why};
use crate::run::frame::Calling;
use crate::run::key::ExecutionKey;
use crate::run::state::Stands;

impl Decider<'_> {
    /// The run is to end.
    pub(super) fn cancel(&mut self, rollback: bool) {
        match &self.state.ending {
            None => {
                // Whoever wants it taken back now wants no pause before that.
                if rollback && self.state.suspended {
                    self.emit(Event::Resumed { at: self.at });
                }
                self.end_with(Ending::Cancelled, rollback);
            }
            // Asked for later, while calls are still ending; but of a run that was killed nothing is taken back.
            Some(Ending::Cancelled)
                if rollback && !self.state.killed && self.state.rollback.is_none() && self.state.can_roll_back() =>
            {
                self.emit(Event::Ending { at: self.at, ending: Ending::Cancelled, rollback });
            }
            Some(_) => {}
        }
    }

    /// The run has its place: it begins, unless somebody wants a pause.
    pub(super) fn admit(&mut self) {
        if self.state.queues() && self.state.ending.is_none() {
            self.emit(Event::Admitted { at: self.at });
            if !self.state.suspended {
                self.start();
            }
        }
    }

    /// There is no place for the run.
    pub(super) fn reject(&mut self) {
        if !self.state.queues() || self.state.ending.is_some() {
            return;
        }
        let group = self.state.place.as_ref().map(|place| place.group.name.clone()).unwrap_or_default();
        let fault = Fault::of_code("group-full", format!("the group `{group}` has as many runs as it can have"));
        self.end_with(Ending::Faulted { fault }, false);
    }

    /// A newer run takes the place of this one.
    pub(super) fn displace(&mut self, by: RunId, rollback: bool) {
        if self.state.ending.is_none() {
            self.emit(Event::Displaced { at: self.at, by });
            self.cancel(rollback);
        }
    }

    /// A person has decided what calls and changes were waiting for.
    pub(super) fn settle_parked(&mut self, of: Option<&ExecutionKey>, done: bool) {
        let meant = |key: &ExecutionKey| of.is_none_or(|of| key == of);
        for (frame, _) in self.parked(meant) {
            self.emit(Event::Unparked { frame, at: self.at });
        }
        let Some(undoing) = self.state.undoing() else { return };
        let (entry, incomplete) = (undoing.entry, matches!(undoing.stands, Stands::Incomplete(_)));
        let named = self.state.key_of_inverse(entry).is_some_and(|key| meant(&key));
        if incomplete && named {
            let fate = if done { Fate::UndoneByPerson } else { Fate::LeftByPerson };
            self.emit(Event::Settled { entry, at: self.at, fate });
        }
    }

    fn parked(&self, meant: impl Fn(&ExecutionKey) -> bool) -> Vec<(FrameId, Calling)> {
        let parked = self.state.calls().filter(|(_, call)| call.parked.is_some() && meant(&call.key));
        parked.map(|(frame, call)| (frame, call.clone())).collect()
    }

    /// What failed or is parked is tried again.
    pub(super) fn retry(&mut self) {
        if self.state.can_reopen() {
            return self.emit(Event::Reopened { at: self.at });
        }
        if self.state.ended.is_some() {
            return;
        }
        for (frame, call) in self.parked(|_| true) {
            // Such a call has not failed: it waits for what it goes on with.
            let goes_on = matches!(call.why, Why::Doubt | Why::Connection);
            // What is being stopped, or taken back, is not begun anew: it goes on to its end.
            if goes_on || self.state.running(frame).is_none() {
                self.emit(Event::Unparked { frame, at: self.at });
            } else {
                self.emit(Event::CallRetried { frame, at: self.at });
            }
        }
        let incomplete = self.state.undoing().filter(|u| matches!(u.stands, Stands::Incomplete(_)));
        if let Some(entry) = incomplete.map(|u| u.entry) {
            self.call_inverse(entry);
        }
    }

    /// The same, on a newer definition.
    pub(super) fn redefine(&mut self) {
        if !self.state.can_redefine() {
            return;
        }
        let reopens = self.state.can_reopen();
        self.emit(Event::Redefined { at: self.at });
        if reopens {
            self.emit(Event::Reopened { at: self.at });
        }
    }

    /// What an ended run changed is taken back. A completed run counts as cancelled then.
    pub(super) fn undo(&mut self) {
        let Some((_, ending)) = self.state.ended.clone() else { return };
        if !self.state.can_undo() {
            return;
        }
        let ending = if matches!(ending, Ending::Completed { .. }) { Ending::Cancelled } else { ending };
        self.emit(Event::Ending { at: self.at, ending, rollback: true });
    }
}
