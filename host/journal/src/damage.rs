//! Facts of no run that cannot be read: what needs one is refused, everything else goes on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::key::{Parts, Space};
use super::store::{self, Bytes};
use super::{journal::Error, record};

/// So many are remembered by name: a store with more is beyond mending one by one.
const REMEMBERED_MAX: usize = 1_000;

/// A fact that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of fact it is.
    pub space: Space,
    /// It by its name, for people.
    pub fact: String,
}

impl Damage {
    /// Its kind in one word.
    pub fn kind(&self) -> &'static str {
        match self.space {
            Space::Workflow | Space::WorkflowCurrent => "workflow",
            Space::Bindings => "bindings",
            Space::Table | Space::TableCurrent => "table",
            Space::Connection => "connection",
            Space::Plugin => "plugin",
            Space::Grant => "grant",
            Space::Token => "token",
            Space::Idempotency => "idempotency-key",
            Space::Limiter => "rate-limit",
            Space::Notice => "notice",
            Space::Mail => "message",
            Space::Member => "group-member",
            Space::Lock => "exclusive-key",
            _ => "host",
        }
    }
}

/// What was found damaged, by key.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<BTreeMap<Bytes, Damage>>);

impl Book {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Bytes, Damage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a failed read of `key` comes to. Damage of a fact of no run is said in the log once, and remembered.
    pub(super) fn read(&self, space: Space, key: &[u8], error: Error) -> Error {
        let reason = match &error {
            Error::Record(record::Error::Corrupt { reason, .. })
            | Error::Store(store::Error::Corrupt { reason, .. })
                if is_of_no_run(space) =>
            {
                reason.clone()
            }
            _ => return error,
        };
        let fact = named(space, key);
        let mut book = self.lock();
        if book.len() < REMEMBERED_MAX && !book.contains_key(key) {
            tracing::error!(%fact, %reason, "what is stored of this is damaged: what needs it is refused");
            book.insert(key.into(), Damage { space, fact: fact.clone() });
        }
        Error::Damaged { fact, reason }
    }

    /// Those of the keys whose values are damaged.
    pub(super) fn among<'k>(&self, keys: impl Iterator<Item = &'k Bytes>) -> Vec<Bytes> {
        let book = self.lock();
        if book.is_empty() { Vec::new() } else { keys.filter(|key| book.contains_key(*key)).cloned().collect() }
    }

    /// These were written anew.
    pub(super) fn mended(&self, keys: &[Bytes]) {
        if !keys.is_empty() {
            let mut book = self.lock();
            keys.iter().for_each(|key| drop(book.remove(key)));
        }
    }

    /// The keys of these spaces whose values are damaged.
    pub(super) fn of(&self, spaces: &[Space]) -> Vec<Bytes> {
        let book = self.lock();
        book.iter().filter(|(_, damage)| spaces.contains(&damage.space)).map(|(key, _)| key.clone()).collect()
    }

    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.lock().contains_key(key)
    }

    pub(super) fn all(&self) -> Vec<Damage> {
        self.lock().values().cloned().collect()
    }
}

/// Damage of any other is told with its run.
pub(super) fn is_of_no_run(space: Space) -> bool {
    match space {
        Space::Idempotency
        | Space::Expiry
        | Space::Workflow
        | Space::WorkflowCurrent
        | Space::Bindings
        | Space::Table
        | Space::TableCurrent
        | Space::Connection
        | Space::Plugin
        | Space::Grant
        | Space::Token
        | Space::Limiter
        | Space::Notice
        | Space::Mail
        | Space::Member
        | Space::Lock
        | Space::Host => true,
        Space::Event
        | Space::Snapshot
        | Space::Open
        | Space::Summary
        | Space::Listing
        | Space::Public
        | Space::Timer
        | Space::Blob
        | Space::Reference
        | Space::Naming => false,
    }
}

/// A fact by its name, for people. Secrets and what stands for them are not named.
fn named(space: Space, key: &[u8]) -> String {
    let mut parts = Parts::of(space, key);
    let mut text = || parts.as_mut().and_then(|parts| parts.text()).unwrap_or_else(|| "?".to_owned());
    match space {
        Space::Workflow => format!("the workflow `{}/{}` in version `{}`", text(), text(), text()),
        Space::WorkflowCurrent => format!("which version of the workflow `{}/{}` is the latest", text(), text()),
        Space::Bindings => format!("the connections bound to the workflow `{}/{}`", text(), text()),
        Space::Table => format!("a version of the table `{}`", text()),
        Space::TableCurrent => format!("the table `{}`", text()),
        Space::Connection => format!("the connection `{}`", text()),
        Space::Plugin => format!("the plugin `{}` in version `{}`", text(), text()),
        Space::Grant => format!("the grants of the plugin `{}` in version `{}`", text(), text()),
        Space::Token => "a token".to_owned(),
        Space::Idempotency => format!("an idempotency key of the workflow `{}/{}`", text(), text()),
        Space::Limiter => "a rate limit that Slack had told".to_owned(),
        Space::Notice => "what people were to be told of a run".to_owned(),
        Space::Mail => "a message to a run or to the owner of a group".to_owned(),
        Space::Member => "a run's place in a group".to_owned(),
        Space::Lock => "who holds an exclusive key".to_owned(),
        Space::Host => "a fact of the host itself".to_owned(),
        Space::Expiry => "when something may be removed".to_owned(),
        _ => super::key::display(key),
    }
}
