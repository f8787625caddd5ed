//! What random worlds have found, each as the shortest story that shows it.

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::{Value, json};

use super::life::{Left, Process, live};
use super::story::{apply, trigger};
use super::world::{Swarm, World};
use bellhop_journal::Entry;
use bellhop_journal::memory::Memory;
use bellhop_limits::Limits;

/// A world without trouble, and a definition of these tasks.
fn world(seed: u64) -> Arc<World> {
    Arc::new(World::new(seed, Swarm::default()))
}

fn definition(extras: &Value, tasks: &Value) -> Value {
    json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "w0", "version": "1.0.0", "metadata": {"bellhop": extras}},
        "do": tasks,
    })
}

fn post() -> Value {
    json!({"call": "post.add:1@sim", "with": {"connection": "hq", "channel": "C01", "text": "found"}})
}

/// One life, in which `work` is done with the run; `trigger`ed unless an earlier life did.
fn life<F, Fut>(world: &Arc<World>, memory: Memory, definition: &Value, work: F) -> (Memory, Left)
where
    F: FnOnce(Process, RunId) -> Fut,
    Fut: Future<Output = Left>,
{
    live(world, memory, &Limits::default(), None, |process| async move {
        apply(&process, definition).await;
        process.engine.start().await.unwrap();
        let known = process.engine.services.journal.runs(None, 1).await.unwrap().items.first().map(|(run, _)| *run);
        let run = match known {
            Some(run) => run,
            None => process.engine.trigger(trigger(0, &json!({}), None)).await.unwrap().run,
        };
        work(process, run).await
    })
}

/// The process dies as soon as Slack has read what it sent.
async fn dies_after_sending(process: Process, _: RunId) -> Left {
    let world = &process.world;
    while world.lock().slack.ledger.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    process.store.die();
    std::future::pending().await
}

/// An action that was stopped before it had replayed what was on record ended as if it had sent nothing.
#[test]
fn a_call_that_is_stopped_while_it_replays_still_ends_what_it_had_sent() {
    for wish in [Cause::Cancel, Cause::CancelAndUndo, Cause::Kill] {
        let definition = definition(&json!({}), &json!([{"one": post()}]));
        let world = world(1);
        let (memory, left) = life(&world, Memory::manual(), &definition, dies_after_sending);
        assert_eq!(left, Left::Died);
        let undone = matches!(wish, Cause::CancelAndUndo);
        life(&world, memory, &definition, |process, run| async move {
            // The guest computes still: it has not come to the call that was on its way.
            assert!(process.engine.signal(run, wish).await.unwrap());
            let limit = process.engine.services.clock.sleep(Duration::from_secs(600));
            let view = process.engine.wait(run, limit).await.unwrap().unwrap();
            assert_eq!(view.status, Status::Cancelled, "{view:?}");
            let entries = process.engine.services.journal.entries(run, 0, 100).await.unwrap();
            let outcomes = entries.iter().filter(|(_, e)| matches!(e, Entry::Outcome { .. })).count();
            assert_eq!(outcomes, 1 + usize::from(undone), "{entries:?}");
            Left::Over
        });
        assert_eq!(world.lock().breaks, [] as [String; 0]);
    }
}

/// A notice that was on its way when the process died was looked for before Slack had taken it up, and told twice.
#[test]
fn a_notice_that_slack_takes_up_late_is_told_once() {
    let extras = json!({"onFault": {"notify": {"connection": "hq", "channel": "C0FAULTS"}}});
    let raise = json!({"raise": {"error": {"type": "https://example.com/errors/raised", "status": 403}}});
    let definition = definition(&extras, &json!([{"one": raise}]));
    for seed in 0..20 {
        let world = world(seed);
        let (memory, _) = life(&world, Memory::manual(), &definition, |process, _| async move {
            while process.world.lock().counts.requests == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            process.store.die();
            std::future::pending().await
        });
        life(&world, memory, &definition, |_, _| async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            Left::Over
        });
        assert_eq!(world.lock().slack.ledger.len(), 1, "seed {seed}: {:?}", world.lock().slack.ledger);
    }
}

/// The machine's clock went forward while a lost request was still on its way, and the wait before reading back with it.
#[test]
fn a_clock_that_is_set_shortens_no_wait_for_slack() {
    let definition = definition(&json!({}), &json!([{"one": post()}]));
    for seed in 0..20 {
        let swarm = Swarm { lost: 100, ..Swarm::default() };
        let world = Arc::new(World::new(seed, swarm));
        life(&world, Memory::manual(), &definition, |process, run| async move {
            while process.world.lock().counts.unknown == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            process.world.lock().calm = true;
            process.world.time.set_off(50_000);
            let limit = process.engine.services.clock.sleep(Duration::from_secs(600));
            let view = process.engine.wait(run, limit).await.unwrap().unwrap();
            assert_eq!(view.status, Status::Completed, "{view:?}");
            Left::Over
        });
        world.take_up_late();
        assert_eq!(world.lock().slack.ledger.len(), 1, "seed {seed}: {:?}", world.lock().slack.ledger);
    }
}
