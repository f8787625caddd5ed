//! A life that ends at a point, at every point in turn; and a second one that ends at every point of its recovery.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::bellhop::hosted::now;
use crate::scenarios::Scenario;
use crate::stage::{Outcome, Seen, Stage};

/// What an undisturbed life leaves.
pub(crate) fn reference(stage: &mut Stage, scenario: &Scenario) -> Outcome<Seen> {
    let plant = stage.plant.take();
    let seen = play(stage, scenario, &[]);
    stage.plant = plant;
    let seen = seen.map_err(|why| format!("{}: an undisturbed life: {why}", scenario.name))?;
    let count: usize = seen.effects.values().sum();
    if count != scenario.effects {
        let effects = &seen.effects;
        return Err(format!("{}: {count} changes instead of {}: {effects:#?}", scenario.name, scenario.effects));
    }
    Ok(seen)
}

fn play(stage: &mut Stage, scenario: &Scenario, deaths: &[u64]) -> Outcome<Seen> {
    stage.begin(deaths)?;
    let told = (scenario.script)(stage)?;
    stage.finish(told)
}

/// One trial: lives that end at `deaths`, and whether what is left is what an undisturbed life leaves. Gives how many
/// lives did end there.
fn trial(stage: &mut Stage, scenario: &Scenario, reference: &Seen, deaths: &[u64]) -> Outcome<usize> {
    let seen = play(stage, scenario, deaths);
    let place = || format!("{}: died at {}", scenario.name, stage.ends(deaths));
    let seen = seen.map_err(|why| format!("{}: {why}", place()))?;
    if seen != *reference {
        let differs = difference(reference, &seen);
        return Err(format!("{}: {differs}\n{}", place(), stage.log()));
    }
    Ok(stage.died)
}

fn difference(wanted: &Seen, seen: &Seen) -> String {
    if wanted.told != seen.told {
        return format!("the runs ended as {} instead of {}", seen.told, wanted.told);
    }
    let mut all: Vec<&String> = wanted.effects.keys().chain(seen.effects.keys()).collect();
    all.sort();
    all.dedup();
    let count = |seen: &Seen, effect: &String| seen.effects.get(effect).copied().unwrap_or(0);
    for effect in all {
        let (wanted, seen) = (count(wanted, effect), count(seen, effect));
        if wanted != seen {
            return format!("`{effect}` stands {seen} times in Slack's ledger instead of {wanted}");
        }
    }
    let parts = ["groups", "channels", "users"];
    let part = parts.iter().find(|part| wanted.world[**part] != seen.world[**part]).unwrap_or(&"world");
    format!("the {part} of Slack are not as they should be")
}

/// Dies at each point of a scenario in turn, until a life goes through. Gives how many points there are.
pub(crate) fn singles(stage: &mut Stage, scenario: &Scenario) -> Outcome<u64> {
    let reference = reference(stage, scenario)?;
    let mut point = 1;
    while trial(stage, scenario, &reference, &[point])? > 0 {
        point += 1;
    }
    Ok(point - 1)
}

/// What was tried of all pairs.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    /// First points after which every point of the recovery was tried.
    pub(crate) firsts: AtomicU64,
    pub(crate) pairs: AtomicU64,
    next: AtomicU64,
    /// Behind the last point.
    over: AtomicBool,
}

impl Pairs {
    /// Whether there was time for all.
    pub(crate) fn is_complete(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// For each first point in turn, dies again at each point that is passed afterwards, until a life goes through.
    /// Several may work on it; none begins after `until`.
    pub(crate) fn work(&self, stage: &mut Stage, scenario: &Scenario, until: Instant) -> Outcome<()> {
        let reference = reference(stage, scenario)?;
        while !self.is_complete() && now() < until {
            let first = 1 + self.next.fetch_add(1, Ordering::SeqCst);
            let mut second = 1;
            loop {
                match trial(stage, scenario, &reference, &[first, second])? {
                    // No life ended at the first point: there are no more.
                    0 => {
                        self.over.store(true, Ordering::SeqCst);
                        break;
                    }
                    1 => {
                        self.firsts.fetch_add(1, Ordering::SeqCst);
                        break;
                    }
                    _ => drop(self.pairs.fetch_add(1, Ordering::SeqCst)),
                }
                second += 1;
            }
        }
        Ok(())
    }
}

/// A moment that many `seconds` from now.
pub(crate) fn in_seconds(seconds: u64) -> Instant {
    now() + Duration::from_secs(seconds)
}
