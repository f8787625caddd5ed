//! Connections: facts in the journal, tokens in files of their own that nobody else can read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::requirement::{Connection, Kind, Permission, TokenKind};
use bellhop_core::time::Timestamp;
use bellhop_slack::client::Secret;
use bellhop_slack::client::network::Fault;
use bellhop_slack::connect;
use bellhop_slack::limiter::Closed;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::gateway::{Connected, Gateway};
use crate::setup::revision::revise;
use bellhop_faults as faults;
use bellhop_journal::{self as journal, Journal, Write, key};

/// Why a connection cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
    /// A file of tokens.
    #[error("the tokens of the connection `{name}`: {reason}")]
    Secrets {
        /// Whose.
        name: String,
        /// What is wrong. Never a token.
        reason: String,
    },
}

/// How the name of a connection's file ends.
const FILE_END: &str = ".tokens";

/// Where tokens are kept: one file a connection, mode 0600, in a folder of mode 0700.
#[derive(Debug, Clone)]
pub struct Secrets {
    folder: Option<PathBuf>,
}

impl Secrets {
    /// In files under `folder`.
    pub fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Nowhere: they are lost with the process.
    pub fn nowhere() -> Self {
        Self { folder: None }
    }

    fn write(&self, name: &str, tokens: &BTreeMap<TokenKind, Secret>) -> Result<(), Error> {
        use std::io::Write as _;
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        let Some(folder) = &self.folder else { return Ok(()) };
        let failed = |e: std::io::Error| Error::Secrets { name: name.to_owned(), reason: e.to_string() };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let lines: String =
            tokens.iter().map(|(kind, secret)| format!("{}={}\n", kind.as_str(), secret.reveal())).collect();
        let aside = folder.join(format!("{name}{FILE_END}.new"));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .map_err(failed)?;
        file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&aside, folder.join(format!("{name}{FILE_END}"))).map_err(failed)?;
        // The folder's entry, too, must be there after a power cut.
        std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed)
    }

    fn read(&self, name: &str) -> Result<BTreeMap<TokenKind, Secret>, Error> {
        let Some(folder) = &self.folder else { return Ok(BTreeMap::new()) };
        let text = match std::fs::read_to_string(folder.join(format!("{name}{FILE_END}"))) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(Error::Secrets { name: name.to_owned(), reason: e.to_string() }),
        };
        Ok(text
            .lines()
            .filter_map(|line| line.split_once('='))
            .filter_map(|(kind, secret)| Some((kind.parse().ok()?, Secret::new(secret.to_owned()))))
            .collect())
    }

    /// The tokens of all connections, in lines of a form that [`Self::put`] takes.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn all(&self) -> Result<Zeroizing<String>, Error> {
        let Some(folder) = &self.folder else { return Ok(Zeroizing::default()) };
        let failed = |e: std::io::Error| Error::Secrets { name: "all".to_owned(), reason: e.to_string() };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Zeroizing::default()),
            Err(e) => return Err(failed(e)),
        };
        let mut names = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name();
            names.extend(name.to_str().and_then(|name| name.strip_suffix(FILE_END)).map(str::to_owned));
        }
        let mut lines = Zeroizing::new(String::new());
        for name in names {
            for (kind, secret) in self.read(&name)? {
                lines.push_str(&format!("{name} {}=", kind.as_str()));
                lines.push_str(secret.reveal());
                lines.push('\n');
            }
        }
        Ok(lines)
    }

    /// Keeps the tokens of such lines; gives the names of their connections. What is no name of a connection is passed over.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn put(&self, lines: &str) -> Result<BTreeSet<String>, Error> {
        let mut all: BTreeMap<&str, BTreeMap<TokenKind, Secret>> = BTreeMap::new();
        for line in lines.lines() {
            let Some((name, (kind, secret))) =
                line.split_once(' ').and_then(|(name, rest)| Some((name, rest.split_once('=')?)))
            else {
                continue;
            };
            // It becomes the name of a file.
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if let (true, Ok(kind)) = (is_name && !name.is_empty(), kind.parse()) {
                all.entry(name).or_default().insert(kind, Secret::new(secret.to_owned()));
            }
        }
        for (name, tokens) in &all {
            self.write(name, tokens)?;
        }
        Ok(all.into_keys().map(str::to_owned).collect())
    }

    /// The tokens of a connection that is on record. Without them it can do nothing, and keeps no other from being used.
    fn of(&self, journal: &Journal, name: &str) -> BTreeMap<TokenKind, Secret> {
        self.read(name).unwrap_or_else(|error| {
            journal.damaged_beside(&key::connection(name), &error.to_string());
            BTreeMap::new()
        })
    }

    fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        match std::fs::remove_file(folder.join(format!("{name}{FILE_END}"))) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::Secrets { name: name.to_owned(), reason: e.to_string() }),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Slack refuses a token, or could not be asked.
    #[error(transparent)]
    Detect(#[from] connect::Error),
    /// Slack says that it is something else than the operator does.
    #[error("Slack says that the tokens are of something else than was said")]
    Mismatch(Vec<Diagnostic>),
    /// What it was made of is not all there: what Slack says of the rest would be kept as if that were all.
    #[error("{0}")]
    Lacking(String),
    /// It cannot be kept.
    #[error(transparent)]
    Keep(#[from] Error),
}

impl ConnectError {
    /// What would help where the network is to blame: then nothing is wrong with what the connection is made of.
    pub fn fix(&self) -> Option<String> {
        match self {
            Self::Detect(error) => error.network().map(Fault::remedy),
            _ => None,
        }
    }
}

/// A connection as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    facts: Connection,
    /// The user as whom its first token acts, as it was written when that was all that was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acting: Option<String>,
    /// The user as whom each token acts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    actors: BTreeMap<TokenKind, String>,
}

