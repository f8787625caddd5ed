//! Many runs at once, and a host that is killed whenever.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bellhop::dice::Dice;
use crate::bellhop::hosted::{now, try_call};
use crate::scenarios::{self, onboard};
use crate::stage::{Outcome, Stage, Start};

/// Runs that are in flight at any moment.
pub(crate) const IN_FLIGHT: usize = 16;
/// People who come into one group at once.
const JOIN_AT_ONCE: usize = 50;
/// A client asks again after so long.
const AGAIN: Duration = Duration::from_millis(2);
/// No run takes as long, whatever happens to its host.
const PATIENCE: Duration = Duration::from_secs(120);
/// A kill comes at most so long after the host is ready.
const LIFE_MS_MAX: u64 = 160;
/// The same where there is little to do.
const SHORT_LIFE_MS_MAX: u64 = 30;
/// After so many lives in which nothing came to its end one is let live until something does.
const IDLE_LIVES_MAX: u32 = 3;
/// Every so many kills one comes while the host takes up what it finds. Never two in a row: a run under which two
/// starts die is set aside, and should be.
const EARLY_EVERY: u64 = 8;

/// A client that never gives up: the host is killed under it, and it asks again.
struct Client {
    address: String,
    token: String,
}

impl Client {
    fn ask(&self, method: &str, path: &str, body: Option<&Value>, headers: &[(&str, &str)]) -> Outcome<(u16, Value)> {
        let end = now() + PATIENCE;
        loop {
            match try_call(&self.address, &self.token, method, path, body, headers) {
                Ok(answer) if answer.status != 503 => return Ok((answer.status, answer.json())),
                _ if now() > end => return Err(format!("{method} {path}: no answer in {PATIENCE:?}")),
                _ => std::thread::sleep(AGAIN),
            }
        }
    }

    /// Starts a run, and waits until it has ended: its view.
    fn carry(&self, start: &Start) -> Outcome<Value> {
        let (status, started) = self.ask("POST", &start.path, Some(&start.body), &[("Idempotency-Key", &start.key)])?;
        let run = started["id"].as_str().filter(|_| status == 202);
        let run = run.ok_or_else(|| format!("{}: {status} {started}", start.key))?;
        let end = now() + PATIENCE;
        loop {
            let (status, view) = self.ask("GET", &format!("/v1/runs/{run}?wait=5s"), None, &[])?;
            if status != 200 {
                return Err(format!("{} was acknowledged as {run} and is lost: {status} {view}", start.key));
            }
            if !view["endedAt"].is_null() {
                return Ok(view);
            }
            if view["status"] == "parked" || now() > end {
                return Err(format!("{} does not come to its end: {view:#}", start.key));
            }
        }
    }
}

fn completed(view: &Value) -> Outcome<()> {
    if view["status"] == "completed" { Ok(()) } else { Err(format!("a run did not complete: {view:#}")) }
}

/// Kills the host `kills` times at moments that the dice choose, while `going` says that there is work; `progress` is how
/// much of it has come to its end.
fn kill_often(
    stage: &mut Stage,
    dice: &mut Dice,
    kills: u64,
    life_ms_max: u64,
    going: impl Fn() -> bool,
    progress: impl Fn() -> usize,
) -> Outcome<u64> {
    let mut done = 0;
    let (mut before, mut idle) = (0, 0);
    while done < kills && going() {
        if done % EARLY_EVERY == EARLY_EVERY - 1 {
            std::thread::sleep(Duration::from_micros(dice.below(4_000)));
        } else {
            stage.call("GET", "/readyz", None, &[])?;
            std::thread::sleep(Duration::from_millis(dice.below(life_ms_max)));
        }
        // Lives that are too short for anything show nothing.
        idle = if progress() > before { 0 } else { idle + 1 };
        let end = now() + PATIENCE;
        while idle > IDLE_LIVES_MAX && progress() <= before && going() && now() < end {
            std::thread::sleep(AGAIN);
        }
        before = progress();
        stage.kill()?;
        done += 1;
    }
    Ok(done)
}

/// What a phase of this kind counted.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) kills: u64,
    pub(crate) runs: usize,
}

