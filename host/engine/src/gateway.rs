//! The way out to Slack: connections with their tokens, the client, the limiter. Guests and their memory are never here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::requirement::{Access, Connection, Rules, TokenKind, open_to};
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::{Catalog, Method};
use bellhop_slack::client::{Answer, Client, Failure, NotSent, Secret};
use bellhop_slack::limiter::{self, Closed, Limiter, Owner, Reservation};
use serde_json::{Value, json};
use tracing::Instrument as _;

use crate::measures::{self, Durations};
use crate::traces::{self, Kind, Told};
use bellhop_clock::Clock;
use bellhop_faults::{Point, pass};
use bellhop_journal::{self as journal, Journal, Write, key};

/// A request of the host's own waits so long in place for a bucket that Slack has closed; else it comes again.
const READ_WAIT_MS_MAX: u64 = 5_000;

/// The program's clock, as the limiter wants it.
#[derive(Clone)]
pub struct SlackClock(pub Arc<dyn Clock>);

impl limiter::Clock for SlackClock {
    fn now_ms(&self) -> u64 {
        self.0.now().as_millis()
    }
    fn sleep_until(&self, at_ms: u64) -> impl Future<Output = ()> + Send {
        self.0.sleep_until(Timestamp::from_millis(at_ms))
    }
}

/// A connection with its tokens.
pub struct Connected {
    /// What preflight compares.
    pub facts: Connection,
    /// The user as whom each of its tokens acts, where Slack said so.
    pub actors: BTreeMap<TokenKind, String>,
    /// Never shown, logged or given to a guest.
    pub tokens: BTreeMap<TokenKind, Secret>,
}

