//! The embedded store: one sled tree in one folder, written by one thread.
//!
//! What sled's own promises do not cover is done here:
//!
//! - `flush()` of 0.34.7 ends in `sync_file_range` on Linux, which leaves metadata and the drive's cache alone. So each
//!   group is flushed (sled's buffers to the file) and *then* synchronised through a second handle of the same file.
//! - Leaves above 128 KiB go into files of their own that sled never synchronises. So a value is cut into chunks of at
//!   most 4 KiB (a leaf has at most 20 entries), and a file in `blobs/` is an error.
//! - Only `apply_batch` is used, which is atomic after a crash.
//! - Recovery takes the first unreadable place of the log for its torn end, or for the end of a segment, and drops what
//!   follows: damage there would be silent loss. So every group carries a number and the sum of all items. The number of
//!   the last synchronised group stands in a file beside the tree as well, and a tree that is behind it is damaged; so is
//!   one whose items have another sum ([`Sled::verify`], which opening does too as long as the store is small).
//! - sled takes no further write after one that failed. So the room for a group is taken before it is written.
//! - A process that dies while sled writes its snapshot leaves a `snap.*.generating`, which sled takes for a snapshot at
//!   the next start and refuses. So these go first. One that dies while sled makes its first files leaves what it cannot
//!   read; a file `creating` says that nothing was ever accepted, and they are made anew.
//!
//! In the tree: `0x00 format` → the format's version; `0x00 groups` → number and sum; `0x01 KEY` → the head of a value
//! (layout, checksum over key and value, length, first bytes); `0x02 KEY NUMBER` → its further chunks. In the folder:
//! `format` (read before anything is touched, so that an older program leaves a newer store as it is), `lock`,
//! `groups`, and sled's own files.

use std::fs::{self, File};
use std::io::{self, Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use ::sled::IVec;

mod files;
mod options;

use super::ROOM_LOOK;
use super::group::{Changes, Image, Limits, Medium, OnFatal, Queue, Refused, Space, merge, panic_text};
use super::key;
use super::store::{Batch, Bytes, Durable, Error, Page, Read, Stats, Store, Tap, Ticket, Topic, Watch};

pub use options::{Asked, OpenError, Options};

/// The version of the layout described above, and of every key and record in it.
pub const FORMAT: u32 = 3;

const META: u8 = 0x00;
const HEAD: u8 = 0x01;
const CHUNK: u8 = 0x02;
const FORMAT_KEY: &[u8] = b"\x00format";
const GROUPS_KEY: &[u8] = b"\x00groups";
/// The number of the last group is written with every group, and with it, now and then, the leaf that it is in. These
/// keep that leaf free of anything large.
const META_FILLERS: u8 = 48;

const CHUNK_BYTES: usize = 4_096;
const LAYOUT: u8 = 1;
/// Layout, checksum, length.
const HEAD_BYTES: usize = 1 + 4 + 4;
const HEAD_CONTENT_BYTES: usize = CHUNK_BYTES - HEAD_BYTES;

/// See the module.
pub struct Sled {
    queue: Arc<Queue>,
    /// Gone once closed.
    tree: RwLock<Option<::sled::Tree>>,
    closing: Mutex<Closing>,
}

struct Closing {
    writer: Option<JoinHandle<()>>,
    /// Held until the files are let go of.
    lock: Option<File>,
}

impl std::fmt::Debug for Sled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sled").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Sled {
    /// Opens or makes the store. After `Ok` this process alone has it, everything in it is on the disk, and
    /// `on_fatal` will be told, once, if the disk refuses a write later.
    pub fn open(options: &Options, on_fatal: OnFatal) -> Result<Self, OpenError> {
        let dir = &options.dir;
        let io = |source| OpenError::Io { dir: dir.clone(), file: dir.clone(), source };
        let io_db = |source| OpenError::Io { dir: dir.clone(), file: dir.join("db"), source };
        files::check_files(dir)?;
        let known_before = files::check_format(dir)?;
        files::make_dir(dir).map_err(io)?;
        let lock = files::lock(dir)?;
        // Read again now that nobody else can write it.
        if !known_before && !files::check_format(dir)? {
            files::begin(dir).map_err(io)?;
        }
        files::clean(dir).map_err(io)?;
        let blobs = dir.join("blobs");
        if files::has_entries(&blobs).map_err(io)? {
            return Err(damaged(dir, "`blobs/` has files, which this program never makes"));
        }
        let tree = open_tree(options)?;
        let (groups, groups_file) = open_groups(dir, &tree)?;
        files::sync_all(dir).map_err(io)?;
        files::finish(dir).map_err(io)?;
        let file = File::options().read(true).write(true).open(dir.join("db")).map_err(io_db)?;
        if file.metadata().map_err(io_db)?.len() <= options.verify_bytes_max {
            catch_unwind(AssertUnwindSafe(|| verify(&tree)))
                .map_err(|panic| damaged(dir, panic_text(&*panic)))?
                .map_err(|why| damaged(dir, why))?;
        }
        let blobs = files::Watched::new(blobs);
        let told = options.space.as_ref().is_none_or(|Asked(asked)| asked().is_some());
        let taken = files::Taken::new(told);
        let medium = Disk { dir: dir.clone(), tree: tree.clone(), file, taken, blobs, groups, groups_file };
        let limits = Limits {
            queue_batches_max: options.queue_batches_max,
            queue_bytes_max: options.queue_bytes_max,
            group_batches_max: options.group_batches_max,
            group_bytes_max: options.group_bytes_max,
            gather: options.gather,
            linger: options.linger,
            reserve_bytes: options.reserve_bytes,
            look_again: ROOM_LOOK,
        };
        let space: Space = match &options.space {
            Some(Asked(asked)) => {
                let asked = Arc::clone(asked);
                Box::new(move || asked())
            }
            None => {
                // Whoever writes looks each time: by a handle, because a path would be looked up each time.
                let folder = File::open(dir).map_err(io)?;
                Box::new(move || files::room(&folder))
            }
        };
        let (queue, writer) = Queue::start(medium, limits, space, on_fatal).map_err(io)?;
        Ok(Self {
            queue,
            tree: RwLock::new(Some(tree)),
            closing: Mutex::new(Closing { writer: Some(writer), lock: Some(lock) }),
        })
    }

    /// Reads everything and compares it with what was written, while nothing is written: for stores at rest, before
    /// a backup, after a crash. Answers how many items there are.
    pub fn verify(&self) -> Result<u64, Error> {
        self.read(&[], |tree| {
            let _gate = self.queue.hold();
            verify(tree)
        })
    }

    fn read<T>(&self, key: &[u8], work: impl FnOnce(&::sled::Tree) -> Result<T, Error>) -> Result<T, Error> {
        let tree = self.tree.read().unwrap_or_else(PoisonError::into_inner);
        let tree = tree.as_ref().ok_or(Error::Closed)?;
        // sled asserts what it believes about its pages; a damaged page must not take the reader's thread with it.
        catch_unwind(AssertUnwindSafe(|| work(tree))).unwrap_or_else(|panic| Err(corrupt(key, panic_text(&*panic))))
    }
}

