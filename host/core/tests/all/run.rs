//! Runs of definitions against a script: each folder of `cases/run` has a `workflow.yaml`, a `script.json` with what
//! happens, and an `expect.txt` with every event decided and what is pending. `UPDATE_EXPECT=1` rewrites the latter.
//!
//! Whatever the case, after every decision: the events folded into the former state give the same state as the events
//! and the snapshot's text, `pending` of both is the same, and no two calls have the same key and attempt.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bellhop_core::cost::Cost;
use bellhop_core::definition::{self, TaskIndex, TaskKind};
use bellhop_core::diagnostic;
use bellhop_core::digest::Digest;
use bellhop_core::expression::{Answer, Error, Evaluator, Inspection};
use bellhop_core::fault::{Class, Fault};
use bellhop_core::id::RunId;
use bellhop_core::manifest;
use bellhop_core::requirement::{Connection, Kind, Permission};
use bellhop_core::run::{
    self, Account, Action, Budget, Calling, Cause, Command, Effect, Event, ExecutionKey, Facts, Fate, FrameId, Input,
    Outgrown, Returned, State, Undo, Why,
};
use bellhop_core::schema::Schema;
use bellhop_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

mod random;

/// What each evaluation is said to cost.
const EVALUATION_COST: Cost = Cost::from_micros(10);

/// The expression guest's own code, called natively.
struct Jq(Mutex<bellhop_expression::Programs>);

impl Evaluator for Jq {
    fn answer(&self, program: &str, arguments: &[(&str, &Value)], input: &Value) -> Answer {
        let arguments: serde_json::Map<String, Value> =
            arguments.iter().map(|(n, v)| ((*n).to_owned(), (*v).clone())).collect();
        let mut programs = self.0.lock().unwrap();
        let result = match programs.evaluate(program, &Value::Object(arguments).to_string(), &input.to_string()) {
            Ok(text) => Ok(serde_json::from_str(&text).unwrap()),
            Err(error) => Err(serde_json::from_str(&serde_json::to_string(&error).unwrap()).unwrap()),
        };
        Answer { result, cost: EVALUATION_COST }
    }
    fn inspect(&self, _: &str) -> Result<Inspection, Error> {
        Ok(Inspection::default())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    #[serde(default)]
    input: Value,
    #[serde(default)]
    tables: Value,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    budget: Limits,
    steps: Vec<Step>,
}

/// What of the usual budget is otherwise.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    events: Option<usize>,
    bytes: Option<u64>,
    evaluations: Option<u32>,
    cost_us: Option<u64>,
    decisions: Option<u32>,
    value_bytes: Option<u64>,
}