impl Connected {
    /// Whether it is the same in everything.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let revealed = |connected: &Self| -> Vec<(TokenKind, String)> {
            connected.tokens.iter().map(|(kind, secret)| (*kind, secret.reveal().to_owned())).collect()
        };
        self.facts == other.facts && self.actors == other.actors && revealed(self) == revealed(other)
    }

    /// The bucket owner: connections of one organisation share what Slack counts by organisation.
    pub fn owner(&self) -> Owner<'_> {
        let facts = &self.facts;
        Owner {
            connection: &facts.name,
            organisation: facts
                .enterprise_id
                .as_deref()
                .or(facts.workspace_id.as_deref())
                .unwrap_or(facts.name.as_str()),
        }
    }

    /// The kind of token by which a method is called: the preferred one that is there, and that has a fitting scope where
    /// scopes are known. `said` is as whom the file wants it called.
    pub fn whom(&self, method: &Method, said: Option<TokenKind>) -> Option<TokenKind> {
        let open = open_to(&method.access, method.speaks, said, |kind| self.tokens.contains_key(&kind));
        let mut present = open.into_iter().filter(|access| self.tokens.contains_key(&access.token));
        let first = present.next()?;
        let fitting = [first].into_iter().chain(present).find(|access| self.suffices(access));
        Some(fitting.unwrap_or(first).token)
    }

    /// The kind of token by which a call goes out once more that Slack refused with `error` as a matter of policy, when it
    /// went out by `refused`. None where that is not so, or where nobody else could make it.
    pub fn instead(&self, method: &Method, refused: Option<TokenKind>, error: &str) -> Option<TokenKind> {
        let is_policy = refused == Some(TokenKind::Bot) && method.as_user.iter().any(|policy| policy == error);
        self.as_person(method).filter(|_| is_policy)
    }

    /// Whether it has a token of that kind that the method takes, with a fitting scope where scopes are known.
    pub fn may(&self, method: &Method, whom: TokenKind) -> bool {
        method.access.iter().any(|access| access.token == whom && self.may_by(access))
    }

    /// The user token, where there is one that a call of the method can go out by after the bot's was refused.
    fn as_person(&self, method: &Method) -> Option<TokenKind> {
        (!method.as_user.is_empty() && self.may(method, TokenKind::User)).then_some(TokenKind::User)
    }

    /// By which token a call was sent of which nothing is on record. None where it may have been one or another.
    pub fn surely(&self, method: &Method, said: Option<TokenKind>) -> Option<TokenKind> {
        let whom = self.whom(method, said);
        let is_one = said.is_some() || whom != Some(TokenKind::Bot) || self.as_person(method).is_none();
        whom.filter(|_| is_one)
    }

    /// The token by which what `whom` did is read back: the same, as far as the method takes it, because each token sees
    /// what it may see.
    fn reading(&self, method: &Method, whom: Option<TokenKind>) -> Option<TokenKind> {
        whom.filter(|whom| self.may(method, *whom)).or_else(|| self.whom(method, None))
    }

    fn may_by(&self, access: &Access) -> bool {
        self.tokens.contains_key(&access.token) && self.suffices(access)
    }

    fn suffices(&self, access: &Access) -> bool {
        let held = self.facts.tokens.get(&access.token).and_then(Option::as_ref);
        access.scopes.is_empty() || held.is_none_or(|held| access.scopes.iter().any(|s| held.contains(s)))
    }

    /// The token for a call of the host's own.
    pub fn token(&self, method: &Method) -> Option<&Secret> {
        self.tokens.get(&self.whom(method, None)?)
    }

    /// What preflight compares, with only those tokens that are there to send with.
    pub fn usable(&self) -> Cow<'_, Connection> {
        if self.lost().next().is_none() {
            return Cow::Borrowed(&self.facts);
        }
        let mut facts = self.facts.clone();
        facts.tokens.retain(|kind, _| self.tokens.contains_key(kind));
        Cow::Owned(facts)
    }

    /// The kinds of tokens that it was made of and that are not there: their file is gone, or a part of it.
    fn lost(&self) -> impl Iterator<Item = TokenKind> {
        self.facts.tokens.keys().copied().filter(|kind| !self.tokens.contains_key(kind))
    }

    /// Why it cannot do what it was made for, where that shows without asking Slack.
    pub fn lacks(&self) -> Option<String> {
        if self.tokens.is_empty() {
            return Some("it has no token: connect it again".to_owned());
        }
        let lost: Vec<&str> = self.lost().map(TokenKind::as_str).collect();
        (!lost.is_empty()).then(|| format!("its {} token is not there any more: connect it again", lost.join(" and ")))
    }

    /// How it stands, in a word and the reason. Only what Slack has said of tokens that are there is `ok`.
    pub fn stands(&self) -> (&'static str, Option<String>) {
        match self.lacks() {
            Some(lack) => ("broken", Some(lack)),
            None if self.facts.checked_at.is_none() => {
                ("unasked", Some("Slack has not been asked what it is: bellhop connections test".to_owned()))
            }
            None => ("ok", None),
        }
    }

    /// The workspace that calls without `team_id` mean.
    pub fn workspace(&self) -> Option<&str> {
        self.facts.workspace_id.as_deref()
    }
}

/// Carries requests in place of the client, where there is no network: a simulation's Slack.
#[cfg(test)]
pub trait Way: Send + Sync {
    /// As [`Client::send`].
    fn send<'a>(
        &'a self,
        method: &'a Method,
        arguments: &'a Value,
    ) -> futures_util::future::BoxFuture<'a, Result<Answer, Failure>>;

    /// As [`Client::date_ms`].
    fn date_ms(&self) -> futures_util::future::BoxFuture<'_, Result<Option<u64>, Failure>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// What is between a turn of the program and the request: a process may be stopped here.
    fn stops_here(&self) -> futures_util::future::BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// Whether this process still has what it carries, or another one has taken it over.
pub trait Tenure: Send + Sync {
    /// Asked before each change leaves. One that says no never says yes again.
    fn holds(&self) -> bool;
}

/// A process that has the store to itself, by a lock that ends with it.
struct Sole;

impl Tenure for Sole {
    fn holds(&self) -> bool {
        true
    }
}

/// The way out. One per process.
pub struct Gateway {
    /// What is known of Slack's methods.
    pub catalog: &'static Catalog,
    /// The same, as preflight wants it.
    pub rules: Rules,
    /// Slack's budget.
    pub limiter: Limiter<SlackClock>,
    /// How long requests took, by method and by how they ended.
    pub durations: Durations<2>,
    client: Client,
    connections: RwLock<BTreeMap<String, Arc<Connected>>>,
    /// Where it is kept how long Slack wants to be left alone.
    journal: Option<Journal>,
    /// Whether this process may still change anything.
    pub(crate) tenure: Arc<dyn Tenure>,
    /// The way that a simulated world has instead.
    #[cfg(test)]
    pub way: Option<Arc<dyn Way>>,
}

