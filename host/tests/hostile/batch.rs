//! Cases that share a host, and which of them it was when something breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

use crate::bellhop::hosted::now;
use crate::bounds::Bounds;
use crate::case::Case;
use crate::play;
use crate::watch::Seen;
use crate::world::{Needs, Prepared, World};

/// Cases of one host at the same time.
const LANES: usize = 4;
/// What a case has set going may show so long afterwards, when cases are played one by one.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// What every batch has.
#[derive(Clone, Copy)]
pub(crate) struct Stage<'a> {
    pub(crate) cases: &'a [Case],
    pub(crate) prepared: &'a Prepared,
    pub(crate) bounds: Bounds,
    /// Nothing is begun after this.
    pub(crate) until: Option<Instant>,
}

/// What a batch came to.
#[derive(Debug, Default)]
pub(crate) struct Played {
    /// How many cases were played.
    pub(crate) cases: usize,
    /// Cases by number, with what is wrong.
    pub(crate) broken: BTreeMap<usize, String>,
    /// Cases for which there was no time, by number.
    pub(crate) left_out: Vec<usize>,
    /// What broke with all of these and with none of them alone.
    pub(crate) together: Option<(Vec<usize>, String)>,
    pub(crate) seen: Seen,
}

/// One host and the cases that it got.
struct Attempt {
    /// Cases that came to an end of their own, by number.
    ended: BTreeMap<usize, Result<(), String>>,
    /// Those that were begun, in that order.
    begun: Vec<usize>,
    /// What happened to the host.
    trouble: Option<String>,
    seen: Seen,
}

/// Plays cases with the same needs, by their numbers. Those whose turn would come too late are left out.
pub(crate) fn play_all(stage: &Stage<'_>, numbers: &[usize]) -> Played {
    let until = stage.until;
    let mut played = Played::default();
    let mut left = numbers.to_vec();
    while !left.is_empty() && !is_over(until) {
        let attempt = attempt(stage, &left, LANES);
        played.seen.add(&attempt.seen);
        left.retain(|number| !attempt.begun.contains(number));
        played.cases += attempt.begun.len();
        let Some(trouble) = attempt.trouble else {
            played.keep(attempt.ended);
            continue;
        };
        if attempt.begun.is_empty() {
            // The host did not even start: no other attempt will do better.
            played.together = Some((left, trouble));
            return played;
        }
        if let [only] = attempt.begun[..] {
            played.broken.insert(only, trouble);
            continue;
        }
        let found = one_by_one(stage, &attempt.begun);
        let is_named = !found.is_empty();
        let own = |(number, ended): &(usize, Result<(), String>)| !is_of_the_host(*number, ended, &found);
        played.keep(attempt.ended.into_iter().filter(own).collect());
        played.broken.extend(found);
        if !is_named {
            played.together = Some((attempt.begun, trouble));
        }
    }
    played.left_out = left;
    played
}

/// A case that ended badly because the host went away is told of by what ended the host.
fn is_of_the_host(number: usize, ended: &Result<(), String>, found: &BTreeMap<usize, String>) -> bool {
    let broke_off = ["no connection", "no answer", "the host is down", "closed without", "breaks off", "reset"];
    found.contains_key(&number) || ended.as_ref().is_err_and(|why| broke_off.iter().any(|text| why.contains(text)))
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| now() >= until)
}

impl Played {
    fn keep(&mut self, ended: BTreeMap<usize, Result<(), String>>) {
        self.broken.extend(ended.into_iter().filter_map(|(number, ended)| Some((number, ended.err()?))));
    }
}

impl Seen {
    pub(crate) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.late += other.late;
        self.worst = self.worst.max(other.worst);
        self.others += other.others;
        self.worst_other = self.worst_other.max(other.worst_other);
        self.memory_mb = self.memory_mb.max(other.memory_mb);
    }
}