impl Stored {
    fn with(self, tokens: BTreeMap<TokenKind, Secret>) -> Connected {
        let Self { facts, acting, mut actors } = self;
        if let (Some(first), Some(acting)) = (facts.tokens.keys().next(), acting) {
            actors.entry(*first).or_insert(acting);
        }
        Connected { facts, actors, tokens }
    }
}

/// What a new connection is made of.
#[derive(Debug, Clone)]
pub struct New {
    /// The operator's name for it.
    pub name: String,
    /// What the operator says it is.
    pub kind: Kind,
    /// What it may be used for.
    pub permission: Permission,
    /// Its tokens.
    pub tokens: BTreeMap<TokenKind, Secret>,
}

/// A connection that was to be made and is not: Slack refuses its tokens, or did not answer.
#[derive(Debug, Clone)]
pub struct Broken {
    /// What it is to be.
    pub new: New,
    /// Why it is not.
    pub reason: String,
    /// What would help, where the network is to blame.
    pub fix: Option<String>,
}

/// Keeps connections.
pub struct Connections {
    journal: Journal,
    secrets: Secrets,
    /// By name. None of them is on record: who starts a host says of them at each start.
    broken: Mutex<BTreeMap<String, Arc<Broken>>>,
    /// The names of those that are on record, as far as this process has read or written.
    on_record: Mutex<BTreeSet<String>>,
    /// One change at a time: what is still there when Slack has answered is there when the answer is kept.
    changing: tokio::sync::Mutex<()>,
}

/// What Slack was asked about. Its answer is kept only where that is still there: somebody may have replaced or removed
/// it meanwhile.
enum Asked {
    /// What is to be made, whatever is there.
    Anew,
    /// What was to be made.
    Broken(Arc<Broken>),
    /// What was made.
    Made(Arc<Connected>),
}

/// The buckets that Slack had closed when the process ended, and that are closed still.
pub async fn closed(journal: &Journal, now: Timestamp) -> Result<Vec<Closed>, journal::Error> {
    let mut closed = Vec::new();
    let mut all = journal.list::<Closed>(key::Space::Limiter, &key::all(key::Space::Limiter));
    while let Some(read) = all.next().await {
        let (_, one) = read?;
        if one.until_ms > now.as_millis() {
            closed.push(one);
        }
    }
    Ok(closed)
}

