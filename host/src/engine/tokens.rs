//! Bearer tokens of the HTTP interface: stored as digests, shown once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use bellhop_core::definition::WorkflowName;
use bellhop_core::digest::Digest;
use bellhop_core::id::TokenId;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::journal::{self, Journal, Write, key};

/// What a token may do: `runs:start`, `runs:start:people/onboarding`, …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Scope(String);

impl Scope {
    /// Every scope that there is; `runs:start` also with a workflow behind it.
    pub(crate) const ALL: [&'static str; 7] = [
        "runs:start",
        "runs:read",
        "runs:operate",
        "workflows:write",
        "connections:admin",
        "plugins:install",
        "audit:read",
    ];

    /// Reads a scope; `Err` with the nearest known one.
    pub(crate) fn parse(text: &str) -> Result<Self, Option<&'static str>> {
        let narrowed = text.strip_prefix("runs:start:").is_some_and(|rest| {
            rest.split_once('/').is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        });
        if narrowed || Self::ALL.contains(&text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(bellhop_core::diagnostic::nearest(text, Self::ALL))
        }
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token as stored, under the digest of its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// Its id, which is no secret.
    pub(crate) id: TokenId,
    /// The operator's name for it.
    pub(crate) name: String,
    /// What it may do.
    pub(crate) scopes: BTreeSet<Scope>,
    /// When it was made.
    pub(crate) created_at: Timestamp,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
}

impl Stored {
    /// Whether it may do what `scope` names.
    pub(crate) fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s.as_str() == scope)
    }

    /// Whether it may start runs of that workflow.
    pub(crate) fn may_start(&self, workflow: &WorkflowName) -> bool {
        self.may("runs:start") || self.may(&format!("runs:start:{workflow}"))
    }
}

/// All tokens. Found tokens are remembered, since every request asks.
pub(crate) struct Tokens {
    journal: Journal,
    known: RwLock<HashMap<Digest, Stored>>,
}

impl Tokens {
    /// Over `journal`.
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, known: RwLock::default() }
    }

    /// Keeps a token; its secret is given back and kept nowhere. After Ok it is durable.
    pub(crate) async fn create(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        expires_at: Option<Timestamp>,
        now: Timestamp,
        entropy: u128,
    ) -> Result<(Stored, String), journal::Error> {
        let secret = format!("bh_{}", secret_text());
        let stored =
            Stored { id: TokenId::new(now, entropy), name: name.to_owned(), scopes, created_at: now, expires_at };
        let mut write = Write::new();
        write.put(&key::token(Digest::of(secret.as_bytes())), &stored)?;
        // Also on a full disk: it is few bytes, and without a token nobody could do anything about that.
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await?;
        Ok((stored, secret))
    }

    /// The token with this secret, if there is one that has not ended.
    pub(crate) fn find(&self, secret: &str, now: Timestamp) -> Result<Option<Stored>, journal::Error> {
        // Compared by digest: how long that takes says nothing about the secret.
        let digest = Digest::of(secret.as_bytes());
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        let found = match known {
            Some(found) => Some(found),
            None => {
                let read: Option<Stored> = self.journal.get(&key::token(digest))?;
                if let Some(stored) = &read {
                    self.known.write().unwrap_or_else(PoisonError::into_inner).insert(digest, stored.clone());
                }
                read
            }
        };
        Ok(found.filter(|t| t.expires_at.is_none_or(|at| now < at)))
    }

    /// All tokens.
    pub(crate) fn all(&self) -> Result<Vec<Stored>, journal::Error> {
        let page = self.journal.list::<Stored>(key::Space::Token, &key::all(key::Space::Token), 1_000)?;
        Ok(page.items.into_iter().map(|(_, stored)| stored).collect())
    }

    /// Ends a token at once. False when there is none.
    pub(crate) async fn revoke(&self, id: TokenId) -> Result<bool, journal::Error> {
        let page = self.journal.list::<Stored>(key::Space::Token, &key::all(key::Space::Token), 1_000)?;
        let Some((bytes, _)) = page.items.into_iter().find(|(_, stored)| stored.id == id) else { return Ok(false) };
        let digest = key::Parts::of(key::Space::Token, &bytes).and_then(|mut parts| parts.digest());
        let Some(digest) = digest else { return Ok(false) };
        let mut write = Write::new();
        write.delete(&key::token(digest));
        let ticket = self.journal.commit(write)?;
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(&digest);
        self.journal.durable(ticket).await?;
        Ok(true)
    }
}

/// 160 bits from the operating system, as text.
fn secret_text() -> String {
    use std::io::Read as _;
    let mut bytes = [0_u8; 20];
    // Without the system's randomness there can be no secret: better none than a guessable one.
    std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut bytes)).expect("the system has randomness");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