impl Gateway {
    /// A gateway without connections.
    pub fn new(client: Client, limiter: Limiter<SlackClock>) -> Self {
        let catalog = Catalog::built_in();
        Self {
            catalog,
            rules: bellhop_slack::rules::rules(catalog),
            limiter,
            durations: measures::of_calls(),
            client,
            connections: RwLock::default(),
            journal: None,
            tenure: Arc::new(Sole),
            #[cfg(test)]
            way: None,
        }
    }

    /// The same, which keeps over a restart how long Slack wants to be left alone.
    pub fn keeping(self, journal: Journal) -> Self {
        Self { journal: Some(journal), ..self }
    }

    /// The client itself, for what is no call of a run: connecting.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The connection of that name.
    pub fn connection(&self, name: &str) -> Option<Arc<Connected>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// All connections, by name.
    pub fn connections(&self) -> Vec<Arc<Connected>> {
        self.connections.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Puts a connection in place of the one of that name.
    pub fn put(&self, connected: Connected) {
        let name = connected.facts.name.clone();
        self.connections.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(connected));
    }

    /// Takes a connection away.
    pub fn remove(&self, name: &str) {
        self.connections.write().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Sends one request by that token of the connection. The budget was reserved and, for a write, the intent is durable.
    pub async fn send(
        &self,
        connection: &Connected,
        whom: Option<TokenKind>,
        method: &Method,
        arguments: &Value,
    ) -> Result<Answer, Failure> {
        let Some(token) = whom.and_then(|kind| connection.tokens.get(&kind)) else {
            return Err(not_sent("the connection has no token of a kind that the method takes".to_owned()));
        };
        let span = tracing::info_span!("call", method = method.name, connection = %connection.facts.name);
        pass(Point::Unsent);
        let began = self.limiter.clock().0.monotonic();
        let carried = self.carry(connection, method, arguments, token).instrument(span.clone());
        let sent = traces::within(carried, |sent| told(method, sent)).await;
        pass(Point::Answered);
        let took = self.limiter.clock().0.monotonic().saturating_sub(began);
        let series = [("method", method.name.clone()), ("outcome", outcome(&sent).to_owned())];
        self.durations.get_or_create(&series).observe(took.as_secs_f64());
        if let Err(failure) = &sent {
            span.in_scope(|| tracing::debug!(%failure, "no answer to give out"));
        }
        // Where the call named its channel otherwise, Slack says which one it was.
        if let Ok(Answer { ok: true, body, .. }) = &sent
            && let Some(id) = body["channel"].as_str()
        {
            self.limiter.went_to(method, arguments, connection.owner(), id);
        }
        if let Err(Failure::NotSent { retry_after_ms: Some(wait_ms), .. }) = &sent {
            let keys = Limiter::<SlackClock>::keys(method, arguments, connection.owner());
            self.limiter.close(&keys, *wait_ms);
            // Only the first bucket is closed.
            if let (Some(journal), Some(key)) = (&self.journal, keys.first())
                && let Some(closed) = self.limiter.closed(key)
                && let Err(error) = keep_closed(journal, &closed)
            {
                tracing::warn!(%error, "a restart will not know that Slack wants to be left alone");
            }
        }
        sent
    }

    async fn carry(
        &self,
        connection: &Connected,
        method: &Method,
        arguments: &Value,
        token: &Secret,
    ) -> Result<Answer, Failure> {
        #[cfg(test)]
        if let Some(way) = &self.way {
            way.stops_here().await;
        }
        if method.writes && !self.tenure.holds() {
            // Whoever has the run now finds out what became of the call. This process ends with its next record.
            return std::future::pending().await;
        }
        #[cfg(test)]
        if let Some(way) = &self.way {
            return way.send(method, arguments).await;
        }
        self.client.send(method, arguments, token, connection.workspace()).await
    }

    /// The time by Slack's clock, where Slack answers and says it.
    ///
    /// # Errors
    /// No answer came.
    pub async fn time(&self) -> Result<Option<Timestamp>, Failure> {
        #[cfg(test)]
        if let Some(way) = &self.way {
            return Ok(way.date_ms().await?.map(Timestamp::from_millis));
        }
        Ok(self.client.date_ms().await?.map(Timestamp::from_millis))
    }

    /// Queues for budget for a request of the host's own.
    ///
    /// # Errors
    /// Where Slack wants to be left alone for long: the failure says how long that is, so that whoever asks can do
    /// something else meanwhile. Or too many wait already.
    pub fn reserve_soon(
        &self,
        connection: &Connected,
        method: &Method,
        arguments: &Value,
        run: RunId,
    ) -> Result<Reservation<SlackClock>, Failure> {
        let not_yet = |reason, retry_after_ms| Failure::NotSent { reason, retry_after_ms };
        let reserved = self.limiter.reserve(method, arguments, connection.owner(), run, limiter::Lane::Fast);
        // Others are through the queue by and by.
        let reservation = reserved.map_err(|full| not_yet(NotSent::Unavailable(full.to_string()), None))?;
        let wait_ms = reservation.wait_ms();
        let is_closed = reservation.keys().first().is_some_and(|key| self.limiter.closed(key).is_some());
        if is_closed && wait_ms > READ_WAIT_MS_MAX {
            return Err(not_yet(NotSent::RateLimited, Some(wait_ms)));
        }
        Ok(reservation)
    }

    /// Reserves budget and sends a read of the host's own (a read-back, a name to resolve), once. Whoever asks decides
    /// whether and when it is tried again.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::reserve_soon`].
    pub async fn read(
        &self,
        connection: &Connected,
        method: &Method,
        arguments: &Value,
        run: RunId,
    ) -> Result<Answer, Failure> {
        self.read_back(connection, None, method, arguments, run).await
    }

    /// The same, to find out what became of a call that went out by `whom`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_back(
        &self,
        connection: &Connected,
        whom: Option<TokenKind>,
        method: &Method,
        arguments: &Value,
        run: RunId,
    ) -> Result<Answer, Failure> {
        let reservation = self.reserve_soon(connection, method, arguments, run)?;
        drop(reservation.await);
        self.send(connection, connection.reading(method, whom), method, arguments).await
    }
}

