//! The same without reading back: each effect at most once, whoever is in doubt says so, and a person ends the doubt.

use serde_json::{Value, json};

use crate::stage::{Death, Outcome, Stage, Start};

/// So many writes each life of the scenario makes.
const WRITES: usize = 3;
/// A group that was being written when an outcome was handed over is one, the outcome's own the other.
const GROUPS_UNTIL_RECORDED: usize = 2;

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    pub(crate) points: u64,
    /// Runs that parked.
    pub(crate) parked: u64,
}

/// The writes that Slack accepted of a task, by the task's pointer.
fn accepted(stage: &Stage, task: &str) -> Outcome<Vec<Value>> {
    let of_task = |line: &Value| match task {
        "/do/0/one" => line["args"]["text"] == "one",
        "/do/1/invite" => line["method"] == "conversations.invite",
        "/do/2/two" => line["args"]["text"] == "two",
        _ => false,
    };
    Ok(stage.ledger()?.into_iter().filter(|line| line["changed"] == true && of_task(line)).collect())
}

fn at_most_once(stage: &Stage) -> Outcome<()> {
    for task in ["/do/0/one", "/do/1/invite", "/do/2/two"] {
        let count = accepted(stage, task)?.len();
        if count > 1 {
            return Err(format!("what {task} does was done {count} times"));
        }
    }
    Ok(())
}

/// Whether the first life ended after the last of its writes was surely on record: then there is nothing to doubt.
fn was_sure(passed: &[String]) -> bool {
    let sent = passed.iter().filter(|point| *point == "unsent").count();
    let Some(last) = passed.iter().rposition(|point| point == "unsent") else { return false };
    let Some(recorded) = passed[last..].iter().position(|point| point == "unrecorded") else { return false };
    let groups = passed[last + recorded..].iter().filter(|point| *point == "unsynced").count();
    sent == WRITES && groups >= GROUPS_UNTIL_RECORDED
}

/// A person looks in Slack, and says what is there.
fn say(stage: &mut Stage, run: &str, view: &Value) -> Outcome<()> {
    let reason = &view["waiting"]["reason"];
    let code = reason["type"].as_str().unwrap_or_default();
    if !code.ends_with("/outcome-unknown") {
        return Err(format!("the run is parked for another reason: {view:#}"));
    }
    let task = reason["instance"].as_str().unwrap_or_default().to_owned();
    let done = accepted(stage, &task)?;
    let mut body = json!({ "task": task, "done": !done.is_empty() });
    if let Some(line) = done.first()
        && line["method"] == "chat.postMessage"
    {
        body["answer"] = json!({ "ok": true, "channel": line["effect"]["channel"], "ts": line["effect"]["ts"] });
    }
    let answer = stage.call("POST", &format!("/v1/runs/{run}/resolve"), Some(&body), &[])?;
    match answer.status {
        200 => Ok(()),
        // Said before, and the host went away before it could answer.
        409 => Ok(()),
        status => Err(format!("the doubt was not ended: {status} {}", answer.text)),
    }
}

fn trial(stage: &mut Stage, point: u64) -> Outcome<bool> {
    stage.begin(&[Death::AtPoint(point)])?;
    let run = stage.run(&Start::of("it/doubtful", "the only one", &json!({})))?;
    let mut parked = 0;
    loop {
        let view = stage.until(&run, |view| view["status"] == "parked" || !view["endedAt"].is_null())?;
        at_most_once(stage)?;
        if view["status"] != "parked" {
            break;
        }
        parked += 1;
        if parked > WRITES {
            return Err("the run parks again and again".to_owned());
        }
        if was_sure(&stage.passed(1)) {
            return Err("the run is in doubt of what was on record".to_owned());
        }
        say(stage, &run, &view)?;
    }
    let seen = stage.finish(Value::Null)?;
    let wrong: Vec<_> = seen.effects.iter().filter(|(_, count)| **count != 1).collect();
    if seen.effects.len() != WRITES || !wrong.is_empty() {
        return Err(format!("each effect should stand once: {:#?}", seen.effects));
    }
    Ok(parked > 0)
}

/// Dies at each point in turn, without the scopes that reading back needs.
pub(crate) fn singles(stage: &mut Stage, stride: u64) -> Outcome<Doubts> {
    let mut found = Doubts::default();
    let mut point = 1;
    loop {
        let parked = trial(stage, point);
        let parked = parked
            .map_err(|why| format!("died at {}: {why}\n{}", stage.ends(&[Death::AtPoint(point)]), stage.log()))?;
        if stage.died == 0 {
            break;
        }
        found.points += 1;
        found.parked += u64::from(parked);
        point += stride;
    }
    if found.parked == 0 {
        return Err("no run was ever in doubt: this shows nothing".to_owned());
    }
    Ok(found)
}
