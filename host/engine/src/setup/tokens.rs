//! Bearer tokens of the HTTP interface: stored as digests, shown once.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use bellhop_core::definition::{WorkflowName, is_workflow_name};
use bellhop_core::digest::Digest;
use bellhop_core::id::TokenId;
use bellhop_core::text::{deceives, plain};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::setup::revision::revise;
use bellhop_journal::key::{self, Key};
use bellhop_journal::{self as journal, Journal, Write};

/// What a token may do: `runs:start`, `runs:start:people/onboarding`, …
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scope(String);

impl Scope {
    /// Every scope that there is; `runs:start` also with a workflow behind it.
    pub const ALL: [&'static str; 10] = [
        "runs:start",
        "runs:read",
        "runs:operate",
        "workflows:write",
        "connections:admin",
        "plugins:install",
        "audit:read",
        "backups:read",
        "backups:secrets",
        MAKES_TOKENS,
    ];

    /// Reads a scope. One that would open nothing, because no workflow can have that name, is none.
    pub fn parse(text: &str) -> Result<Self, NoScope> {
        if Self::ALL.contains(&text) {
            return Ok(Self(text.to_owned()));
        }
        let shown = plain(&text.chars().take(64).collect::<String>()).into_owned();
        let refused = |help: String| NoScope { message: format!("there is no scope `{shown}`"), help };
        let Some(workflow) = text.strip_prefix(NARROWED) else {
            return Err(refused(match bellhop_core::diagnostic::nearest(text, Self::ALL) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}, and runs:start:NAMESPACE/NAME", Self::ALL.join(", ")),
            }));
        };
        match workflow.split_once('/') {
            Some((namespace, name)) if is_workflow_name(namespace) && is_workflow_name(name) => {
                Ok(Self(text.to_owned()))
            }
            _ if workflow.contains('*') => Err(refused(
                "name each workflow in a scope of its own, runs:start:NAMESPACE/NAME, or take `runs:start` for all of \
                 them: a scope has no wildcards"
                    .to_owned(),
            )),
            _ => Err(refused(
                "write runs:start:NAMESPACE/NAME; both are 1 to 63 letters, digits and `-`, not at an end".to_owned(),
            )),
        }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The scope of those who make and end tokens.
pub const MAKES_TOKENS: &str = "tokens:admin";
/// With a workflow behind it: the scope of those who start that one.
const NARROWED: &str = "runs:start:";

/// Why a text is no scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoScope {
    /// What is wrong.
    pub message: String,
    /// What can be written instead.
    pub help: String,
}

/// The fact of the installation that names the first operator's token, for as long as nobody has used that.
const FIRST_TOKEN: &str = "first-token";

/// The longest name of a token.
pub const NAME_CHARS_MAX: usize = 100;

/// What is wrong with a token's name: it stands in lists, logs and terminals.
pub fn wrong_name(name: &str) -> Option<String> {
    (name.chars().count() > NAME_CHARS_MAX || name.trim().is_empty() || name.contains(deceives)).then(|| {
        format!(
            "a token's name has 1 to {NAME_CHARS_MAX} characters that are seen: none that control a terminal or turn \
             the direction of text"
        )
    })
}

/// A token as stored, under the digest of its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    /// Its id, which is no secret.
    pub id: TokenId,
    /// The operator's name for it.
    pub name: String,
    /// What it may do.
    pub scopes: BTreeSet<Scope>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Whether it was made when there was a scope for making tokens. Before, a token with every scope made them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub knows_admin: bool,
}

impl Stored {
    /// As read from a record, with the scopes that it means.
    fn read(mut self) -> Self {
        let all_others = || Scope::ALL.iter().filter(|scope| **scope != MAKES_TOKENS).all(|scope| self.may(scope));
        if !self.knows_admin && all_others() {
            self.scopes.insert(Scope(MAKES_TOKENS.to_owned()));
        }
        self
    }

    /// Whether it makes tokens, and does so for good.
    pub fn makes_tokens_for_good(&self) -> bool {
        self.may(MAKES_TOKENS) && self.expires_at.is_none()
    }

    /// Whether what `scope` opens is open to it.
    pub fn covers(&self, scope: &Scope) -> bool {
        self.scopes.contains(scope) || scope.as_str().starts_with(NARROWED) && self.may("runs:start")
    }

    /// Whether it may do what `scope` names.
    pub fn may(&self, scope: &str) -> bool {
        self.scopes.iter().any(|s| s.as_str() == scope)
    }

    /// Whether it may start runs of that workflow.
    pub fn may_start(&self, workflow: &WorkflowName) -> bool {
        self.may("runs:start") || self.may(&format!("runs:start:{workflow}"))
    }
}

