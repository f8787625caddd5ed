//! The way to Slack, the clock against Slack's, and what Slack says of each connection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bellhop_clock::Clock;
use bellhop_clock::belief::Doubt;
use bellhop_core::requirement::{Kind, TokenKind};
use bellhop_slack::client::network::{Cause, Fault};
use bellhop_slack::client::{Client, Secret};
use bellhop_slack::connect::{self, Detected};
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::{Check, Inside, State};
use crate::serve::Options;

/// Slack's clock and ours may differ by so much.
const CLOCK_MS_MAX: u64 = 5 * 60 * 1_000;
/// Whoever looks waits no longer for Slack.
const REACH_MAX: Duration = Duration::from_secs(8);
/// Connections that Slack is asked about at once.
const ASKED_AT_ONCE: usize = 8;
/// Slack has so long to answer about one of them.
const ASKED_MAX: Duration = Duration::from_secs(5);

/// Whether Slack is reached, and whether its clock shows the same time.
pub(super) async fn reach(client: &Client, options: &Options, clock: &dyn Clock, doubt: Option<Doubt>) -> Vec<Check> {
    let begun = clock.monotonic();
    let check = Check::of("slack").about(options.slack_url.clone());
    let unknown = Check::of("clock").unknown("Slack, against whose clock it is compared, does not answer");
    let unknown = doubt.map_or(unknown, doubted);
    match tokio::time::timeout(REACH_MAX, client.date_ms()).await {
        Ok(Ok(date_ms)) => {
            let took_ms = u64::try_from(clock.monotonic().saturating_sub(begun).as_millis()).unwrap_or(u64::MAX);
            let check = check.has(format!("answers in {took_ms} ms")).with("took_ms", took_ms);
            vec![check, clock_is(doubt, date_ms, clock)]
        }
        Ok(Err(failure)) => match failure.network() {
            Some(fault) => vec![unreached(check, fault), unknown],
            None => vec![check.unknown(failure.to_string()), unknown],
        },
        Err(_) => {
            let check = check
                .with("step", "time-out")
                .fault("slack-timed-out", State::Wrong)
                .needs("an answer within some seconds")
                .has(format!("none after {} s", REACH_MAX.as_secs()))
                .fix("ask whoever runs the network whether it lets through to Slack, or has a proxy for it");
            vec![check, unknown]
        }
    }
}

/// The clock that the host doubts.
fn doubted(doubt: Doubt) -> Check {
    Check::of("clock")
        .with("newest_known", doubt.newest.to_string())
        .fault("clock-doubted", State::Wrong)
        .needs("a clock that is believed: as long as it is not, nothing is removed and no new timer fires")
        .has(format!("{}; the newest known time is {}", doubt.why.as_str(), doubt.newest))
        .fix("set the machine's clock; where it is right, say so: bellhop clock confirm")
}

/// The machine's clock, beside what Slack's shows, and what the host holds of it.
fn clock_is(doubt: Option<Doubt>, slack_ms: Option<u64>, clock: &dyn Clock) -> Check {
    let check = Check::of("clock");
    let now = clock.now();
    if let Some(doubt) = doubt {
        return doubted(doubt);
    }
    let Some(slack_ms) = slack_ms else { return check.unknown("Slack's answer has no date") };
    let apart_ms = now.as_millis().abs_diff(slack_ms);
    let check = check.with("now", now.to_string()).with("apart_ms", apart_ms);
    if apart_ms <= CLOCK_MS_MAX {
        return check.has(format!("{} s from Slack's", apart_ms / 1_000));
    }
    let side = if now.as_millis() > slack_ms { "ahead of" } else { "behind" };
    check
        .fault("clock-differs", State::Wrong)
        .needs(format!("a clock within {} min of Slack's", CLOCK_MS_MAX / 60_000))
        .has(format!("{now}, {} s {side} Slack's", apart_ms / 1_000))
        .fix("set the machine's clock, and have it kept right: timedatectl set-ntp true")
}

/// What failed on the way, by name.
fn unreached(check: Check, fault: &Fault) -> Check {
    let server = &fault.server;
    let (step, check, needs) = match &fault.cause {
        _ if fault.is_of_proxy => {
            ("proxy", check.fault("slack-proxy-failed", State::Wrong), format!("a proxy that lets through to {server}"))
        }
        Cause::Name(_) => ("name", check.fault("slack-name-unknown", State::Wrong), format!("an address of {server}")),
        Cause::Certificate(_) | Cause::Tls(_) => (
            "certificate",
            check.fault("slack-certificate-refused", State::Wrong),
            format!("a certificate of {server} that this machine believes"),
        ),
        Cause::TimedOut(_) => {
            ("time-out", check.fault("slack-timed-out", State::Wrong), format!("an answer of {server} in time"))
        }
        _ => ("address", check.fault("slack-not-reached", State::Wrong), format!("somebody who answers at {server}")),
    };
    check.needs(needs).has(fault.to_string()).fix(fault.remedy()).with("step", step)
}

/// A connection about which Slack is asked.
struct Asked {
    name: String,
    kind: Kind,
    tokens: BTreeMap<TokenKind, Secret>,
    /// The scopes that it was made with.
    scopes: BTreeMap<TokenKind, Option<BTreeSet<String>>>,
    /// Why it cannot be asked about.
    lacks: Option<String>,
    /// Whether it was to be made at the start, and is not.
    is_unmade: bool,
}

