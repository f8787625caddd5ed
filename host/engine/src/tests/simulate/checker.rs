//! What must hold of a world in the end. It knows what was accepted and promised, what people said, what Slack was told
//! and did, and what the host tells of its runs; of how the host comes to it, nothing.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::id::RunId;
use bellhop_core::run::Status;
use serde_json::Value;

use super::life::Process;
use super::people::told;
use super::slack::{Fact, Line};
use super::story::Story;
use super::world::{GuestSpan, World};
use bellhop_journal::{Answer, Entry, Resolution};

/// Actions whose changes have an inverse.
const UNDOABLE: [&str; 5] = ["post.add", "pair.add", "fail.late", "member.add", "channel.join"];

/// One change of one run that can be taken back.
#[derive(Debug, Clone)]
struct Change {
    run: RunId,
    /// The task's execution, where it is known.
    task: Option<String>,
    what: What,
    stands: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Message { channel: String, ts: String },
    Joined { channel: String, user: String },
    Member { group: String, user: String },
}

/// Looks at everything once more.
pub(super) async fn check(process: &Process, story: &Story) {
    let world = &process.world;
    world.take_up_late();
    let journal = &process.engine.services.journal;
    let runs: Vec<RunId> = journal.runs(None, 200).await.unwrap().items.into_iter().map(|(run, _)| run).collect();
    let promised: BTreeSet<RunId> = world.lock().promised.keys().copied().collect();
    for run in &promised {
        if !runs.contains(run) {
            super::kept::gone(world, story, *run);
        }
    }
    if runs.len() > promised.len() + story.unanswered() {
        world.broken(format!("{} runs for {} orders that were answered", runs.len(), promised.len()));
    }
    let (mut statuses, mut lost) = (BTreeMap::new(), Vec::new());
    for run in &runs {
        process.check_fold(*run).await;
        if let Ok(Some(events)) = process.engine.events(*run, 0, usize::MAX).await {
            let all: Vec<(u64, Value)> =
                events.into_iter().map(|e| (e.id, serde_json::to_value(&e).unwrap())).collect();
            check_waits(world, *run, &all);
            let count = all.len() as u64;
            told(process, *run, all);
            let most = world.lock().promised.get(run).and_then(|p| p.events.keys().max().copied());
            if most.is_some_and(|most| most > count) {
                lost.push(format!("{run} has {count} events, and somebody was told {most:?}"));
            }
        }
        if let Ok(Some(view)) = process.engine.run_view(*run).await {
            statuses.insert(*run, view.status);
            if view.status != Status::Cancelled && world.lock().promised.get(run).is_some_and(|p| p.cancelled) {
                lost.push(format!("{run} is {:?} though its cancelling was acknowledged", view.status));
            }
        }
    }
    let missing = world.lock().slack.missing();
    for (place, user) in missing {
        lost.push(format!("{user} was in {place} before anything ran, and is not there any more"));
    }
    groups(world, story, &mut lost);
    super::lack::check(world, story, &mut lost);
    super::kept::check(process, story, &mut lost);
    for what in lost {
        world.broken(what);
    }
    let ledger = world.lock().slack.ledger.clone();
    world.lock().counts.effects += ledger.iter().filter(|line| line.changed).count() as u64;
    once(world, &ledger);
    let owners: BTreeMap<String, RunId> = story.owners().into_iter().collect();
    let changes = changes(world, &ledger, &owners);
    let undone = undone(&ledger, &changes);
    for run in &promised {
        let (gone, whole) = world.lock().promised.get(run).map_or((false, true), |p| (p.gone, p.is_told_whole()));
        if !whole {
            continue;
        }
        let entries: Vec<Entry> = journal.entries(*run, 0, 4_000).await.unwrap().into_iter().map(|(_, e)| e).collect();
        if !gone {
            known(world, *run, statuses.get(run).copied(), &entries, &ledger);
        }
        taken_back(world, *run, &changes, &undone);
        in_order(world, *run, &changes, &undone);
    }
}

