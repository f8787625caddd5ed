//! What surrounds a host or a verb, and what must happen there: one table, as data, played on the built program.
//!
//! ```text
//! surroundings_table [quick|full] [--program FILE] [--case NAME] [NAME…]
//! ```
//!
//! Cases are tables in `cases/*.toml`: streams, descriptors, users, folders, variables, clocks, namespaces, signals, and
//! which code, words, answers and files must come of them. Another one needs no Rust where its surrounding can be said by
//! these, by lines of shell (`setup`, `inside`) or by a program that starts ours (`wrap`). A case is left out only where a
//! probe that it names fails, and more than a few of these are a failure. Floods are attackers without a token, and how
//! the host stands them. A word without `--` picks the cases that have it in their names.
//!
//! Without an argument it plays the quick form, which is what `cargo test` does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::disallowed_methods, reason = "a test of the running program measures real time")]

#[path = "../bellhop/mod.rs"]
mod bellhop;
mod case;
mod fake;
mod flood;
mod launch;
mod place;
mod play;
mod probe;
mod wire;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bellhop::hosted::now;
use case::{Case, Flood, Table};
use place::Shared;
use probe::Probe;

/// Played at a time.
const PLAYERS: usize = 2;
/// Cases that may be impossible on a machine.
const IMPOSSIBLE_MAX: usize = 8;
/// Cases that the table has at least.
const CASES_MIN: usize = 80;
/// Said to the harness itself, when it is started where nobody else sees what it mounts.
const APART: &str = "--apart";