/// How a request ended, in a word.
fn outcome(sent: &Result<Answer, Failure>) -> &'static str {
    match sent {
        Ok(answer) if answer.ok => "done",
        Ok(_) => "refused",
        Err(Failure::NotSent { reason: NotSent::RateLimited, .. }) => "rate-limited",
        Err(Failure::NotSent { .. }) => "not-sent",
        Err(Failure::Unknown { .. }) => "unknown",
    }
}

/// What the span of a request says.
fn told(method: &Method, sent: &Result<Answer, Failure>) -> Told {
    let code = match sent {
        Ok(answer) if answer.ok => None,
        Ok(answer) => Some(answer.error.clone().unwrap_or_else(|| "refused".to_owned())),
        Err(_) => Some(outcome(sent).to_owned()),
    };
    let told = Told::of(Kind::Client, method.name.as_str());
    let told = told.with("rpc.system", "slack").with("rpc.method", method.name.as_str());
    let told = told.flag("bellhop.writes", method.writes).with("bellhop.outcome", outcome(sent));
    let status = sent.as_ref().ok().map(|answer| answer.status);
    match status {
        Some(status) => told.number("http.response.status_code", status),
        None => told,
    }
    .failed(code)
}

fn not_sent(why: String) -> Failure {
    Failure::NotSent { reason: NotSent::Arguments(why), retry_after_ms: None }
}

