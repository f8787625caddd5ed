//! One suite of runs for both execution ports: whatever record a process dies at, the run ends as if it had not, and
//! nothing is done twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bellhop_core::cost::Cost;
use bellhop_core::definition::{self, TaskKind};
use bellhop_core::diagnostic;
use bellhop_core::digest::Digest;
use bellhop_core::expression::{Answer, Error as ExpressionError, Evaluator, Inspection};
use bellhop_core::id::RunId;
use bellhop_core::manifest;
use bellhop_core::requirement::{Connection, Kind, Permission};
use bellhop_core::run::{Action, Cause, Ending, Event, Facts, Status};
use bellhop_core::schema::Schema;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::double::{Double, Outside};
use super::ports::{FarStage, LocalStage, Point, Records, ReplayStage, START, Stage, Taken, wake};
use crate::drive::deciding::Deciding;
use crate::drive::driver::{self, Left};
use crate::execution::Signal;
use bellhop_clock::Manual;
use bellhop_limits::Limits;

/// Workflows by name; each action's behaviour is in [`super::double`].
const SCENARIOS: &[(&str, &str)] = &[
    (
        "sequence",
        "
  - one: {call: plain:1@double}
  - two: {call: read-write:1@double}
  - three: {call: plain:1@double}",
    ),
    (
        "fork",
        "
  - both:
      fork:
        branches:
          - left: {call: plain:1@double}
          - right:
              do:
                - one: {call: read-write:1@double}
                - two: {call: limited:1@double}
  - after: {call: plain:1@double}",
    ),
    (
        "loop",
        "
  - each:
      for: {in: '${ [1, 2, 3] }'}
      do:
        - one: {call: plain:1@double}",
    ),
    (
        "retry",
        "
  - careful:
      try:
        - before: {call: plain:1@double}
        - pair: {call: pair:1@double}
      catch:
        errors: {with: {status: 429}}
        retry: {delay: {seconds: 2}, limit: {attempt: {count: 3}}}
  - after: {call: plain:1@double}",
    ),
    (
        "wait",
        "
  - one: {call: plain:1@double}
  - rest: {wait: {hours: 1}}
  - two: {call: plain:1@double}
  - rest-again: {wait: {seconds: 5}}",
    ),
    (
        "cancel",
        "
  - one: {call: plain:1@double}
  - two: {call: cancelling:1@double}
  - three: {call: plain:1@double}",
    ),
    (
        "park",
        "
  - one: {call: plain:1@double}
  - two: {call: doubtful:1@double}
  - three: {call: limited:1@double}",
    ),
];

/// Knows the one expression that the scenarios have.
pub(super) struct Literals;

impl Evaluator for Literals {
    fn answer(&self, program: &str, _: &[(&str, &Value)], _: &Value) -> Answer {
        let result = serde_json::from_str(program.trim())
            .map_err(|why| ExpressionError::Invalid { message: why.to_string(), at: None });
        Answer { result, cost: Cost::ZERO }
    }
    fn inspect(&self, _: &str) -> Result<Inspection, ExpressionError> {
        Ok(Inspection::default())
    }
}

/// Decides with [`Literals`].
pub(super) fn literally() -> Deciding {
    Deciding::new(Arc::new(Literals), Arc::new(Manual::new(START)), &Limits::default())
}

