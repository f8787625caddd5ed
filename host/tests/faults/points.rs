//! A life that ends at a point, at every point in turn; and a second one that ends at every point of its recovery.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::bellhop::dice::Dice;
use crate::bellhop::hosted::now;
use crate::scenarios::Scenario;
use crate::stage::{Death, Outcome, Seen, Stage};

/// What an undisturbed life leaves.
pub(crate) fn reference(stage: &mut Stage, scenario: &Scenario) -> Outcome<Seen> {
    let plant = stage.plant.take();
    let seen = play(stage, scenario, &[]);
    stage.plant = plant;
    let seen = seen.map_err(|why| format!("{}: an undisturbed life: {why}", scenario.name))?;
    if stage.passed(1).is_empty() {
        return Err("the program was built without the feature `faults`".to_owned());
    }
    let count: usize = seen.effects.values().sum();
    if count != scenario.effects {
        let effects = &seen.effects;
        return Err(format!("{}: {count} changes instead of {}: {effects:#?}", scenario.name, scenario.effects));
    }
    Ok(seen)
}

fn play(stage: &mut Stage, scenario: &Scenario, deaths: &[Death]) -> Outcome<Seen> {
    stage.begin(deaths)?;
    let told = (scenario.script)(stage)?;
    stage.finish(told)
}

/// One trial: lives that end at `deaths`, and whether what is left is what an undisturbed life leaves. Gives how many
/// lives did end there.
fn trial(stage: &mut Stage, scenario: &Scenario, reference: &Seen, deaths: &[Death]) -> Outcome<usize> {
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

/// Which points are tried: the first, and how far it is from one to the next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Every {
    pub(crate) first: u64,
    pub(crate) step: u64,
}

/// All of them.
pub(crate) const EVERY: Every = Every { first: 1, step: 1 };

/// Dies at each point of a scenario in turn, until a life goes through. Gives how many were tried.
pub(crate) fn singles(stage: &mut Stage, scenario: &Scenario, every: Every) -> Outcome<u64> {
    let reference = reference(stage, scenario)?;
    let (mut point, mut tried) = (every.first, 0);
    while trial(stage, scenario, &reference, &[Death::AtPoint(point)])? > 0 {
        point += every.step;
        tried += 1;
    }
    Ok(tried)
}

/// So many pairs of one scenario may break a promise before its others are left out.
const FAILED_MAX: usize = 5;

/// The pairs of one scenario: after a life that ended somewhere, another that ends everywhere in its recovery.
#[derive(Debug)]
pub(crate) struct Pairs {
    scenario: &'static Scenario,
    /// What is counted: each point, or each place once for all of its points.
    death: fn(u64) -> Death,
    /// How many points each place of an undisturbed life has.
    places: Vec<u64>,
    /// Where the first lives end, in the order in which that is tried.
    order: Vec<u64>,
    next: AtomicUsize,
    tried: Mutex<Tried>,
}

/// What came of them so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tried {
    /// Pairs that were played.
    pub(crate) played: u64,
    /// Pairs of points that these are.
    pub(crate) are: u64,
    /// Ends of a first life after which every end of the second was tried.
    firsts: usize,
    /// Of all who worked on it.
    spent: Duration,
    pub(crate) failed: Vec<String>,
}

/// What [`Pairs::row`] gives.
pub(crate) const HEAD: &str = "        scenario     points  places   played  are pairs  firsts   seconds";