/// Every connection, as Slack says now. Nothing of that is kept.
pub(super) async fn connections(inside: &Inside<'_>) -> Vec<Check> {
    let broken = inside.connections.broken();
    let made = inside.gateway.connections().into_iter().filter(|made| !broken.contains_key(&made.facts.name));
    let made = made.map(|made| Asked {
        name: made.facts.name.clone(),
        kind: made.facts.kind,
        tokens: made.tokens.clone(),
        scopes: made.facts.tokens.clone(),
        lacks: made.lacks(),
        is_unmade: false,
    });
    let unmade = broken.values().map(|broken| Asked {
        name: broken.new.name.clone(),
        kind: broken.new.kind,
        tokens: broken.new.tokens.clone(),
        scopes: BTreeMap::new(),
        lacks: None,
        is_unmade: true,
    });
    let all: Vec<Asked> = made.chain(unmade).collect();
    if all.is_empty() {
        return vec![Check::of("connection").has("there is none yet: bellhop connect slack --kind KIND --name NAME")];
    }
    let asking = all.into_iter().map(|asked| async move { connection(inside.gateway.client(), &asked).await });
    let mut checks: Vec<Check> = stream::iter(asking).buffer_unordered(ASKED_AT_ONCE).collect().await;
    checks.sort_by(|a, b| a.about.cmp(&b.about));
    checks
}

async fn connection(client: &Client, asked: &Asked) -> Check {
    let check = Check::of("connection").about(asked.name.clone()).with("kind", asked.kind.to_string());
    let anew = format!(
        "connect it with tokens that Slack takes: bellhop connect slack --kind {} --name {} --replace",
        asked.kind, asked.name
    );
    let broken = |check: Check, why: String| {
        check.fault("connection-broken", State::Wrong).needs("tokens that Slack takes").has(why).fix(anew.clone())
    };
    if let Some(lacks) = &asked.lacks {
        return broken(check, lacks.clone());
    }
    let said = tokio::time::timeout(ASKED_MAX, connect::detect(client, &asked.tokens)).await;
    match said {
        Err(_) => check.unknown("Slack does not answer about it"),
        Ok(Err(error @ connect::Error::NoAnswer { .. })) => check.unknown(error.to_string()),
        Ok(Err(error)) => broken(check, error.to_string()),
        Ok(Ok(detected)) => detected_is(check, asked, &detected),
    }
}

/// What Slack says of a connection, beside what is on record.
fn detected_is(check: Check, asked: &Asked, detected: &Detected) -> Check {
    let Asked { name, kind, .. } = asked;
    if let Some(mismatch) = connect::check(*kind, detected).first().map(|mismatch| mismatch.diagnostic(name)) {
        let needs = mismatch.needs.and_then(|needs| needs.title).unwrap_or_default();
        let has = mismatch.has.and_then(|has| has.title).unwrap_or_default();
        let remedy = mismatch.remedies.into_iter().next();
        let fix = remedy.map_or_else(String::new, |remedy| remedy.command.unwrap_or(remedy.title));
        return check.fault(mismatch.code.0, State::Wrong).needs(needs).has(has).fix(fix);
    }
    let now = |token: &TokenKind| detected.tokens.get(token).and_then(|actor| actor.scopes.clone());
    let scopes: serde_json::Map<String, serde_json::Value> =
        detected.tokens.iter().map(|(token, actor)| (token.to_string(), json!(actor.scopes))).collect();
    let check = check.with("plan", json!(detected.plan)).with("scopes", scopes);
    let mut lost: Vec<String> = Vec::new();
    for (token, before) in &asked.scopes {
        if let (Some(before), Some(now)) = (before, now(token)) {
            lost.extend(before.difference(&now).cloned());
        }
    }
    if !lost.is_empty() {
        return check
            .fault("scope-missing", State::Warning)
            .needs(format!("the scopes that it was made with: {}", lost.join(", ")))
            .has("Slack says that its tokens do not have these any more")
            .fix(format!("install the app with them again, then: bellhop connections test {name}"));
    }
    if asked.is_unmade {
        return check
            .fault("connection-broken", State::Warning)
            .needs("a connection that is made")
            .has("its tokens are taken, and it was not made when the host started")
            .fix(format!("bellhop connections test {name}"));
    }
    let counted: Vec<String> = detected
        .tokens
        .iter()
        .map(|(token, actor)| match &actor.scopes {
            Some(scopes) => format!("{token} token with {} scopes", scopes.len()),
            None => format!("{token} token"),
        })
        .collect();
    check.has(format!("{}; {}", kind.title(), counted.join(", ")))
}

#[cfg(test)]
mod tests {
    use bellhop_clock::Manual;
    use bellhop_core::time::Timestamp;

    use super::*;

    #[test]
    fn a_clock_is_compared_with_slack_s() {
        let clock = Manual::new(Timestamp::from_millis(1_767_600_000_000));
        let state = |slack_ms| {
            let check = clock_is(None, slack_ms, &clock);
            (check.state, check.code)
        };
        assert_eq!(state(None), (State::Unknown, None));
        assert_eq!(state(Some(1_767_600_300_000)), (State::Ok, None));
        for wrong in [1_767_600_300_001, 1_767_599_699_999, 0] {
            assert_eq!(state(Some(wrong)), (State::Wrong, Some("clock-differs")), "{wrong}");
        }
    }
}
