//! The control API: faults, signals, books, the world.

use std::{sync::Arc, time::Duration};

use hyper::{Method, body::Bytes, http::request::Parts};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    answer::Answer,
    arguments::Arguments,
    edit::{self, Edit},
    faults::{Faults, NewFault, Release},
    limits::Limits,
    methods, seed,
    server::Shared,
};

/// A long poll ends at the latest after this.
const WAIT_MS_MAX: i64 = 120_000;

pub(crate) async fn serve(shared: &Arc<Shared>, parts: &Parts, body: &Bytes) -> Answer {
    let path: Vec<&str> = parts.uri.path().trim_start_matches("/_sim/").split('/').collect();
    let query = Arguments::parse(parts.uri.query(), None, b"").unwrap_or_default();
    match (&parts.method, path.as_slice()) {
        (&Method::GET, ["signals", "wait"]) => wait(shared, &query).await,
        (method, path) => at_once(shared, method, path, &query, body).unwrap_or_else(|answer| *answer),
    }
}

fn at_once(
    shared: &Shared,
    method: &Method,
    path: &[&str],
    query: &Arguments,
    body: &Bytes,
) -> Result<Answer, Box<Answer>> {
    let from = || usize::try_from(query.number("from").ok().flatten().unwrap_or(0)).unwrap_or(0);
    let mut state = shared.lock();
    let answer = match (method, path) {
        (&Method::POST, ["faults"]) => {
            let rule: NewFault = parse(body)?;
            match state.faults.add(rule) {
                Some(id) => json!({ "id": id }),
                None => return Err(problem(409, "too many faults: take the old ones away first")),
            }
        }
        (&Method::GET, ["faults"]) => json!({"faults": state.faults.list()}),
        (&Method::DELETE, ["faults"]) => {
            state.faults.clear();
            json!({})
        }
        (&Method::POST, ["faults", id, "release"]) => {
            let how = if body.is_empty() { ReleaseBody::default() } else { parse(body)? };
            let id = id.parse().map_err(|_| problem(400, "a fault is named by its number"))?;
            if !state.faults.release(id, how.kind) {
                return Err(problem(404, "no such fault"));
            }
            json!({})
        }
        (&Method::GET, ["ledger"]) => {
            let (entries, forgotten) = state.journal.ledger.read(from());
            json!({"entries": entries, "forgotten": forgotten})
        }
        (&Method::GET, ["requests"]) => {
            let (entries, forgotten) = state.journal.requests.read(from());
            json!({"entries": entries, "forgotten": forgotten})
        }
        (&Method::GET, ["state"]) => {
            methods::scheduled::post_due(&mut state.world, shared.clock.now_us());
            serde_json::to_value(&state.world).unwrap_or_default()
        }
        (&Method::POST, ["world"]) => {
            let edits: Vec<Edit> = parse(body)?;
            let mut done = Vec::new();
            for edit in edits {
                done.push(
                    edit::apply(&mut state.world, edit, shared.clock.now_us()).map_err(|text| problem(422, &text))?,
                );
            }
            shared.keep(&state.world);
            json!({ "done": done })
        }
        (&Method::POST, ["clock"]) => {
            let advance: Advance = parse(body)?;
            if !shared.clock.advance(Duration::from_millis(advance.advance_ms)) {
                return Err(problem(409, "the clock is the real one"));
            }
            json!({"now_ms": shared.clock.now_us() / 1000})
        }
        (&Method::POST, ["reset"]) => {
            state.faults.clear();
            state.world = seed::default_world();
            state.limits = Limits::new(shared.budget_scale);
            state.journal.ledger.forget();
            state.journal.requests.forget();
            state.faults = Faults::default();
            shared.keep(&state.world);
            json!({})
        }
        _ => return Err(problem(404, "no such control")),
    };
    Ok(Answer::json(200, &answer))
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ReleaseBody {
    #[serde(rename = "as")]
    kind: Release,
}

impl Default for ReleaseBody {
    fn default() -> Self {
        Self { kind: Release::Answer }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    advance_ms: u64,
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Box<Answer>> {
    serde_json::from_slice(body).map_err(|error| problem(400, &error.to_string()))
}

fn problem(status: u16, detail: &str) -> Box<Answer> {
    Box::new(Answer::json(status, &json!({ "error": detail })))
}

/// Answers `{"fired": N}` once the fault happened `count` times, `{"fired": N, "timed_out": true}` after the time.
async fn wait(shared: &Shared, query: &Arguments) -> Answer {
    let number = |name, default| query.number(name).ok().flatten().unwrap_or(default);
    let id = u64::try_from(number("fault", 0)).unwrap_or(0);
    let count = u64::try_from(number("count", 1)).unwrap_or(1);
    let timeout_ms = number("timeout_ms", 30_000).clamp(0, WAIT_MS_MAX);
    let Some(mut signal) = shared.lock().faults.signal(id) else {
        return *problem(404, "no such fault");
    };
    let timeout = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0));
    let reached =
        tokio::time::timeout(timeout, async { signal.wait_for(|signal| signal.fired >= count).await.map(|_| ()) })
            .await;
    let fired = signal.borrow().fired;
    let value: Value = match reached {
        Ok(Ok(())) => json!({ "fired": fired }),
        Ok(Err(_)) | Err(_) => json!({"fired": fired, "timed_out": true}),
    };
    Answer::json(200, &value)
}
