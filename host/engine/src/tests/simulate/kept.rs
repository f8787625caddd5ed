//! What a host that forgets in time still owes: nothing that is open is gone, nothing that has ended is gone before its
//! time, a key means its run until its own time is over, and what is gone is gone whole.

use bellhop_core::id::RunId;
use serde_json::Value;

use super::dice::Dice;
use super::life::Process;
use super::story::Story;
use super::world::World;
use crate::tests::at_once;
use bellhop_journal::{Store as _, key};
use bellhop_limits::Limits;

/// Whoever looks may be a moment late.
const LOOK_MS: u64 = 11_000;
/// The machine's clock is never further off.
const CLOCK_MS: u64 = 41 * 3_600_000;
/// Within this, what may go is gone.
const SWEPT_MS: u64 = 2 * 600_000 + 120_000;

/// How long things are kept in a world in which runs go.
pub(super) struct Times {
    pub(super) runs_ms: u64,
    pub(super) keys_ms: u64,
    /// What the definitions say, if anything.
    own_s: [Option<u64>; 2],
}

impl Times {
    /// In some worlds.
    pub(super) fn of(seed: u64) -> Option<Self> {
        let mut dice = Dice::of(seed, "kept");
        dice.chance(10).then(|| Self {
            runs_ms: dice.between(30_000, 600_000),
            keys_ms: if dice.chance(80) {
                dice.between(60_000, 900_000)
            } else {
                Limits::default().idempotency_kept_ms
            },
            own_s: [(); 2].map(|()| dice.chance(40).then(|| dice.between(20, 3_000))),
        })
    }

    /// Has the definition of this number say how long its runs are kept.
    pub(super) fn tell(&self, number: usize, definition: &mut Value) {
        if let Some(seconds) = self.own_s[number] {
            definition["document"]["metadata"]["bellhop"]["retention"] = serde_json::json!({"seconds": seconds});
        }
    }
}

/// How long a run stays after its end.
pub(super) struct Owed {
    /// By its file, or the host's limits.
    pub(super) own_ms: u64,
    /// As long as its key, if it has one.
    pub(super) key_ms: u64,
    /// Its key has come to mean another run since.
    pub(super) shared: bool,
}

/// Somebody looked at a run: at its end, if it has one.
pub(super) fn seen(world: &World, run: RunId, ended_at: Option<&str>) {
    let now = world.time.true_ms();
    let mut state = world.lock();
    let Some(promised) = state.promised.get_mut(&run) else { return };
    promised.gone = false;
    let at = ended_at.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    match at.and_then(|at| u64::try_from(at.as_millisecond()).ok()) {
        Some(at) => {
            promised.ended_ms = Some(at);
            promised.first_ended_ms.get_or_insert(at);
        }
        None => promised.open_ms = now,
    }
}

/// Somebody looked for a run, and there is none.
pub(super) fn gone(world: &World, story: &Story, run: RunId) {
    let Owed { own_ms, key_ms, shared } = story.owed(run);
    let now = world.time.true_ms();
    let mut wrong = None;
    {
        let mut state = world.lock();
        let off = if state.clock_set { CLOCK_MS } else { 0 };
        let Some(promised) = state.promised.get_mut(&run) else { return };
        if std::mem::replace(&mut promised.gone, true) {
            return;
        }
        // One that went on after its end may have lost its key meanwhile.
        let kept_ms = if shared || promised.again { own_ms } else { own_ms.max(key_ms) };
        let since = promised.ended_ms.unwrap_or(0).max(promised.open_ms.saturating_sub(LOOK_MS));
        if since + kept_ms > now + off {
            wrong = Some(format!(
                "{run} is gone {} ms after it was seen last, or had ended, and is to be kept for {kept_ms} ms after its end",
                now.saturating_sub(since)
            ));
        }
        state.counts.forgotten += 1;
    }
    world.say(format!("{} is gone", super::world::short(run)));
    if let Some(wrong) = wrong {
        world.broken(wrong);
    }
}

/// Whether the key of a run may mean another one by now.
pub(super) fn key_is_over(world: &World, run: RunId, keys_ms: u64) -> bool {
    let now = world.time.true_ms();
    let state = world.lock();
    let since = state.promised.get(&run).map(|p| p.first_ended_ms.unwrap_or(p.open_ms));
    // A clock that is set makes a day of a moment.
    state.clock_set || since.is_none_or(|since| since + keys_ms <= now)
}

/// What should be gone is, and nothing is left of it.
pub(super) fn check(process: &Process, story: &Story, lost: &mut Vec<String>) {
    let world = &process.world;
    let now = world.time.true_ms();
    let promised: Vec<(RunId, bool, Option<u64>)> =
        world.lock().promised.iter().map(|(run, p)| (*run, p.gone, p.ended_ms)).collect();
    // When it might have gone as well, after another end, stays until then.
    let times = key::all(key::Space::Expiry).from;
    let keys: Vec<String> = if promised.iter().any(|(_, gone, _)| *gone) {
        let all = at_once(process.store.scan(&[], &[], usize::MAX)).unwrap().items;
        let all = all.into_iter().filter(|(key, _)| key.first() != times.first());
        all.map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
    } else {
        Vec::new()
    };
    let clock_set = world.lock().clock_set;
    for (run, gone, ended_ms) in promised {
        let id = run.to_string();
        if gone {
            lost.extend(
                keys.iter().filter(|key| key.contains(&id[4..])).map(|key| format!("{run} is gone but {key:?}")),
            );
            continue;
        }
        let Owed { own_ms, key_ms, .. } = story.owed(run);
        if let Some(ended_ms) = ended_ms
            && !clock_set
            && ended_ms + own_ms.max(key_ms) + SWEPT_MS < now
        {
            lost.push(format!("{run} has ended {} ms ago, and is there still", now - ended_ms));
        }
    }
}