impl Store for Sled {
    fn commit(&self, batch: Batch) -> Result<Ticket, Error> {
        if batch.rests_on().next().is_none() {
            return self.queue.commit(batch, &Image::new());
        }
        self.read(&[], |tree| {
            let _gate = self.queue.hold();
            let mut stored = Image::new();
            for key in batch.rests_on() {
                if let Some(value) = value_of(tree, key)? {
                    stored.insert(Arc::clone(key), value);
                }
            }
            self.queue.commit(batch, &stored)
        })
    }

    fn durable(&self, ticket: Ticket) -> Durable {
        self.queue.durable(ticket)
    }

    fn tip(&self) -> Ticket {
        self.queue.tip()
    }

    fn get(&self, key: &[u8]) -> Read<Option<Bytes>> {
        Read::ready(self.read(key, |tree| {
            if let Some(value) = self.queue.pending(key) {
                return Ok(value);
            }
            let _gate = self.queue.hold();
            value_of(tree, key)
        }))
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Read<Page> {
        Read::ready(self.read(from, |tree| {
            if !to.is_empty() && from >= to {
                return Ok(Page::default());
            }
            let _gate = self.queue.hold();
            let pending = self.queue.pending_range(from, to);
            let upper = if to.is_empty() { vec![HEAD + 1] } else { head_key(to) };
            let stored = tree.range(head_key(from)..upper).map(|item| {
                let (physical, head) = item.map_err(|why| corrupt(from, why))?;
                let key = &physical[1..];
                match assemble(tree, key, &head) {
                    Ok(value) => Ok((Bytes::from(key), Ok(value))),
                    Err(Error::Corrupt { reason, .. }) => Ok((Bytes::from(key), Err(reason))),
                    Err(error) => Err(error),
                }
            });
            merge(stored, pending, limit)
        }))
    }

    fn watch(&self, topic: Topic) -> Watch {
        self.queue.watch(topic)
    }

    fn tap(&self, bytes_max: usize) -> Tap {
        self.queue.tap(bytes_max)
    }

    fn stats(&self) -> Stats {
        self.queue.stats()
    }

    fn close(&self) -> Result<(), Error> {
        self.queue.finish();
        let mut closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(writer) = closing.writer.take() {
            // The writer catches what panics below it and has reported its own end.
            let _ = writer.join();
        }
        *self.tree.write().unwrap_or_else(PoisonError::into_inner) = None;
        closing.lock = None;
        match self.queue.failure() {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }
}

impl Drop for Sled {
    fn drop(&mut self) {
        // Whoever cares for the answer has called `close`.
        let _ = self.close();
    }
}

/// A group as the tree takes it.
struct Change {
    batch: ::sled::Batch,
    groups: Groups,
    /// Keys and values that are put, and those that are taken out.
    weight_bytes: u64,
}

/// What the writing thread has.
struct Disk {
    dir: PathBuf,
    tree: ::sled::Tree,
    file: File,
    taken: files::Taken,
    blobs: files::Watched,
    groups: Groups,
    groups_file: File,
}

impl Disk {
    /// What the system said of a file.
    fn said(&self, file: &str, why: impl std::fmt::Display) -> String {
        format!("{}: {why}", self.dir.join(file).display())
    }

    /// What the changes are in the tree.
    fn changed(&self, changes: &Changes) -> Result<Change, String> {
        let mut batch = ::sled::Batch::default();
        let mut groups = self.groups;
        let mut weight_bytes = 0;
        for (key, value) in changes {
            let head_key = head_key(key);
            let before = match self.tree.get(&head_key).map_err(text)? {
                Some(head) => {
                    groups.sum = groups.sum.wrapping_sub(fingerprint(&head));
                    chunks_of(content_length(&head).unwrap_or(0))
                }
                None => 0,
            };
            let after = match value {
                Some(value) => {
                    let (first, rest) = value.split_at(value.len().min(HEAD_CONTENT_BYTES));
                    let head = head(key, value, first);
                    groups.sum = groups.sum.wrapping_add(fingerprint(&head));
                    batch.insert(head_key, head);
                    for (number, chunk) in (1..).zip(rest.chunks(CHUNK_BYTES)) {
                        batch.insert(chunk_key(key, number), chunk);
                    }
                    chunks_of(value.len())
                }
                None => {
                    batch.remove(head_key);
                    0
                }
            };
            for number in after..before {
                batch.remove(chunk_key(key, number + 1));
            }
            let head_bytes = key.len() + value.as_ref().map_or(0, |value| value.len().min(HEAD_CONTENT_BYTES));
            weight_bytes += (head_bytes + before.max(after) as usize * (key.len() + CHUNK_BYTES)) as u64;
        }
        groups.last += 1;
        batch.insert(GROUPS_KEY, &groups.to_bytes());
        Ok(Change { batch, groups, weight_bytes })
    }
}

impl Medium for Disk {
    fn apply(&mut self, changes: &Changes) -> Result<(), Refused> {
        let change = self.changed(changes).map_err(|why| self.said("db", why))?;
        if let Some(lack) = self.taken.lack(&self.file, files::growth(change.weight_bytes)) {
            return Err(Refused::Room(lack));
        }
        self.tree.apply_batch(change.batch).map_err(|why| self.said("db", why))?;
        self.groups = change.groups;
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        // Before `settle`: a synchronisation alone would find sled's bytes still in memory.
        self.tree.flush().map(drop).map_err(|why| self.said("db", why))?;
        debug_assert!(self.taken.holds(&self.file), "the file grew by more than a group may make it grow");
        Ok(())
    }

    fn settle(&mut self) -> Result<(), String> {
        self.file.sync_data().map_err(|why| self.said("db", why))?;
        // Not synchronised itself: it may lag behind, and then finds less, but is never ahead.
        write_groups(&mut self.groups_file, self.groups.last).map_err(|why| self.said("groups", why))?;
        if self.blobs.has_entries().map_err(|why| self.said("blobs", why))? {
            return Err("a page outgrew the file and went into `blobs/`, which is never synchronised".to_owned());
        }
        Ok(())
    }
}

/// What is known of all groups so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Groups {
    /// The number of the last one.
    last: u64,
    /// The wrapping sum of the fingerprints of all items.
    sum: u64,
}

impl Groups {
    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.last.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sum.to_be_bytes());
        bytes
    }

    fn of(tree: &::sled::Tree) -> Result<Self, String> {
        let Some(bytes) = tree.get(GROUPS_KEY).map_err(text)? else { return Ok(Self::default()) };
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
        match (number(0), number(8), bytes.len()) {
            (Some(last), Some(sum), 16) => Ok(Self { last, sum }),
            _ => Err("the record of the last group cannot be read".to_owned()),
        }
    }
}

