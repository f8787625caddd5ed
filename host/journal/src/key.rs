//! Every key of the store.
//!
//! A key that the owner of a partition scans begins with the partition, because owners read no others': a run's is in its id,
//! that of an expiry is its subject's. Lists are read across partitions and begin with what they are ordered by.
//!
//! A key is one byte for its space, then its parts. Numbers are big-endian; a [`RunId`] is its 26 characters, which sort
//! by time; a text is its UTF-8 bytes, a zero byte as `00 FF`, ended by `00 01`, so that no two tuples of texts have
//! one key and texts sort as their bytes do. A part of unbounded length that nobody lists stands as its digest.
//!
//! | space | parts | value |
//! |---|---|---|
//! | `e` event | run, seq u64 | [`Entry`](super::entry::Entry): what happened to the run, in order, from 0 without a gap |
//! | `s` snapshot | run | [`Snapshot`](super::journal::Snapshot): the run's state after some entry |
//! | `o` open | partition u16, run | [`Open`](super::journal::Open): the run has not ended; all that is read at start |
//! | `r` summary | run | [`Summary`](super::journal::Summary): what lists of runs show, without folding |
//! | `l` listing | started at (inverted), run | nothing (`null`): every run, newest first |
//! | `q` public | run, number u64 | an event as the outside sees it; the number is its SSE id |
//! | `t` timer | partition u16, due at u64, run, n u64 | what to do then; sorted by time |
//! | `a` notice | partition u16, run, number u32 | what people are to be told |
//! | `M` mail | partition u16, number u64, salt u64 | a message for a run or an owner of that partition, until it is consumed |
//! | `G` member | partition u16, digest of the group's name, turn u64 | a run that has or waits for a place in a group |
//! | `L` lock | partition u16, digest of the key's name | who holds an exclusive key |
//! | `i` idempotency | namespace, name, digest of the key | digest of the body, run, when it may go |
//! | `z` expiry | partition u16, at u64, a key | nothing (`null`): that key may be deleted from then on |
//! | `b` blob | digest | raw bytes, stored once |
//! | `x` reference | digest, run | nothing (`null`): that run names the blob; without a run, it stays for good |
//! | `y` naming | run, digest | nothing (`null`): the same, from the run's side |
//! | `w` workflow | namespace, name, version | one version of a definition; never changes |
//! | `v` current workflow | namespace, name | the latest version, and what `If-Match` compares |
//! | `c` bindings | namespace, name | connections bound to the workflow's aliases |
//! | `d` table | name, version u64 | one version of an operator's table; never changes |
//! | `h` current table | name | its latest version |
//! | `n` connection | name | facts of a connection; never a secret |
//! | `p` plugin | name, version | an installed plugin: digest, manifest, imports |
//! | `g` grant | name, version | what the operator allowed that plugin |
//! | `k` token | digest of the token | a bearer token's id, scopes and times |
//! | `m` limiter | bucket | a rate limit's stored `Retry-After` |
//! | `u` host | name | single facts of this installation |

#![cfg_attr(
    not(test),
    allow(dead_code, reason = "the layout of the whole store stands here, and its tests hold all of it")
)]

use bellhop_core::digest::Digest;
use bellhop_core::id::{Partition, RunId};
use bellhop_core::time::Timestamp;

/// What a key is of; also the kind in the envelope of the record under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Space {
    /// A run's log.
    Event = b'e',
    /// A run's state.
    Snapshot = b's',
    /// Runs that have not ended.
    Open = b'o',
    /// What lists show.
    Summary = b'r',
    /// Runs by time.
    Listing = b'l',
    /// A run's public events.
    Public = b'q',
    /// What is due.
    Timer = b't',
    /// What people are to be told.
    Notice = b'a',
    /// Messages that nobody has consumed.
    Mail = b'M',
    /// Members of groups.
    Member = b'G',
    /// Holders of exclusive keys.
    Lock = b'L',
    /// Keys of triggers.
    Idempotency = b'i',
    /// What may be deleted.
    Expiry = b'z',
    /// Bytes by digest.
    Blob = b'b',
    /// Who names a blob.
    Reference = b'x',
    /// The blobs that a run names.
    Naming = b'y',
    /// Versions of definitions.
    Workflow = b'w',
    /// The latest version of a definition.
    WorkflowCurrent = b'v',
    /// Aliases of a workflow.
    Bindings = b'c',
    /// Versions of tables.
    Table = b'd',
    /// The latest version of a table.
    TableCurrent = b'h',
    /// Facts of connections.
    Connection = b'n',
    /// Installed plugins.
    Plugin = b'p',
    /// What plugins may do.
    Grant = b'g',
    /// Bearer tokens.
    Token = b'k',
    /// Rate limits.
    Limiter = b'm',
    /// Single facts.
    Host = b'u',
}

