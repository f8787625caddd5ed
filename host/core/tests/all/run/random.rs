//! Every definition of `cases/run` under random answers, faults and wishes of people: whatever happens, a run can be
//! brought to its end, recovery is a fold, and a rollback takes back each change once, newest first, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;

/// Runs per definition.
const SEEDS: u64 = 60;
/// Steps that anything can happen in; then everything ends well.
const WILD_STEPS: usize = 40;
const STEPS_MAX: usize = 3_000;

/// A small generator: tests need the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What stands outside of the run, as the answers made it.
#[derive(Default)]
struct Outside {
    /// Changes that stand, by number: they count up.
    standing: BTreeSet<u64>,
    /// The number of the change of each execution.
    of: BTreeMap<String, u64>,
    made: u64,
    /// The last one that an inverse took back in this rollback.
    last: Option<u64>,
    /// Whether a person has meddled: then not everything has to be taken back.
    meddled: bool,
}

impl Outside {
    fn answer(&mut self, call: &Calling, dice: &mut Dice, wild: bool, at: &str) -> Cause {
        let frame = FrameId(u32::MAX);
        let fault = || Fault::declared("refused", 403, "by chance");
        if wild {
            match dice.below(20) {
                0 => {
                    return Cause::Park {
                        frame,
                        reason: Fault::of_code("outcome-unknown", "by chance"),
                        why: Why::Doubt,
                        wrote: false,
                    };
                }
                1 => {
                    return Cause::Park {
                        frame,
                        reason: Fault::of_code("plugin-timeout", "by chance"),
                        why: Why::Timeout,
                        wrote: false,
                    };
                }
                2..=5 => return Cause::Returned { frame, result: Returned::Fault(fault()) },
                _ => {}
            }
        }
        if let Some(number) = call.arguments.get("change").and_then(Value::as_u64) {
            // An inverse that was cut off at its end finds its work done.
            let stood = self.standing.remove(&number) || call.attempt > 1;
            assert!(stood, "{at}: change {number} is taken back and does not stand");
            assert!(self.last.is_none_or(|last| number < last), "{at}: {number} after {:?}", self.last);
            self.last = Some(number);
            let effect = Effect { changed: true, ..Effect::default() };
            return Cause::Returned { frame, result: Returned::Ok { output: json!(null), effect } };
        }
        let key = call.key.to_string();
        let undoable = call.action.action.starts_with("add.");
        let known = self.of.get(&key).copied();
        if undoable && (known.is_some() || dice.below(4) > 0) {
            let number = known.unwrap_or(self.made);
            self.made = self.made.max(number + 1);
            self.of.insert(key, number);
            self.standing.insert(number);
            let what = call.action.action.trim_start_matches("add.");
            let undo = Undo { action: format!("remove.{what}"), input: json!({ "change": number }), connection: None };
            let effect = Effect { changed: true, undo: Some(undo), reused: known.is_some(), ..Effect::default() };
            return Cause::Returned { frame, result: Returned::Ok { output: json!(null), effect } };
        }
        let effect = Effect { changed: !undoable && dice.below(2) == 0, ..Effect::default() };
        Cause::Returned { frame, result: Returned::Ok { output: json!(null), effect } }
    }
}

fn at_frame(cause: Cause, frame: FrameId) -> Cause {
    match cause {
        Cause::Park { reason, why, wrote, .. } => Cause::Park { frame, reason, why, wrote },
        Cause::Returned { result, .. } => Cause::Returned { frame, result },
        other => other,
    }
}

/// What happens next.
fn next(state: &State, outside: &mut Outside, dice: &mut Dice, wild: bool, now: &mut Timestamp, at: &str) -> Cause {
    let pending = run::pending(state);
    if wild && dice.below(4) == 0 {
        return match dice.below(12) {
            0 => Cause::Cancel,
            1 => Cause::CancelAndUndo,
            2 | 3 => Cause::Suspend,
            4 | 5 => Cause::Resume,
            6 | 7 => Cause::Retry,
            8 => Cause::Settle { of: None, done: dice.below(2) == 0 },
            9 => Cause::Undo,
            10 if dice.below(4) == 0 => Cause::Kill,
            _ => Cause::Wake,
        };
    }
    let chosen = if pending.is_empty() { None } else { Some(dice.below(pending.len() as u64) as usize) };
    match chosen.and_then(|i| pending.into_iter().nth(i)) {
        Some(Command::Start) => Cause::Start,
        Some(Command::Admit { .. }) => Cause::Admitted,
        Some(Command::Notify { notice }) => Cause::Noticed { number: notice.number },
        Some(Command::Invoke { frame, call } | Command::Stop { frame, call }) => {
            at_frame(outside.answer(call, dice, wild, at), frame)
        }
        Some(Command::GoOn) => Cause::GoOn,
        Some(Command::Wake { at }) => {
            *now = (*now).max(at);
            Cause::Wake
        }
        None if state.status() == run::Status::Suspended => Cause::Resume,
        // A parked run needs somebody, and one that was suspended beside may need two.
        None if dice.below(3) == 0 => Cause::Resume,
        None if dice.below(2) == 0 => Cause::Retry,
        None => Cause::Settle { of: None, done: true },
    }
}

