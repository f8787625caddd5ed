//! A life that ends at a point, at every point in turn; and a second one that ends at every point of its recovery.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::bellhop::hosted::now;
use crate::crowd::Dice;
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

/// What is tried of all pairs: after a life that ended at a point, another that ends at each point of its recovery.
#[derive(Debug)]
pub(crate) struct Pairs {
    scenario: &'static Scenario,
    /// The first points, in the order in which they are tried.
    order: Vec<u64>,
    next: AtomicUsize,
    /// First points after which every point of the recovery was tried.
    done: AtomicUsize,
    pairs: AtomicU64,
}

impl Pairs {
    /// In an order that the dice choose: where there is no time for all, another part is tried each time.
    pub(crate) fn of(scenario: &'static Scenario, points: u64, dice: &mut Dice) -> Self {
        let mut order: Vec<u64> = (1..=points).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, usize::try_from(dice.below(last as u64 + 1)).unwrap_or(0));
        }
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { scenario, order, next, done, pairs: AtomicU64::new(0) }
    }

    /// Works on it until everything is tried or the time is over. Several may do so.
    pub(crate) fn work(&self, stage: &mut Stage, until: Instant) -> Outcome<()> {
        let reference = reference(stage, self.scenario)?;
        while let Some(first) = self.order.get(self.next.fetch_add(1, Ordering::SeqCst)) {
            let mut second = 1;
            // Two when both lives ended where they should. A life has not always as many points as another.
            while trial(stage, self.scenario, &reference, &[*first, second])? > 1 {
                self.pairs.fetch_add(1, Ordering::SeqCst);
                second += 1;
                if now() > until {
                    return Ok(());
                }
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// What came of it, in words.
    pub(crate) fn told(&self) -> String {
        let (pairs, done) = (self.pairs.load(Ordering::SeqCst), self.done.load(Ordering::SeqCst));
        let part = match (done, self.order.len()) {
            (done, all) if done == all => "all".to_owned(),
            (done, all) => format!("{done} of {all} first points"),
        };
        format!("{} {pairs} ({part})", self.scenario.name)
    }
}

/// A moment that many `seconds` from now.
pub(crate) fn in_seconds(seconds: u64) -> Instant {
    now() + Duration::from_secs(seconds)
}
