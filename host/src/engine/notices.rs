//! Tells people what `onFault.notify` is for: each notice once, and of many for one reason the first at once and the
//! others together later.
//!
//! A notice that was taken over is kept in the store until it is told or cannot be: whoever handed it over forgets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::Notice;
use bellhop_core::time::Timestamp;
use bellhop_slack::client::Failure;
use bellhop_slack::limiter::Lane;
use bellhop_slack::reconcile::{self, Verdict};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Engine;
use super::call::{Doubt, read_back};
use super::execution::Intent;
use crate::faults::{Plant, Point, pass, planted};
use crate::journal::key::{self, Key, Range, Space};
use crate::journal::{self, Journal, Write};

/// The method by which people are told; preflight judges just this one.
const METHOD: &str = "chat.post-message";
/// Runs named in a message about many.
const NAMED_MAX: usize = 5;

/// As it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    run: RunId,
    notice: Notice,
    /// Since when it may have been sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sending: Option<Timestamp>,
}

impl Book {
    fn note(&mut self, outcomes: Vec<(Reason, Outcome)>) {
        for (name, outcome) in outcomes {
            match outcome {
                Outcome::Told(at) => {
                    self.told.insert(name, at);
                }
                Outcome::Over => {}
                Outcome::Again(at) => {
                    self.again.insert(name, at);
                }
            }
        }
    }
}

/// Notices that were taken over.
pub(crate) struct Notices {
    journal: Journal,
    bell: tokio::sync::Notify,
}

const PREFIX: &str = "notice ";

fn key_of(run: RunId, number: u32) -> Key {
    key::host(&format!("{PREFIX}{run} {number:010}"))
}

impl Notices {
    /// Over a store.
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, bell: tokio::sync::Notify::new() }
    }

    /// Takes a notice over. After Ok it is durable.
    ///
    /// One that is handed over `again` may be here already, and then stays as it is: it may be on its way. Or it was, and
    /// was told and forgotten: it is looked for before it is told.
    pub(crate) async fn take(&self, run: RunId, notice: Notice, again: bool) -> Result<(), journal::Error> {
        let key = key_of(run, notice.number);
        if again && self.journal.get::<Kept>(&key)?.is_some() {
            return Ok(());
        }
        let sending = again.then_some(notice.at);
        let mut write = Write::new();
        write.put(&key, &Kept { run, notice, sending })?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await?;
        self.bell.notify_one();
        Ok(())
    }

    fn all(&self) -> Result<Vec<Kept>, journal::Error> {
        let space = Space::Host.byte();
        let edge = |text: &[u8]| [&[space], text].concat();
        let mut to = edge(PREFIX.as_bytes());
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        let range = Range { from: edge(PREFIX.as_bytes()), to };
        Ok(self.journal.list_all::<Kept>(Space::Host, &range)?.into_iter().map(|(_, kept)| kept).collect())
    }

    /// Nobody is told of a run that is no more.
    pub(super) fn forget_all_of(&self, run: RunId) -> Result<(), journal::Error> {
        let mut write = Write::new();
        for kept in self.all()?.iter().filter(|kept| kept.run == run) {
            write.delete(&key_of(run, kept.notice.number));
        }
        if write.is_empty() { Ok(()) } else { self.journal.commit(write).map(drop) }
    }

    fn forget(&self, told: &[Kept]) -> Result<(), journal::Error> {
        let mut write = Write::new();
        for kept in told {
            write.delete(&key_of(kept.run, kept.notice.number));
        }
        self.journal.commit(write).map(drop)
    }
}

/// What came of an attempt to tell.
enum Told {
    /// It is told, or was.
    Yes,
    /// It cannot be.
    Never(String),
    /// Perhaps later.
    Later(String),
}

/// What a notice is about, for whom: those that are equal in it are told together.
type Reason = (String, String, String);
/// The notices of a connection, by what they are about.
type Groups = BTreeMap<Reason, Vec<Kept>>;

/// What became of a group of notices.
enum Outcome {
    /// People know since then.
    Told(Timestamp),
    /// Nobody will know.
    Over,
    /// It is tried again then.
    Again(Timestamp),
}

/// What is known of the telling.
#[derive(Default)]
struct Book {
    /// Connections over which people are being told.
    busy: BTreeSet<String>,
    /// When people were told of something last.
    told: HashMap<Reason, Timestamp>,
    /// What is not tried before then.
    again: HashMap<Reason, Timestamp>,
}