/// A number for an item that is hardly ever another item's: from the checksum, which is over key and value, and the
/// length, spread over 64 bits.
fn fingerprint(head: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    if let Some(identity) = head.get(1..HEAD_BYTES) {
        bytes.copy_from_slice(identity);
    }
    let mut mixed = u64::from_le_bytes(bytes).wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

/// Reads every item; nothing may be written meanwhile.
fn verify(tree: &::sled::Tree) -> Result<u64, Error> {
    let groups = Groups::of(tree).map_err(|why| corrupt(GROUPS_KEY, why))?;
    let (mut items, mut sum) = (0, 0_u64);
    for item in tree.range([HEAD]..[HEAD + 1]) {
        let (physical, head) = item.map_err(|why| corrupt(&[], why))?;
        assemble(tree, &physical[1..], &head)?;
        sum = sum.wrapping_add(fingerprint(&head));
        items += 1;
    }
    if sum == groups.sum {
        Ok(items)
    } else {
        Err(corrupt(GROUPS_KEY, format!("the {items} items are not those that were written: their sum differs")))
    }
}

/// What the tree has under a key; nothing may go into it meanwhile.
fn value_of(tree: &::sled::Tree, key: &[u8]) -> Result<Option<Bytes>, Error> {
    let head = tree.get(head_key(key)).map_err(|why| corrupt(key, why))?;
    head.map(|head| assemble(tree, key, &head)).transpose()
}

fn text(why: impl std::fmt::Display) -> String {
    why.to_string()
}

fn head_key(key: &[u8]) -> Vec<u8> {
    let mut physical = Vec::with_capacity(1 + key.len());
    physical.push(HEAD);
    physical.extend_from_slice(key);
    physical
}

/// The number has a fixed width, so no two values share a chunk's key.
fn chunk_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut physical = Vec::with_capacity(1 + key.len() + 4);
    physical.push(CHUNK);
    physical.extend_from_slice(key);
    physical.extend_from_slice(&number.to_be_bytes());
    physical
}