pub(super) fn facts(tasks: &str) -> Arc<Facts> {
    let text = format!("document: {{dsl: 1.0.3, namespace: test, name: scenario, version: 1.0.0}}\ndo:{tasks}\n");
    let (workflow, _, diagnostics) = definition::parse("workflow.yaml", &text);
    let rendered: Vec<String> = diagnostics.iter().map(diagnostic::render).collect();
    let workflow = Arc::new(workflow.unwrap_or_else(|| panic!("{}", rendered.join("\n"))));
    let run = RunId::new(START, 7);
    let anything = || Schema::compile(&json!({})).unwrap();
    let actions = workflow
        .tasks
        .iter()
        .filter_map(|task| match &task.kind {
            TaskKind::Call(call) => Some(call.reference.clone()),
            _ => None,
        })
        .map(|reference| {
            let manifest: manifest::Action = serde_json::from_value(json!({
                "name": reference.action, "title": "", "description": "", "input": {}, "output": {},
                "effect": "update", "calls": [],
            }))
            .unwrap();
            let action = Action {
                plugin: Digest::of(b"double"),
                version: "1.0.0".to_owned(),
                manifest,
                input: anything(),
                output: anything(),
            };
            (reference, Arc::new(action))
        })
        .collect();
    let connection = Connection {
        name: "double".to_owned(),
        kind: Kind::GridWorkspace,
        permission: Permission::Act,
        plan: None,
        plan_unknown_because: None,
        checked_at: None,
        tokens: BTreeMap::new(),
        assumed: true,
        workspace_id: None,
        enterprise_id: None,
    };
    let connections = BTreeMap::from([("double".to_owned(), connection)]);
    Arc::new(Facts {
        run,
        input: Arc::new(json!({})),
        accepted_at: START,
        tenants: BTreeMap::new(),
        chosen: BTreeMap::new(),
        tables: Arc::new(json!({})),
        actions,
        schemas: BTreeMap::new(),
        workflow_argument: Facts::describe_workflow(run, &workflow, &json!({}), START),
        runtime_argument: Facts::describe_runtime("1.0.0", &connections),
        connections,
        workflow,
    })
}

/// What a run came to.
#[derive(Debug)]
struct Played {
    ending: Ending,
    outside: Arc<Outside>,
    records: Records,
    /// For each death that was asked for and happened, how many records were at stake.
    deaths: Vec<usize>,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("ledger", &self.ledger()).field("sends", &self.sends()).finish_non_exhaustive()
    }
}

/// Carries a run to its end through these deaths, one for each process.
async fn play<S: Stage>(facts: &Arc<Facts>, deaths: &[Point]) -> Played {
    let mut stage = S::new(facts);
    let outside = Arc::new(Outside::default());
    let acknowledged: Arc<Mutex<Option<oneshot::Receiver<bool>>>> = Arc::default();
    let mut deaths = deaths.iter();
    let mut happened = Vec::new();
    if let Some(point) = deaths.next() {
        stage.die_at(*point);
    }
    let mut signal = None;
    for _ in 0..50 {
        let Taken { port, inbox, state, decisions } = stage.take().await;
        // Whoever asked and was not answered asks again.
        if outside.is_cancelled() {
            let (tell, told) = oneshot::channel();
            *acknowledged.lock().unwrap() = Some(told);
            inbox.send(Signal { acknowledge: Some(tell), ..Signal::of(Cause::Cancel) }).unwrap();
        }
        if let Some(signal) = signal.take() {
            inbox.send(signal).unwrap();
        }
        let double = Double { port: port.clone(), outside: outside.clone(), inbox, acknowledged: acknowledged.clone() };
        let deciding = literally();
        let carried = tokio::select! {
            biased;
            () = stage.died() => None,
            carried = driver::drive(port.as_ref(), &double, &deciding, state, decisions) => carried.ok(),
        };
        drop((double, port));
        let Some(carried) = carried else {
            assert!(stage.is_dead(), "a driver gave up in a process that lives");
            happened.push(stage.at_stake());
            stage.restart();
            if let Some(point) = deaths.next() {
                stage.die_at(*point);
            }
            continue;
        };
        match (carried.left, carried.state.status()) {
            (Left::Ended, _) => {
                let (_, ending) = carried.state.ended().unwrap();
                let ending = ending.clone();
                // What is on record tells the same as the state that the driver had.
                let again = stage.take().await.state;
                assert_eq!(again.ended(), carried.state.ended());
                let records = stage.records();
                return Played { ending, outside, records, deaths: happened };
            }
            (Left::Resting, Status::Waiting) => {
                stage.pass(&carried.state);
                signal = Some(wake());
            }
            (Left::Resting, Status::Parked) => {
                let (frame, call) = carried.state.calls().find(|(_, call)| call.parked.is_some()).unwrap();
                assert_eq!(call.parked.as_ref().unwrap().code(), "outcome-unknown");
                outside.help();
                signal = Some(Signal::of(Cause::Unpark { frame }));
            }
            other => panic!("left as {other:?}"),
        }
    }
    panic!("it does not come to an end");
}