impl Engine {
    /// Tells people until the process stops: over each connection one message after the other, and over several at once.
    pub(super) async fn tell_people(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        let mut book = Book::default();
        let mut rounds = FuturesUnordered::new();
        loop {
            let next = match self.due(&mut book) {
                Ok((due, next)) => {
                    for (connection, groups) in due {
                        book.busy.insert(connection.clone());
                        let engine = self.clone();
                        rounds.push(async move { (connection, engine.tell_over(groups).await) });
                    }
                    next
                }
                Err(error) if self.stops_at(&error) => return,
                Err(_) => Some(self.services.clock.now().plus_millis(self.services.limits.notices_again_ms)),
            };
            let time = async {
                match next {
                    Some(at) => self.services.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let stops = tokio::select! {
                biased;
                Some((connection, outcomes)) = rounds.next(), if !rounds.is_empty() => {
                    book.busy.remove(&connection);
                    match outcomes {
                        Ok(outcomes) => book.note(outcomes),
                        Err(error) if self.stops_at(&error) => return,
                        Err(_) => {}
                    }
                    false
                }
                () = time => false,
                () = self.services.notices.bell.notified() => false,
                _ = drain.wait_for(|drain| *drain) => true,
            };
            if stops {
                // What was sent comes to its end, as far as there is time for that.
                while rounds.next().await.is_some() {}
                return;
            }
        }
    }

    fn stops_at(&self, error: &journal::Error) -> bool {
        tracing::error!(%error, "the notices cannot be read or kept");
        if error.is_fatal() {
            self.services.fatal.send_replace(Some(error.to_string()));
        }
        error.is_fatal()
    }

    /// What is to be told now, by connection; and when to look again though nothing happens.
    fn due(&self, book: &mut Book) -> Result<(BTreeMap<String, Groups>, Option<Timestamp>), journal::Error> {
        let mut all = Groups::new();
        for kept in self.services.notices.all()? {
            let notice = &kept.notice;
            let name = (notice.connection.clone(), notice.channel.clone(), notice.reason.clone());
            all.entry(name).or_default().push(kept);
        }
        let now = self.services.clock.now();
        let gather_ms = self.services.limits.notices_gather_ms;
        let rooms = usize::try_from(self.services.limits.notices_connections_max).unwrap_or(usize::MAX);
        book.told.retain(|_, at| now.millis_since(*at) < gather_ms);
        book.again.retain(|name, at| *at > now && all.contains_key(name));
        let mut next: Option<Timestamp> = None;
        let mut due: BTreeMap<String, Groups> = BTreeMap::new();
        for (name, group) in all {
            // What may have been sent is looked after at once; anything else waits for the others.
            let sending = group.iter().any(|kept| kept.sending.is_some());
            let gathered = book.told.get(&name).filter(|_| !sending).map(|at| at.plus_millis(gather_ms));
            if let Some(at) = gathered.or_else(|| book.again.get(&name).copied()) {
                next = Some(next.map_or(at, |n| n.min(at)));
                continue;
            }
            let connection = &name.0;
            // The end of a round is a moment to look again.
            let room = due.contains_key(connection) || book.busy.len() + due.len() < rooms;
            if !book.busy.contains(connection) && room {
                due.entry(connection.clone()).or_default().insert(name, group);
            }
        }
        Ok((due, next))
    }

    /// Tells what is due over one connection.
    async fn tell_over(&self, groups: Groups) -> Result<Vec<(Reason, Outcome)>, journal::Error> {
        let mut outcomes = Vec::with_capacity(groups.len());
        let limits = &self.services.limits;
        for (name, group) in groups {
            let outcome = match self.tell(&group).await? {
                Told::Yes => {
                    pass(Point::Told);
                    Outcome::Told(self.services.clock.now())
                }
                Told::Never(why) => {
                    tracing::error!(reason = %name.2, channel = %name.1, %why, "nobody could be told");
                    Outcome::Over
                }
                Told::Later(why) => {
                    let now = self.services.clock.now();
                    let oldest = group.iter().map(|kept| kept.notice.at).min().unwrap_or(now);
                    if now.millis_since(oldest) > limits.notices_given_up_ms {
                        tracing::error!(reason = %name.2, channel = %name.1, %why, "nobody could be told in time");
                        Outcome::Over
                    } else {
                        Outcome::Again(now.plus_millis(limits.notices_again_ms))
                    }
                }
            };
            if !matches!(outcome, Outcome::Again(_)) {
                self.services.notices.forget(&group)?;
            }
            outcomes.push((name, outcome));
        }
        Ok(outcomes)
    }

    /// One message for all of these, under the name of the one that may have been sent before, else of the first.
    async fn tell(&self, group: &[Kept]) -> Result<Told, journal::Error> {
        let gateway = &self.services.gateway;
        let Some(first) = group.iter().find(|kept| kept.sending.is_some()).or_else(|| group.first()) else {
            return Ok(Told::Yes);
        };
        let notice = &first.notice;
        let Some(connection) = gateway.connection(&notice.connection) else {
            return Ok(Told::Later(format!("there is no connection `{}`", notice.connection)));
        };
        let Some(method) = gateway.catalog.by_function(METHOD) else {
            return Ok(Told::Never(format!("the catalog has no `{METHOD}`")));
        };
        let stamp = format!("notice/{}/{}", first.run, notice.number);
        let arguments = json!({ "channel": notice.channel, "text": text(first, group) });
        let intent = |at: Timestamp| Intent {
            hash: String::new(),
            at,
            function: METHOD.to_owned(),
            connection: notice.connection.clone(),
        };
        if let Some(at) = first.sending.filter(|_| !planted(Plant::TellUnseen)) {
            // It was this process that sent it, then that is some time ago; or the one before.
            self.services.quiet_since(self.services.began).await;
            let intent = intent(at);
            let doubt = Doubt { method, arguments: &arguments, intent: &intent, stamp: &stamp, before: None };
            match read_back(gateway, &connection, &doubt, first.run).await {
                Verdict::Found(_) | Verdict::Holds(_) => return Ok(Told::Yes),
                // Told twice is worse than told once or never: the run itself shows what it is.
                Verdict::CannotTell(why) => {
                    return Ok(Told::Never(format!("whether it was sent cannot be told: {why}")));
                }
                Verdict::Absent | Verdict::Repeat => {}
            }
        }
        let Ok(stamped) = reconcile::stamp(method, &arguments, &stamp) else {
            return Ok(Told::Never("the message cannot be stamped".to_owned()));
        };
        match gateway.limiter.reserve(method, &arguments, connection.owner(), first.run, Lane::Fast) {
            Ok(reservation) => drop(reservation.await),
            Err(full) => return Ok(Told::Later(full.to_string())),
        }
        let at = self.services.clock.now();
        let mut write = Write::new();
        write.put(&key_of(first.run, notice.number), &Kept { sending: Some(at), ..first.clone() })?;
        let journal = &self.services.journal;
        let ticket = journal.commit(write)?;
        journal.durable(ticket).await?;
        let failure = match gateway.send(&connection, method, &stamped).await {
            Ok(answer) if answer.ok => return Ok(Told::Yes),
            Ok(answer) => {
                let error = answer.error.unwrap_or_else(|| "an error".to_owned());
                return Ok(Told::Never(format!("Slack answered `{error}`")));
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::NotSent { reason, .. } => {
                let mut write = Write::new();
                write.put(&key_of(first.run, notice.number), &Kept { sending: None, ..first.clone() })?;
                journal.commit(write)?;
                Ok(if reason.may_succeed_later() {
                    Told::Later(reason.to_string())
                } else {
                    Told::Never(reason.to_string())
                })
            }
            // It stays as one that may have been sent: the next look reads back.
            Failure::Unknown { reason } => {
                self.services.clock.sleep(Duration::from_millis(self.services.limits.reconcile_delay_ms)).await;
                Ok(Told::Later(reason.to_string()))
            }
        }
    }
}

/// What is said of a notice and those for the same reason.
fn text(first: &Kept, group: &[Kept]) -> String {
    let mut others: Vec<RunId> = group.iter().map(|kept| kept.run).filter(|run| *run != first.run).collect();
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return first.notice.text.clone();
    }
    let named: Vec<String> = others.iter().take(NAMED_MAX).map(RunId::to_string).collect();
    let more = if others.len() > named.len() { ", …" } else { "" };
    let runs = if others.len() == 1 { "run" } else { "runs" };
    format!("{}\nand {} more {runs} for the same reason: {}{more}", first.notice.text, others.len(), named.join(", "))
}

#[cfg(test)]
mod tests {
    use bellhop_core::run::About;

    use super::*;
    use crate::journal::memory::Memory;

    /// A process that dies between the handing over and the run's knowledge of it leaves a run that hands over again,
    /// while the notice is on its way, or after it was told and forgotten.
    #[tokio::test]
    async fn what_is_handed_over_again_is_looked_for() {
        let at = Timestamp::from_millis(7);
        let run = RunId::new(at, 1);
        let text = |text: &str| text.to_owned();
        let (reason, connection, channel) = (text("r"), text("hq"), text("C0"));
        let notice = Notice { number: 0, at, about: About::Blocked, reason, connection, channel, text: text("t") };
        let notices = Notices::new(Journal::new(Arc::new(Memory::new())));
        let sending = || notices.all().unwrap().first().map(|kept| kept.sending);
        notices.take(run, notice.clone(), false).await.unwrap();
        assert_eq!(sending(), Some(None));
        let sent = Timestamp::from_millis(9);
        let mut write = Write::new();
        write.put(&key_of(run, 0), &Kept { run, notice: notice.clone(), sending: Some(sent) }).unwrap();
        notices.journal.commit(write).unwrap();
        notices.take(run, notice.clone(), true).await.unwrap();
        assert_eq!(sending(), Some(Some(sent)));
        notices.forget(&notices.all().unwrap()).unwrap();
        assert_eq!(sending(), None);
        notices.take(run, notice, true).await.unwrap();
        assert_eq!(sending(), Some(Some(at)));
    }
}