/// No more runs of a group have their turn at one time than there may be.
fn groups(world: &World, story: &Story, lost: &mut Vec<String>) {
    let state = world.lock();
    if state.clock_set {
        return;
    }
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let mut turns: BTreeMap<&str, Vec<(jiff::Timestamp, jiff::Timestamp, u64, RunId)>> = BTreeMap::new();
    for (run, promised) in &state.promised {
        let all = |kind: &str| promised.events.values().filter(|e| e["type"] == kind).collect::<Vec<_>>();
        // One that goes on after its end has had its turn, and of one that is gone nobody may have seen the end.
        if !all("run.retried").is_empty() || !promised.is_told_whole() {
            continue;
        }
        let ends = ["run.completed", "run.faulted", "run.cancelled"];
        let ended = promised.events.values().find(|e| ends.iter().any(|end| e["type"] == *end));
        let (queued, admitted) = (all("run.queued"), all("run.admitted"));
        let (Some(queued), Some(from)) = (queued.first(), admitted.first().and_then(|e| time(&e["at"]))) else {
            continue;
        };
        let until = ended.and_then(|e| time(&e["at"])).unwrap_or(jiff::Timestamp::MAX);
        let limit = story.most_in_a_group().max(queued["data"]["limit"].as_u64().unwrap_or(1));
        let group = queued["data"]["group"].as_str().unwrap_or_default();
        turns.entry(group).or_default().push((from, until, limit, *run));
    }
    for (group, turns) in turns {
        for (from, _, limit, run) in &turns {
            let count = turns.iter().filter(|(begun, ended, ..)| begun <= from && from < ended).count() as u64;
            if count > *limit {
                lost.push(format!("{run} had its turn in {group} beside {} others", count - 1));
            }
        }
    }
}

/// Every key is carried out once, and no list of members drops somebody whom nobody meant.
fn once(world: &World, ledger: &[Line]) {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for line in ledger {
        match (&line.stamp, &line.fact) {
            (Some(stamp), Fact::Message { text, .. }) if !text.contains("resend") => {
                let times = seen.entry(stamp).or_insert(0);
                *times += 1;
                if *times == 2 {
                    world.broken(format!("{stamp} was carried out twice: {text}"));
                }
            }
            (_, Fact::Group { group, came, went }) if came.len() + went.len() > 1 => {
                world.broken(format!("{group}: {came:?} came and {went:?} went at once"));
            }
            (None, Fact::Message { text, .. }) => world.broken(format!("a message without a key: {text}")),
            _ => {}
        }
    }
}

/// The changes that runs made, oldest first.
fn changes(world: &World, ledger: &[Line], owners: &BTreeMap<String, RunId>) -> Vec<Change> {
    let state = world.lock();
    let mut changes = Vec::new();
    let task_of = |run: RunId, user: &str, place: &str| {
        let mut tasks = state.inputs.iter().filter(|((of, _), input)| {
            let adds = ["member.add ", "channel.join ", "pair.add "].iter().any(|action| input.starts_with(action));
            *of == run.to_string() && adds && input.contains(user) && input.contains(place)
        });
        let first = tasks.next().map(|((_, task), _)| task.clone());
        // Where several mean the same person, any of them may have been the one.
        first.filter(|_| tasks.next().is_none())
    };
    let mut add = |run: RunId, task: Option<String>, what: What| {
        let stands = match &what {
            What::Message { channel, ts } => state.slack.stands(channel, ts),
            What::Joined { channel, user } => state.slack.is_in_channel(channel, user),
            What::Member { group, user } => state.slack.is_in_group(group, user),
        };
        changes.push(Change { run, task, what, stands });
    };
    for line in ledger.iter().filter(|line| line.changed) {
        match &line.fact {
            Fact::Message { channel, ts, text } => {
                let Some((run, rest)) = line.stamp.as_deref().and_then(|stamp| stamp.split_once('/')) else { continue };
                // One that was sent twice because the file says so is known once.
                let undoable =
                    !text.contains("resend") && UNDOABLE.iter().any(|action| text.starts_with(&format!("{action} ")));
                if let (Ok(run), true) = (run.parse(), undoable) {
                    let task = format!("/{}", rest.rsplit_once('/').map_or(rest, |(task, _)| task));
                    // A stamp for one attempt alone has its number behind the ordinal.
                    let task = if task.contains("#") && task.rsplit_once('/').is_some_and(|(t, _)| t.contains('#')) {
                        task.rsplit_once('/').map(|(t, _)| t.to_owned())
                    } else {
                        Some(task)
                    };
                    add(run, task, What::Message { channel: channel.clone(), ts: ts.clone() });
                }
            }
            Fact::Joined { channel, user } => {
                if let Some(run) = owners.get(&user[..2]) {
                    add(
                        *run,
                        task_of(*run, user, channel),
                        What::Joined { channel: channel.clone(), user: user.clone() },
                    );
                }
            }
            Fact::Group { group, came, .. } => {
                for user in came {
                    if let Some(run) = owners.get(&user[..2]) {
                        add(
                            *run,
                            task_of(*run, user, group),
                            What::Member { group: group.clone(), user: user.clone() },
                        );
                    }
                }
            }
            _ => {}
        }
    }
    changes
}