/// A budget that ends soon, in one way or another. It never ends a run.
fn small(dice: &mut Dice) -> Budget {
    let usual = Budget { decisions_max: u32::MAX, ..Budget::USUAL };
    match dice.below(6) {
        0 => Budget { events_max: 1, ..usual },
        1 => Budget { events_max: 1 + dice.below(12) as usize, ..usual },
        2 => Budget { bytes_max: 1 + dice.below(3_000), ..usual },
        3 => Budget { evaluations_max: 1 + dice.below(3) as u32, ..usual },
        4 => Budget { cost_max: Cost::from_micros(1 + dice.below(60)), ..usual },
        _ => usual,
    }
}

/// A decision that is cut by its budget, and goes on, decides what an uncut one does.
fn same_in_pieces(
    state: &State,
    cause: &Cause,
    now: Timestamp,
    entropy: u64,
    dice: &mut Dice,
    evaluator: &Jq,
    at: &str,
) {
    let all = |small_ones: &mut dyn FnMut() -> Budget| {
        let mut state = state.clone();
        let mut events = Vec::new();
        let mut next = Some(cause.clone());
        let mut woken = false;
        while let Some(cause) = next {
            woken |= matches!(cause, Cause::Wake);
            let input = Input { at: now, entropy, cause, budget: small_ones() };
            if let Some(decided) = run::decide(&state, &input, evaluator) {
                events.extend(decided.events);
                state = decided.after;
            }
            next = match (state.is_unfinished(), woken) {
                (true, _) => Some(Cause::GoOn),
                // What goes on finds what is due by now, too.
                (false, false) => Some(Cause::Wake),
                (false, true) => None,
            };
        }
        events.retain(|event| !matches!(event, Event::Unfinished { .. } | Event::Rested {}));
        events
    };
    let whole = all(&mut || Budget { events_max: usize::MAX, decisions_max: u32::MAX, ..Budget::USUAL });
    let pieces = all(&mut || small(dice));
    assert_eq!(pieces, whole, "{at}: {cause:?} is decided otherwise in pieces");
}

fn play(folder: &Path, seed: u64) {
    let script: Script = serde_json::from_str(&std::fs::read_to_string(folder.join("script.json")).unwrap()).unwrap();
    let start = Timestamp::from_millis(1_790_000_000_000);
    let facts = facts(&folder.join("workflow.yaml"), &script, start);
    let evaluator = Jq(Mutex::new(bellhop_expression::Programs::default()));
    let (dice, mut outside, mut now) = (&mut Dice(seed), Outside::default(), start);
    let mut state = State::new(facts.clone());
    let mut log = Vec::new();
    let mut keys = BTreeSet::new();
    let mut undone_by = false;
    for step in 0..STEPS_MAX {
        let wild = step < WILD_STEPS;
        if !wild && state.ended().is_some() {
            break;
        }
        let at = format!("{}, seed {seed}, step {step}", folder.file_name().unwrap().to_string_lossy());
        let cause = next(&state, &mut outside, dice, wild, &mut now, &at);
        outside.meddled |= matches!(cause, Cause::Settle { .. } | Cause::Kill);
        let entropy = dice.below(1 << 30);
        let budget = small(dice);
        let decided = run::decide(&state, &Input { at: now, entropy, cause: cause.clone(), budget }, &evaluator);
        same_in_pieces(&state, &cause, now, entropy, dice, &evaluator, &at);
        let events = decided.map_or_else(Vec::new, |decided| decided.events);
        let was_ended = state.ended().is_some();
        for event in &events {
            assert!(state.apply(event), "{event:?}");
            match event {
                Event::CallScheduled { frame, .. }
                | Event::UndoScheduled { frame, .. }
                | Event::CallRetried { frame, .. } => {
                    let call = state.call(*frame).unwrap();
                    assert!(keys.insert((call.key.clone(), call.attempt)), "{at}: {} twice", call.key);
                }
                Event::RollbackBegun { .. } => (outside.last, undone_by) = (None, true),
                Event::Reopened { .. } => undone_by = false,
                _ => {}
            }
        }
        if was_ended && !events.is_empty() {
            assert!(matches!(events[0], Event::Reopened { .. } | Event::Ending { .. }), "{at}: {events:?}");
        }
        if state.ended().is_some() {
            assert_eq!(run::pending(&state), [], "{at}: an ended run wants something");
            if undone_by && !outside.meddled {
                let standing: Vec<_> = state.ledger.iter().filter(|e| e.fate.is_none()).collect();
                assert!(standing.is_empty(), "{at}: {standing:?}");
            }
        }
        log.extend(events);
    }
    let name = folder.display();
    assert!(state.ended().is_some(), "{name}, seed {seed}: {:?} {:?}", state.status(), run::pending(&state));
    let mut folded = State::new(facts);
    for event in &log {
        assert!(folded.apply(&serde_json::from_str(&serde_json::to_string(event).unwrap()).unwrap()), "{event:?}");
    }
    assert_eq!(folded, state, "{name}, seed {seed}: the fold of the events is not the state");
}

#[test]
fn every_run_comes_to_its_end_and_what_it_takes_back_it_takes_back_once() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/run");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    for folder in folders {
        // What never comes to rest is not decided in pieces without end.
        if folder.file_name().unwrap().to_string_lossy().starts_with("endless-") {
            continue;
        }
        for seed in 0..SEEDS {
            play(&folder, seed);
        }
    }
}
