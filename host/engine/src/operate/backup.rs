//! A backup of what a host keeps: the store, and on request the tokens of connections, sealed.

use std::fmt;
use std::sync::Arc;

use crate::setup::connections::{self, Secrets};
use crate::setup::sealed::{self, Passphrase};
use bellhop_clock::Clock;
use bellhop_journal::Journal;
use bellhop_journal::backup::{self, Taking, Trailer};

/// A backup that is being taken. Dropping it ends it.
pub struct Backup {
    /// None after its end.
    taking: Option<Taking>,
    clock: Arc<dyn Clock>,
    secrets: Option<(Secrets, Passphrase)>,
    trailer: Option<Trailer>,
}

impl fmt::Debug for Backup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backup").field("taking", &self.taking).finish_non_exhaustive()
    }
}

/// Why a backup comes to no end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store, or whoever reads the backup.
    #[error(transparent)]
    Backup(#[from] backup::Error),
    /// The tokens of a connection cannot be read.
    #[error(transparent)]
    Connections(#[from] connections::Error),
    /// They cannot be sealed.
    #[error("the tokens of connections cannot be sealed: {0}")]
    Sealed(#[from] sealed::Error),
}

impl Backup {
    /// Begins one: everything that was acknowledged before is in it. Of what is written meanwhile at most `bytes_max` wait
    /// until it is taken further. With `secrets` it has the tokens of connections, too, sealed.
    pub fn begin(
        journal: &Journal,
        clock: Arc<dyn Clock>,
        bytes_max: u64,
        secrets: Option<(Secrets, Passphrase)>,
    ) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let taking = journal.back_up(env!("CARGO_PKG_VERSION"), clock.now(), bytes_max);
        Self { taking: Some(taking), clock, secrets, trailer: None }
    }

    /// The next bytes, perhaps none yet; `None` when it is whole. It blocks its thread for a moment, and longer where it seals.
    ///
    /// # Errors
    /// It comes to no end; see [`Self::broken_off`].
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(taking) = &mut self.taking else { return Ok(None) };
        if let Some(bytes) = taking.next().await? {
            return Ok(Some(bytes));
        }
        let sealed = match &self.secrets {
            // After the store: a connection that is in it has its tokens by now.
            Some((secrets, passphrase)) => Some(sealed::seal(passphrase, &secrets.all()?)?),
            None => None,
        };
        let Some(taking) = self.taking.take() else { return Ok(None) };
        let (bytes, trailer) = taking.end(sealed.as_deref(), self.clock.now()).await?;
        self.trailer = Some(trailer);
        Ok(Some(bytes))
    }

    /// What it has, once it is whole.
    pub fn trailer(&self) -> Option<&Trailer> {
        self.trailer.as_ref()
    }

    /// The bytes that say to its reader why it comes to no end.
    pub fn broken_off(self, code: &str, detail: &str) -> Vec<u8> {
        self.taking.map(|taking| taking.broken_off(code, detail)).unwrap_or_default()
    }
}