impl Limits {
    fn budget(&self) -> Budget {
        let usual = Budget::USUAL;
        Budget {
            events_max: self.events.unwrap_or(usual.events_max),
            bytes_max: self.bytes.unwrap_or(usual.bytes_max),
            evaluations_max: self.evaluations.unwrap_or(usual.evaluations_max),
            cost_max: self.cost_us.map_or(usual.cost_max, Cost::from_micros),
            decisions_max: self.decisions.unwrap_or(usual.decisions_max),
            value_bytes_max: self.value_bytes.unwrap_or(usual.value_bytes_max),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Step {
    /// The call of the task with this pointer (and path, if there are several) ends well.
    Returns {
        task: String,
        #[serde(default)]
        output: Value,
        #[serde(default)]
        unchanged: bool,
        /// Taken back by this action of the plugin, with this input.
        #[serde(default)]
        undo: Option<Undo>,
        #[serde(default)]
        account: Account,
        #[serde(default)]
        reused: bool,
    },
    /// It ends with a fault of this code; `broken`: after it had changed something.
    Faults {
        task: String,
        code: String,
        status: u16,
        #[serde(default)]
        broken: bool,
        #[serde(default)]
        class: Option<Class>,
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    /// `wrote`: after it had changed something.
    Park {
        task: String,
        code: String,
        #[serde(default)]
        why: Why,
        #[serde(default)]
        wrote: bool,
    },
    Unpark {
        task: String,
    },
    /// So many milliseconds pass, and the run is woken.
    Wake(u64),
    Cancel,
    CancelAndUndo,
    Suspend,
    Resume,
    Kill,
    Retry,
    Undo,
    /// In place of the beginning.
    Block,
    Unblock,
    Admitted,
    Rejected,
    Displaced {
        rollback: bool,
    },
    Noticed(u32),
    Start,
    /// The decision before ended with its budget: it goes on, so many times; else by itself until the run rests.
    GoOn(u32),
    /// The run's records have come to their limit.
    TooLarge,
    /// A person says what became of what is parked.
    Settle {
        #[serde(default)]
        of: Option<ExecutionKey>,
        done: bool,
    },
}

fn facts(file: &Path, script: &Script, start: Timestamp) -> Arc<Facts> {
    let text = std::fs::read_to_string(file).unwrap();
    let (workflow, _, diagnostics) = definition::parse("workflow.yaml", &text);
    let rendered: Vec<String> = diagnostics.iter().map(diagnostic::render).collect();
    let workflow = Arc::new(workflow.unwrap_or_else(|| panic!("{}\n{}", file.display(), rendered.join("\n"))));
    let run = RunId::new(start, 7);
    let anything = || Schema::compile(&json!({})).unwrap();
    // Whatever is called `add.…` is undone by `remove.…`, pinned with its full version.
    let inverse = |action: &str| action.strip_prefix("add.").map(|what| format!("remove.{what}"));
    let actions = workflow
        .tasks
        .iter()
        .filter_map(|t| match &t.kind {
            TaskKind::Call(call) => Some((&call.reference, t.extras.compensate.as_ref())),
            _ => None,
        })
        .flat_map(|(reference, compensate)| {
            let undone_by = inverse(&reference.action).map(|action| definition::ActionReference {
                action,
                version: "1.0.0".to_owned(),
                plugin: reference.plugin.clone(),
            });
            let compensate = compensate.map(|c| c.reference().clone());
            [Some(reference.clone()), undone_by, compensate]
        })
        .flatten()
        .map(|reference| {
            let manifest: manifest::Action = serde_json::from_value(json!({
                "name": reference.action, "title": "", "description": "", "input": {}, "output": {},
                "effect": "update", "calls": [], "inverse": inverse(&reference.action),
            }))
            .unwrap();
            let action = Action {
                plugin: Digest::of(b"plugin"),
                version: "1.0.0".to_owned(),
                manifest,
                input: anything(),
                output: anything(),
            };
            (reference, Arc::new(action))
        })
        .collect();
    let connection = Connection {
        name: "acme-hq".to_owned(),
        kind: script.kind.unwrap_or(Kind::GridWorkspace),
        permission: Permission::Act,
        plan: None,
        plan_unknown_because: None,
        checked_at: None,
        tokens: BTreeMap::new(),
        assumed: true,
        workspace_id: None,
        enterprise_id: None,
    };
    let connections = BTreeMap::from([("team".to_owned(), connection)]);
    let schemas =
        workflow.schemas().into_iter().map(|(pointer, schema)| (pointer, Schema::compile(schema).unwrap())).collect();
    Arc::new(Facts {
        run,
        input: Arc::new(script.input.clone()),
        accepted_at: start,
        tenants: BTreeMap::new(),
        chosen: BTreeMap::new(),
        tables: Arc::new(script.tables.clone()),
        actions,
        schemas,
        workflow_argument: Facts::describe_workflow(run, &workflow, &script.input, start),
        runtime_argument: Facts::describe_runtime("1.0.0", &connections),
        connections,
        workflow,
    })
}

fn frame_of(state: &State, wanted: &str) -> FrameId {
    let found = run::pending(state).into_iter().find_map(|command| match command {
        Command::Invoke { frame, call } | Command::Stop { frame, call } => {
            (call.key.to_string() == wanted || call.key.pointer == wanted).then_some(frame)
        }
        _ => None,
    });
    found
        .or_else(|| (0..200).map(FrameId).find(|f| state.call(*f).is_some_and(|c| c.key.pointer == wanted)))
        .unwrap_or_else(|| panic!("no call of {wanted} is under way: {:#?}", run::pending(state)))
}

fn play(folder: &Path) -> String {
    let script: Script = serde_json::from_str(&std::fs::read_to_string(folder.join("script.json")).unwrap()).unwrap();
    let start = Timestamp::from_millis(1_790_000_000_000);
    let facts = facts(&folder.join("workflow.yaml"), &script, start);
    let evaluator = Jq(Mutex::new(bellhop_expression::Programs::default()));
    let mut state = State::new(facts.clone());
    let mut log: Vec<Event> = Vec::new();
    let mut keys = BTreeSet::new();
    let mut now = start;
    let mut out = String::new();
    // A run that is accepted begins, unless the script says how it was accepted.
    let begins = !matches!(script.steps.first(), Some(Step::Block));
    let mut steps: VecDeque<_> = begins.then_some(None).into_iter().chain(script.steps.iter().map(Some)).collect();
    let by_hand = script.steps.iter().any(|step| matches!(step, Step::GoOn(_)));
    let budget = script.budget.budget();
    let mut again = 0;
    while again > 0 || !steps.is_empty() {
        let step = if again > 0 { Some(&Step::GoOn(1)) } else { steps.pop_front().flatten() };
        again = match step {
            Some(Step::GoOn(times)) if again == 0 => *times,
            _ => again,
        };
        let cause = match step {
            Some(Step::GoOn(_)) => Cause::GoOn,
            Some(Step::TooLarge) => Cause::TooLarge(Outgrown {
                records: 90_000,
                records_max: 100_000,
                bytes: 60_000_000,
                bytes_max: 64_000_000,
            }),
            None => Cause::Start,
            Some(Step::Returns { task, output, unchanged, undo, account, reused }) => Cause::Returned {
                frame: frame_of(&state, task),
                result: Returned::Ok {
                    output: output.clone(),
                    effect: Effect { changed: !unchanged, undo: undo.clone(), account: *account, reused: *reused },
                },
            },
            Some(Step::Faults { task, code, status, broken, class, retry_after_ms }) => {
                let mut fault = Fault::declared(code, *status, "as the script says");
                (fault.class, fault.retry_after_ms) = (*class, *retry_after_ms);
                let effect = Effect { changed: true, account: Account::Partial, ..Effect::default() };
                let result = if *broken { Returned::Broken { fault, effect } } else { Returned::Fault(fault) };
                Cause::Returned { frame: frame_of(&state, task), result }
            }
            Some(Step::Park { task, code, why, wrote }) => Cause::Park {
                frame: frame_of(&state, task),
                reason: Fault::of_code(code, "as the script says"),
                why: *why,
                wrote: *wrote,
            },
            Some(Step::Unpark { task }) => Cause::Unpark { frame: frame_of(&state, task) },
            Some(Step::Wake(millis)) => {
                now = now.plus_millis(*millis);
                Cause::Wake
            }
            Some(Step::Cancel) => Cause::Cancel,
            Some(Step::CancelAndUndo) => Cause::CancelAndUndo,
            Some(Step::Kill) => Cause::Kill,
            Some(Step::Start) => Cause::Start,
            Some(Step::Block) => Cause::Block { diagnostics: Arc::new(json!([{ "code": "connection-missing" }])) },
            Some(Step::Unblock) => Cause::Unblock,
            Some(Step::Admitted) => Cause::Admitted,
            Some(Step::Rejected) => Cause::Rejected,
            Some(Step::Displaced { rollback }) => Cause::Displaced { by: RunId::new(start, 8), rollback: *rollback },
            Some(Step::Noticed(number)) => Cause::Noticed { number: *number },
            Some(Step::Retry) => Cause::Retry,
            Some(Step::Undo) => Cause::Undo,
            Some(Step::Settle { of, done }) => Cause::Settle { of: of.clone(), done: *done },
            Some(Step::Suspend) => Cause::Suspend,
            Some(Step::Resume) => Cause::Resume,
        };
        let decided = run::decide(&state, &Input { at: now, entropy: 42, cause, budget }, &evaluator);
        again = again.saturating_sub(1);
        if !by_hand && decided.as_ref().is_some_and(|decided| decided.spent.is_some()) {
            again = 1;
        }
        if let Some(decided) = &decided {
            assert_eq!(decided.spent.is_some(), decided.after.is_unfinished());
        }
        let events = decided.map_or_else(Vec::new, |decided| decided.events);
        for (number, event) in events.iter().enumerate() {
            assert!(state.apply(event), "{event:?}");
            // Of a very long decision the beginning and the end tell enough.
            if number < 40 || number + 5 > events.len() {
                writeln!(out, "{}", serde_json::to_string(event).unwrap()).unwrap();
            } else if number == 40 {
                writeln!(out, "… {} more …", events.len() - 44).unwrap();
            }
            if let Event::CallScheduled { frame, .. }
            | Event::UndoScheduled { frame, .. }
            | Event::CallRetried { frame, .. } = event
                && let Some(Calling { key, attempt, .. }) = state.call(*frame).cloned()
            {
                assert!(keys.insert((key.clone(), attempt)), "two calls with the key {key} and attempt {attempt}");
            }
        }
        log.extend(events);
        for command in run::pending(&state) {
            match command {
                Command::Start => writeln!(out, "  > start").unwrap(),
                Command::Invoke { call, .. } => {
                    writeln!(out, "  > invoke {} {} attempt {}", call.action, call.key, call.attempt).unwrap();
                }
                Command::Stop { call, .. } => writeln!(out, "  > stop {} {}", call.action, call.key).unwrap(),
                Command::Admit { group } => {
                    writeln!(out, "  > admit {}", serde_json::to_string(group).unwrap()).unwrap();
                }
                Command::Notify { notice } => writeln!(out, "  > notify {} {}", notice.number, notice.reason).unwrap(),
                Command::GoOn => writeln!(out, "  > go on").unwrap(),
                Command::Wake { at } => writeln!(out, "  > wake at +{}", at.millis_since(start)).unwrap(),
            }
        }
        writeln!(out, "  = {}", state.status().as_str()).unwrap();
        // Recovery: a fold of the log, and a snapshot, are the state.
        let mut folded = State::new(facts.clone());
        for event in log.iter().map(|e| serde_json::to_string(e).unwrap()) {
            assert!(folded.apply(&serde_json::from_str(&event).unwrap()), "{event}");
        }
        assert_eq!(folded, state, "the fold of the stored events is not the state");
        let snapshot: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        assert_eq!(snapshot.restore(facts.clone()).unwrap(), state, "the snapshot is not the state");
        assert_eq!(run::pending(&folded), run::pending(&state));
    }
    writeln!(out, "ledger {}", serde_json::to_string(&state.ledger).unwrap()).unwrap();
    out
}

#[test]
fn runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/run");
    let mut folders: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    folders.sort();
    assert!(folders.len() > 10, "only {} cases", folders.len());
    for folder in folders {
        let played = play(&folder);
        expect_test::expect_file![folder.join("expect.txt")].assert_eq(&played);
    }
}

/// A log that is damaged, or another run's, is refused where it stops fitting.
#[test]
fn house_b6_an_event_that_does_not_fit_is_refused_and_changes_nothing() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/run/endless-loop");
    let script = serde_json::from_value(json!({ "steps": [] })).unwrap();
    let at = Timestamp::from_millis(1_790_000_000_000);
    let mut state = State::new(facts(&folder.join("workflow.yaml"), &script, at));
    let started = Event::Started { at, input: None, deadline: None };
    let entered = |frame, parent, task| {
        let (frame, parent) = (FrameId(frame), FrameId(parent));
        Event::TaskEntered { frame, parent, task: TaskIndex(task), at, input: None, deadline: None }
    };
    assert!(state.apply(&started));
    let root = FrameId(0);
    for event in [
        started,
        entered(0, 0, 0),
        entered(1, 7, 0),
        entered(1, 0, 9),
        Event::LoopEntered { frame: root, items: Arc::default() },
        Event::WaitScheduled { frame: FrameId(1), until: at },
        Event::CallStopped { frame: root, effect: None },
        Event::Resumed { at },
        Event::Unblocked { at },
        Event::Noticed { number: 3 },
        Event::Settled { entry: 0, at, fate: Fate::Undone },
        Event::Unparked { frame: root, at },
    ] {
        let before = state.clone();
        assert!(!state.apply(&event), "{event:?} fits");
        assert_eq!(state, before, "{event:?} has changed the state");
    }
    assert!(state.apply(&entered(1, 0, 0)));
    assert!(!state.apply(&entered(2, 0, 0)), "another task is under way in the list");
    assert!(state.apply(&Event::WaitScheduled { frame: FrameId(1), until: at }));
}

#[test]
fn a_record_of_before_inverses_had_a_time_is_read() {
    let action = json!({ "action": "remove.member", "version": "1.0.0", "plugin": "x" });
    let record = json!({
        "event": "undo-scheduled", "frame": 9, "entry": 0, "attempt": 1, "action": action, "arguments": { "id": 1 },
    });
    let event = serde_json::from_value::<Event>(record).unwrap();
    assert!(matches!(event, Event::UndoScheduled { at, .. } if at == Timestamp::default()), "{event:?}");
}