/// What must hold of every run, whatever happened to the processes that carried it.
fn check(name: &str, how: &str, undisturbed: &Played, played: &Played) {
    let at = format!("{name}, {how}");
    assert_eq!(played.ending, undisturbed.ending, "{at}");
    let ledger = played.outside.ledger();
    assert_eq!(
        ledger.keys().collect::<Vec<_>>(),
        undisturbed.outside.ledger().keys().collect::<Vec<_>>(),
        "{at}: other effects"
    );
    assert!(ledger.values().all(|times| *times == 1), "{at}: done twice: {ledger:?}");
    let sends: u32 = played.outside.sends().values().sum();
    assert!(sends as usize <= played.records.intents, "{at}: {sends} sends, {} intents", played.records.intents);
    let mut ends = played.records.ends.clone();
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), played.records.ends.len(), "{at}: ended twice: {:?}", played.records.ends);
    // A refusal that was lost with its process is not there to be retried.
    if name != "retry" {
        assert_eq!(completed(&played.records), completed(&undisturbed.records), "{at}: other tasks");
    }
}

/// The tasks that completed, sorted: branches may change places.
fn completed(records: &Records) -> Vec<(u32, String)> {
    let mut all: Vec<(u32, String)> = records
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TaskCompleted { frame, output, .. } => Some((frame.0, output.to_string())),
            _ => None,
        })
        .collect();
    all.sort();
    all
}

/// Every death, then every pair of deaths.
async fn die_everywhere<S: Stage>(name: &str, tasks: &str, pairs: bool) -> usize {
    let facts = facts(tasks);
    let undisturbed = play::<S>(&facts, &[]).await;
    check(name, "undisturbed", &undisturbed, &undisturbed);
    let mut count = 0;
    for at in 1.. {
        let mut keep = 0;
        let mut found = false;
        loop {
            let first = Point { at, keep };
            let played = play::<S>(&facts, &[first]).await;
            let Some(&at_stake) = played.deaths.first() else { break };
            found = true;
            check(name, &format!("died at {first:?}"), &undisturbed, &played);
            count += 1;
            for again in 1.. {
                if !pairs {
                    break;
                }
                // Of the second death only the extremes: everything at stake lost, and everything kept.
                let mut happened = false;
                for keep in [0, usize::MAX] {
                    let second = Point { at: again, keep };
                    let played = play::<S>(&facts, &[first, second]).await;
                    happened |= played.deaths.len() == 2;
                    check(name, &format!("died at {first:?} and {second:?}"), &undisturbed, &played);
                    count += 1;
                }
                if !happened {
                    break;
                }
            }
            keep += 1;
            if keep > at_stake {
                break;
            }
        }
        if !found {
            break;
        }
    }
    count
}

async fn suite<S: Stage>(least: usize) {
    let mut total = 0;
    for (name, tasks) in SCENARIOS {
        let count = die_everywhere::<S>(name, tasks, true).await;
        assert!(count > 20, "{name}: only {count} deaths");
        println!("{name}: {count} deaths");
        total += count;
    }
    assert!(total >= least, "only {total} deaths in all");
}

#[tokio::test]
async fn over_the_journal_every_run_survives_every_death() {
    suite::<LocalStage>(1_000).await;
}

#[tokio::test]
async fn over_a_store_that_is_far_every_run_survives_every_death() {
    let mut total = 0;
    for (name, tasks) in SCENARIOS {
        total += die_everywhere::<FarStage>(name, tasks, false).await;
    }
    assert!(total >= 200, "only {total} deaths in all");
}

#[tokio::test]
async fn over_a_replayed_log_every_run_survives_every_death() {
    suite::<ReplayStage>(1_000).await;
}

#[tokio::test]
async fn both_ports_come_to_the_same() {
    for (name, tasks) in SCENARIOS {
        let facts = facts(tasks);
        let local = play::<LocalStage>(&facts, &[]).await;
        let replay = play::<ReplayStage>(&facts, &[]).await;
        assert_eq!(local.ending, replay.ending, "{name}");
        assert_eq!(local.outside.ledger(), replay.outside.ledger(), "{name}");
        assert_eq!(local.outside.sends(), replay.outside.sends(), "{name}");
        assert_eq!(local.outside.reads(), replay.outside.reads(), "{name}");
        assert_eq!(local.records.intents, replay.records.intents, "{name}");
        assert_eq!(local.records.not_sent, replay.records.not_sent, "{name}");
        assert_eq!(local.records.ends, replay.records.ends, "{name}");
        assert_eq!(completed(&local.records), completed(&replay.records), "{name}");
    }
}