/// How many chunks a value of `length` bytes has beside its head.
fn chunks_of(length: usize) -> u32 {
    let chunks = length.saturating_sub(HEAD_CONTENT_BYTES).div_ceil(CHUNK_BYTES);
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // The key is part of it: a value that turns up under another key is damage too.
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

fn head(key: &[u8], value: &[u8], first: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
    let mut head = Vec::with_capacity(HEAD_BYTES + first.len());
    head.push(LAYOUT);
    head.extend_from_slice(&checksum(key, value).to_le_bytes());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(first);
    head
}

/// The length that a head tells; `None` when it is no head.
fn content_length(head: &IVec) -> Option<usize> {
    let bytes = head.get(5..HEAD_BYTES)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok().filter(|_| head.first() == Some(&LAYOUT))
}

/// Puts a value together and checks it.
fn assemble(tree: &::sled::Tree, key: &[u8], head: &IVec) -> Result<Bytes, Error> {
    let length = content_length(head).ok_or_else(|| corrupt(key, "not the head of a value"))?;
    let first = &head[HEAD_BYTES..];
    let value: Bytes = if chunks_of(length) == 0 {
        Bytes::from(first)
    } else {
        let mut value = Vec::with_capacity(length.min(super::store::VALUE_BYTES_MAX));
        value.extend_from_slice(first);
        for number in 1..=chunks_of(length) {
            let chunk = tree.get(chunk_key(key, number)).map_err(|why| corrupt(key, why))?;
            value.extend_from_slice(&chunk.ok_or_else(|| corrupt(key, "a chunk is missing"))?);
        }
        value.into()
    };
    let stored = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
    if value.len() != length || checksum(key, &value) != stored {
        return Err(corrupt(key, "length or checksum differs"));
    }
    Ok(value)
}

fn corrupt(key: &[u8], reason: impl std::fmt::Display) -> Error {
    Error::Corrupt { key: key::display(key), reason: reason.to_string().into() }
}

/// What sled said: of the system, or of what it found.
fn of_sled(dir: &Path, why: ::sled::Error) -> OpenError {
    match why {
        ::sled::Error::Io(source) => OpenError::Io { dir: dir.to_owned(), file: dir.join("db"), source },
        why => damaged(dir, why),
    }
}

fn damaged(dir: &Path, reason: impl std::fmt::Display) -> OpenError {
    OpenError::Damaged { dir: dir.to_owned(), reason: reason.to_string() }
}

fn open_tree(options: &Options) -> Result<::sled::Tree, OpenError> {
    let dir = &options.dir;
    let config = ::sled::Config::new().path(dir).cache_capacity(options.cache_bytes).flush_every_ms(None);
    let mut tries = 0;
    let db = loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened.map_err(|panic| damaged(dir, panic_text(&*panic)))? {
            Ok(db) => break db,
            Err(::sled::Error::Io(why)) if why.to_string().contains("could not acquire lock") => {
                tries += 1;
                if tries == files::LOCK_TRIES {
                    return Err(OpenError::InUse { dir: dir.clone(), pid: None });
                }
                std::thread::sleep(files::LOCK_PAUSE);
            }
            Err(why) => return Err(of_sled(dir, why)),
        }
    };
    let tree: ::sled::Tree = (*db).clone();
    let checked = catch_unwind(AssertUnwindSafe(|| check_tree(dir, &tree)));
    checked.map_err(|panic| damaged(dir, panic_text(&*panic)))??;
    Ok(tree)
}

