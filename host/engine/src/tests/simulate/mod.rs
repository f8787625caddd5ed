//! Worlds from a seed: the whole engine with its journal, clock, Slack and plugins simulated, in one thread; random
//! workflows, faults, crashes and wishes of people; and a checker that knows nothing of the engine's inside.
//!
//! `make simulate SEEDS=10000` plays so many worlds, `make simulate SEED=17` one of them with its trace,
//! `make simulate TURNS=17` one in which two hosts take turns.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

mod checker;
pub(super) mod dice;
mod found;
mod guest;
mod kept;
mod lack;
mod life;
mod people;
mod ports;
mod slack;
mod story;
mod time;
mod workflow;
mod world;

use bellhop_clock::{Clock as _, System};
use bellhop_journal::memory::Memory;
use dice::Dice;
use life::{Death, Left, Stopped, live, live_on};
use story::Story;
use world::{Counts, World};

/// Worlds in the ordinary tests.
const SEEDS: u64 = 100;
/// The first of them. One of those before takes as long as all of these.
const FROM: u64 = 100;
/// The same, of those in which two hosts take turns.
const SEEDS_IN_TURNS: u64 = 20;
/// They are other worlds.
const FROM_IN_TURNS: u64 = 1_010;
/// Lives of one world; it has fewer deaths than that.
const LIVES_MAX: u32 = 12;

/// A world that has come to its end.
struct Played {
    counts: Counts,
    breaks: Vec<String>,
    trace: Vec<String>,
    definitions: Vec<String>,
}

fn play(seed: u64) -> Played {
    let mut story = Story::of(seed);
    let mut deaths = std::mem::take(&mut story.deaths);
    let story = Arc::new(story);
    let world = Arc::new(World::new(seed, story.swarm.clone()));
    world.lock().lack = story.lacking.as_ref().map(|lacking| lacking.what);
    let mut memory = Memory::manual();
    for _ in 0..LIVES_MAX {
        let share = story.clone();
        let (left_behind, left) =
            live(&world, memory, &story.limits, deaths.pop_front(), |process| share.go_on(process));
        memory = left_behind;
        if left == Left::Over {
            break;
        }
    }
    played(&world, &story)
}

fn played(world: &World, story: &Story) -> Played {
    let mut state = world.lock();
    Played {
        counts: state.counts,
        breaks: std::mem::take(&mut state.breaks),
        trace: std::mem::take(&mut state.trace),
        definitions: story.definitions.iter().map(|d| format!("{d:#}")).collect(),
    }
}

/// The same with two hosts over one store, of which the one takes over where the other is stopped. The one that was
/// stopped goes on in the middle of the other's life, and believes that nothing has happened.
fn play_in_turns(seed: u64) -> Played {
    let mut dice = Dice::of(seed, "turns");
    let mut story = Story::of(seed);
    let mut deaths: VecDeque<Death> = std::mem::take(&mut story.deaths);
    for _ in 0..dice.between(1, 3) {
        let at = usize::try_from(dice.below(deaths.len() as u64 + 1)).unwrap();
        let stop = if dice.chance(50) {
            Death::StoppedAtRequest(dice.between(1, 20))
        } else {
            Death::StoppedAfter(dice.below(120_000))
        };
        deaths.insert(at, stop);
    }
    let story = Arc::new(story);
    let world = Arc::new(World::new(seed, story.swarm.clone()));
    world.lock().lack = story.lacking.as_ref().map(|lacking| lacking.what);
    let (mut memory, mut stopped) = (Memory::manual(), None);
    for _ in 0..LIVES_MAX {
        let (share, after_ms, span) = (story.clone(), dice.below(60_000), Duration::from_millis(dice.below(90_000)));
        let before = stopped.take();
        let lived = live_on(&world, memory, &story.limits, deaths.pop_front(), |process| async move {
            if let Some(before) = before {
                tokio::spawn(wakes(before, process.world.clone(), Duration::from_millis(after_ms), span));
            }
            share.go_on(process).await
        });
        let left;
        (memory, left, stopped) = lived;
        if left == Left::Over {
            break;
        }
    }
    played(&world, &story)
}