/// Each case of a broken batch after the other: those that break a host, which is then exchanged.
fn one_by_one(stage: &Stage<'_>, numbers: &[usize]) -> BTreeMap<usize, String> {
    let mut broken = BTreeMap::new();
    let mut left = numbers.to_vec();
    while !left.is_empty() && !is_over(stage.until) {
        let attempt = attempt(stage, &left, 1);
        if attempt.begun.is_empty() {
            break;
        }
        left.retain(|number| !attempt.begun.contains(number));
        broken.extend(attempt.ended.into_iter().filter_map(|(number, ended)| Some((number, ended.err()?))));
        if let (Some(trouble), Some(last)) = (attempt.trouble, attempt.begun.last()) {
            // What is said of a run is its case's; what is said of the host is that of the case that it just had.
            let named =
                attempt.begun.iter().find(|number| trouble.contains(&format!(" of {}", stage.cases[**number].name)));
            broken.insert(*named.unwrap_or(last), trouble);
        }
    }
    broken
}

fn attempt(stage: &Stage<'_>, numbers: &[usize], lanes: usize) -> Attempt {
    let Stage { cases, bounds, until, .. } = *stage;
    let mut attempt = Attempt { ended: BTreeMap::new(), begun: Vec::new(), trouble: None, seen: Seen::default() };
    let Some(first) = numbers.first() else { return attempt };
    let first = &cases[*first];
    let needs = Needs {
        limits: &first.limits,
        memory_mb_max: first.memory_mb.unwrap_or(bounds.memory_mb_max),
        disk_mb: first.disk_mb,
    };
    let world = match World::start(stage.prepared, needs, bounds) {
        Ok(world) => world,
        Err(why) => {
            attempt.trouble = Some(format!("no host could be made ready: {why}"));
            return attempt;
        }
    };
    let next = AtomicUsize::new(0);
    let is_stopped = AtomicBool::new(false);
    // Who needs the host for itself keeps the others out.
    let alone = RwLock::new(());
    let shared = Mutex::new(&mut attempt);
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while !is_stopped.load(Ordering::Acquire) && !is_over(until) {
                    let Some(number) = numbers.get(next.fetch_add(1, Ordering::SeqCst)) else { break };
                    let case = &cases[*number];
                    let (mut read, mut write) = (None, None);
                    if case.alone {
                        write = Some(alone.write().unwrap());
                    } else {
                        read = Some(alone.read().unwrap());
                    }
                    // It may have broken while this one waited for its turn.
                    if world.is_in_trouble() {
                        is_stopped.store(true, Ordering::Release);
                        break;
                    }
                    shared.lock().unwrap().begun.push(*number);
                    let before = world.seen();
                    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play::play(&world, case)));
                    let ended = played.unwrap_or_else(|_| Err("the harness itself panics".to_owned()));
                    let ended = if lanes == 1 { late_since(&world, &before, bounds).map_or(ended, Err) } else { ended };
                    drop((read.take(), write.take()));
                    shared.lock().unwrap().ended.insert(*number, ended);
                    if world.is_in_trouble() {
                        is_stopped.store(true, Ordering::Release);
                    }
                }
            });
        }
    });
    // One by one, it is said of the case that was late.
    let late_in_all = || if lanes == 1 { None } else { late(&world.seen(), bounds) };
    let trouble = world.trouble().or_else(late_in_all).or_else(|| world.end().err());
    attempt.trouble = trouble;
    attempt.seen = world.seen();
    attempt
}

/// More late answers than the bound allows, since `before` and a little afterwards.
fn late_since(world: &World, before: &Seen, bounds: Bounds) -> Option<String> {
    std::thread::sleep(AFTERWARDS);
    let seen = world.seen();
    late(&Seen { asked: seen.asked - before.asked, late: seen.late - before.late, ..seen }, bounds)
}

/// More late answers than the bound allows.
fn late(seen: &Seen, bounds: Bounds) -> Option<String> {
    #[expect(clippy::cast_precision_loss, reason = "counts of a few minutes")]
    let (asked, late) = (seen.asked as f64, seen.late as f64);
    let allowed = (asked * bounds.late_of_1000 / 1e3).max(5.0);
    (late > allowed).then(|| {
        format!(
            "/healthz was late {late} of {asked} times (more than {} ms), the worst {} ms",
            bounds.health.as_millis(),
            seen.worst.as_millis()
        )
    })
}