impl Connections {
    /// Where tokens are kept.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Reads all connections into the gateway.
    pub async fn read(journal: Journal, secrets: Secrets, gateway: &Gateway) -> Result<Self, Error> {
        let mut all = journal.list::<Stored>(key::Space::Connection, &key::all(key::Space::Connection));
        let mut on_record = BTreeSet::new();
        while let Some(read) = all.next().await {
            let (_, stored) = read?;
            on_record.insert(stored.facts.name.clone());
            let tokens = secrets.of(&journal, &stored.facts.name);
            let connected = stored.with(tokens);
            if let Some(lack) = connected.lacks().filter(|_| secrets.folder.is_some()) {
                tracing::error!(connection = connected.facts.name, lack, "the connection is broken");
            }
            gateway.put(connected);
        }
        let on_record = Mutex::new(on_record);
        Ok(Self { journal, secrets, broken: Mutex::default(), on_record, changing: tokio::sync::Mutex::default() })
    }

    /// Reads anew what is on record, because another process may have changed it. True where anything was changed.
    pub(crate) async fn read_anew(&self, gateway: &Gateway) -> Result<bool, journal::Error> {
        let _changing = self.changing.lock().await;
        let all = self.journal.list::<Stored>(key::Space::Connection, &key::all(key::Space::Connection)).all().await?;
        let names: BTreeSet<String> = all.iter().map(|(_, stored)| stored.facts.name.clone()).collect();
        let mut changed = false;
        for (_, stored) in all {
            let there = gateway.connection(&stored.facts.name);
            let tokens = match &there {
                // They are nowhere but in memory.
                Some(there) if self.secrets.folder.is_none() => there.tokens.clone(),
                _ => self.secrets.of(&self.journal, &stored.facts.name),
            };
            let connected = stored.with(tokens);
            if there.is_none_or(|there| !there.is(&connected)) {
                gateway.put(connected);
                changed = true;
            }
        }
        let gone = std::mem::replace(&mut *self.on_record(), names.clone());
        for name in gone.difference(&names) {
            gateway.remove(name);
            changed = true;
        }
        Ok(changed)
    }

