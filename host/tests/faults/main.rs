//! Drives the built program from outside, ends its lives wherever they can end, and compares Slack's own ledger with what
//! the runs say. A table says what was tried; a broken promise ends this with an error.
//!
//! ```text
//! faults [quick|full|all|mutants] [--kills N] [--seed N] [--only PHASE] [--scenarios NAME,…]
//! ```
//!
//! `full` plays pairs of points that are the same case once, but for the first scenario's: where nothing that lasts
//! happened between two points, a death at the one is a death at the other (`host/faults/src/lib.rs` says what a place is).
//! `all` plays each.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../bellhop/mod.rs"]
mod bellhop;
mod crowd;
mod doubt;
mod mutants;
mod points;
mod scenarios;
mod slicer;
mod stage;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bellhop::dice::Dice;
use bellhop::hosted::now;
use points::{Every, Pairs, Tried, in_seconds};
use scenarios::{ALL, PLAIN, Scenario};
use stage::{Death, Outcome, Stage};

/// Hosts that die at the same time: what they do is mostly waiting for the disk and for each other.
const WORKERS: usize = 3;

/// How much is done.
struct Extent {
    /// Whose pairs of points are played.
    pairs_of: &'static [Scenario],
    /// What of these pairs is counted.
    pairs: fn(u64) -> Death,
    /// What is left of them after so long is left out, and the table says so; unless scenarios are named.
    pairs_s_max: Option<u64>,
    kills: u64,
    kills_of_adds: u64,
    onboardings: u64,
    /// From one point to the next that is tried; the dice choose the first.
    step: u64,
}

const FULL: Extent = Extent {
    pairs_of: ALL,
    pairs: Death::AtPlace,
    pairs_s_max: Some(1_000),
    kills: 300,
    kills_of_adds: 12,
    onboardings: 5,
    step: 1,
};
const EVERYTHING: Extent = Extent { pairs: Death::AtPoint, pairs_s_max: None, ..FULL };
const QUICK: Extent = Extent {
    pairs_of: &[PLAIN],
    pairs: Death::AtPlace,
    pairs_s_max: Some(6),
    kills: 30,
    kills_of_adds: 4,
    onboardings: 1,
    step: 3,
};

struct Table {
    only: Option<String>,
    /// Only the points and pairs of these.
    scenarios: Option<String>,
    /// Phases that were done.
    done: usize,
    failed: Vec<String>,
}

impl Table {
    /// Does a phase unless another is wanted, and says what came of it.
    fn phase(&mut self, name: &str, work: impl FnOnce() -> Outcome<String>) {
        if self.only.as_deref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        self.done += 1;
        let began = now();
        let (mark, text) = match work() {
            Ok(text) => ("ok", text),
            Err(why) => {
                self.failed.push(format!("{name}: {why}"));
                ("BROKEN", why.lines().next().unwrap_or_default().to_owned())
            }
        };
        println!("{mark:<7} {:>6.1} s  {name}: {text}", began.elapsed().as_secs_f32());
    }
}

/// Does each piece of work once, on as many stages as there are; the other pieces are done when one fails, too.
fn share<T: Sync, R: Send>(
    stages: &mut [Stage],
    work: &[T],
    each: impl Fn(&mut Stage, &T) -> Outcome<R> + Sync,
) -> Outcome<Vec<R>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new((Vec::new(), Vec::new()));
    std::thread::scope(|scope| {
        for stage in stages {
            let (next, found, each) = (&next, &found, &each);
            scope.spawn(move || {
                while let Some(piece) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let done = each(stage, piece);
                    let mut found = found.lock().unwrap();
                    match done {
                        Ok(done) => found.0.push(done),
                        Err(why) => found.1.push(why),
                    }
                }
            });
        }
    });
    let (done, failed) = found.into_inner().unwrap();
    if failed.is_empty() { Ok(done) } else { Err(failed.join("\n\n")) }
}

