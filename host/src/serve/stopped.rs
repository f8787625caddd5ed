//! What is done in the folder of a host that is stopped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellhop_clock::{self as clock, Clock as _};
use bellhop_engine::Engine;
use bellhop_engine::entropy::Entropy;
use bellhop_engine::operate::Verified;
use bellhop_engine::setup::tokens::{Scope, Stored, Tokens};
use bellhop_journal::{self as journal, Journal};

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
