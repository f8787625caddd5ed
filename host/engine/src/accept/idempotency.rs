//! Keys that start at most one run: the one that a caller sends, and the one that a definition makes of its input.
//!
//! A key is bound in the batch that accepts its run. A guard of that batch says what was seen of the key before, so that
//! of two triggers with one key only one accepts a run, whichever processes they come to. The other is decided anew, and
//! then finds the key bound.

use bellhop_core::definition::WorkflowName;
use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::mask::Mask;
use bellhop_core::run::{self, OwnKey};
use serde_json::Value;

use crate::Engine;
use crate::accept::trigger::{Accepted, Refused, code};
use crate::execution::summary::{self, Bound};
use crate::setup::definitions::Definition;
use crate::turns::Guard;
use bellhop_journal::key::{self, Key};
use bellhop_journal::{self as journal, Seen, Write};

/// What a key says of a trigger.
pub(crate) enum Once<'e> {
    /// It is the first with this key, or the first in this revision.
    First(First<'e>),
    /// The run was started before. That is durable.
    Again(Accepted),
}

/// A key that a new run may have.
pub(crate) struct First<'e> {
    key: Key,
    seen: Seen,
    body: Digest,
    revision: Option<u64>,
    /// The run of the revision before, which makes room.
    pub(crate) superseded: Option<RunId>,
    /// Triggers with one key that come to one process are decided one after the other: without this most of them would be
    /// decided twice.
    _turn: Guard<'e>,
}

impl First<'_> {
    /// Binds the key to `run`, in the write that accepts it. That write is [refused](journal::Error::is_refused) if the key
    /// was bound meanwhile.
    pub(crate) fn bind(&self, run: RunId, write: &mut Write) -> Result<(), journal::Error> {
        write.rests_on(self.seen.clone());
        write.put(&self.key, &Bound { body: self.body, run, revision: self.revision })
    }
}

impl Engine {
    /// What a key of a workflow says of a trigger with this body, or in this revision.
    pub(crate) async fn once(
        &self,
        workflow: &WorkflowName,
        key: &str,
        body: Digest,
        revision: Option<u64>,
    ) -> Result<Once<'_>, Refused> {
        let turn = self.triggers.lock(format!("{workflow}\n{key}")).await;
        let journal = &self.services.journal;
        let key = key::idempotency(&workflow.namespace, &workflow.name, key);
        let (bound, seen) = journal.see::<Bound>(&key).await;
        let first = |superseded| Once::First(First { key, seen, body, revision, superseded, _turn: turn });
        let Some(bound) = bound? else { return Ok(first(None)) };
        match (revision, bound.revision) {
            // A definition that has come to name revisions begins with the first of them.
            (Some(_), None) => return Ok(first(Some(bound.run))),
            (Some(new), Some(old)) if new > old => return Ok(first(Some(bound.run))),
            (Some(_), Some(_)) => {}
            (None, _) if bound.body != body => return Err(Refused::KeyReused(bound.run)),
            (None, _) => {}
        }
        // What was read may not be on the disk yet, and this answer depends on it.
        journal.durable(journal.tip()).await.map_err(journal::Error::from)?;
        Ok(Once::Again(Accepted { run: bound.run, replayed: true, warnings: Vec::new() }))
    }

    /// The key that the definition makes of the input, if it makes one.
    pub(crate) fn own_key(&self, definition: &Definition, input: &Value) -> Result<Option<OwnKey>, Refused> {
        let own = run::own_key(&definition.workflow, input, self.services.evaluator.as_ref());
        own.map_err(|fault| {
            let mask = Mask::new(&definition.workflow.extras.sensitive, input);
            let said = mask.text(fault.detail.as_deref().unwrap_or_default());
            let mut diagnostic = Diagnostic::error(code::INPUT_INVALID, said);
            diagnostic.place = definition.source.place("/document/metadata/bellhop/idempotencyKey");
            Refused::Input(vec![diagnostic])
        })
    }

    /// The run that a higher revision of the key of `run` has started.
    pub(crate) async fn superseded_by(&self, run: RunId) -> Result<Option<RunId>, journal::Error> {
        let Some(summary) = self.summary(run).await? else { return Ok(None) };
        let Some(own) = summary.own_key.as_deref().filter(|_| !summary.status.is_final()) else { return Ok(None) };
        let bound = key::idempotency(&summary.namespace, &summary.name, &summary::own_name(own));
        let bound = self.services.journal.get::<Bound>(&bound).await?;
        Ok(bound.map(|bound| bound.run).filter(|newer| *newer > run))
    }
}
