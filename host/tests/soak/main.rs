//! A host under mixed load for as long as one likes, and what it may not gather meanwhile.
//!
//! ```text
//! soak [--program FILE] [--minutes N]
//! ```
//!
//! Clients start runs, read, cancel and hang up; Slack is cut off and back; backups are made; ended runs are removed as
//! fast as they end. What a process can gather is looked at every few seconds. Once the start is over (ten minutes, or a
//! third of a shorter play), the line that is fitted to each must not rise. At the end every run that was acknowledged has
//! posted its message once, or is there and says why not. The last line is `soak: N minutes, M broken`.
//!
//! Without an argument, as `cargo test` calls it, nothing is played.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::disallowed_methods, reason = "a test of the running program measures real time")]

#[path = "../bellhop/mod.rs"]
mod bellhop;
mod gathered;
mod load;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use bellhop::hosted::{GOOD, Hosted, now};
use gathered::Gathered;
use load::Load;

/// Between two looks at what the process has gathered.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After the load has ended, everything that can end has ended within this.
const QUIET_IN: Duration = Duration::from_secs(180);
/// Longer than the fill of caches, the first sweep and the first of everything.
const BEGINNING: Duration = Duration::from_secs(600);

/// Ended runs are kept for half a minute and looked for every ten seconds, so that as many are removed as end.
const CONFIGURATION: &str = "\
log = \"warn\"

[limits]
runs_kept_ms = 30000
idempotency_kept_ms = 30000
sweep_every_ms = 10000
slack_backoff_ms_max = 2000
";

/// Waits, then tells; the load may cancel it before.
const PATIENT: &str = "\
document: { dsl: 1.0.3, namespace: it, name: patient, version: 1.0.0 }
input:
  schema: { document: { type: object, properties: { mark: { type: string } } } }
do:
  - rest: { wait: { seconds: 3 } }
  - tell: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ $workflow.input.mark }' } }
";

/// Tells at once.
const PROMPT: &str = "\
document: { dsl: 1.0.3, namespace: it, name: prompt, version: 1.0.0 }
input:
  schema: { document: { type: object, properties: { mark: { type: string } } } }
do:
  - tell: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ $workflow.input.mark }' } }
";

/// Ends faulted before it has done anything.
const WRONG: &str = "\
document: { dsl: 1.0.3, namespace: it, name: wrong, version: 1.0.0 }
do:
  - fail: { raise: { error: { type: 'https://example.com/wrong', status: 400, title: Wrong } } }
";

struct Options {
    minutes: u64,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut minutes = None;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` takes a value"));
        match argument.as_str() {
            "--program" => {
                let file = value()?;
                let file = std::path::Path::new(&file).canonicalize().map_err(|e| format!("{file}: {e}"))?;
                bellhop::drive(&file.to_string_lossy());
            }
            "--minutes" => {
                let text = value()?;
                let number = text.parse::<u64>().ok().filter(|number| *number > 0);
                minutes = Some(number.ok_or_else(|| format!("`{text}` is no number of minutes"))?);
            }
            // What `cargo test` gives to every test, and names of other tests.
            "--test-threads" | "--color" | "--format" | "--skip" => drop(value()?),
            _ => {}
        }
    }
    Ok(minutes.map(|minutes| Options { minutes }))
}

fn started() -> Hosted {
    let hosted = Hosted::start(CONFIGURATION);
    hosted.ready();
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &serde_json::json!({ "bot": "xoxb-plus", "user": "xoxp-plus-admin" }));
    for (name, text) in [("it/patient", PATIENT), ("it/prompt", PROMPT), ("it/wrong", WRONG), ("it/good", GOOD)] {
        hosted.apply(name, text);
    }
    hosted
}

/// How often each text was posted, as the simulator's ledger has it.
fn posted(hosted: &Hosted) -> BTreeMap<String, u32> {
    let mut posted = BTreeMap::new();
    for entry in hosted.ledger() {
        // Wherever in the entry the text stands: the form of the ledger is not this test's affair.
        if let Some(text) = mark_in(&entry) {
            *posted.entry(text).or_default() += 1;
        }
    }
    posted
}

fn mark_in(entry: &Value) -> Option<String> {
    match entry {
        Value::String(text) => text.starts_with(load::MARK).then(|| text.clone()),
        Value::Array(items) => items.iter().find_map(mark_in),
        Value::Object(members) => members.values().find_map(mark_in),
        _ => None,
    }
}

/// What is lost or doubled of what was acknowledged.
fn lost_or_doubled(hosted: &Hosted, load: &Load) -> Vec<String> {
    let posted = posted(hosted);
    let mut wrong: Vec<String> = posted
        .iter()
        .filter(|(_, count)| **count > 1)
        .map(|(mark, count)| format!("{mark} was posted {count} times"))
        .collect();
    for (mark, run) in load.acknowledged() {
        if posted.contains_key(&mark) || load.was_cancelled(&run) {
            continue;
        }
        let shown = hosted.call("GET", &format!("/v1/runs/{run}"), None);
        let status = if shown.status == 200 { shown.json()["status"].to_string() } else { shown.status.to_string() };
        // One that waits for a person says so; one that was removed has ended without its message.
        if !["\"waiting\"", "\"suspended\""].contains(&status.as_str()) {
            wrong.push(format!("{mark} of the run {run} was not posted, and the run is {status}"));
        }
    }
    wrong
}

fn play(options: &Options) -> Vec<String> {
    let hosted = started();
    let (load, over) = (Load::default(), AtomicBool::new(false));
    let mut gathered = Gathered::default();
    let began = now();
    let length = Duration::from_secs(options.minutes * 60);
    std::thread::scope(|scope| {
        load.begin(scope, &hosted, &over);
        let mut told = began;
        while began.elapsed() < length {
            std::thread::sleep(LOOK_EVERY);
            gathered.look(began.elapsed(), &hosted);
            let every = if std::io::stdout().is_terminal() { LOOK_EVERY } else { Duration::from_secs(60) };
            if told.elapsed() >= every {
                told = now();
                println!("{} s: {}; {}", began.elapsed().as_secs(), load.told(), gathered.told());
                let _gone = std::io::stdout().flush();
            }
        }
        over.store(true, Ordering::Release);
    });
    hosted.no_faults();
    let quiet_by = now() + QUIET_IN;
    let mut wrong = lost_or_doubled(&hosted, &load);
    while !wrong.is_empty() && now() < quiet_by {
        std::thread::sleep(LOOK_EVERY);
        wrong = lost_or_doubled(&hosted, &load);
    }
    println!("{}", load.told());
    wrong.extend(load.troubles());
    wrong.extend(gathered.rising(BEGINNING.min(length / 3)));
    wrong
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            gathered::hold_to_its_word();
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            eprintln!("{why}: soak [--program FILE] [--minutes N]");
            return ExitCode::from(2);
        }
    };
    let wrong = play(&options);
    for why in &wrong {
        println!("BROKEN  {why}");
    }
    println!("soak: {} minutes, {} broken", options.minutes, wrong.len());
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