/// All tokens. Found tokens are remembered, since every request asks.
pub struct Tokens {
    journal: Journal,
    known: RwLock<Known>,
    /// One at a time ends a token: two could each take the other for the last one.
    ending: tokio::sync::Mutex<()>,
    /// The first operator's token, if nobody has used it yet.
    unused: watch::Sender<Option<TokenId>>,
}

/// Tokens that were found.
#[derive(Default)]
struct Known {
    by_digest: HashMap<Digest, Stored>,
    /// How many were removed. What was read from the store before one was may not be there any more.
    removed: u64,
}

/// Why a token was not ended.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is none with that id.
    #[error("there is no such token")]
    Unknown,
    /// Nobody could make a token any more. Nothing was changed.
    #[error("no other token that makes tokens is without an end: nobody could make one any more")]
    Last,
    /// The journal.
    #[error(transparent)]
    Journal(#[from] journal::Error),
}

impl Tokens {
    /// Over `journal`.
    pub fn new(journal: Journal) -> Self {
        Self {
            journal,
            known: RwLock::default(),
            ending: tokio::sync::Mutex::default(),
            unused: watch::Sender::new(None),
        }
    }

    fn known(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the token of the first operator, if there is no token at all; makes it anew, if it is the only one and nobody
    /// has ever used it, because whoever was to read it may not have. After Ok it is durable.
    pub async fn create_first(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        now: Timestamp,
        entropy: u128,
    ) -> Result<Option<(Stored, String)>, journal::Error> {
        // The row is changed by whoever makes a first token, so that of two processes that find none only one makes it.
        let first = key::host(FIRST_TOKEN);
        let mut tries = journal::Tries::default();
        let mut is_alone = true;
        loop {
            let (before, seen) = self.journal.see::<TokenId>(&first).await;
            let before = journal::damaged_is_none(before)?;
            let mut write = Write::new();
            write.rests_on(seen);
            match self.listed().await?.as_slice() {
                [] => {}
                [(digest, only)] if is_alone && before == Some(only.id) => write.delete(&key::token(*digest)),
                _ => {
                    self.unused.send_replace(before);
                    return Ok(None);
                }
            }
            let id = TokenId::new(now, entropy);
            write.put(&first, &id)?;
            match self.create_with(write, name, scopes.clone(), None, (now, entropy)).await {
                // Another process has made it just now, and somebody reads it there.
                Err(error) if tries.again(&error) => is_alone = false,
                made => {
                    let made = made?;
                    self.unused.send_replace(Some(id));
                    return Ok(Some(made));
                }
            }
        }
    }

    /// Ready once somebody has used the first operator's token, at once where there is none that is unused.
    pub async fn first_is_used(&self) {
        // The sender is there as long as this is.
        let mut unused = self.unused.subscribe();
        let _used = unused.wait_for(Option::is_none).await;
    }

    /// Somebody has used a token.
    async fn used(&self, id: TokenId) {
        if *self.unused.borrow() != Some(id) {
            return;
        }
        if let Err(error) = self.keep_that_it_was_used().await {
            tracing::warn!(%error, "that the first token was used is not kept; its next use says it again");
        } else {
            self.unused.send_replace(None);
        }
    }

    /// After Ok no start makes the first token anew, so that whoever was answered once is answered again.
    async fn keep_that_it_was_used(&self) -> Result<(), journal::Error> {
        let mut write = Write::new();
        write.delete(&key::host(FIRST_TOKEN));
        let ticket = self.journal.commit(write)?;
        // On a full disk nothing becomes durable, and who looks why must not wait for that.
        if self.journal.room().is_ok() {
            self.journal.durable(ticket).await?;
        }
        Ok(())
    }

    /// Keeps a token; its secret is given back and kept nowhere. After Ok it is durable.
    pub async fn create(
        &self,
        name: &str,
        scopes: BTreeSet<Scope>,
        expires_at: Option<Timestamp>,
        now: Timestamp,
        entropy: u128,
    ) -> Result<(Stored, String), journal::Error> {
        self.create_with(Write::new(), name, scopes, expires_at, (now, entropy)).await
    }

    async fn create_with(
        &self,
        mut write: Write,
        name: &str,
        scopes: BTreeSet<Scope>,
        expires_at: Option<Timestamp>,
        (now, entropy): (Timestamp, u128),
    ) -> Result<(Stored, String), journal::Error> {
        let secret = format!("bh_{}", secret_text());
        let id = TokenId::new(now, entropy);
        let stored = Stored { id, name: name.to_owned(), scopes, created_at: now, expires_at, knows_admin: true };
        let key = key::token(Digest::of(secret.as_bytes()));
        write.put(&key, &stored)?;
        revise(&mut write)?;
        if let Some(at) = expires_at {
            // Looked at then, and removed some time later.
            write.put(&key::expiry(at, &key), &serde_json::Value::Null)?;
        }
        // Also on a full disk: it is few bytes, and without a token nobody could do anything about that.
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await?;
        Ok((stored, secret))
    }

    /// The token with this secret, if there is one that has not ended.
    pub async fn find(&self, secret: &str, now: Timestamp) -> Result<Option<Stored>, journal::Error> {
        // Compared by digest: how long that takes says nothing about the secret.
        let digest = Digest::of(secret.as_bytes());
        let (known, removed) = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            (known.by_digest.get(&digest).cloned(), known.removed)
        };
        let found = match known {
            Some(found) => Some(found),
            None => {
                let read = self.journal.get::<Stored>(&key::token(digest)).await?.map(Stored::read);
                let mut known = self.known();
                // One that was read before it was removed would be known for as long as the process runs.
                if let Some(stored) = read.as_ref().filter(|_| known.removed == removed) {
                    known.by_digest.insert(digest, stored.clone());
                }
                read
            }
        };
        let valid = found.filter(|t| t.expires_at.is_none_or(|at| now < at));
        if let Some(stored) = &valid {
            self.used(stored.id).await;
        }
        Ok(valid)
    }

