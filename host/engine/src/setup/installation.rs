//! Where the [facts of the installation](crate::installation) stand.
//!
//! The process that was started last says what they are, because its configuration is the newest. The others hear of it
//! with the [revision](crate::setup::revision).

use bellhop_journal::{self as journal, Journal, Write, key};
use bellhop_limits::Limits;

use crate::installation::{Facts, Known};
use crate::setup::revision::revise;

/// A single row. Without it the defaults hold.
const ROW: &str = "installation";

/// After Ok the store has what `limits` say.
pub(crate) async fn begin(journal: &Journal, limits: &Limits) -> Result<Known, journal::Error> {
    let own = Facts::from(limits);
    if written(journal).await? != own {
        let mut write = Write::new();
        write.put(&key::host(ROW), &own)?;
        revise(&mut write)?;
        journal.commit(write)?;
    }
    Ok(Known::new(own))
}

/// What the store has. A row that is damaged is none, and the next start writes another.
pub(crate) async fn written(journal: &Journal) -> Result<Facts, journal::Error> {
    Ok(journal::damaged_is_none(journal.get::<Facts>(&key::host(ROW)).await)?.unwrap_or_default())
}
