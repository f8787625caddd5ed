//! What tries to end, block, grow or fool a host, sent to the built program from outside, while the host is watched.
//!
//! ```text
//! hostile [quick|full] [--program FILE] [--plugin FILE] [--seed N] [--cases N] [--case NAME] [NAME…]
//! ```
//!
//! Cases are data: `cases/*.toml` are written, and as many as are asked for are generated from a seed, the same ones each
//! time. For each: the host lives, `/healthz` is answered in time, other runs go on, its memory stays under a bound, what
//! was sent ends as documented, and after a kill the store opens again (`bounds.rs` has the numbers). A word without `--`
//! picks the cases that have it in their names. A case that breaks is played again without the others, named, and written
//! to `target/hostile`.
//!
//! Without an argument it plays the quick form, which is what `cargo test` does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#![allow(clippy::disallowed_methods, reason = "a test of the running program measures real time")]

mod batch;
#[path = "../bellhop/mod.rs"]
mod bellhop;
mod bounds;
mod case;
mod ends;
mod expand;
mod flood;
mod generate;
mod guest;
mod play;
mod report;
mod watch;
mod wire;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use batch::Stage;
use bellhop::hosted::now;
use bounds::{Bounds, FULL, QUICK};
use case::Case;
use report::Report;
use world::Prepared;

/// The seed where none is given: the same cases for everybody.
const SEED: u64 = 1;
/// Cases of one host. Those who break it are looked for among so many.
const BATCH: usize = 40;