/// The version stands in the tree too: a `format` file beside somebody else's `db` is not believed.
fn check_tree(dir: &Path, tree: &::sled::Tree) -> Result<(), OpenError> {
    let wanted = FORMAT.to_be_bytes();
    match tree.get(FORMAT_KEY).map_err(|why| damaged(dir, why))? {
        Some(found) if *found == wanted => Ok(()),
        Some(found) => {
            let found = <[u8; 4]>::try_from(&*found).map(u32::from_be_bytes);
            match found {
                Ok(found) if found > FORMAT => {
                    Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT })
                }
                _ => Err(damaged(dir, "the record of the format's version cannot be read")),
            }
        }
        None if tree.first().map_err(|why| damaged(dir, why))?.is_some() => {
            Err(damaged(dir, "the record of the format's version is missing"))
        }
        None => {
            debug_assert_eq!(FORMAT_KEY[0], META);
            let mut batch = ::sled::Batch::default();
            batch.insert(FORMAT_KEY, &wanted);
            for number in 0..META_FILLERS {
                batch.insert(&[META, b'~', number], &[]);
            }
            let made = tree.apply_batch(batch).and_then(|()| tree.flush());
            made.map(|_| ()).map_err(|why| of_sled(dir, why))
        }
    }
}

/// Compares the number of the last group in the tree with the one beside it.
fn open_groups(dir: &Path, tree: &::sled::Tree) -> Result<(Groups, File), OpenError> {
    let io = |source| OpenError::Io { dir: dir.to_owned(), file: dir.join("groups"), source };
    let groups = Groups::of(tree).map_err(|why| damaged(dir, why))?;
    let path = dir.join("groups");
    let beside = match fs::read(&path) {
        Ok(bytes) => read_groups(&bytes).ok_or_else(|| damaged(dir, "its file `groups` cannot be read"))?,
        Err(why) if why.kind() == io::ErrorKind::NotFound && files::is_new(dir) => 0,
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(dir, "its file `groups` is missing"));
        }
        Err(why) => return Err(io(why)),
    };
    if groups.last < beside {
        let first = groups.last + 1;
        return Err(damaged(dir, format!("groups {first} to {beside} of writes were acknowledged and are not there")));
    }
    let mut file = File::options().create(true).truncate(false).write(true).open(path).map_err(io)?;
    write_groups(&mut file, groups.last).map_err(io)?;
    Ok((groups, file))
}

fn read_groups(bytes: &[u8]) -> Option<u64> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    (rest == crc32fast::hash(number).to_be_bytes()).then(|| u64::from_be_bytes(*number))
}

/// Always the same twelve bytes at the beginning of the file, in one write.
fn write_groups(file: &mut File, groups: u64) -> io::Result<()> {
    let number = groups.to_be_bytes();
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&crc32fast::hash(&number).to_be_bytes());
    file.rewind()?;
    file.write_all(&bytes)
}
