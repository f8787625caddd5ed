//! Tells people what `onFault.notify` is for: each notice once, and of many for one reason the first at once and the
//! others together later.
//!
//! A notice that was taken over is kept in the store until it is told or cannot be: whoever handed it over forgets it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellhop_core::backoff::Backoff;
use bellhop_core::id::RunId;
use bellhop_core::requirement::Tenant;
use bellhop_core::run::Notice;
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::outcome::{Kind, classify};
use bellhop_slack::catalog::{Method, Own};
use bellhop_slack::client::Failure;
use bellhop_slack::reconcile::{self, Verdict};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Engine;
use crate::call::{Doubt, read_back};
use crate::execution::Intent;
use crate::gateway::Connected;
use bellhop_faults::{Point, pass};
use bellhop_journal::key::{self, Key, Space};
use bellhop_journal::{self as journal, Journal, Write};
/// Runs named in a message about many.
const NAMED_MAX: usize = 5;
/// Notices removed in one batch: others' writes come in between.
const REMOVED_MAX: usize = 500;
/// The wait before telling is tried again grows to so many times `notices_again_ms`.
const AGAIN_TIMES_MAX: u64 = 16;

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

impl Kept {
    fn reason(&self) -> Reason {
        let Notice { connection, channel, reason, tenant, .. } = &self.notice;
        (connection.clone(), channel.clone(), reason.clone(), tenant.clone())
    }
}

/// What a notice is about, for whom, and whose it is: those that are equal in it are told together.
type Reason = (String, String, String, Option<Tenant>);

/// A notice's name: its run, and which of the run's.
type Name = (RunId, u32);

/// What is in memory of a notice that is in the store.
#[derive(Debug, Clone, Copy)]
struct Slip {
    at: Timestamp,
    /// It may have been sent.
    sending: bool,
}

/// The notices that are told together.
type Group = BTreeMap<Name, Slip>;

/// Notices that were taken over. Their texts are in the store; what is in memory says what there is to tell, so that the
/// store is read through once, at the start, however many there are.
pub(crate) struct Notices {
    journal: Journal,
    index: Mutex<BTreeMap<Reason, Group>>,
    bell: tokio::sync::Notify,
}

fn key_of((run, number): Name) -> Key {
    key::notice(run, number)
}

impl Notices {
    /// Over a store.
    pub(crate) fn new(journal: Journal) -> Self {
        Self { journal, index: Mutex::default(), bell: tokio::sync::Notify::new() }
    }

