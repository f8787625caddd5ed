//! The revision of what operators set up.
//!
//! Every process keeps tokens, plugins, grants and connections in memory, because every request asks for them. Whoever
//! changes one of these writes another revision in the same batch. A process that finds a revision other than the one it
//! has read reads these anew: at once where its store tells it of every change, else within [`HEARD_S_MAX`] seconds.

use std::time::Duration;

use bellhop_journal::{self as journal, Journal, Topic, Watch, Write, key};

use crate::entropy::Entropy;

/// A single fact of the installation: which revision was written last.
const ROW: &str = "setup-revision";

/// So late a process may hear of what another one has set up.
pub(crate) const HEARD_S_MAX: u64 = 5;
/// How often it looks where its store does not tell it of every change, or where it could not read.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(HEARD_S_MAX * 1_000 / 2);

/// Says with `write` that something was set up that every process keeps in memory.
pub(crate) fn revise(write: &mut Write) -> Result<(), journal::Error> {
    // A number that counts would have to be read first, and two that change different things would be in each other's way.
    let revision = format!("{:032x}", Entropy::new().next_wide());
    write.put(&key::host(ROW), &revision)?;
    write.tells(Topic::Setup);
    Ok(())
}

/// How far a process has read.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) read: Option<String>,
    pub(crate) watch: Watch,
}

impl Followed {
    /// As of now: whoever calls it reads afterwards what is set up.
    pub(crate) async fn begin(journal: &Journal) -> Result<Self, journal::Error> {
        let watch = journal.watch(Topic::Setup);
        Ok(Self { read: written(journal).await?, watch })
    }
}

/// The revision that was written last. One that is damaged is none, and the next change writes another.
pub(crate) async fn written(journal: &Journal) -> Result<Option<String>, journal::Error> {
    journal::damaged_is_none(journal.get::<String>(&key::host(ROW)).await)
}