/// A process that was stopped goes on for some time, in the middle of the life of the one that has taken over.
async fn wakes(before: Stopped, world: Arc<World>, after: Duration, span: Duration) {
    tokio::time::sleep(after).await;
    world.time.end();
    // A runtime of its own cannot be driven within another's thread.
    std::thread::scope(|scope| scope.spawn(|| before.goes_on(span)).join().unwrap());
    world.time.begin();
}

impl Played {
    /// For whoever looks for the reason.
    fn show(&self, name: &str, seed: u64) -> String {
        let mut out = String::new();
        for definition in &self.definitions {
            let _ = writeln!(out, "{definition}");
        }
        for line in &self.trace {
            let _ = writeln!(out, "{line}");
        }
        let _ = writeln!(out, "seed {seed} broke {} promises:", self.breaks.len());
        for what in &self.breaks {
            let _ = writeln!(out, "  {what}");
        }
        let _ = writeln!(out, "again: make simulate {name}={seed}");
        out
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn worlds_keep_their_promises() {
    keeps_promises(play, "SEED", FROM, SEEDS);
}

#[test]
fn two_hosts_that_take_turns_keep_their_promises() {
    let counts = keeps_promises(play_in_turns, "TURNS", FROM_IN_TURNS, SEEDS_IN_TURNS);
    assert!(counts.stopped > 0, "nobody took over");
}

/// Plays worlds, those of so many seeds unless others are asked for; `name` asks for a single one.
fn keeps_promises(play: fn(u64) -> Played, name: &'static str, first: u64, seeds: u64) -> Counts {
    let (from, count) = match number(name) {
        Some(seed) => (seed, 1),
        None => (number("FROM").unwrap_or(first), number("SEEDS").unwrap_or(seeds)),
    };
    let clock = System::new();
    let next = AtomicU64::new(from);
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(4);
    let all: Vec<(Counts, Vec<(u64, String)>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let (mut counts, mut broken) = (Counts::default(), Vec::new());
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + count {
                            return (counts, broken);
                        }
                        let played = play(seed);
                        counts.add(&played.counts);
                        if !played.breaks.is_empty() || count == 1 {
                            broken.push((seed, played.show(name, seed)));
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut counts = Counts::default();
    let mut shown = Vec::new();
    for (some, broken) in all {
        counts.add(&some);
        shown.extend(broken);
    }
    shown.sort();
    if let Some((_, text)) = shown.first() {
        println!("{text}");
    }
    for (seed, text) in shown.iter().skip(1).take(50) {
        let promises = text.lines().rev().skip(1).take_while(|line| line.starts_with("  ")).map(str::trim_start);
        promises.for_each(|what| println!("seed {seed}: {what}"));
    }
    println!("{}", counts.table(count, clock.monotonic()));
    let broken = counts.broken;
    let seeds: Vec<u64> = shown.iter().map(|(seed, _)| *seed).take(50).collect();
    assert!(broken == 0, "{broken} promises were broken, with the seeds {seeds:?}");
    counts
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for seed in 10..20 {
        let (first, second) = (play(seed).trace, play(seed).trace);
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        assert!(
            differs.is_none() && first.len() == second.len(),
            "seed {seed}: {:?}",
            differs.map(|n| (&first[n], &second[n]))
        );
    }
}

/// Where nothing depends on who comes first, a run comes to the same over both ports; and over the one that replays, with
/// its process dying anywhere, each effect is there once and the run ends.
#[test]
fn a_run_comes_to_the_same_over_both_ports() {
    let (from, seeds) = (number("FROM").unwrap_or(FROM), number("SEEDS").unwrap_or(SEEDS));
    let (mut compared, mut died, mut differ) = (0, 0, Vec::new());
    for seed in from..from + seeds {
        let both = ports::both(seed);
        compared += u64::from(both.compared);
        died += both.deaths;
        differ.extend(both.breaks.into_iter().map(|broken| format!("seed {seed}: {broken}")));
    }
    println!("{compared} runs compared, {died} deaths of a process that replays");
    assert!(differ.is_empty(), "{} promises were broken:\n{}", differ.len(), differ.join("\n"));
    assert!(compared * 4 > seeds, "only {compared} of {seeds} runs could be compared");
}