impl Space {
    /// Every space.
    pub const ALL: [Self; 27] = [
        Self::Event,
        Self::Snapshot,
        Self::Open,
        Self::Summary,
        Self::Listing,
        Self::Public,
        Self::Timer,
        Self::Notice,
        Self::Mail,
        Self::Member,
        Self::Lock,
        Self::Idempotency,
        Self::Expiry,
        Self::Blob,
        Self::Reference,
        Self::Naming,
        Self::Workflow,
        Self::WorkflowCurrent,
        Self::Bindings,
        Self::Table,
        Self::TableCurrent,
        Self::Connection,
        Self::Plugin,
        Self::Grant,
        Self::Token,
        Self::Limiter,
        Self::Host,
    ];

    /// The first byte of its keys.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The space that `byte` stands for.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.byte() == byte)
    }
}

/// A key of a known space.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    bytes: Vec<u8>,
    space: Space,
}

impl Key {
    fn new(space: Space) -> Self {
        let mut bytes = Vec::with_capacity(48);
        bytes.push(space.byte());
        Self { bytes, space }
    }

    fn number(mut self, number: u64) -> Self {
        self.bytes.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn partition(mut self, partition: Partition) -> Self {
        self.bytes.extend_from_slice(&partition.number().to_be_bytes());
        self
    }

    fn run(mut self, run: RunId) -> Self {
        let text = run.to_string();
        self.bytes.extend_from_slice(&text.as_bytes()[RUN_PREFIX_BYTES..]);
        self
    }

    fn text(mut self, text: &str) -> Self {
        for &byte in text.as_bytes() {
            self.bytes.push(byte);
            if byte == 0 {
                self.bytes.push(0xFF);
            }
        }
        self.bytes.extend_from_slice(&[0, 1]);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// What it is of.
    pub fn space(&self) -> Space {
        self.space
    }

    /// As the store has it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&display(&self.bytes))
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&display(&self.bytes))
    }
}

/// A key for people: printable ASCII as it is, every other byte as `\xNN`.
pub fn display(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}

/// `run_`.
const RUN_PREFIX_BYTES: usize = RunId::PREFIX.len() + 1;
/// The characters of a ULID.
const RUN_BYTES: usize = 26;

/// Entry number `seq` of a run.
pub fn event(run: RunId, seq: u64) -> Key {
    Key::new(Space::Event).run(run).number(seq)
}

/// A run's latest snapshot.
pub fn snapshot(run: RunId) -> Key {
    Key::new(Space::Snapshot).run(run)
}

/// The mark of a run that has not ended.
pub fn open(run: RunId) -> Key {
    Key::new(Space::Open).partition(run.partition()).run(run)
}

/// A run's summary.
pub fn summary(run: RunId) -> Key {
    Key::new(Space::Summary).run(run)
}

/// A run's place in the list of all runs, newest first.
pub fn listing(started_at: Timestamp, run: RunId) -> Key {
    Key::new(Space::Listing).number(!started_at.as_millis()).run(run)
}

/// Public event `number` of a run.
pub fn public(run: RunId, number: u64) -> Key {
    Key::new(Space::Public).run(run).number(number)
}

/// Something due at `at`; `n` tells timers of one run at one time apart.
pub fn timer(at: Timestamp, run: RunId, n: u64) -> Key {
    Key::new(Space::Timer).partition(run.partition()).number(at.as_millis()).run(run).number(n)
}

/// What a trigger's `Idempotency-Key` of a workflow is bound to.
pub fn idempotency(namespace: &str, name: &str, key: &str) -> Key {
    Key::new(Space::Idempotency).text(namespace).text(name).raw(Digest::of(key.as_bytes()).as_bytes())
}

/// `subject` may be deleted from `at` on.
pub fn expiry(at: Timestamp, subject: &Key) -> Key {
    Key::new(Space::Expiry).partition(owner_of(subject)).number(at.as_millis()).raw(&subject.bytes)
}