impl Pairs {
    /// In an order that the dice choose: where there is no time for all, another part is tried each time.
    pub(crate) fn of(
        stage: &mut Stage,
        scenario: &'static Scenario,
        death: fn(u64) -> Death,
        dice: &mut Dice,
    ) -> Outcome<Self> {
        reference(stage, scenario)?;
        let places = stage.places(1);
        let firsts = match death(1) {
            Death::AtPoint(_) => places.iter().sum(),
            Death::AtPlace(_) => places.len() as u64,
        };
        let mut order: Vec<u64> = (1..=firsts).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, usize::try_from(dice.below(last as u64 + 1)).unwrap_or(0));
        }
        Ok(Self { scenario, death, places, order, next: AtomicUsize::new(0), tried: Mutex::default() })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.scenario.name
    }

    /// How many first lives there are, to begin with the scenario that has the fewest.
    pub(crate) fn firsts(&self) -> usize {
        self.order.len()
    }

    fn lock(&self) -> MutexGuard<'_, Tried> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tried(&self) -> Tried {
        self.lock().clone()
    }

    /// Whether each was played, itself or as one with another.
    pub(crate) fn is_whole(&self) -> bool {
        self.lock().firsts == self.order.len()
    }

    /// Works on it until everything is tried or the time is over. Several may do so; the last one prints the row.
    pub(crate) fn work(&self, stage: &mut Stage, until: Option<Instant>) -> Outcome<()> {
        let is_over = || until.is_some_and(|until| now() > until) || self.lock().failed.len() >= FAILED_MAX;
        if is_over() || self.next.load(Ordering::SeqCst) >= self.order.len() {
            return Ok(());
        }
        let reference = reference(stage, self.scenario)?;
        while !is_over()
            && let Some(first) = self.order.get(self.next.fetch_add(1, Ordering::SeqCst))
        {
            let began = now();
            let whole = self.after(stage, &reference, *first, is_over);
            let mut tried = self.lock();
            tried.spent += began.elapsed();
            tried.firsts += usize::from(whole);
            drop(tried);
            if whole && self.is_whole() {
                println!("{}", self.row());
            }
        }
        Ok(())
    }

    /// A first life that ends there, and a second one that ends everywhere. False when the time was over before.
    fn after(&self, stage: &mut Stage, reference: &Seen, first: u64, is_over: impl Fn() -> bool) -> bool {
        let (mut second, mut is_last) = (1, false);
        let whole = loop {
            if is_over() {
                break false;
            }
            let trial = trial(stage, self.scenario, reference, &[(self.death)(first), (self.death)(second)]);
            if let Err(why) = trial {
                println!("        {}", why.lines().next().unwrap_or_default());
                self.lock().failed.push(why);
                if stage.died < 2 {
                    break true;
                }
            } else if stage.died < 2 {
                // A life has not always as many points as another: it is the last one if another says so as well.
                if is_last {
                    break true;
                }
                is_last = true;
                continue;
            }
            is_last = false;
            self.lock().played += 1;
            second += 1;
        };
        let ended = usize::try_from(second - 1).unwrap_or(usize::MAX);
        let points = match self.death_is_a_place(first) {
            Some(points) => points * stage.places(2).iter().take(ended).sum::<u64>(),
            None => second - 1,
        };
        self.lock().are += points;
        whole
    }

    /// How many points the first life's end is, where places are counted.
    fn death_is_a_place(&self, first: u64) -> Option<u64> {
        match (self.death)(first) {
            Death::AtPoint(_) => None,
            Death::AtPlace(number) => {
                Some(usize::try_from(number - 1).ok().and_then(|n| self.places.get(n).copied()).unwrap_or(1))
            }
        }
    }

    /// A line of the table.
    pub(crate) fn row(&self) -> String {
        let tried = self.tried();
        let (points, places): (u64, usize) = (self.places.iter().sum(), self.places.len());
        let seconds = tried.spent.as_secs_f32() / crate::WORKERS as f32;
        let failed = if tried.failed.is_empty() { String::new() } else { format!("  {} BROKEN", tried.failed.len()) };
        format!(
            "        {:<12} {points:>6}  {places:>6}  {:>7}  {:>9}  {:>3}/{:<3}  {seconds:>7.1}{failed}",
            self.scenario.name,
            tried.played,
            tried.are,
            tried.firsts,
            self.order.len(),
        )
    }
}

/// A moment that many `seconds` from now.
pub(crate) fn in_seconds(seconds: u64) -> Instant {
    now() + Duration::from_secs(seconds)
}