    /// Looks for every token in the store again, because another process may have removed one.
    pub(crate) fn forget_found(&self) {
        let mut known = self.known();
        known.removed += 1;
        known.by_digest.clear();
    }

    /// All tokens.
    pub async fn all(&self) -> Result<Vec<Stored>, journal::Error> {
        Ok(self.listed().await?.into_iter().map(|(_, stored)| stored).collect())
    }

    async fn listed(&self) -> Result<Vec<(Digest, Stored)>, journal::Error> {
        let all = self.journal.list::<Stored>(key::Space::Token, &key::all(key::Space::Token)).all().await?;
        Ok(all.into_iter().filter_map(|(bytes, stored)| Some((digest_of(&bytes)?, stored.read()))).collect())
    }

    /// Ends a token at once; after Ok that is durable. The last one that makes tokens for good stays.
    pub async fn revoke(&self, id: TokenId) -> Result<(), RevokeError> {
        let _turn = self.ending.lock().await;
        let all = self.listed().await?;
        let others = all.iter().filter(|(_, stored)| stored.id != id);
        let is_left = others.map(|(_, stored)| stored).any(Stored::makes_tokens_for_good);
        let (digest, ended) = all.iter().find(|(_, stored)| stored.id == id).ok_or(RevokeError::Unknown)?;
        if ended.makes_tokens_for_good() && !is_left {
            return Err(RevokeError::Last);
        }
        let ticket = self.remove(*digest, ended)?;
        self.journal.durable(ticket).await.map_err(journal::Error::from)?;
        Ok(())
    }

    fn remove(&self, digest: Digest, stored: &Stored) -> Result<journal::Ticket, journal::Error> {
        let key = key::token(digest);
        let mut write = Write::new();
        if let Some(at) = stored.expires_at {
            write.delete(&key::expiry(at, &key));
        }
        write.delete(&key);
        revise(&mut write)?;
        let ticket = self.journal.commit(write)?;
        let mut known = self.known();
        known.removed += 1;
        known.by_digest.remove(&digest);
        Ok(ticket)
    }

    /// Removes the token of a key if it ended longer than `kept_ms` ago; else gives until when it stays, none: for good.
    pub(crate) async fn sweep(
        &self,
        key: &Key,
        now: Timestamp,
        kept_ms: u64,
    ) -> Result<Option<Timestamp>, journal::Error> {
        let (Some(digest), Some(stored)) = (digest_of(key.bytes()), self.journal.get::<Stored>(key).await?) else {
            return Ok(None);
        };
        let until = stored.expires_at.map(|at| at.plus_millis(kept_ms));
        if until.is_some_and(|until| until <= now) {
            self.remove(digest, &stored)?;
            return Ok(None);
        }
        Ok(until)
    }

