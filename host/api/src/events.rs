//! `GET /v1/runs/{id}/events`: what happened to a run, as a stream of server-sent events or as a page of JSON.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, StatusCode};
use axum::response::Response;
use tokio::sync::watch;

use bellhop_core::id::RunId;

use super::problem::{self, Problem};
use super::request::Request;
use super::{App, answer, pages, work};
use bellhop_clock::Sleep;
use bellhop_engine::show::following::{Follower, Made};
use bellhop_engine::show::timeline::Public;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Intermediaries close what is silent for longer.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often a run that rests is looked at: it is in no memory that could wake us.
const LOOK: Duration = Duration::from_millis(500);
/// Records read at once for one reader: all that is held for a reader who is behind. The log itself is the queue; a reader
/// who falls too far behind what happens is cut off, and so is, by the server, one who takes nothing any more.
const RECORDS_AT_ONCE: usize = 8;

/// See the module.
pub(super) async fn events(request: Request) -> Result<Response, Problem> {
    let run = request.run()?;
    let mut params = request.params(&["after", "limit"])?;
    let limit = params.number("limit", 200, request.app.engine.services.limits.list_items_max);
    let mut after = params.count("after");
    params.finish()?;
    // A reader that has had no event yet sends an empty one.
    if let Some(text) = request.header(&LAST_EVENT_ID)?.filter(|text| !text.trim().is_empty()) {
        let number = text.trim().parse().map_err(|_| {
            Problem::new(problem::REQUEST_INVALID, "`Last-Event-ID` is the number of an event of this run")
        })?;
        after = Some(number);
    }
    let app = request.app.clone();
    let unknown = || Problem::new(problem::RUN_UNKNOWN, format!("there is no run {run}"));
    let follower = app.engine.follow(run, after.unwrap_or(0)).await?.ok_or_else(unknown)?;
    if request.prefers("application/json", "text/event-stream") {
        return page(&app, follower, usize::try_from(limit).unwrap_or(usize::MAX)).await;
    }
    let mut stream = Stream::new(app, run, follower);
    stream.read().await?;
    if stream.queue.is_empty() && stream.is_over() {
        // Everything was seen: a browser that gets this does not come back.
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let body = futures_util::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), stream))
    });
    let response = answer::bytes(StatusCode::OK, "text/event-stream", Body::from_stream(body));
    // Some proxies collect an answer before they pass it on unless told.
    Ok(answer::with_header(response, HeaderName::from_static("x-accel-buffering"), "no"))
}

async fn page(app: &Arc<App>, mut follower: Follower, limit: usize) -> Result<Response, Problem> {
    let mut room = pages::Room::of(limit, app.engine.services.limits.list_bytes_max);
    let (mut last, mut more) = (None::<u64>, false);
    while !more {
        let read = next(app, follower, |event| Ok((event.id, pages::shown(event)?))).await?;
        follower = read.0;
        let Some(events) = read.1 else { break };
        for (id, shown) in events {
            if room.is_full() {
                more = true;
                break;
            }
            room.take(shown);
            last = Some(id);
        }
    }
    app.engine.services.what_was_read_is_durable().await?;
    // Here the cursor is the number of the last event, as `Last-Event-ID` is: `?after=` takes it.
    let next = last.filter(|_| more).map(|id| id.to_string());
    answer::json(StatusCode::OK, &serde_json::json!({ "result": room.into_items(), "next_cursor": next }))
}

/// What the next records of a reader have, each event made into what is sent of it; none when the log has no more for now.
/// Only what the store has is read here: what it says is made out where nobody else waits.
async fn next<T: Send + 'static>(
    app: &Arc<App>,
    mut follower: Follower,
    made: fn(&Public) -> Result<T, Problem>,
) -> Result<(Follower, Option<Vec<T>>), Problem> {
    let mut place = work::to_read(app).await?;
    let Some(mut records) = app.engine.next_records(&follower, RECORDS_AT_ONCE).await? else {
        return Ok((follower, None));
    };
    loop {
        let work = move || {
            let read = match follower.read(records)? {
                Made::Events(events) => Ok(events.iter().map(made).collect::<Result<Vec<T>, Problem>>()?),
                Made::Wants(wanted) => Err(wanted),
            };
            Ok((follower, read))
        };
        let (kept, read) = place.compute(work).await?;
        let (back, read) = read;
        match read {
            Ok(events) => return Ok((back, Some(events))),
            Err(wanted) => records = app.engine.with_values(wanted).await,
        }
        (place, follower) = (kept, back);
    }
}

