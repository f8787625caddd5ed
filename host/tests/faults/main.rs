//! Drives the built program from outside, ends its lives wherever they can end, and compares Slack's own ledger with what
//! the runs say. A table says what was tried; a broken promise ends this with an error.
//!
//! ```text
//! faults [full|quick|mutants] [--kills N] [--seed N] [--only PHASE]
//! ```
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../bellhop/mod.rs"]
mod bellhop;
mod crowd;
mod doubt;
mod mutants;
mod points;
mod scenarios;
mod stage;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bellhop::hosted::now;
use crowd::Dice;
use points::{Pairs, in_seconds};
use scenarios::{ALL, PLAIN, Scenario};
use stage::{Outcome, Stage};

/// Hosts that die at the same time: what they do is mostly waiting for the disk and for each other.
const WORKERS: usize = 3;

/// How much is done.
struct Extent {
    /// For the pairs of the first scenario, in seconds; there is more than enough for all of them.
    pairs_s: u64,
    /// For those of each of the others.
    other_pairs_s: u64,
    kills: u64,
    kills_of_adds: u64,
    onboardings: u64,
    /// Every so many points.
    stride_of_doubts: u64,
}

const FULL: Extent =
    Extent { pairs_s: 900, other_pairs_s: 15, kills: 300, kills_of_adds: 12, onboardings: 5, stride_of_doubts: 1 };
const QUICK: Extent =
    Extent { pairs_s: 8, other_pairs_s: 0, kills: 30, kills_of_adds: 4, onboardings: 1, stride_of_doubts: 2 };

struct Table {
    only: Option<String>,
    failed: Vec<String>,
}

impl Table {
    /// Does a phase unless another is wanted, and says what came of it.
    fn phase(&mut self, name: &str, work: impl FnOnce() -> Outcome<String>) {
        if self.only.as_deref().is_some_and(|only| !name.contains(only)) {
            return;
        }
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
    let mut stages = stages()?;
    let only = table.only.take();
    table.phase("planted mistakes that are caught", || mutants::all(&mut stages, only.as_deref()));
    Ok(())
}

fn all(extent: &Extent, seed: u64, table: &mut Table) -> Outcome<()> {
    let mut stages = stages()?;
    let stages = stages.as_mut_slice();
    let mut dice = Dice::of(seed);
    // The longest first.
    let mut scenarios: Vec<&'static Scenario> = ALL.iter().collect();
    scenarios.sort_by_key(|scenario| std::cmp::Reverse(scenario.effects));
    let mut points: BTreeMap<&str, u64> = BTreeMap::new();
    table.phase("every point", || {
        let single = |stage: &mut Stage, scenario: &&'static Scenario| {
            points::singles(stage, scenario).map(|points| (scenario.name, points))
        };
        points.extend(share(stages, &scenarios, single)?);
        Ok(told(points.iter().map(|(name, points)| format!("{name} {points}"))))
    });
    table.phase("every pair of points", || {
        let mut all = Vec::new();
        // The first of all has time for every pair, the others share what is given to them.
        for scenario in ALL {
            let main = scenario.name == PLAIN.name;
            let seconds = if main { extent.pairs_s } else { extent.other_pairs_s };
            let points = points.get(scenario.name).copied().filter(|_| seconds > 0);
            let Some(points) = points else { continue };
            let (pairs, until) = (Pairs::of(scenario, points, &mut dice), in_seconds(seconds));
            share(stages, &[(); WORKERS], |stage, ()| pairs.work(stage, until))?;
            all.push(pairs.told());
        }
        Ok(told(all.into_iter()))
    });
    let stage = &mut stages[0];
    table.phase("every point, without reading back", || {
        let doubts = doubt::singles(stage, extent.stride_of_doubts)?;
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
    let mut table = Table { only: None, failed: Vec::new() };
    let mut plant = false;
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "full" => extent = FULL,
            "quick" => extent = QUICK,
            "mutants" => plant = true,
            "--kills" => extent.kills = value().parse().unwrap_or(extent.kills),
            "--seed" => seed = value().parse().unwrap_or(seed),
            "--only" => table.only = Some(value()),
            other => {
                eprintln!(
                    "`{other}` is not understood: faults [full|quick|mutants] [--kills N] [--seed N] [--only PHASE]"
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
    println!("{:.0} s in all", began.elapsed().as_secs_f32());
    for failed in &table.failed {
        eprintln!("\n{failed}");
    }
    if table.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