/// Kills at random with [`IN_FLIGHT`] runs under way: whatever was asked for is done, once.
pub(crate) fn kills(stage: &mut Stage, dice: &mut Dice, kills: u64) -> Outcome<Crowd> {
    stage.begin(&[])?;
    // One for each client: reading a message back reads what was sent there in the last minute.
    let channel = |client: usize| format!("C0CROWD{client:02}");
    let channels = (0..IN_FLIGHT).map(|client| {
        json!({ "add_channel": { "workspace": "T0PLUS", "name": format!("crowd-{client}"), "id": channel(client),
            "members": ["U0PLUSBOT"] } })
    });
    stage.slack_post("world", &channels.collect())?;
    let before = stage.ledger_lines()?;
    let (address, token) = stage.door();
    let over = AtomicBool::new(false);
    let names = Mutex::new(Vec::new());
    let killed = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..IN_FLIGHT)
            .map(|client| {
                let door = Client { address: address.clone(), token: token.clone() };
                let (over, names) = (&over, &names);
                scope.spawn(move || -> Outcome<()> {
                    for number in 0.. {
                        if over.load(Ordering::SeqCst) {
                            break;
                        }
                        let name = format!("client {client} run {number}");
                        let input = json!({ "name": name, "channel": channel(client) });
                        completed(&door.carry(&Start::of("it/busy", &name, &input))?)?;
                        names.lock().map_err(|e| e.to_string())?.push(name);
                    }
                    Ok(())
                })
            })
            .collect();
        // A client that has ended has failed.
        let killed = kill_often(
            stage,
            dice,
            kills,
            LIFE_MS_MAX,
            || clients.iter().all(|c| !c.is_finished()),
            || names.lock().map_or(0, |names| names.len()),
        );
        over.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().map_err(|_| "a client panicked".to_owned())??;
        }
        killed
    });
    let log = stage.log();
    let killed = killed.map_err(|why| format!("{why}\n{log}"))?;
    let names = names.into_inner().map_err(|e| e.to_string())?;
    let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
    for name in &names {
        wanted.extend(["one", "two", "three"].map(|word| (format!("{name} {word}"), 1)));
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for line in stage.ledger_lines()?.iter().skip(before.len()) {
        *seen.entry(line["args"]["text"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    for (text, count) in &seen {
        if *count > 1 {
            return Err(format!("`{text}` was sent {count} times"));
        }
    }
    if let Some(lost) = wanted.keys().find(|text| !seen.contains_key(*text)) {
        return Err(format!("`{lost}` was not sent"));
    }
    if seen.len() != wanted.len() {
        return Err(format!("{} messages were sent instead of {}", seen.len(), wanted.len()));
    }
    stage.stop()?;
    Ok(Crowd { kills: killed, runs: names.len() })
}

/// Starts all at once, kills the host meanwhile, and waits until all have completed.
fn together(stage: &mut Stage, dice: &mut Dice, kills: u64, starts: &[Start]) -> Outcome<u64> {
    let (address, token) = stage.door();
    let result = std::thread::scope(|scope| {
        let clients: Vec<_> = starts
            .iter()
            .map(|start| {
                let door = Client { address: address.clone(), token: token.clone() };
                scope.spawn(move || completed(&door.carry(start)?))
            })
            .collect();
        let killed = kill_often(
            stage,
            dice,
            kills,
            SHORT_LIFE_MS_MAX,
            || clients.iter().any(|c| !c.is_finished()),
            || clients.iter().filter(|c| c.is_finished()).count(),
        )?;
        for client in clients {
            client.join().map_err(|_| "a client panicked".to_owned())??;
        }
        Ok(killed)
    });
    result.map_err(|why: String| format!("{why}\n{}", stage.log()))
}

/// Fifty people come into one group at once, under kills: all of them are in it, and nobody has gone.
pub(crate) fn adds(stage: &mut Stage, dice: &mut Dice, kills: u64) -> Outcome<Crowd> {
    stage.begin(&[])?;
    let user = |number: usize| format!("U0ADD{number:03}");
    let edits: Vec<Value> = (0..JOIN_AT_ONCE)
        .map(|number| {
            let (id, name) = (user(number), format!("add{number}"));
            json!({ "add_user": { "id": id, "name": name, "email": format!("{name}@plus.example"),
                "workspaces": { "T0PLUS": "member" } } })
        })
        .collect();
    stage.slack_post("world", &Value::from(edits))?;
    let members = |stage: &Stage| -> Outcome<Vec<String>> {
        let state = stage.slack_get("state")?;
        let users = state["groups"]["S0PLUSIT"]["users"].as_array().cloned().unwrap_or_default();
        let mut users: Vec<String> = users.iter().filter_map(|user| user.as_str().map(str::to_owned)).collect();
        users.sort();
        Ok(users)
    };
    let mut wanted = members(stage)?;
    wanted.extend((0..JOIN_AT_ONCE).map(user));
    wanted.sort();
    let starts: Vec<Start> = (0..JOIN_AT_ONCE)
        .map(|number| Start::of("it/add", &format!("add {number}"), &json!({ "user": user(number) })))
        .collect();
    let killed = together(stage, dice, kills, &starts)?;
    let seen = members(stage)?;
    if seen != wanted {
        let missing: Vec<&String> = wanted.iter().filter(|user| !seen.contains(user)).collect();
        return Err(format!("{} members instead of {}; missing: {missing:?}", seen.len(), wanted.len()));
    }
    stage.stop()?;
    Ok(Crowd { kills: killed, runs: JOIN_AT_ONCE })
}

/// So many onboardings at once, killed in the middle: each leaves what one leaves alone.
pub(crate) fn onboardings(stage: &mut Stage, dice: &mut Dice, kills: u64) -> Outcome<Crowd> {
    let count = |stage: &Stage| -> Outcome<BTreeMap<String, usize>> {
        let mut effects = BTreeMap::new();
        for line in stage.ledger()?.iter().filter(|line| scenarios::counts(line)) {
            // Of one person among many the members of a group say nothing, nor does an id.
            let effect = scenarios::effect(line);
            let method = effect.split(' ').next().unwrap_or_default().to_owned();
            *effects.entry(method).or_default() += 1;
        }
        Ok(effects)
    };
    stage.begin(&[])?;
    together(stage, dice, 0, &[onboard(0)])?;
    let alone = count(stage)?;
    stage.begin(&[])?;
    let starts: Vec<Start> = (0..IN_FLIGHT).map(onboard).collect();
    let killed = together(stage, dice, kills, &starts)?;
    let seen = count(stage)?;
    for (method, once) in &alone {
        let (wanted, seen) = (once * IN_FLIGHT, seen.get(method).copied().unwrap_or(0));
        if seen != wanted {
            return Err(format!("{method} was done {seen} times instead of {wanted}"));
        }
    }
    let state = stage.slack_get("state")?;
    let groups =
        |user: &str| state["groups"]["S0HQENGINEERING"]["users"].as_array().is_some_and(|u| u.contains(&user.into()));
    for number in 0..IN_FLIGHT {
        let email = format!("new{number}@acme.example");
        let accounts: Vec<(&String, &Value)> = state["users"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, user)| user["email"] == email.as_str())
            .collect();
        let [(id, account)] = accounts.as_slice() else {
            return Err(format!("{email} has {} accounts", accounts.len()));
        };
        if account["active"] != true || !groups(id) {
            return Err(format!("{email} is not as one who was carried in: {account}"));
        }
    }
    stage.stop()?;
    Ok(Crowd { kills: killed, runs: IN_FLIGHT })
}

/// Slack says for how long it wants to be left alone; a host that is killed meanwhile keeps to it as well.
pub(crate) fn left_alone(stage: &mut Stage, killed: bool) -> Outcome<()> {
    const SECONDS: u64 = 2;
    stage.begin(&[])?;
    let fault = json!({ "method": "chat.postMessage", "action": { "rate_limit": { "retry_after": SECONDS } } });
    let fault = stage.order(&fault)?;
    let run = stage.run(&Start::of("it/timer", "the only one", &json!({})))?;
    stage.happened(fault)?;
    if killed {
        // Until the host has written it down; what is lost before is said by Slack once more.
        std::thread::sleep(Duration::from_millis(100));
        stage.kill()?;
    }
    completed(&stage.ended(&run)?)?;
    let requests = stage.requests()?;
    let mut at = requests.iter().filter(|r| r["method"] == "chat.postMessage").filter_map(|r| r["at_ms"].as_u64());
    let (Some(first), Some(second)) = (at.next(), at.next()) else {
        return Err("Slack was not asked twice".to_owned());
    };
    if second - first < SECONDS * 1_000 {
        return Err(format!("Slack was asked again after {} ms instead of {SECONDS} s", second - first));
    }
    stage.finish(Value::Null).map(drop)
}