struct Options {
    is_full: bool,
    program: Option<String>,
    /// The case with exactly this name.
    case: Option<String>,
    /// Parts of names.
    words: Vec<String>,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { is_full: false, program: None, case: None, words: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` takes a value"));
        match argument.as_str() {
            "quick" => options.is_full = false,
            "full" => options.is_full = true,
            "--program" => options.program = Some(value()?),
            "--case" => options.case = Some(value()?),
            APART => {}
            // What `cargo test` gives to every test.
            "--list" => return Ok(None),
            "--show-output" | "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--include-ignored" => {}
            "--test-threads" | "--color" | "--format" | "--skip" => drop(value()?),
            other if other.starts_with("--test-threads=") || other.starts_with("--color=") => {}
            other if other.starts_with('-') => return Err(format!("`{other}` is not understood")),
            word => options.words.push(word.to_owned()),
        }
    }
    Ok(Some(options))
}

/// Whether what this process mounts is seen by nobody else, and goes with it.
pub(crate) fn is_apart() -> bool {
    std::env::args().any(|argument| argument == APART)
}

/// Starts the harness again in a namespace of its own for what it mounts, where that is possible; how that ended.
fn set_apart() -> Option<ExitCode> {
    let unshare = ["--mount", "--propagation", "private"];
    let mut probe = Command::new("unshare");
    probe.args(unshare).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if is_apart() || !probe.status().is_ok_and(|status| status.success()) {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    let mut again = Command::new("unshare");
    let status = again.args(unshare).arg(own).args(std::env::args_os().skip(1)).arg(APART).status().ok()?;
    Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// One line of the table.
#[derive(Clone, Copy)]
enum Item<'a> {
    Case(&'a Case),
    Flood(&'a Flood),
}

impl Item<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Case(case) => &case.name,
            Self::Flood(flood) => &flood.name,
        }
    }

    fn must(&self) -> &str {
        match self {
            Self::Case(case) => &case.must,
            Self::Flood(flood) => &flood.must,
        }
    }

    fn is_slow(&self) -> bool {
        match self {
            Self::Case(case) => case.slow,
            Self::Flood(flood) => flood.slow,
        }
    }

    /// The probe that says that it cannot be played here.
    fn impossible(&self) -> Option<Probe> {
        let probes = match self {
            Self::Case(case) => &case.probes,
            Self::Flood(flood) => &flood.probes,
        };
        probes.iter().copied().find(|probe| probe.fails())
    }

    fn play(&self, shared: &Shared, is_full: bool) -> Result<Option<String>, String> {
        match self {
            Self::Case(case) => play::play(shared, case).map(|()| None),
            Self::Flood(flood) => {
                let form = if is_full { flood::FULL } else { flood::QUICK };
                flood::play(shared, flood, form).map(Some)
            }
        }
    }
}

/// What has come of all of them.
#[derive(Default)]
struct Counted<'a> {
    holds: usize,
    falls: Vec<String>,
    impossible: usize,
    /// Fell in the quick form, in which others play beside them: they are played again, alone.
    again: Vec<Item<'a>>,
}

fn wanted<'a>(table: &'a Table, options: &Options) -> Result<Vec<Item<'a>>, String> {
    let all = table.cases.iter().map(Item::Case).chain(table.floods.iter().map(Item::Flood));
    if let Some(name) = &options.case {
        let one: Vec<_> = all.filter(|item| item.name() == name).collect();
        return if one.is_empty() { Err(format!("there is no case `{name}`")) } else { Ok(one) };
    }
    let all = all.filter(|item| options.is_full || !item.is_slow());
    let is_meant =
        |item: &Item<'_>| options.words.is_empty() || options.words.iter().any(|word| item.name().contains(word));
    Ok(all.filter(is_meant).collect())
}

fn play_one<'a>(item: Item<'a>, shared: &Shared, options: &Options, counted: &Mutex<Counted<'a>>, is_alone: bool) {
    let count = |told: String, add: &dyn Fn(&mut Counted<'a>)| {
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut counted);
        println!("{told}");
    };
    let name = item.name();
    if let Some(probe) = item.impossible() {
        // As other tests say it, for who counts them.
        count(format!("skipped: {name}: not possible here, says the probe {probe:?}"), &|c| c.impossible += 1);
        return;
    }
    let began = now();
    let played = item.play(shared, options.is_full);
    let took = began.elapsed().as_millis();
    match played {
        Ok(None) => count(format!("holds    {name} ({took} ms)"), &|c| c.holds += 1),
        Ok(Some(told)) => count(format!("holds    {name} ({took} ms): {told}"), &|c| c.holds += 1),
        Err(why) if !options.is_full && !is_alone => {
            count(format!("again    {name}, alone: {why}"), &|c| c.again.push(item));
        }
        Err(why) => {
            let form = if options.is_full { "full " } else { "" };
            let again = format!("cargo test -p bellhop --test surroundings_table -- {form}--case {name}");
            let told = format!("FALLS    {name}: {why}\n         must: {}\n         again: {again}", item.must());
            count(told, &|c| c.falls.push(format!("{name}: {why}")));
        }
    }
}

/// As the other tests say it, then the last line.
fn finish(counted: &Counted<'_>, seconds: u64) -> ExitCode {
    let Counted { holds, falls, impossible, .. } = counted;
    let mut bad = falls.clone();
    if *impossible > IMPOSSIBLE_MAX {
        bad.push(format!("{impossible} cases are not possible here, more than {IMPOSSIBLE_MAX}"));
    }
    if !bad.is_empty() {
        println!("\nfailures:");
        bad.iter().for_each(|why| println!("    {}", why.chars().take(160).collect::<String>().replace('\n', " ")));
    }
    let word = if bad.is_empty() { "ok" } else { "FAILED" };
    println!("\ntest result: {word}. {holds} passed; {} failed; 0 ignored; 0 measured; 0 filtered out", bad.len());
    println!("{seconds} s");
    println!("surroundings: {holds} hold, {} fall, {impossible} not possible here", falls.len());
    if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn main() -> ExitCode {
    let read = options(std::env::args().skip(1));
    let table = Table::of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/surroundings_table/cases"));
    let (options, table) = match (read, table) {
        (Ok(Some(options)), Ok(table)) => (options, table),
        (Ok(None), _) => return ExitCode::SUCCESS,
        (Err(why), _) => {
            eprintln!("{why}: surroundings_table [quick|full] [--program FILE] [--case NAME]");
            return ExitCode::from(2);
        }
        (_, Err(why)) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    assert!(table.cases.len() >= CASES_MIN, "the table has {} cases, fewer than {CASES_MIN}", table.cases.len());
    let items = match wanted(&table, &options) {
        Ok(items) => items,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    if items.is_empty() {
        // Words that pick tests of other programs.
        return finish(&Counted::default(), 0);
    }
    if let Some(code) = set_apart() {
        return code;
    }
    if let Some(program) = &options.program {
        match Path::new(program).canonicalize() {
            Ok(file) => bellhop::drive(&file.to_string_lossy()),
            Err(error) => {
                eprintln!("{program}: {error}");
                return ExitCode::from(2);
            }
        }
    }
    flood::raise_descriptors();
    let began = now();
    let shared = match Shared::prepare() {
        Ok(shared) => shared,
        Err(why) => {
            println!("no host could be made ready: {why}");
            return finish(&Counted { falls: vec![why], ..Counted::default() }, 0);
        }
    };
    let counted = Mutex::new(Counted::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|players| {
        for _ in 0..PLAYERS {
            players.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::AcqRel)) {
                    play_one(*item, &shared, &options, &counted, false);
                }
            });
        }
    });
    let again = std::mem::take(&mut counted.lock().unwrap_or_else(PoisonError::into_inner).again);
    for item in again {
        play_one(item, &shared, &options, &counted, true);
    }
    drop(shared);
    let counted = counted.into_inner().unwrap_or_else(PoisonError::into_inner);
    finish(&counted, began.elapsed().as_secs())
}