    fn on_record(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.on_record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks Slack what the tokens are of, compares that with what the operator said, and keeps the connection. After
    /// Ok it is durable and in use; after an error nothing was kept.
    pub async fn connect(&self, gateway: &Gateway, new: New, now: Timestamp) -> Result<Arc<Connected>, ConnectError> {
        let stored = asked(gateway, &new, now).await?;
        let kept = self.keep(gateway, stored, new.tokens, &Asked::Anew).await?;
        Ok(kept.ok_or_else(|| Error::Secrets { name: new.name, reason: "it was removed at once".to_owned() })?)
    }

    /// The connections that were to be made and are not.
    pub fn broken(&self) -> BTreeMap<String, Arc<Broken>> {
        self.all_broken().clone()
    }

    fn all_broken(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Broken>>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps in mind what cannot be made now, so that people see it and [`Self::mend`] tries again.
    pub fn is_broken(&self, new: New, reason: String, fix: Option<String>) {
        self.all_broken().insert(new.name.clone(), Arc::new(Broken { new, reason, fix }));
    }

    /// Tries again what is broken. True when any of it is whole now.
    pub async fn mend(&self, gateway: &Gateway, now: Timestamp) -> bool {
        let mut mended = false;
        for (name, broken) in self.broken() {
            let asked = Asked::Broken(broken.clone());
            match self.again(gateway, broken.new.clone(), asked, now).await {
                Ok(Some(_)) => {
                    tracing::info!(connection = name, "the connection is whole");
                    mended = true;
                }
                Ok(None) => tracing::info!(connection = name, "the connection was changed meanwhile"),
                Err(error) => self.is_still_broken(&broken, error.to_string(), error.fix()),
            }
        }
        mended
    }

    /// Another reason for what is broken, unless somebody has changed it since.
    fn is_still_broken(&self, broken: &Arc<Broken>, reason: String, fix: Option<String>) {
        if let Some(there) = self.all_broken().get_mut(&broken.new.name).filter(|there| Arc::ptr_eq(there, broken)) {
            *there = Arc::new(Broken { new: broken.new.clone(), reason, fix });
        }
    }

    /// Asks Slack again about a connection and keeps what it says. None where there is none, or none any more.
    pub async fn refresh(
        &self,
        gateway: &Gateway,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Connected>>, ConnectError> {
        let broken = self.all_broken().get(name).cloned();
        let (new, asked) = match (broken, gateway.connection(name)) {
            (Some(broken), _) => (broken.new.clone(), Asked::Broken(broken)),
            (None, Some(connected)) => match connected.lacks() {
                Some(lack) => return Err(ConnectError::Lacking(lack)),
                None => (again(&connected), Asked::Made(connected)),
            },
            (None, None) => return Ok(None),
        };
        if let Some(connected) = self.again(gateway, new, asked, now).await? {
            return Ok(Some(connected));
        }
        // Whoever replaced it has asked Slack, too.
        Ok(gateway.connection(name))
    }

    /// As [`Self::connect`], for what was there; none where it is not there any more.
    async fn again(
        &self,
        gateway: &Gateway,
        new: New,
        about: Asked,
        now: Timestamp,
    ) -> Result<Option<Arc<Connected>>, ConnectError> {
        let stored = asked(gateway, &new, now).await?;
        Ok(self.keep(gateway, stored, new.tokens, &about).await?)
    }

    /// Keeps a connection, unless what Slack was asked about is there no more.
    async fn keep(
        &self,
        gateway: &Gateway,
        stored: Stored,
        tokens: BTreeMap<TokenKind, Secret>,
        asked: &Asked,
    ) -> Result<Option<Arc<Connected>>, Error> {
        let _changing = self.changing.lock().await;
        let name = stored.facts.name.clone();
        if !self.is_there(gateway, &name, asked) {
            return Ok(None);
        }
        self.journal.room()?;
        self.secrets.write(&name, &tokens)?;
        faults::news();
        let mut write = Write::new();
        write.put(&key::connection(&name), &stored)?;
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        gateway.put(stored.with(tokens));
        self.on_record().insert(name.clone());
        self.all_broken().remove(&name);
        Ok(gateway.connection(&name))
    }

    /// Whether what Slack was asked about is as it was then.
    fn is_there(&self, gateway: &Gateway, name: &str, asked: &Asked) -> bool {
        match asked {
            Asked::Anew => true,
            Asked::Broken(broken) => self.all_broken().get(name).is_some_and(|there| Arc::ptr_eq(there, broken)),
            Asked::Made(made) => gateway.connection(name).is_some_and(|there| Arc::ptr_eq(&there, made)),
        }
    }

    /// Takes a connection out of use, forgets its tokens, and does not try again what was to be made of that name. After
    /// `Ok(true)` that is durable; `Ok(false)` says that there was none.
    pub async fn remove(&self, gateway: &Gateway, name: &str) -> Result<bool, Error> {
        let _changing = self.changing.lock().await;
        let was_broken = self.all_broken().remove(name).is_some();
        if gateway.connection(name).is_none() {
            return Ok(was_broken);
        }
        gateway.remove(name);
        self.on_record().remove(name);
        let mut write = Write::new();
        write.delete(&key::connection(name));
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        self.secrets.remove(name)?;
        Ok(true)
    }
}

/// What a connection is made of.
fn again(connected: &Connected) -> New {
    New {
        name: connected.facts.name.clone(),
        kind: connected.facts.kind,
        permission: connected.facts.permission,
        tokens: connected.tokens.clone(),
    }
}

/// What Slack says that the tokens are of, where that is what the operator said.
async fn asked(gateway: &Gateway, new: &New, now: Timestamp) -> Result<Stored, ConnectError> {
    let detected = connect::detect(gateway.client(), &new.tokens).await?;
    let mismatches = connect::check(new.kind, &detected);
    if !mismatches.is_empty() {
        return Err(ConnectError::Mismatch(mismatches.iter().map(|m| m.diagnostic(&new.name)).collect()));
    }
    let actors = detected.tokens.iter().map(|(kind, actor)| (*kind, actor.user_id.clone())).collect();
    let facts = Connection {
        name: new.name.clone(),
        kind: detected.kind,
        permission: new.permission,
        plan: detected.plan,
        plan_unknown_because: detected.plan_unknown_because,
        checked_at: Some(now),
        tokens: detected.tokens.into_iter().map(|(kind, actor)| (kind, actor.scopes)).collect(),
        assumed: false,
        workspace_id: detected.workspace.map(|w| w.id),
        enterprise_id: detected.enterprise.map(|e| e.id),
    };
    Ok(Stored { facts, acting: None, actors })
}