/// Keeps until when a bucket is closed, and when that may be forgotten. Not waited for: if it is lost, Slack says it again.
fn keep_closed(journal: &Journal, closed: &Closed) -> Result<(), journal::Error> {
    let limiter::Key { bucket, owner, channel } = &closed.key;
    let name = Digest::of_json(&json!([bucket, owner, channel])).to_string();
    let record = key::limiter(&name);
    let mut write = Write::new();
    write.put(&record, closed)?;
    write.put(&key::expiry(Timestamp::from_millis(closed.until_ms), &record), &Value::Null)?;
    journal.commit(write).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bellhop_core::requirement::{Kind, Permission};

    use super::*;

    /// With both tokens, of which these have the scopes.
    fn connected(scoped: &[TokenKind]) -> Connected {
        let scopes = |kind| {
            let may = ["usergroups:write", "chat:write"].map(str::to_owned);
            may.into_iter().filter(|_| scoped.contains(&kind)).collect()
        };
        let all = [TokenKind::Bot, TokenKind::User];
        let tokens: BTreeMap<TokenKind, Option<BTreeSet<String>>> =
            all.into_iter().map(|kind| (kind, Some(scopes(kind)))).collect();
        let facts = Connection {
            name: "hq".to_owned(),
            kind: Kind::Workspace,
            permission: Permission::Act,
            plan: None,
            plan_unknown_because: None,
            checked_at: None,
            tokens,
            assumed: false,
            workspace_id: None,
            enterprise_id: None,
        };
        let tokens = all.into_iter().map(|kind| (kind, Secret::new(format!("xox-{kind}")))).collect();
        Connected { facts, actors: BTreeMap::from([(TokenKind::Bot, "U0BOT".to_owned())]), tokens }
    }

    #[test]
    fn attack_d9_who_acts_is_known_of_the_token_that_is_used_and_of_no_other() {
        let method = Catalog::built_in().by_name("usergroups.create").unwrap();
        let acts = |connected: &Connected| {
            let whom = connected.surely(method, None)?;
            connected.actors.get(&whom).cloned()
        };
        assert_eq!(acts(&connected(&[TokenKind::Bot])).as_deref(), Some("U0BOT"));
        assert_eq!(acts(&connected(&[TokenKind::User])), None, "somebody else made it");
        assert_eq!(acts(&connected(&[TokenKind::Bot, TokenKind::User])), None, "perhaps somebody else made it");
    }

    #[test]
    fn slack_13_a_call_goes_out_by_the_token_that_may() {
        let method = Catalog::built_in().by_name("usergroups.create").unwrap();
        let (bot, user) = (connected(&[TokenKind::Bot]), connected(&[TokenKind::User]));
        assert_eq!(bot.token(method).map(Secret::reveal), Some("xox-bot"));
        assert_eq!(user.token(method).map(Secret::reveal), Some("xox-user"));
        let both = connected(&[TokenKind::Bot, TokenKind::User]);
        let post = Catalog::built_in().by_name("chat.postMessage").unwrap();
        for (connection, method, said, whom) in [
            (&both, method, None, TokenKind::Bot),
            (&both, method, Some(TokenKind::User), TokenKind::User),
            (&user, method, Some(TokenKind::Bot), TokenKind::Bot),
            // Only a file says that it speaks as a person.
            (&user, post, None, TokenKind::Bot),
            (&both, post, Some(TokenKind::User), TokenKind::User),
        ] {
            assert_eq!(connection.whom(method, said), Some(whom), "{} {said:?}", method.name);
        }
        let denied =
            |connection: &Connected, method, refused| connection.instead(method, Some(refused), "permission_denied");
        assert_eq!(denied(&both, method, TokenKind::Bot), Some(TokenKind::User));
        assert_eq!(denied(&both, method, TokenKind::User), None, "nobody is left");
        assert_eq!(denied(&bot, method, TokenKind::Bot), None, "the user token lacks the scope");
        assert_eq!(denied(&both, post, TokenKind::Bot), None, "nobody speaks in a person's name by himself");
        assert_eq!(both.instead(method, Some(TokenKind::Bot), "name_already_exists"), None, "no policy");
        // What was perhaps sent and is not on record may have been sent by either.
        assert_eq!(both.surely(method, None), None);
        assert_eq!(both.surely(method, Some(TokenKind::Bot)), Some(TokenKind::Bot));
        assert_eq!(bot.surely(method, None), Some(TokenKind::Bot));
        assert_eq!(both.surely(post, None), Some(TokenKind::Bot));
    }
}
