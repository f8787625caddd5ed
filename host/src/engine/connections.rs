//! Connections: facts in the journal, tokens in files of their own that nobody else can read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::requirement::{Connection, Kind, Permission, TokenKind};
use bellhop_core::time::Timestamp;
use bellhop_slack::client::Secret;
use bellhop_slack::connect;
use bellhop_slack::limiter::Closed;
use serde::{Deserialize, Serialize};

use super::gateway::{Connected, Gateway};
use crate::faults;
use crate::journal::{self, Journal, Write, key};

/// Why a connection cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
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

/// Where tokens are kept: one file a connection, mode 0600, in a folder of mode 0700.
#[derive(Debug, Clone)]
pub(crate) struct Secrets {
    folder: Option<PathBuf>,
}

impl Secrets {
    /// In files under `folder`.
    pub(crate) fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Nowhere: they are lost with the process.
    pub(crate) fn nowhere() -> Self {
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
        let aside = folder.join(format!("{name}.tokens.new"));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .map_err(failed)?;
        file.write_all(lines.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&aside, folder.join(format!("{name}.tokens"))).map_err(failed)?;
        // The folder's entry, too, must be there after a power cut.
        std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(failed)
    }

    fn read(&self, name: &str) -> Result<BTreeMap<TokenKind, Secret>, Error> {
        let Some(folder) = &self.folder else { return Ok(BTreeMap::new()) };
        let text = match std::fs::read_to_string(folder.join(format!("{name}.tokens"))) {
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

    fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        match std::fs::remove_file(folder.join(format!("{name}.tokens"))) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::Secrets { name: name.to_owned(), reason: e.to_string() }),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Slack refuses a token, or could not be asked.
    #[error(transparent)]
    Detect(#[from] connect::Error),
    /// Slack says that it is something else than the operator does.
    #[error("Slack says that the tokens are of something else than was said")]
    Mismatch(Vec<Diagnostic>),
    /// It cannot be kept.
    #[error(transparent)]
    Keep(#[from] Error),
}

/// A connection as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    facts: Connection,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acting: Option<String>,
}

/// What a new connection is made of.
#[derive(Debug, Clone)]
pub(crate) struct New {
    /// The operator's name for it.
    pub(crate) name: String,
    /// What the operator says it is.
    pub(crate) kind: Kind,
    /// What it may be used for.
    pub(crate) permission: Permission,
    /// Its tokens.
    pub(crate) tokens: BTreeMap<TokenKind, Secret>,
}

/// A connection that was to be made and is not: Slack refuses its tokens, or did not answer.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    /// What it is to be.
    pub(crate) new: New,
    /// Why it is not.
    pub(crate) reason: String,
}

/// Keeps connections.
pub(crate) struct Connections {
    journal: Journal,
    secrets: Secrets,
    /// By name. None of them is on record: who starts a host says of them at each start.
    broken: Mutex<BTreeMap<String, Broken>>,
}

/// The buckets that Slack had closed when the process ended, and that are closed still.
pub(crate) fn closed(journal: &Journal, now: Timestamp) -> Result<Vec<Closed>, journal::Error> {
    let mut closed = Vec::new();
    for read in journal.list::<Closed>(key::Space::Limiter, &key::all(key::Space::Limiter)) {
        let (_, one) = read?;
        if one.until_ms > now.as_millis() {
            closed.push(one);
        }
    }
    Ok(closed)
}

impl Connections {
    /// Reads all connections into the gateway.
    pub(crate) fn read(journal: Journal, secrets: Secrets, gateway: &Gateway) -> Result<Self, Error> {
        for read in journal.list::<Stored>(key::Space::Connection, &key::all(key::Space::Connection)) {
            let (_, Stored { facts, acting }) = read?;
            // Without its tokens it can do nothing, and keeps no other from being used.
            let tokens = secrets.read(&facts.name).unwrap_or_else(|error| {
                journal.damaged_beside(&key::connection(&facts.name), &error.to_string());
                BTreeMap::new()
            });
            gateway.put(Connected { facts, acting, tokens });
        }
        Ok(Self { journal, secrets, broken: Mutex::default() })
    }

    /// Asks Slack what the tokens are of, compares that with what the operator said, and keeps the connection. After
    /// Ok it is durable and in use; after an error nothing was kept.
    pub(crate) async fn connect(
        &self,
        gateway: &Gateway,
        new: New,
        now: Timestamp,
    ) -> Result<Arc<Connected>, ConnectError> {
        let detected = connect::detect(gateway.client(), &new.tokens).await?;
        let mismatches = connect::check(new.kind, &detected);
        if !mismatches.is_empty() {
            return Err(ConnectError::Mismatch(mismatches.iter().map(|m| m.diagnostic(&new.name)).collect()));
        }
        let acting = detected.tokens.values().next().map(|actor| actor.user_id.clone());
        let facts = Connection {
            name: new.name,
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
        Ok(self.keep(gateway, Stored { facts, acting }, new.tokens).await?)
    }

    /// The connections that were to be made and are not.
    pub(crate) fn broken(&self) -> BTreeMap<String, Broken> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps in mind what cannot be made now, so that people see it and [`Self::mend`] tries again.
    pub(crate) fn is_broken(&self, new: New, reason: String) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.insert(new.name.clone(), Broken { new, reason });
    }

    /// Whether there was one; it is not tried again.
    pub(crate) fn forget_broken(&self, name: &str) -> bool {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    /// Tries again what is broken. True when any of it is whole now.
    pub(crate) async fn mend(&self, gateway: &Gateway, now: Timestamp) -> bool {
        let mut mended = false;
        for (name, Broken { new, .. }) in self.broken() {
            match self.connect(gateway, new.clone(), now).await {
                Ok(_) => {
                    tracing::info!(connection = name, "the connection is whole");
                    mended = true;
                }
                Err(error) => self.is_broken(new, error.to_string()),
            }
        }
        mended
    }

    /// Asks Slack again about a connection and keeps what it says.
    pub(crate) async fn refresh(
        &self,
        gateway: &Gateway,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<Arc<Connected>>, ConnectError> {
        let broken = self.broken().remove(name);
        let there = gateway.connection(name).map(|connected| New {
            name: name.to_owned(),
            kind: connected.facts.kind,
            permission: connected.facts.permission,
            tokens: connected.tokens.clone(),
        });
        let Some(new) = broken.map(|broken| broken.new).or(there) else { return Ok(None) };
        self.connect(gateway, new, now).await.map(Some)
    }

    async fn keep(
        &self,
        gateway: &Gateway,
        stored: Stored,
        tokens: BTreeMap<TokenKind, Secret>,
    ) -> Result<Arc<Connected>, Error> {
        let name = stored.facts.name.clone();
        self.journal.room()?;
        self.secrets.write(&name, &tokens)?;
        faults::news();
        let mut write = Write::new();
        write.put(&key::connection(&name), &stored)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        let Stored { facts, acting } = stored;
        gateway.put(Connected { facts, acting, tokens });
        self.forget_broken(&name);
        gateway.connection(&name).ok_or_else(|| Error::Secrets { name, reason: "it was removed at once".to_owned() })
    }

    /// Takes a connection out of use and forgets its tokens. After Ok that is durable.
    pub(crate) async fn remove(&self, gateway: &Gateway, name: &str) -> Result<(), Error> {
        gateway.remove(name);
        let mut write = Write::new();
        write.delete(&key::connection(name));
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        self.secrets.remove(name)
    }
}