/// The partition whose owner removes what is stored under `subject`: a run's own, or one that follows from the key.
fn owner_of(subject: &Key) -> Partition {
    let run = Parts::of(Space::Summary, &subject.bytes).and_then(|mut parts| parts.run());
    run.map_or_else(|| Partition::of(&subject.bytes), RunId::partition)
}

/// Notice `number` of a run.
pub fn notice(run: RunId, number: u32) -> Key {
    Key::new(Space::Notice).partition(run.partition()).run(run).raw(&number.to_be_bytes())
}

/// The notices of a run.
pub fn notices(run: RunId) -> Range {
    Range::prefixed(&Key::new(Space::Notice).partition(run.partition()).run(run))
}

/// A message for `partition`. Those of one process are in the order of their numbers; `salt` tells processes apart.
pub fn mail(partition: Partition, number: u64, salt: u64) -> Key {
    Key::new(Space::Mail).partition(partition).number(number).number(salt)
}

/// The member of a group whose turn this is.
pub fn member(group: &str, turn: u64) -> Key {
    let partition = Partition::of(group.as_bytes());
    Key::new(Space::Member).partition(partition).raw(Digest::of(group.as_bytes()).as_bytes()).number(turn)
}

/// The holder of an exclusive key, of an owner in `partition`.
pub fn lock(partition: Partition, name: Digest) -> Key {
    Key::new(Space::Lock).partition(partition).raw(name.as_bytes())
}

/// Bytes by their digest.
pub fn blob(digest: Digest) -> Key {
    Key::new(Space::Blob).raw(digest.as_bytes())
}

/// That `run` names a blob; without a run, that the blob stays for good.
pub fn reference(digest: Digest, run: Option<RunId>) -> Key {
    let key = Key::new(Space::Reference).raw(digest.as_bytes());
    match run {
        Some(run) => key.run(run),
        None => key,
    }
}

/// Everybody who names a blob.
pub fn references(digest: Digest) -> Range {
    Range::prefixed(&reference(digest, None))
}

/// That `run` names a blob, from the run's side.
pub fn naming(run: RunId, digest: Digest) -> Key {
    Key::new(Space::Naming).run(run).raw(digest.as_bytes())
}

/// The blobs that a run names.
pub fn namings(run: RunId) -> Range {
    Range::prefixed(&Key::new(Space::Naming).run(run))
}

/// One version of a definition.
pub fn workflow(namespace: &str, name: &str, version: &str) -> Key {
    Key::new(Space::Workflow).text(namespace).text(name).text(version)
}

/// Which version of a definition is the latest.
pub fn workflow_current(namespace: &str, name: &str) -> Key {
    Key::new(Space::WorkflowCurrent).text(namespace).text(name)
}

/// The connections bound to a workflow's aliases.
pub fn bindings(namespace: &str, name: &str) -> Key {
    Key::new(Space::Bindings).text(namespace).text(name)
}

/// One version of a table.
pub fn table(name: &str, version: u64) -> Key {
    Key::new(Space::Table).text(name).number(version)
}

/// Which version of a table is the latest.
pub fn table_current(name: &str) -> Key {
    Key::new(Space::TableCurrent).text(name)
}

/// A connection's facts.
pub fn connection(name: &str) -> Key {
    Key::new(Space::Connection).text(name)
}

/// An installed plugin.
pub fn plugin(name: &str, version: &str) -> Key {
    Key::new(Space::Plugin).text(name).text(version)
}

/// What an installed plugin may do.
pub fn grant(name: &str, version: &str) -> Key {
    Key::new(Space::Grant).text(name).text(version)
}

/// A bearer token, by its hash.
pub fn token(hash: Digest) -> Key {
    Key::new(Space::Token).raw(hash.as_bytes())
}

/// The state of a rate limit.
pub fn limiter(bucket: &str) -> Key {
    Key::new(Space::Limiter).text(bucket)
}

/// A single fact of this installation.
pub fn host(name: &str) -> Key {
    Key::new(Space::Host).text(name)
}

/// Keys `from <= key < to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The first key.
    pub from: Vec<u8>,
    /// After the last key; empty means to the end.
    pub to: Vec<u8>,
}

impl Range {
    /// Everything that begins with `prefix`.
    fn prefixed(prefix: &Key) -> Self {
        Self { from: prefix.bytes.clone(), to: after_prefix(&prefix.bytes) }
    }

