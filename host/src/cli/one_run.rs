//! One run of a host: its address, its events, and its end.

use serde_json::Value;

use super::away::Away;
use super::http::{Ask, Client, segment};
use super::output::{Exit, Failure};
use super::timeline::{Timeline, is_last, kind};
use super::{Context, browse};

/// Events of one page; fewer where they are large.
const EVENTS: usize = 200;

/// Where a run is.
pub(super) fn address(id: &str) -> String {
    format!("/v1/runs/{}", segment(id))
}

/// Gives every event of a run that there is so far to `each`, in order.
pub(super) fn events(client: &Client, id: &str, each: &mut dyn FnMut(&Value)) -> Result<(), Failure> {
    let (mut after, mut limit) = ("0".to_owned(), EVENTS);
    loop {
        let path = format!("/v1/runs/{}/events?after={}&limit={limit}", segment(id), segment(&after));
        let page = match client.ask(Ask::new("GET", &path).header("accept", "application/json")) {
            Ok(page) => page.body,
            Err(failure) if failure.code == "answer-too-large" && limit > 1 => {
                limit = limit.div_ceil(4);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        page.get("result").and_then(Value::as_array).into_iter().flatten().for_each(&mut *each);
        match page.get("next_cursor").and_then(Value::as_str) {
            Some(next) => next.clone_into(&mut after),
            None => return Ok(()),
        }
    }
}

/// What [`until_end`] does besides waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Show {
    /// Prints every event as it comes.
    pub(crate) events: bool,
    /// A parked run ends the wait, since only a person can let it go on.
    pub(crate) parked_ends: bool,
}

/// Follows a run to its end; gives the run as it then stands. A stream that breaks off is taken up where it was, also after
/// the host was away.
///
/// # Errors
/// The host refuses it, or does not answer: at once where it has never answered, else after ten minutes.
pub(crate) fn until_end(context: &Context, client: &Client, id: &str, show: Show) -> Result<Value, Failure> {
    let (path, mut after) = (format!("{}/events", address(id)), None::<String>);
    let mut timeline = Timeline::default();
    context.out.ends_with_its_reader();
    // Whoever names a run that is not there, or no host, is told at once.
    client.get(&address(id))?;
    let mut away = Away::default();
    loop {
        let (mut last, mut came) = (false, false);
        let from = after.clone();
        let followed = client.events(&path, from.as_deref(), |event_id, event| {
            (came, after) = (true, Some(event_id.to_owned()));
            if show.events {
                if context.out.is_json() {
                    context.out.json_line(event);
                } else {
                    context.out.text(&timeline.line(event));
                }
            }
            last = is_last(event);
            last || show.parked_ends && matches!(kind(event), "run.parked" | "run.rollback-incomplete")
        });
        if came {
            away.is_back();
        }
        let run = match followed.and_then(|_| client.get(&address(id))) {
            Ok(answer) => answer.body,
            Err(failure) => {
                away.wait(context, failure)?;
                continue;
            }
        };
        let status = browse::text(&run, "status");
        if last || is_final(&status) && !came || show.parked_ends && status == "parked" {
            return Ok(run);
        }
        if !came {
            // The stream is cut again and again: as if nobody answered.
            away.wait(context, Failure::unreachable("the host ends every stream of events"))?;
        }
    }
}

fn is_final(status: &str) -> bool {
    matches!(status, "completed" | "faulted" | "cancelled")
}

pub(super) fn exit_of(run: &Value) -> Exit {
    if run.get("status").and_then(Value::as_str) == Some("completed") { Exit::Done } else { Exit::Failed }
}

/// How a run stands, in a line: of one that did not complete also why, and how much of what it changed stands.
pub(crate) fn stands(run: &Value) -> String {
    let mut said = vec![browse::text(run, "status")];
    let reason = browse::text(run, "reason");
    if !reason.is_empty() && !said.contains(&reason) {
        said.push(reason);
    }
    for field in ["superseded_by", "by"] {
        let text = browse::text(run, field);
        if !text.is_empty() {
            said.push(format!("{} {text}", field.replace('_', " ")));
        }
    }
    let count = |field: &str| run.get(field).and_then(Value::as_u64);
    if let (Some(undone), Some(left)) = (count("undone"), count("left")) {
        said.push(match undone + left {
            0 => "nothing was changed".to_owned(),
            _ => format!("changes: {undone} undone, {left} left"),
        });
    }
    said.join(", ")
}

/// Shows how a run ended.
pub(crate) fn ended(context: &Context, run: &Value) -> Exit {
    let text = || {
        let shown = |field: &str| run.get(field).filter(|v| !v.is_null());
        let what = shown("output").or_else(|| shown("error")).or_else(|| shown("waiting"));
        let what = what.map(|value| format!("{value:#}\n")).unwrap_or_default();
        format!("{}  {}\n{what}", browse::text(run, "id"), stands(run))
    };
    context.out.answer(text, run);
    exit_of(run)
}
