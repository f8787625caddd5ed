//! What people do with runs: they ask for something, say what became of what is in doubt, and look how things stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use serde_json::Value;

use super::kept;
use super::life::Process;
use super::story::{Story, Wish};
use super::world::short;
use crate::execution::open::What;

/// A person asks for something, and hears whether it was decided.
pub(super) async fn wished(process: Process, run: RunId, wish: Wish) {
    let Process { world, engine, store } = &process;
    let cause = match wish {
        Wish::Cancel => Cause::Cancel,
        Wish::CancelAndUndo => Cause::CancelAndUndo,
        Wish::Suspend => Cause::Suspend,
        Wish::Resume => Cause::Resume,
        Wish::Retry => Cause::Retry,
        Wish::Undo => Cause::Undo,
        Wish::Kill => Cause::Kill,
        Wish::Resolve => return resolved(&process, run).await,
    };
    world.lock().counts.operations += 1;
    world.say(format!("{wish:?} of {}", short(run)));
    if let Some(promised) = world.lock().promised.get_mut(&run) {
        promised.touched = true;
    }
    if matches!(wish, Wish::Retry | Wish::Undo) {
        // From now on it may go on after its end, whether or not anybody hears of it.
        if let Some(promised) = world.lock().promised.get_mut(&run) {
            promised.asking += 1;
            promised.cancelled_at = None;
        }
    }
    if wish == Wish::Kill
        && let Some(promised) = world.lock().promised.get_mut(&run)
    {
        promised.killed = true;
    }
    let done = engine.signal(run, cause).await;
    if store.is_dead() {
        return;
    }
    world.say(format!("{wish:?} of {}: {done:?}", short(run)));
    let records = engine.services.journal.entries(run, 0, 4_000).await.unwrap().len() as u64;
    let now = world.time.true_ms();
    let mut state = world.lock();
    let state = &mut *state;
    let Some(promised) = state.promised.get_mut(&run) else { return };
    if matches!(wish, Wish::Retry | Wish::Undo) {
        promised.asking -= 1;
        promised.ended = None;
        promised.again = true;
    }
    if !matches!(done, Ok(true)) {
        return;
    }
    match wish {
        Wish::Cancel | Wish::CancelAndUndo | Wish::Kill => {
            state.counts.cancels += 1;
            promised.rollback |= wish == Wish::CancelAndUndo;
            promised.cancelled_at.get_or_insert(records);
            promised.cancelled = true;
        }
        Wish::Undo => (promised.rollback, promised.open_ms) = (true, now),
        Wish::Retry => promised.open_ms = now,
        Wish::Suspend | Wish::Resume | Wish::Resolve => {}
    }
}

/// A person looks at Slack and says what became of what is in doubt.
async fn resolved(process: &Process, run: RunId) {
    let Process { world, engine, store } = process;
    if !engine.summary(run).await.is_ok_and(|s| s.is_some_and(|s| s.status == Status::Parked)) {
        return;
    }
    world.lock().counts.operations += 1;
    // Nobody says anything before what is on its way is there.
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.take_up_late();
    let Ok(open) = engine.open_of(run).await else { return };
    for one in open {
        let mut done = false;
        let mut plain = false;
        if let What::Call(call, intent) = &one.what {
            let Ok(stamp) = engine.stamp_of(run, call).await else { return };
            done = world.lock().slack.accepted(&stamp);
            plain = intent.function == "chat.post-message";
        }
        if let Some(promised) = world.lock().promised.get_mut(&run) {
            // Of anything but a message nobody can be sure, and what is left of a rollback stays.
            promised.meddled |= !plain;
        }
        world.say(format!("resolve {} {}: done {done}, plain {plain}", short(run), one.address()));
        let said = engine.resolve(run, Some(one.address()), done, None, "a person".to_owned()).await;
        if store.is_dead() {
            return;
        }
        world.say(format!("resolve {}: {said:?}", short(run)));
    }
}

/// Follows every run that was answered, and looks at how it stands.
pub(super) async fn follow(story: Arc<Story>, process: Process) {
    let Process { world, engine, store } = &process;
    let mut followers = BTreeMap::new();
    loop {
        let runs: Vec<RunId> = world.lock().promised.keys().copied().collect();
        let calm = world.lock().calm;
        for run in runs {
            if calm && world.lock().promised.get(&run).is_some_and(|promised| promised.gone) {
                continue;
            }
            if !followers.contains_key(&run)
                && let Ok(Some(follower)) = engine.follow(run, 0).await
            {
                followers.insert(run, follower);
            }
            let Some(follower) = followers.get_mut(&run) else { continue };
            while let Ok(Some(events)) = engine.next_events(follower, 50).await {
                if engine.services.what_was_read_is_durable().await.is_err() {
                    break;
                }
                if store.is_dead() {
                    return;
                }
                told(&process, run, events.into_iter().map(|e| (e.id, serde_json::to_value(&e).unwrap())).collect());
            }
            let Ok(view) = engine.run_view(run).await else { continue };
            if store.is_dead() {
                return;
            }
            let Some(view) = view else {
                kept::gone(world, &story, run);
                continue;
            };
            kept::seen(world, run, view.ended_at.as_deref());
            let status = view.status.as_str().to_owned();
            let mut state = world.lock();
            let Some(promised) = state.promised.get_mut(&run) else { continue };
            match &promised.ended {
                _ if promised.asking > 0 => promised.ended = None,
                Some(ended) if *ended != status => {
                    let what = format!("{run} was told to be {ended}, and is {status} without anybody's asking");
                    drop(state);
                    world.broken(what);
                }
                _ => promised.ended = view.status.is_final().then_some(status),
            }
        }
        tokio::time::sleep(story.look(calm)).await;
    }
}

/// Events came to somebody.
pub(super) fn told(process: &Process, run: RunId, events: Vec<(u64, Value)>) {
    let mut wrong = Vec::new();
    {
        let mut state = process.world.lock();
        let Some(promised) = state.promised.get_mut(&run) else { return };
        for (id, event) in events {
            match promised.events.get(&id) {
                Some(known) if *known != event => wrong.push(format!("{run} event {id}: told {known}, then {event}")),
                Some(_) => {}
                None => {
                    promised.events.insert(id, event);
                }
            }
        }
    }
    for what in wrong {
        process.world.broken(what);
    }
}