fn told(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn stages() -> Outcome<Vec<Stage>> {
    (0..WORKERS).map(|_| Stage::set()).collect()
}

fn planted(table: &mut Table) -> Outcome<()> {
    let (built, mutants) = mutants::Built::new()?;
    let mut stages = stages()?;
    let only = table.only.take();
    table.phase("planted mistakes that are caught", || mutants::all(&mut stages, &built, &mutants, only.as_deref()));
    Ok(())
}

/// Every pair of points that there is time for; a row for each scenario.
fn pairs(
    stages: &mut [Stage],
    extent: &Extent,
    is_wanted: impl Fn(&Scenario) -> bool,
    named: bool,
    dice: &mut Dice,
) -> Outcome<String> {
    // Who names some wants all of theirs.
    let until = extent.pairs_s_max.filter(|_| !named || extent.step > 1).map(in_seconds);
    let mut all = Vec::new();
    for scenario in extent.pairs_of.iter().filter(|scenario| is_wanted(scenario)) {
        // Those of the first of all, where there is time, are played one by one: what stands for what is held against it.
        let one_by_one = scenario.name == PLAIN.name && extent.step == 1;
        let death = if one_by_one { Death::AtPoint } else { extent.pairs };
        all.push(Pairs::of(&mut stages[0], scenario, death, dice)?);
    }
    // So that as many as possible are whole where the time is short.
    all.sort_by_key(Pairs::firsts);
    println!("{}", points::HEAD);
    share(stages, &[(); WORKERS], |stage, ()| all.iter().try_for_each(|pairs| pairs.work(stage, until)))?;
    let parts: Vec<&Pairs> = all.iter().filter(|pairs| !pairs.is_whole()).collect();
    parts.iter().for_each(|pairs| println!("{}", pairs.row()));
    let tried: Vec<Tried> = all.iter().map(Pairs::tried).collect();
    let failed: Vec<&str> = tried.iter().flat_map(|tried| &tried.failed).map(String::as_str).collect();
    if !failed.is_empty() {
        return Err(failed.join("\n\n"));
    }
    let (played, are): (u64, u64) = (tried.iter().map(|t| t.played).sum(), tried.iter().map(|t| t.are).sum());
    let left = match parts.as_slice() {
        [] => "none is left out".to_owned(),
        parts => format!("only a part of {}", told(parts.iter().map(|pairs| pairs.name().to_owned()))),
    };
    Ok(format!("{played} played, which are {are} pairs; {left}"))
}

fn all(extent: &Extent, seed: u64, table: &mut Table) -> Outcome<()> {
    let mut stages = stages()?;
    let stages = stages.as_mut_slice();
    let mut dice = Dice::of(seed);
    // The longest first.
    let wanted = table.scenarios.take();
    let is_wanted = |scenario: &Scenario| wanted.as_ref().is_none_or(|all| all.split(',').any(|n| n == scenario.name));
    let mut scenarios: Vec<_> = ALL.iter().filter(|scenario| is_wanted(scenario)).collect();
    scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.effects));
    let every = Every { first: 1 + dice.below(extent.step), step: extent.step };
    table.phase("every point", || {
        let single = |stage: &mut Stage, scenario: &&'static Scenario| {
            points::singles(stage, scenario, every).map(|points| (scenario.name, points))
        };
        let points: BTreeMap<&str, u64> = share(stages, &scenarios, single)?.into_iter().collect();
        let part = if every.step == 1 { String::new() } else { format!(" (each {} apart)", every.step) };
        Ok(told(points.iter().map(|(name, points)| format!("{name} {points}"))) + &part)
    });
    table.phase("every pair of points", || pairs(stages, extent, is_wanted, wanted.is_some(), &mut dice));
    let stage = &mut stages[0];
    table.phase("every point, without reading back", || {
        let doubts = doubt::singles(stage, extent.step)?;
        Ok(format!("{} points, {} runs parked and were resolved, nothing was done twice", doubts.points, doubts.parked))
    });
    table.phase("random kills", || {
        let done = crowd::kills(stage, &mut dice, extent.kills)?;
        Ok(format!("{} kills, {} runs, 0 lost, 0 doubled", done.kills, done.runs))
    });
    table.phase("one group", || {
        let done = crowd::adds(stage, &mut dice, extent.kills_of_adds)?;
        Ok(format!("{} people added at once, {} kills, all are members", done.runs, done.kills))
    });
    table.phase("onboardings at once", || {
        for _ in 0..extent.onboardings {
            crowd::onboardings(stage, &mut dice, 1)?;
        }
        Ok(format!("{} times {} of them, killed in the middle", extent.onboardings, crowd::IN_FLIGHT))
    });
    table.phase("system calls", || {
        if !bellhop::traced::is_possible() {
            return Ok("skipped: there is no strace here, or it may not watch".to_owned());
        }
        stage.prove()?;
        Ok("a run is synchronised before its 202, an intent before its request".to_owned())
    });
    table.phase("left alone", || {
        crowd::left_alone(stage, false)?;
        crowd::left_alone(stage, true)?;
        Ok("Retry-After is kept to, over a kill too".to_owned())
    });
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut extent = FULL;
    let mut seed = u64::from(std::process::id());
    let mut table = Table { only: None, scenarios: None, done: 0, failed: Vec::new() };
    let mut plant = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        let number = |text: String| {
            text.parse::<u64>().map_err(|_| eprintln!("`{argument}` takes a number instead of `{text}`"))
        };
        match argument.as_str() {
            "full" => extent = FULL,
            "quick" => extent = QUICK,
            "all" => extent = EVERYTHING,
            "mutants" => plant = true,
            "--kills" => match number(value()) {
                Ok(kills) => extent.kills = kills,
                Err(()) => return ExitCode::from(2),
            },
            "--seed" => match number(value()) {
                Ok(chosen) => seed = chosen,
                Err(()) => return ExitCode::from(2),
            },
            "--only" => table.only = Some(value()),
            "--scenarios" => {
                let names = value();
                if let Some(name) = names.split(',').find(|name| ALL.iter().all(|scenario| scenario.name != *name)) {
                    let all = told(ALL.iter().map(|scenario| scenario.name.to_owned()));
                    eprintln!("there is no scenario `{name}`: {all}");
                    return ExitCode::from(2);
                }
                table.scenarios = Some(names);
            }
            other => {
                eprintln!(
                    "`{other}` is not understood: faults [quick|full|all|mutants] [--kills N] [--seed N] [--only PHASE] \
                     [--scenarios NAME,…]"
                );
                return ExitCode::from(2);
            }
        }
    }
    let began = now();
    println!("seed {seed}");
    let done = if plant { planted(&mut table) } else { all(&extent, seed, &mut table) };
    if let Err(why) = done {
        table.failed.push(why);
    }
    if table.done == 0 {
        let why = if table.failed.is_empty() { "no phase has such a name".to_owned() } else { table.failed.join("\n") };
        eprintln!("nothing was done: {why}");
        return ExitCode::from(2);
    }
    println!("{:.0} s in all", began.elapsed().as_secs_f32());
    for failed in &table.failed {
        eprintln!("\n{failed}");
    }
    if table.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