struct Options {
    bounds: Bounds,
    is_full: bool,
    seed: u64,
    generated: Option<usize>,
    /// The case with exactly this name.
    case: Option<String>,
    /// Parts of names.
    words: Vec<String>,
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options =
        Options { bounds: QUICK, is_full: false, seed: SEED, generated: None, case: None, words: Vec::new() };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("`{argument}` takes a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` is no number"));
        match argument.as_str() {
            "quick" => (options.bounds, options.is_full) = (QUICK, false),
            "full" => (options.bounds, options.is_full) = (FULL, true),
            "--program" => {
                let file = value()?;
                let file = Path::new(&file).canonicalize().map_err(|e| format!("{file}: {e}"))?;
                bellhop::drive(&file.to_string_lossy());
            }
            "--plugin" => world::take_plugin(&value()?),
            "--seed" => options.seed = number(value()?)?,
            "--cases" => options.generated = Some(usize::try_from(number(value()?)?).unwrap_or(usize::MAX)),
            "--case" => options.case = Some(value()?),
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

/// The cases that are wanted.
fn cases(options: &Options) -> Result<Vec<Case>, String> {
    let mut all = case::written(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/cases"))?;
    let kinds = generate::kinds();
    let made = |number| generate::made(&kinds, options.seed, number);
    if let Some(name) = &options.case {
        if let Some((_, number)) = name.split_once('#') {
            let number = number.parse().map_err(|_| format!("`{name}` has no number"))?;
            all.push(made(number));
        }
        all.retain(|case| case.name == *name);
        return if all.is_empty() { Err(format!("there is no case `{name}`")) } else { Ok(all) };
    }
    if !options.is_full {
        all.retain(|case| !case.slow);
    }
    let generated = options.generated.unwrap_or(options.bounds.generated);
    all.extend((0..generated).map(|number| made(number as u64)));
    all.retain(|case| options.words.is_empty() || options.words.iter().any(|word| case.name.contains(word.as_str())));
    Ok(all)
}

/// Numbers of cases that share a host: those with the same limits and the same bounds of memory and disk, in their order,
/// the written ones before the generated ones, which are left out where time runs out.
fn batches(cases: &[Case]) -> Vec<Vec<usize>> {
    type Alike<'a> = (bool, &'a BTreeMap<String, u64>, [Option<u64>; 2]);
    let mut alike: BTreeMap<Alike<'_>, Vec<usize>> = BTreeMap::new();
    for (number, case) in cases.iter().enumerate() {
        let key = (!case.is_written(), &case.limits, [case.memory_mb, case.disk_mb]);
        alike.entry(key).or_default().push(number);
    }
    let chunks = |numbers: Vec<usize>| numbers.chunks(BATCH).map(<[usize]>::to_vec).collect::<Vec<_>>();
    alike.into_values().flat_map(chunks).collect()
}

/// The cases that can be played on this machine. Each of the others is named, in a line that is counted as a skip.
fn playable(cases: Vec<Case>) -> Vec<Case> {
    let no_disk = cases.iter().any(|case| case.disk_mb.is_some()) && !world::can_mount();
    let no_python = cases.iter().any(Case::wants_python) && !flood::has_python();
    let can_be_played = |case: &Case| {
        let lacks_disk = no_disk && case.disk_mb.is_some();
        if lacks_disk {
            println!("skipped: {}: nothing may be mounted here", case.name);
        }
        let lacks_python = no_python && case.wants_python();
        if lacks_python {
            println!("skipped: {}: there is no python3 here", case.name);
        }
        !lacks_disk && !lacks_python
    };
    cases.into_iter().filter(can_be_played).collect()
}

/// What the harness itself promises, held before it is believed.
fn hold_to_its_word() {
    let kinds = generate::kinds();
    let names: BTreeSet<&str> = kinds.iter().map(|kind| kind.name.as_str()).collect();
    assert_eq!(names.len(), kinds.len(), "two kinds have one name");
    for number in 0..kinds.len() as u64 {
        assert_eq!(generate::made(&kinds, 7, number), generate::made(&kinds, 7, number), "a seed is one case");
    }
    let right = |is: &str| vec![is.to_owned()];
    for (end, is, fits) in [
        ("completed", "completed", true),
        ("faulted run-too-large", "faulted run-too-large", true),
        ("faulted run-too-large", "completed", false),
        ("faulted run-too-large", "faulted documented", true),
        ("422 definition-invalid invalid-schema", "422 invalid-schema", true),
        ("running", "documented", false),
        ("500 internal", "documented", false),
        ("500 internal", "4xx", false),
        ("parked person run-poisoned", "documented", false),
        ("parked person no-such-code-there-is", "documented", false),
        ("404", "documented", false),
        ("202", "documented", true),
    ] {
        assert_eq!(ends::judged(end, &right(is)).is_none(), fits, "`{end}` against `{is}`");
    }
}

fn main() -> ExitCode {
    hold_to_its_word();
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(why) => {
            eprintln!(
                "{why}: hostile [quick|full] [--program FILE] [--plugin FILE] [--seed N] [--cases N] [--case NAME]"
            );
            return ExitCode::from(2);
        }
    };
    let cases = match cases(&options) {
        Ok(cases) => cases,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let wanted = cases.len();
    let cases = playable(cases);
    // Where words pick tests of other programs, none is wanted here; where none can be played, each was named.
    if cases.is_empty() && (wanted > 0 || !options.words.is_empty()) {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    let began = now();
    let until = options.bounds.in_all_max.filter(|_| options.case.is_none()).map(|max| began + max);
    let mut report = Report::new(&cases, options.seed, options.is_full);
    println!("seed {}; {}", options.seed, options.bounds.told());
    let prepared = match Prepared::make(options.bounds) {
        Ok(prepared) => prepared,
        Err(why) => {
            println!("no host could be made ready: {why}\nhostile: 0 cases, 1 broken");
            return ExitCode::FAILURE;
        }
    };
    for numbers in batches(&cases) {
        // What somebody wrote is played however slow the machine is; what is generated, for as long as there is time.
        let is_written = numbers.first().is_some_and(|number| cases[*number].is_written());
        let until = until.filter(|_| !is_written);
        let stage = Stage { cases: &cases, prepared: &prepared, bounds: options.bounds, until };
        if until.is_some_and(|until| now() >= until) {
            report.left_out(&numbers);
            continue;
        }
        report.take(batch::play_all(&stage, &numbers));
    }
    report.finish(options.bounds)
}