/// What was taken back, in the order in which that happened, as places in `changes`.
fn undone(ledger: &[Line], changes: &[Change]) -> Vec<usize> {
    let find = |what: &What| changes.iter().rposition(|change| change.what == *what);
    let mut undone = Vec::new();
    for line in ledger.iter().filter(|line| line.changed) {
        match &line.fact {
            Fact::Deleted { ts } => undone.extend(
                changes.iter().rposition(|c| matches!(&c.what, What::Message { ts: found, .. } if found == ts)),
            ),
            Fact::Left { channel, user } => {
                undone.extend(find(&What::Joined { channel: channel.clone(), user: user.clone() }));
            }
            Fact::Group { group, went, .. } => {
                undone
                    .extend(went.iter().filter_map(|u| find(&What::Member { group: group.clone(), user: u.clone() })));
            }
            _ => {}
        }
    }
    undone
}

/// Whatever Slack did for a run, its log knows of; only who ends a run in doubt has seen that it is in doubt.
fn known(world: &World, run: RunId, status: Option<Status>, entries: &[Entry], ledger: &[Line]) {
    let mut known = BTreeSet::new();
    for entry in entries {
        match entry {
            Entry::Outcome { key, ordinal, answer: Answer::Ok(_), .. }
            | Entry::Resolved { key, ordinal, how: Resolution::Done(_), .. } => {
                known.insert(format!("{run}/{key}/{ordinal}"));
            }
            _ => {}
        }
    }
    let resent: BTreeSet<&str> = ledger
        .iter()
        .filter(|line| matches!(&line.fact, Fact::Message { text, .. } if text.contains("resend")))
        .filter_map(|line| line.stamp.as_deref())
        .collect();
    let meddled = world.lock().promised.get(&run).is_some_and(|p| p.meddled);
    for stamp in ledger.iter().filter_map(|line| line.stamp.as_deref()).filter(|s| s.starts_with(&run.to_string())) {
        let plain = known.iter().any(|known| stamp == known || stamp.starts_with(&format!("{known}/")));
        // Whether one that is sent again at any rate was carried out, nobody asks.
        if !plain && !meddled && !resent.contains(stamp) && status != Some(Status::Cancelled) {
            world.broken(format!("{stamp} was carried out, and the run, {status:?}, does not know of it"));
        }
    }
}

/// A rollback takes back everything that can be, and nobody takes anything back without one.
fn taken_back(world: &World, run: RunId, changes: &[Change], undone: &[usize]) {
    let (began, meddled, rollback, killed) = {
        let state = world.lock();
        let Some(promised) = state.promised.get(&run) else { return };
        let began = promised.events.values().any(|event| event["type"] == "rollback.started");
        (began, promised.meddled, promised.rollback, promised.killed)
    };
    if !began && undone.iter().any(|place| changes[*place].run == run) {
        world.broken(format!("{run} has no rollback, and something of it was taken back"));
    }
    if meddled || killed || !(began || rollback) {
        return;
    }
    for change in changes.iter().filter(|change| change.run == run && change.stands) {
        world.broken(format!("{run} was rolled back, and stands still: {change:?}"));
    }
}

/// What was done later is taken back earlier.
fn in_order(world: &World, run: RunId, changes: &[Change], undone: &[usize]) {
    let spans: Vec<GuestSpan> =
        world.lock().ended_guests.iter().filter(|s| s.run == run.to_string()).cloned().collect();
    let of = |task: &str| {
        let began = spans.iter().filter(|s| s.task == task).map(|s| s.began_ms).min();
        let ended = spans.iter().filter(|s| s.task == task).map(|s| s.ended_ms.unwrap_or(u64::MAX)).max();
        began.zip(ended)
    };
    let mine: Vec<&Change> = undone.iter().map(|place| &changes[*place]).filter(|change| change.run == run).collect();
    for (n, first) in mine.iter().enumerate() {
        for second in &mine[n + 1..] {
            let (Some(a), Some(b)) = (first.task.as_deref(), second.task.as_deref()) else { continue };
            if a == b {
                continue;
            }
            if let (Some((_, ended)), Some((began, _))) = (of(a), of(b))
                && ended < began
            {
                world.broken(format!("{run}: {a} was taken back before {b}, which was done after it"));
            }
        }
    }
}

/// No wait is over before its time.
fn check_waits(world: &World, run: RunId, events: &[(u64, Value)]) {
    let time = |value: &Value| value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    let mut open: BTreeMap<String, Vec<jiff::Timestamp>> = BTreeMap::new();
    for (id, event) in events {
        let task = event["task"].as_str().unwrap_or_default().to_owned();
        match event["type"].as_str().unwrap_or_default() {
            "task.waiting" => open.entry(task).or_default().extend(time(&event["data"]["until"])),
            "task.completed" => {
                let (Some(waits), Some(at)) = (open.get_mut(&task), time(&event["at"])) else { continue };
                waits.sort();
                if waits.is_empty() {
                    continue;
                }
                let until = waits.remove(0);
                if at < until {
                    world.broken(format!("{run} event {id}: a wait until {until} was over at {at}"));
                }
            }
            _ => {}
        }
    }
}
