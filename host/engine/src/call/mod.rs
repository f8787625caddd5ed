//! What performs a task's call: an attempt has its keys and its guest, and the guest has its calls.
//!
//! - `caller` starts attempts for a run's driver; `attempt` is one, `stage` what follows from how far it has come,
//!   `scope` what it is about, `guest` the end that the sandbox sees, `slices` where it stands.
//! - `effects` answers a guest's call, `earlier` from an earlier attempt, `sending` by Slack, `resolve` by reading back.
//! - `names`, `named`, `lookup`, `listed`, `list`, `known` and `channels` find ids for names and names for ids; `answer` is what a guest gets to
//!   hear, `deeds` what was done, `said` what guests log.

mod answer;
mod attempt;
mod caller;
mod came;
mod channels;
mod deeds;
mod earlier;
mod effects;
mod guest;
mod keys;
mod known;
mod list;
mod listed;
mod lookup;
mod named;
mod names;
mod reading;
mod request;
mod resolve;
mod said;
mod scope;
mod sending;
mod slices;
mod stage;
mod stamp;
mod unresolved;

pub(crate) use caller::Caller;
pub(crate) use keys::keys_held;
pub(crate) use known::Known;
pub(crate) use list::key;
pub(crate) use listed::pairs;
pub(crate) use lookup::plain;
pub(crate) use named::Named;
pub(crate) use resolve::{Doubt, read_back};
pub(crate) use said::Said;
pub(crate) use stamp::{arguments_of, request_digest, sends_again, stamp};