    /// Removes the tokens that ended longer than `kept_ms` ago, also those of versions that did not mark when that is.
    /// Gives how many.
    pub(crate) async fn sweep_all(&self, now: Timestamp, kept_ms: u64) -> Result<u64, journal::Error> {
        let mut removed = 0;
        let mut all = self.journal.list::<Stored>(key::Space::Token, &key::all(key::Space::Token));
        while let Some(read) = all.next().await {
            // One that is damaged is no token, and says nothing of the others.
            let Ok((bytes, stored)) = read else { continue };
            let Some(digest) = digest_of(&bytes) else { continue };
            if stored.expires_at.is_some_and(|at| at.plus_millis(kept_ms) <= now) {
                self.remove(digest, &stored)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn digest_of(key: &[u8]) -> Option<Digest> {
    key::Parts::of(key::Space::Token, key).and_then(|mut parts| parts.digest())
}

/// 160 bits from the operating system, as text.
fn secret_text() -> String {
    let mut bytes = [0_u8; 20];
    // Without the system's randomness there can be no secret: better none than a guessable one.
    getrandom::fill(&mut bytes).expect("the system has randomness");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;
    use bellhop_journal::memory::Memory;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn scopes() -> BTreeSet<Scope> {
        [Scope::parse("runs:read").unwrap()].into()
    }

    #[tokio::test]
    async fn house_a9_every_token_is_listed_and_can_be_revoked_however_many_there_are() {
        let tokens = Tokens::new(Journal::checked(Arc::new(Memory::new())));
        let mut made = Vec::new();
        for n in 0..2_300 {
            made.push(tokens.create(&format!("t{n}"), scopes(), None, NOW, n).await.unwrap());
        }
        let listed: BTreeSet<TokenId> = tokens.all().await.unwrap().into_iter().map(|stored| stored.id).collect();
        assert_eq!(listed, made.iter().map(|(stored, _)| stored.id).collect());
        // Some by chance, since their order in the store is that of their digests.
        for (stored, secret) in made.iter().step_by(53) {
            assert!(tokens.find(secret, NOW).await.unwrap().is_some());
            assert!(tokens.revoke(stored.id).await.is_ok(), "{} is not found", stored.name);
            assert!(tokens.find(secret, NOW).await.unwrap().is_none(), "{} still works", stored.name);
            assert!(matches!(tokens.revoke(stored.id).await, Err(RevokeError::Unknown)));
        }
        assert_eq!(tokens.all().await.unwrap().len(), 2_300 - 44);
    }

    #[tokio::test]
    async fn house_a9_a_token_that_ended_is_removed_some_time_later() {
        let journal = Journal::checked(Arc::new(Memory::new()));
        let tokens = Tokens::new(journal.clone());
        let end = NOW.plus_millis(1_000);
        let (ends, secret) = tokens.create("ends", scopes(), Some(end), NOW, 1).await.unwrap();
        let (stays, _) = tokens.create("stays", scopes(), None, NOW, 2).await.unwrap();
        assert!(tokens.find(&secret, NOW).await.unwrap().is_some());
        let marked = journal.expired(end, 10).await.unwrap();
        let [(at, key)] = &marked[..] else { panic!("{marked:?}") };
        assert_eq!(*at, end);
        let kept = end.plus_millis(50);
        assert_eq!(tokens.sweep(key, end, 50).await.unwrap(), Some(kept));
        assert_eq!(tokens.sweep_all(end, 50).await.unwrap(), 0);
        assert!(tokens.find(&secret, end).await.unwrap().is_none(), "it is shown, and lets nobody in");
        assert_eq!(tokens.all().await.unwrap().len(), 2);
        assert_eq!(tokens.sweep(key, kept, 50).await.unwrap(), None);
        assert_eq!(tokens.all().await.unwrap(), std::slice::from_ref(&stays));
        assert!(tokens.known().by_digest.is_empty(), "what is gone is not remembered");
        assert!(matches!(tokens.revoke(ends.id).await, Err(RevokeError::Unknown)));
        // One of a version that marked nothing.
        let mut write = Write::new();
        write.put(&key::token(Digest::of(b"old")), &ends).unwrap();
        journal.commit(write).unwrap();
        assert_eq!(tokens.sweep_all(kept, 50).await.unwrap(), 1);
        assert_eq!(tokens.all().await.unwrap(), [stays]);
    }

    /// However the two come together, a token that is revoked is not known afterwards.
    #[test]
    fn house_a9_a_token_that_is_looked_up_while_it_is_revoked_is_revoked() {
        let tokens = Arc::new(Tokens::new(Journal::checked(Arc::new(Memory::new()))));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for n in 0..300 {
            let (stored, secret) = runtime.block_on(tokens.create("t", scopes(), None, NOW, n)).unwrap();
            let looking = {
                let (tokens, secret) = (tokens.clone(), secret.clone());
                std::thread::spawn(move || drop(tokens.find(&secret, NOW).now_or_never().unwrap().unwrap()))
            };
            runtime.block_on(tokens.revoke(stored.id)).unwrap();
            looking.join().unwrap();
            assert!(runtime.block_on(tokens.find(&secret, NOW)).unwrap().is_none(), "round {n}");
        }
    }
}
