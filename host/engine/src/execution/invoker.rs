//! What the driver of a run asks of whoever performs its calls, and what it hears of them.

use std::future::Future;
use std::pin::Pin;

use bellhop_core::fault::Fault;
use bellhop_core::run::{Calling, FrameId, Notice, Returned, Why};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Error, Parking};
use crate::owners::keyed_lock::{Change, To};

/// How a call came back to the driver.
#[derive(Debug)]
pub(crate) enum CallEnd {
    /// It ended.
    Returned(Returned),
    /// It needs a person.
    Park(Parking),
    /// The same, after it has changed something.
    ParkPartway(Parking),
    /// It was put down as was wished; nothing is known or lost.
    PutDown,
    /// Its port failed: nobody may carry the run on in this process.
    Failed(Error),
}

impl CallEnd {
    /// The call ends with a fault of the host.
    pub(crate) fn fault(code: &str, detail: String) -> Self {
        Self::Returned(Returned::Fault(Fault::of_code(code, detail)))
    }

    /// The call needs a person.
    pub(crate) fn park(call: &Calling, why: Why, reason: Fault) -> Self {
        Self::Park(Parking::at(&call.key.pointer, why, reason))
    }

    /// What becomes of the keys that the attempt holds; none where it comes back and they stay its own.
    pub(crate) const fn keys(&self) -> Option<To> {
        match self {
            Self::Returned(_) => Some(To::Next),
            // What it was doing is not over until a person has decided.
            Self::Park(_) | Self::ParkPartway(_) => Some(To::Parked),
            Self::PutDown | Self::Failed(_) => None,
        }
    }
}

/// What a call is told while it is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Go on.
    Run,
    /// Nobody waits for it any more: stop the guest, end what was sent.
    Stop,
    /// The process is stopping, or others need the room: end what was sent, put the rest down.
    PutDown,
}

/// A call that has come back, and what becomes of the keys that it held.
#[derive(Debug)]
pub(crate) struct CameBack {
    /// How.
    pub end: CallEnd,
    /// Kept with the decision about it.
    pub keys: Vec<Change>,
}

impl From<CallEnd> for CameBack {
    /// One that leaves its keys as they are.
    fn from(end: CallEnd) -> Self {
        Self { end, keys: Vec::new() }
    }
}

/// A call under way.
pub(crate) type CallFuture = Pin<Box<dyn Future<Output = CameBack> + Send>>;

/// Starts calls. The engine's side of an action.
pub(crate) trait Invoker: Send + Sync + 'static {
    /// Begins, or takes up again, the call of `frame`.
    fn invoke(&self, frame: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture;

    /// What becomes of the keys that the run holds when it ends: kept with the decision about that.
    fn keys_at_end(&self) -> Vec<Change> {
        Vec::new()
    }

    /// The decision is kept with which these change: whoever waits for a key has it.
    fn changed(&self, _keys: &[Change]) {}

    /// The run has ended, durably. Whoever waits to hear of the end hears afterwards. Said again, it changes nothing.
    fn ended(&self) {}

    /// Hands a notice to whoever tells people. After Ok it is not forgotten. `again`: an earlier life may have done so.
    fn notify(&self, _notice: Notice, _again: bool) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_keys_follows_from_how_a_call_came_back() {
        let fault = || Fault::of_code("outcome-unknown", "a test".to_owned());
        let parking = || Parking::at("/do/0/x", Why::Doubt, fault());
        assert_eq!(CallEnd::fault("internal", String::new()).keys(), Some(To::Next));
        assert_eq!(CallEnd::Park(parking()).keys(), Some(To::Parked));
        assert_eq!(CallEnd::ParkPartway(parking()).keys(), Some(To::Parked));
        assert_eq!(CallEnd::PutDown.keys(), None);
        assert_eq!(CallEnd::Failed(Error::Stopping).keys(), None);
        assert!(CameBack::from(CallEnd::PutDown).keys.is_empty());
    }
}