    /// The same range without what comes before `key` and without `key`.
    pub fn after(mut self, key: &Key) -> Self {
        // No key lies between a key and itself with a zero byte behind.
        let mut from = key.bytes.clone();
        from.push(0);
        self.from = self.from.max(from);
        self
    }
}

/// The least key that is greater than every key with this prefix.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            break;
        }
    }
    end
}

/// All keys of a space.
pub fn all(space: Space) -> Range {
    Range::prefixed(&Key::new(space))
}

/// A run's entries from number `seq` on.
pub fn events(run: RunId, seq: u64) -> Range {
    Range { from: event(run, seq).bytes, to: after_prefix(&Key::new(Space::Event).run(run).bytes) }
}

/// All keys of a partition in a space whose keys begin with the partition.
pub fn of_partition(space: Space, partition: Partition) -> Range {
    Range::prefixed(&Key::new(space).partition(partition))
}

/// All keys of such a space that are of later partitions than this.
pub fn behind_partition(space: Space, partition: Partition) -> Range {
    Range { from: of_partition(space, partition).to, ..all(space) }
}

/// Every expiry of a partition at or before `until`.
pub fn expiries(partition: Partition, until: Timestamp) -> Range {
    let from = Key::new(Space::Expiry).partition(partition);
    let to = after_prefix(&from.clone().number(until.as_millis()).bytes);
    Range { from: from.bytes, to }
}

/// The timers of a partition that are later than this one, at or before `until`.
pub fn timers(partition: Partition, behind: Option<(Timestamp, RunId)>, until: Timestamp) -> Range {
    let from = Key::new(Space::Timer).partition(partition);
    let to = after_prefix(&from.clone().number(until.as_millis()).bytes);
    let range = Range { from: from.bytes.clone(), to };
    match behind {
        // No run has this number of timers.
        Some((at, run)) => range.after(&from.number(at.as_millis()).run(run).number(u64::MAX)),
        None => range,
    }
}

/// Every version of one definition.
pub fn workflow_versions(namespace: &str, name: &str) -> Range {
    Range::prefixed(&Key::new(Space::Workflow).text(namespace).text(name))
}

/// The definitions of one namespace.
pub fn workflows_in(namespace: &str) -> Range {
    Range::prefixed(&Key::new(Space::WorkflowCurrent).text(namespace))
}

/// Every version of one plugin.
pub fn plugin_versions(name: &str) -> Range {
    Range::prefixed(&Key::new(Space::Plugin).text(name))
}

/// Reads a key's parts in order; every answer is `None` when the key does not have that part there.
#[derive(Debug, Clone)]
pub struct Parts<'k> {
    rest: &'k [u8],
}

impl<'k> Parts<'k> {
    /// The parts of `key`, if it is one of `space`.
    pub fn of(space: Space, key: &'k [u8]) -> Option<Self> {
        let (first, rest) = key.split_first()?;
        (*first == space.byte()).then_some(Self { rest })
    }

    /// A partition.
    pub fn partition(&mut self) -> Option<Partition> {
        let (number, rest) = self.rest.split_first_chunk::<2>()?;
        self.rest = rest;
        Partition::numbered(u16::from_be_bytes(*number))
    }

    /// A number.
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        Some(u64::from_be_bytes(*number))
    }

    /// A run.
    pub fn run(&mut self) -> Option<RunId> {
        let (run, rest) = self.rest.split_first_chunk::<RUN_BYTES>()?;
        self.rest = rest;
        format!("{}_{}", RunId::PREFIX, std::str::from_utf8(run).ok()?).parse().ok()
    }

    /// A digest.
    pub fn digest(&mut self) -> Option<Digest> {
        let (digest, rest) = self.rest.split_first_chunk::<32>()?;
        self.rest = rest;
        Some(Digest::from_bytes(*digest))
    }

    /// A text.
    pub fn text(&mut self) -> Option<String> {
        let mut text = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            if byte != 0 {
                text.push(byte);
                continue;
            }
            let (&mark, rest) = self.rest.split_first()?;
            self.rest = rest;
            match mark {
                0xFF => text.push(0),
                1 => return String::from_utf8(text).ok(),
                _ => return None,
            }
        }
    }

    /// What is left, as a key of its own.
    pub fn key(self) -> Option<Key> {
        let space = Space::of(*self.rest.first()?)?;
        Some(Key { bytes: self.rest.to_vec(), space })
    }

    /// `Some` when nothing is left.
    pub fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }
}