    fn index(&self) -> MutexGuard<'_, BTreeMap<Reason, Group>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, kept: &Kept) {
        let slip = Slip { at: kept.notice.at, sending: kept.sending.is_some() };
        self.index().entry(kept.reason()).or_default().insert((kept.run, kept.notice.number), slip);
    }

    /// Finds what an earlier process left to be told. One that cannot be read keeps nobody from being told the others.
    async fn load(&self) -> Result<(), journal::Error> {
        let mut all = self.journal.list::<Kept>(Space::Notice, &key::all(Space::Notice));
        while let Some(read) = all.next().await {
            match read {
                Ok((_, kept)) => self.note(&kept),
                Err(journal::Error::Record(error)) => {
                    tracing::error!(%error, "a notice cannot be read: nobody is told");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a notice over. After Ok it is durable.
    ///
    /// One that is handed over `again` may be here already, and then stays as it is: it may be on its way. Or it was, and
    /// was told and forgotten: it is looked for before it is told.
    pub(crate) async fn take(&self, run: RunId, notice: Notice, again: bool) -> Result<(), journal::Error> {
        let key = key_of((run, notice.number));
        if again && journal::readable(self.journal.get::<Kept>(&key).await)?.is_some() {
            return Ok(());
        }
        let sending = again.then_some(notice.at);
        let kept = Kept { run, notice, sending };
        let mut write = Write::new();
        write.put(&key, &kept)?;
        let ticket = self.journal.commit(write)?;
        self.journal.durable(ticket).await?;
        self.note(&kept);
        self.bell.notify_one();
        Ok(())
    }

    /// Keeps since when a notice may have been sent. Durable after the ticket.
    fn keep(&self, kept: &Kept) -> Result<journal::Ticket, journal::Error> {
        let mut write = Write::new();
        write.put(&key_of((kept.run, kept.notice.number)), kept)?;
        let ticket = self.journal.commit(write)?;
        self.note(kept);
        Ok(ticket)
    }

    /// Nobody is told of a run that is no more.
    pub(crate) async fn forget_all_of(&self, run: RunId) -> Result<(), journal::Error> {
        let mut found: BTreeMap<Reason, Vec<Name>> = BTreeMap::new();
        let mut all = self.journal.list::<Kept>(Space::Notice, &key::notices(run));
        while let Some(read) = all.next().await {
            match read {
                Ok((_, kept)) => found.entry(kept.reason()).or_default().push((run, kept.notice.number)),
                Err(journal::Error::Record(error)) => tracing::error!(%run, %error, "a notice cannot be read"),
                Err(error) => return Err(error),
            }
        }
        found.iter().try_for_each(|(reason, names)| self.forget(reason, names))
    }

    fn forget(&self, reason: &Reason, names: &[Name]) -> Result<(), journal::Error> {
        for some in names.chunks(REMOVED_MAX) {
            let mut write = Write::new();
            for name in some {
                write.delete(&key_of(*name));
            }
            self.journal.commit(write)?;
        }
        let mut index = self.index();
        if let Some(group) = index.get_mut(reason) {
            for name in names {
                group.remove(name);
            }
            if group.is_empty() {
                index.remove(reason);
            }
        }
        Ok(())
    }
}

/// What came of an attempt to tell.
enum Told {
    /// It is told, or was.
    Yes,
    /// It cannot be.
    Never(String),
    /// Perhaps later, and not before.
    Later(String, Option<Timestamp>),
}

/// The groups of a connection that are due, with how often each failed before: those that failed least come first.
type Groups = Vec<(Reason, Group, u64)>;

/// What became of a group of notices.
enum Outcome {
    /// People know since then.
    Told(Timestamp),
    /// Nobody will know.
    Over,
    /// It is tried again then, after so many failures.
    Again(Timestamp, u64),
}

/// What is known of the telling.
#[derive(Default)]
struct Book {
    /// Connections over which people are being told.
    busy: BTreeSet<String>,
    /// When it was the turn of a connection last, so that the others have theirs first.
    turns: HashMap<String, u64>,
    /// Turns so far.
    turn: u64,
    /// When people were told of something last.
    told: HashMap<Reason, Timestamp>,
    /// What is not tried before then, after so many failures.
    again: HashMap<Reason, (Timestamp, u64)>,
}

impl Book {
    fn begins(&mut self, connection: &str) {
        self.turn += 1;
        self.busy.insert(connection.to_owned());
        self.turns.insert(connection.to_owned(), self.turn);
    }

    fn note(&mut self, outcomes: Vec<(Reason, Outcome)>) {
        for (name, outcome) in outcomes {
            self.again.remove(&name);
            match outcome {
                Outcome::Told(at) => {
                    self.told.insert(name, at);
                }
                Outcome::Over => {}
                Outcome::Again(at, failures) => {
                    self.again.insert(name, (at, failures));
                }
            }
        }
    }
}

impl Engine {
    /// Tells people until the process stops: over each connection one message after the other, and over several at once.
    pub(crate) async fn tell_people(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        let mut book = Book::default();
        let mut rounds = FuturesUnordered::new();
        if let Err(error) = self.services.partition.notices.load().await
            && self.stops_at(&error)
        {
            return;
        }
        loop {
            let (due, next) = self.due(&mut book);
            for (connection, groups) in due {
                book.begins(&connection);
                let engine = self.clone();
                rounds.push(async move { (connection, engine.tell_over(groups).await) });
            }
            let time = async {
                match next {
                    Some(at) => self.services.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            let stops = tokio::select! {
                biased;
                Some((connection, (outcomes, error))) = rounds.next(), if !rounds.is_empty() => {
                    book.busy.remove(&connection);
                    book.note(outcomes);
                    if error.is_some_and(|error| self.stops_at(&error)) {
                        return;
                    }
                    false
                }
                () = time => false,
                () = self.services.partition.notices.bell.notified() => false,
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
    fn due(&self, book: &mut Book) -> (Vec<(String, Groups)>, Option<Timestamp>) {
        let now = self.services.clock.now();
        let gather_ms = self.services.limits.notices_gather_ms;
        let index = self.services.partition.notices.index();
        book.told.retain(|_, at| now.millis_since(*at) < gather_ms);
        book.again.retain(|name, _| index.contains_key(name));
        let mut next: Option<Timestamp> = None;
        let mut due: BTreeMap<&String, Vec<&Reason>> = BTreeMap::new();
        for (name, group) in index.iter() {
            // What may have been sent is looked after at once; anything else waits for the others.
            let sending = group.values().any(|slip| slip.sending);
            let gathered = book.told.get(name).filter(|_| !sending).map(|at| at.plus_millis(gather_ms));
            let again = book.again.get(name).map(|(at, _)| *at).filter(|at| *at > now);
            if let Some(at) = gathered.or(again) {
                next = Some(next.map_or(at, |n| n.min(at)));
            } else if !book.busy.contains(&name.0) {
                due.entry(&name.0).or_default().push(name);
            }
        }
        book.turns.retain(|connection, _| book.busy.contains(connection) || due.contains_key(connection));
        // The end of a round is a moment to look again.
        let rooms = usize::try_from(self.services.limits.notices_connections_max).unwrap_or(usize::MAX);
        let mut order: Vec<_> = due.into_iter().collect();
        order.sort_by_key(|(connection, _)| book.turns.get(*connection).copied().unwrap_or_default());
        order.truncate(rooms.saturating_sub(book.busy.len()));
        let failures = |name: &Reason| book.again.get(name).map_or(0, |(_, failures)| *failures);
        let with_groups = |names: Vec<&Reason>| -> Groups {
            let group = |name: &Reason| Some((name.clone(), index.get(name)?.clone(), failures(name)));
            let mut groups: Groups = names.into_iter().filter_map(group).collect();
            groups.sort_by_key(|(_, _, failures)| *failures);
            groups
        };
        (order.into_iter().map(|(connection, names)| (connection.clone(), with_groups(names))).collect(), next)
    }

    /// Tells what is due over one connection, until something fails: then the connection's turn is over, and what is left
    /// comes with its next one. Gives what became of each, as far as the journal went along.
    async fn tell_over(&self, groups: Groups) -> (Vec<(Reason, Outcome)>, Option<journal::Error>) {
        let mut outcomes = Vec::with_capacity(groups.len());
        let mut away: Option<Timestamp> = None;
        for (name, group, failures) in groups {
            let outcome = match away {
                // What failed for one fails for the next: to try costs the other connections their turn.
                Some(at) if !self.is_given_up(&group) => Outcome::Again(at, failures),
                _ => match self.tell_group(&name, &group, failures).await {
                    Ok((outcome, again)) => {
                        away = away.or(again);
                        outcome
                    }
                    Err(error) => return (outcomes, Some(error)),
                },
            };
            outcomes.push((name, outcome));
        }
        (outcomes, None)
    }

    fn is_given_up(&self, group: &Group) -> bool {
        let now = self.services.clock.settled();
        let oldest = group.values().map(|slip| slip.at).min().unwrap_or(now);
        now.millis_since(oldest) > self.services.limits.notices_given_up_ms
    }

    /// Gives what became of it, and when the connection may be there again if it seems to be away.
    async fn tell_group(
        &self,
        name: &Reason,
        group: &Group,
        failures: u64,
    ) -> Result<(Outcome, Option<Timestamp>), journal::Error> {
        let (_, channel, reason, _) = name;
        let mut away = None;
        let outcome = match self.tell(name, group).await? {
            Told::Yes => {
                pass(Point::Told);
                Outcome::Told(self.services.clock.now())
            }
            Told::Never(why) => {
                tracing::error!(reason, channel, %why, "nobody could be told");
                Outcome::Over
            }
            Told::Later(why, _) if self.is_given_up(group) => {
                tracing::error!(reason, channel, %why, "nobody could be told in time");
                Outcome::Over
            }
            Told::Later(why, not_before) => {
                let first_ms = self.services.limits.notices_again_ms;
                let backoff = Backoff { first_ms, max_ms: first_ms.saturating_mul(AGAIN_TIMES_MAX) };
                let now = self.services.clock.now();
                let at = backoff.next(now, failures + 1, not_before, self.services.entropy.next());
                tracing::warn!(reason, channel, %why, %at, "people are told later");
                // Slack's word of when to come again is about one channel.
                away = not_before.is_none().then_some(at);
                Outcome::Again(at, failures + 1)
            }
        };
        if !matches!(outcome, Outcome::Again(..)) {
            let names: Vec<Name> = group.keys().copied().collect();
            self.services.partition.notices.forget(name, &names)?;
        }
        Ok((outcome, away))
    }

    /// The connection over which people are told, if it can be now.
    fn way_of(&self, notice: &Notice, method: &Method) -> Result<Arc<Connected>, String> {
        let name = &notice.connection;
        let connection = self.services.gateway.connection(name);
        let connection = connection.ok_or_else(|| format!("there is no connection `{name}`"))?;
        // What is told is of one organisation and names its people: another never hears of it.
        connection.facts.leads_to(notice.tenant.as_ref()).map_err(|elsewhere| elsewhere.to_string())?;
        if connection.token(method).is_none() {
            return Err(format!("the connection `{name}` has no token for {}", method.name));
        }
        Ok(connection)
    }

    /// Since when a notice may have been sent. Of a run of a backup nobody knows whether people were told after it.
    fn perhaps_sent(&self, kept: &Kept) -> Option<Timestamp> {
        self.services.restored.doubt(kept.run).map(|doubt| doubt.since).or(kept.sending)
    }

    /// One message for all of these, under the name of the one that may have been sent before, else of the first.
    async fn tell(&self, reason: &Reason, group: &Group) -> Result<Told, journal::Error> {
        let (gateway, notices) = (&self.services.gateway, &self.services.partition.notices);
        let sent = group.iter().find(|(_, slip)| slip.sending).or_else(|| group.first_key_value());
        let Some((name, _)) = sent else { return Ok(Told::Yes) };
        let first = match notices.journal.get::<Kept>(&key_of(*name)).await {
            Ok(Some(first)) => Kept { sending: self.perhaps_sent(&first), ..first },
            // Its run is no more, or its record cannot be read: the others are told without it.
            Ok(None) | Err(journal::Error::Record(_)) => {
                notices.forget(reason, &[*name])?;
                let now = self.services.clock.now();
                return Ok(Told::Later(format!("a notice of {} is not there", name.0), Some(now)));
            }
            Err(error) => return Err(error),
        };
        let notice = &first.notice;
        let Some(method) = gateway.catalog.own(Own::Notify) else {
            return Ok(Told::Never("the catalog has no method to tell people by".to_owned()));
        };
        let connection = match self.way_of(notice, method) {
            Ok(connection) => connection,
            Err(why) => return Ok(Told::Later(why, None)),
        };
        let stamp = format!("notice/{}/{}", first.run, notice.number);
        let arguments = message(&notice.channel, &text(&first, group));
        if let Some(at) = first.sending {
            // It was this process that sent it, then that is some time ago; or the one before.
            self.services.quiet_since(self.services.partition.quiet_from).await;
            let (function, connected) = (method.function.clone(), notice.connection.clone());
            let intent = Intent { hash: String::new(), at, function, connection: connected, token: None };
            let doubt = Doubt { method, arguments: &arguments, intent: &intent, stamp: &stamp, before: None };
            match read_back(&self.services, &connection, &doubt, first.run).await {
                Ok(Verdict::Found(_) | Verdict::Holds(_)) => return Ok(Told::Yes),
                // Told twice is worse than told once or never: the run itself shows what it is.
                Ok(Verdict::CannotTell(why)) => {
                    return Ok(Told::Never(format!("whether it was sent cannot be told: {why}")));
                }
                Ok(Verdict::Absent | Verdict::Repeat) => {}
                Err(later) => return Ok(Told::Later(later.why, self.after(later.retry_after_ms))),
            }
        }
        let Ok(stamped) = reconcile::stamp(method, &arguments, &stamp) else {
            return Ok(Told::Never("the message cannot be stamped".to_owned()));
        };
        match gateway.reserve_soon(&connection, method, &arguments, first.run) {
            Ok(reservation) => drop(reservation.await),
            Err(failure) => return Ok(Told::Later(failure.to_string(), self.after(failure.retry_after_ms()))),
        }
        let sending = Kept { sending: Some(self.services.clock.now()), ..first.clone() };
        let ticket = notices.keep(&sending)?;
        notices.journal.durable(ticket).await?;
        match gateway.send(&connection, connection.whom(method, None), method, &stamped).await {
            Ok(answer) if answer.ok => Ok(Told::Yes),
            Ok(answer) => {
                notices.keep(&Kept { sending: None, ..first.clone() })?;
                let error = answer.error.unwrap_or_else(|| "an error".to_owned());
                let why = format!("Slack answered `{error}`");
                // A token, a scope or a plan can be put right, and then people are told.
                let mendable = matches!(classify(method, &error).kind, Kind::Token | Kind::Scope | Kind::Plan);
                Ok(if mendable { Told::Later(why, None) } else { Told::Never(why) })
            }
            Err(Failure::NotSent { reason, retry_after_ms }) => {
                notices.keep(&Kept { sending: None, ..first.clone() })?;
                Ok(if reason.may_succeed_later() {
                    Told::Later(reason.to_string(), self.after(retry_after_ms))
                } else {
                    Told::Never(reason.to_string())
                })
            }
            // It stays as one that may have been sent: the next look reads back.
            Err(Failure::Unknown { reason }) => {
                self.services.clock.sleep(Duration::from_millis(self.services.limits.reconcile_delay_ms)).await;
                Ok(Told::Later(reason.to_string(), None))
            }
        }
    }

    fn after(&self, wait_ms: Option<u64>) -> Option<Timestamp> {
        wait_ms.map(|ms| self.services.clock.now().plus_millis(ms))
    }
}

/// A message in which Slack makes a link, a name or a picture of nothing that was not written as one.
fn message(channel: &str, text: &str) -> Value {
    json!({
        "channel": channel, "text": text,
        "parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false,
    })
}

/// What is said of a notice and those for the same reason.
fn text(first: &Kept, group: &Group) -> String {
    // In the order of runs, since that is the order of names.
    let mut others: Vec<RunId> = group.keys().map(|(run, _)| *run).filter(|run| *run != first.run).collect();
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
    use crate::tests::at_once;
    use bellhop_journal::memory::Memory;

    /// A process that dies between the handing over and the run's knowledge of it leaves a run that hands over again,
    /// while the notice is on its way, or after it was told and forgotten.
    #[tokio::test]
    async fn what_is_handed_over_again_is_looked_for() {
        let at = Timestamp::from_millis(7);
        let run = RunId::new(at, 1);
        let text = |text: &str| text.to_owned();
        let (reason, connection, channel) = (text("r"), text("hq"), text("C0"));
        let notice =
            Notice { number: 0, at, about: About::Blocked, reason, connection, tenant: None, channel, text: text("t") };
        let notices = Notices::new(Journal::checked(Arc::new(Memory::new())));
        let sending = || {
            let kept = at_once(notices.journal.get::<Kept>(&key_of((run, 0))));
            kept.unwrap().map(|kept| kept.sending)
        };
        notices.take(run, notice.clone(), false).await.unwrap();
        assert_eq!(sending(), Some(None));
        let sent = Timestamp::from_millis(9);
        notices.keep(&Kept { run, notice: notice.clone(), sending: Some(sent) }).unwrap();
        notices.take(run, notice.clone(), true).await.unwrap();
        assert_eq!(sending(), Some(Some(sent)));
        let reason = (text("hq"), text("C0"), text("r"), None);
        assert!(notices.index()[&reason][&(run, 0)].sending);
        notices.forget(&reason, &[(run, 0)]).unwrap();
        assert!(notices.index().is_empty());
        assert_eq!(sending(), None);
        notices.take(run, notice, true).await.unwrap();
        assert_eq!(sending(), Some(Some(at)));
    }
    fn notice(number: u32, connection: &str, reason: &str) -> Notice {
        let text = |text: &str| text.to_owned();
        let (reason, connection, channel) = (text(reason), text(connection), text("C0"));
        let at = Timestamp::from_millis(7);
        Notice { number, at, about: About::Blocked, reason, connection, tenant: None, channel, text: text("t") }
    }

    /// However many there are, those behind the first thousand are known after a start, and go with their run.
    #[tokio::test]
    async fn house_a9_no_notice_is_out_of_sight() {
        let run = |n: u64| RunId::new(Timestamp::from_millis(n), 1);
        let journal = Journal::checked(Arc::new(Memory::new()));
        let notices = Notices::new(journal.clone());
        for n in 0..1_500 {
            notices.take(run(n), notice(0, "gone", "r"), false).await.unwrap();
        }
        for number in 0..1_200 {
            notices.take(run(9_000), notice(number, "hq", "r"), false).await.unwrap();
        }
        notices.take(run(9_001), notice(0, "hq", "r"), false).await.unwrap();
        let again = Notices::new(journal.clone());
        again.load().await.unwrap();
        let counts = |notices: &Notices| notices.index().values().map(Group::len).collect::<Vec<_>>();
        assert_eq!((counts(&notices), counts(&again)), (vec![1_500, 1_201], vec![1_500, 1_201]));
        again.forget_all_of(run(9_000)).await.unwrap();
        assert_eq!(counts(&again), [1_500, 1]);
        let left = journal.list::<Kept>(Space::Notice, &key::all(Space::Notice)).all().await.unwrap();
        assert_eq!(left.len(), 1_501);
        again.forget_all_of(run(9_000)).await.unwrap();
        // A run whose name begins as another's keeps its own.
        assert_eq!(again.index().values().next_back().unwrap().keys().next(), Some(&(run(9_001), 0)));
    }
}