/// One reader.
struct Stream {
    app: Arc<App>,
    run: RunId,
    /// None while it is being read for.
    follower: Option<Follower>,
    queue: VecDeque<Bytes>,
    /// Whether it has had everything once. Before, it is behind because it came late; afterwards, because it is slow.
    caught_up: bool,
    cut_off: bool,
    heartbeat: Sleep,
    stopping: watch::Receiver<bool>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.app.counters.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Stream {
    fn new(app: Arc<App>, run: RunId, follower: Follower) -> Self {
        app.counters.streams.fetch_add(1, Ordering::Relaxed);
        let heartbeat = app.engine.services.clock.sleep(HEARTBEAT);
        let stopping = app.stopping.subscribe();
        let follower = Some(follower);
        Self { app, run, follower, queue: VecDeque::new(), caught_up: false, cut_off: false, heartbeat, stopping }
    }

    /// Takes what is there into the queue; nothing, when nothing is there.
    async fn read(&mut self) -> Result<(), Problem> {
        while self.queue.is_empty()
            && let Some(follower) = self.follower.take()
        {
            let (follower, events) = next(&self.app, follower, written).await?;
            self.follower = Some(follower);
            self.app.engine.services.what_was_read_is_durable().await?;
            let Some(events) = events else {
                self.caught_up = true;
                break;
            };
            self.queue.extend(events);
        }
        Ok(())
    }

    /// Whether everything was read: there is nothing to come.
    fn is_over(&self) -> bool {
        self.follower.as_ref().is_none_or(Follower::is_over)
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(chunk) = self.queue.pop_front() {
                return Some(chunk);
            }
            if self.is_over() || self.cut_off {
                return None;
            }
            if is_too_slow(&self.app, self.follower.as_ref().filter(|_| self.caught_up)).await {
                // A browser comes back by itself, with the number of the last event that it has seen.
                tracing::warn!(run = %self.run, code = "reader-too-slow", "a reader of events is cut off");
                self.cut_off = true;
                return Some(Bytes::from_static(b": reader-too-slow: come back with Last-Event-ID\n\n"));
            }
            // Taken before the log is read: what is recorded in between is not missed.
            let moved = self.app.engine.runs().moved(self.run);
            if let Err(problem) = self.read().await {
                // The headers are out: all that can be said is the end of the stream.
                tracing::warn!(code = problem.kind().code, "a stream of events ends early");
                return None;
            }
            if !self.queue.is_empty() || self.is_over() {
                continue;
            }
            let clock = &self.app.engine.services.clock;
            let something = async {
                match moved {
                    Some(mut moved) => drop(moved.changed().await),
                    None => clock.sleep(LOOK).await,
                }
            };
            tokio::select! {
                () = something => {}
                () = &mut self.heartbeat => {
                    self.heartbeat = clock.sleep(HEARTBEAT);
                    return Some(Bytes::from_static(b":\n\n"));
                }
                _ = self.stopping.wait_for(|stopping| *stopping) => return None,
            }
        }
    }
}

/// Whether more is in the log than a reader who has had everything once may be behind.
async fn is_too_slow(app: &App, reader: Option<&Follower>) -> bool {
    match reader {
        Some(follower) => {
            let behind_max = app.engine.services.limits.sse_queue_max;
            app.engine.is_behind(follower, behind_max).await.unwrap_or(false)
        }
        None => false,
    }
}

/// An event in the form of the HTML standard. JSON on one line has no line ends in it.
fn written(event: &Public) -> Result<Bytes, Problem> {
    let data = pages::shown(event)?;
    Ok(Bytes::from(format!("id: {}\nevent: {}\ndata: {data}\n\n", event.id, event.kind)))
}
