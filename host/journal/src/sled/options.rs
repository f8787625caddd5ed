//! How a store is opened, and why one is not.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::store::Room;

/// Where the store is and how much it may use.
#[derive(Debug, Clone)]
pub struct Options {
    /// The store's own folder; made when it is not there.
    pub dir: PathBuf,
    /// Memory for pages of the tree.
    pub cache_bytes: u64,
    /// Batches that may wait; more is refused as full.
    pub queue_batches_max: usize,
    /// Bytes that may wait; more is refused as full.
    pub queue_bytes_max: usize,
    /// Batches written as one group.
    pub group_batches_max: usize,
    /// Bytes written as one group; a single larger batch is a group of its own.
    pub group_bytes_max: usize,
    /// How long a batch is left unwritten for which nobody waits: what follows is written with it.
    pub gather: Duration,
    /// How long a group is left unsynchronised for which nobody waits: what follows it shares its synchronisation.
    pub linger: Duration,
    /// Opening verifies a store whose file is not larger than this.
    pub verify_bytes_max: u64,
    /// Bytes that are kept free on the disk for ends, though never more than half of it.
    pub reserve_bytes: u64,
    /// Tells the room on the disk; without it the system is asked.
    pub space: Option<Asked>,
}

/// Tells the room on a disk.
#[derive(Clone)]
pub struct Asked(pub Arc<dyn Fn() -> Option<Room> + Send + Sync>);

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl Options {
    /// The defaults, for `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 32 * 1024 * 1024,
            queue_batches_max: 16_384,
            queue_bytes_max: 64 * 1024 * 1024,
            group_batches_max: 1_024,
            group_bytes_max: 4 * 1024 * 1024,
            gather: Duration::from_millis(2),
            linger: Duration::from_millis(5),
            verify_bytes_max: 64 * 1024 * 1024,
            reserve_bytes: bellhop_limits::Limits::default().disk_reserve_bytes,
            space: None,
        }
    }
}

/// Why a store could not be opened; split by what the operator does next. The files are as they were before,
/// except after `Damaged` and `Io`, where sled may have begun to recover.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it: stop that one, or use another folder.
    #[error("the store in {dir} is in use by another process{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    InUse {
        /// The store's folder.
        dir: PathBuf,
        /// Who has it, as far as it is known.
        pid: Option<u32>,
    },
    /// A newer program wrote it: use that program's version or a later one.
    #[error("the store in {dir} has format {found}, this program knows formats up to {known}: use a newer bellhop")]
    NewerFormat {
        /// The store's folder.
        dir: PathBuf,
        /// What it has.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// An older program wrote it, in a form that is no longer read: use that program, or begin in another folder.
    #[error("the store in {dir} has format {found}, and this program reads format {known} alone")]
    OlderFormat {
        /// The store's folder.
        dir: PathBuf,
        /// What it has.
        found: u32,
        /// What this program reads.
        known: u32,
    },
    /// The folder has something else in it: use another one.
    #[error("{dir} is not a store of bellhop: {reason}")]
    NotAStore {
        /// The folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What is there is not what was written: restore a backup.
    #[error("the store in {dir} is damaged: {reason}")]
    Damaged {
        /// The store's folder.
        dir: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder or a file in it could not be used: look at rights and space.
    #[error("the store in {dir} cannot be opened: {file}: {source}")]
    Io {
        /// The store's folder.
        dir: PathBuf,
        /// What could not be used: the folder, or a file in it.
        file: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// What helps.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "stop that process first, or name another folder by --data-dir",
            Self::NewerFormat { .. } => "start it with the program that wrote it, or with a newer one",
            Self::OlderFormat { .. } | Self::NotAStore { .. } => "name another folder by --data-dir",
            Self::Damaged { .. } => "keep a copy of the folder, and begin from a backup in another one, by --data-dir",
            Self::Io { .. } => "look whether this user may write there and whether the disk has room; then start again",
        }
    }
}
