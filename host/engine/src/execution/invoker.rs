//! What the driver of a run asks of whoever performs its calls, and what it hears of them.

use std::future::Future;
use std::pin::Pin;

use bellhop_core::run::{Calling, FrameId, Group, Notice, Returned};
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::{Error, Parking};

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

/// A call under way.
pub(crate) type CallFuture = Pin<Box<dyn Future<Output = CallEnd> + Send>>;

/// Starts calls. The engine's side of an action.
pub(crate) trait Invoker: Send + Sync + 'static {
    /// Begins, or takes up again, the call of `frame`.
    fn invoke(&self, frame: FrameId, call: Calling, wish: watch::Receiver<Wish>) -> CallFuture;

    /// The run has ended, durably: what it held of things that runs share is the others'. Whoever waits to hear of the
    /// end hears afterwards. Said again, it changes nothing.
    fn ended(&self) {}

    /// Asks the owner of a group for a place. What it says comes as a message.
    fn admit(&self, _group: Group) {}

    /// Hands a notice to whoever tells people. After Ok it is not forgotten. `again`: an earlier life may have done so.
    fn notify(&self, _notice: Notice, _again: bool) -> BoxFuture<'static, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}
