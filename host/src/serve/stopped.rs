//! What is done in the folder of a host that is stopped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellhop_clock::{self as clock, Clock as _};
use bellhop_engine::Engine;
use bellhop_engine::entropy::Entropy;
use bellhop_engine::operate::Verified;
use bellhop_engine::operate::backup::{self, Backup};
use bellhop_engine::setup::connections::Secrets;
use bellhop_engine::setup::sealed::Passphrase;
use bellhop_engine::setup::tokens::{Scope, Stored, Tokens};
use bellhop_journal::{self as journal, Journal};
use bellhop_limits::Limits;

use super::{Error, Options, not_opened, own, prepared};

/// The store in the folder of a host, which is kept to ourselves from here on.
fn store_in(data_dir: &Path) -> Result<PathBuf, Error> {
    let folder = data_dir.join("store");
    if !folder.is_dir() {
        return Err(Error::NoStore(folder));
    }
    own::keep_to_ourselves();
    Ok(folder)
}

/// Makes a token in the folder of a host that is stopped; gives it and its secret, which is kept nowhere.
///
/// # Errors
/// There is no store, or a host has it. Nothing was made then.
pub(crate) async fn token_offline(
    data_dir: &Path,
    name: &str,
    scopes: BTreeSet<Scope>,
    life_ms: Option<u64>,
) -> Result<(Stored, String), Error> {
    let folder = store_in(data_dir)?;
    let failed = |error: &dyn std::fmt::Display| Error::Store(error.to_string());
    // What fails here fails in what is awaited below.
    let store =
        journal::sled::Sled::open(&journal::sled::Options::new(folder), Box::new(|_: &journal::store::Error| {}));
    let journal = Journal::new(Arc::new(store.map_err(not_opened)?));
    let now = clock::System::new().now();
    let end = life_ms.map(|ms| now.plus_millis(ms));
    let made = Tokens::new(journal.clone()).create(name, scopes, end, now, Entropy::new().next_wide()).await;
    journal.close().map_err(|e| failed(&e))?;
    made.map_err(|e| failed(&e))
}

/// A backup of the folder of a host that is stopped; nobody else has the folder while it is taken.
pub(crate) struct OfStopped {
    journal: Journal,
    backup: Backup,
}

impl OfStopped {
    /// The next bytes; none when it is whole.
    ///
    /// # Errors
    /// It comes to no end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, backup::Error> {
        self.backup.next().await
    }

    /// Lets go of the folder.
    ///
    /// # Errors
    /// The store.
    pub(crate) fn close(self) -> Result<(), Error> {
        self.journal.close().map_err(|error| Error::Store(error.to_string()))
    }
}

/// Begins a backup in the folder of a host that is stopped.
///
/// # Errors
/// There is no store, a host has it, or it cannot be read.
pub(crate) fn backup_offline(
    data_dir: &Path,
    limits: &Limits,
    passphrase: Option<Passphrase>,
) -> Result<OfStopped, Error> {
    let folder = store_in(data_dir)?;
    let mut options = journal::sled::Options::new(folder);
    options.cache_bytes = limits.store_cache_bytes;
    let store = journal::sled::Sled::open(&options, Box::new(|_: &journal::store::Error| {})).map_err(not_opened)?;
    let journal = Journal::new(Arc::new(store));
    let secrets = passphrase.map(|passphrase| (Secrets::in_folder(data_dir.join("secrets")), passphrase));
    let clock = Arc::new(clock::System::new());
    let backup = Backup::begin(&journal, clock, limits.backup_queue_bytes_max, secrets);
    Ok(OfStopped { journal, backup })
}

/// Compares what is kept of the runs of a host that is stopped; with `mends`, makes it fit.
///
/// # Errors
/// There is no store, a host has it, or it cannot be read.
pub(crate) async fn verify(options: &Options, mends: bool) -> Result<Verified, Error> {
    store_in(&options.data_dir)?;
    let engine = Engine::open(prepared(options).await?).await?;
    let failed = |error: &dyn std::fmt::Display| Error::Store(error.to_string());
    let verified = engine.verify().await.map_err(|e| failed(&e))?;
    if mends {
        engine.mend(&verified.differences).await.map_err(|e| failed(&e))?;
    }
    engine.services.journal.close().map_err(|e| failed(&e))?;
    Ok(verified)
}
