//! What runs do, as spans for whoever looks from outside.
//!
//! A run is one trace, over all lives of the process: its ids follow from the run's id, or came with its trigger and are
//! kept with it. A span is a trigger, an attempt at an action, a guest or a call, and is made when that has ended. Nothing
//! is open while a run waits. A span has names of tasks, actions, methods and codes, and nothing of what people gave.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::entropy::Entropy;
use bellhop_clock::Clock;

/// A longer text in a span is cut: names can be as long as a definition.
const TEXT_CHARS_MAX: usize = 256;

/// A caller's own trace, as the header `traceparent` of the W3C's Trace Context says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Traceparent {
    /// The trace.
    pub trace: u128,
    /// The span in which the caller asks.
    pub span: u64,
    /// Whether the caller keeps its own spans.
    pub is_sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct NoTraceparent;

impl Traceparent {
    /// Reads a header. A version that is not known yet may have more behind what is known.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        let fits = match version {
            0 => parts.next().is_none(),
            0xff => false,
            _ => true,
        };
        let span = u64::try_from(span).ok()?;
        (fits && trace != 0 && span != 0).then_some(Self { trace, span, is_sampled: flags & 1 == 1 })
    }
}

/// A number of exactly so many lower-case hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if fits { u128::from_str_radix(text, 16).ok() } else { None }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

impl TryFrom<String> for Traceparent {
    type Error = NoTraceparent;

    fn try_from(text: String) -> Result<Self, NoTraceparent> {
        Self::parse(&text).ok_or(NoTraceparent)
    }
}

impl From<Traceparent> for String {
    fn from(traceparent: Traceparent) -> Self {
        traceparent.to_string()
    }
}

/// The trace of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The caller's where one came with the trigger, else one that follows from the run's id.
    pub id: u128,
    /// What came with the trigger.
    pub given: Option<Traceparent>,
    /// The span of the trigger, under which all others of the run hang. It follows from the run's id.
    pub trigger: u64,
}

impl Trace {
    /// The trace of `run`, for whose trigger the caller gave `given`. The same in every life of the process.
    #[must_use]
    pub fn of(run: RunId, given: Option<Traceparent>) -> Self {
        let digest = Digest::of(format!("trace of {run}").as_bytes());
        let number = |bytes: &[u8]| bytes.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        let (id, rest) = digest.as_bytes().split_at(16);
        let trigger = u64::try_from(number(rest) >> 64).unwrap_or(1).max(1);
        Self { id: given.map_or_else(|| number(id).max(1), |given| given.trace), given, trigger }
    }

    /// The trace's id, as others write it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }
}

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that came in.
    Server,
    /// A request that went out.
    Client,
    /// What is done here.
    Internal,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A name or a code.
    Text(String),
    /// A count.
    Number(i64),
    /// Whether something is so.
    Flag(bool),
}

/// What a span says besides its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What was done, in a name of which there are few.
    pub name: String,
    /// Which way it went.
    pub kind: Kind,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// The code with which it failed.
    pub error: Option<String>,
}

impl Told {
    /// A span of that name.
    pub(crate) fn of(kind: Kind, name: impl Into<String>) -> Self {
        Self { name: cut(name.into()), kind, attributes: Vec::new(), error: None }
    }

    /// With a name or a code.
    pub(crate) fn with(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.attributes.push((name, Value::Text(cut(text.into()))));
        self
    }

    /// With a count.
    pub(crate) fn number(mut self, name: &'static str, number: impl Into<i64>) -> Self {
        self.attributes.push((name, Value::Number(number.into())));
        self
    }

    /// With something that is so, or not.
    pub(crate) fn flag(mut self, name: &'static str, flag: bool) -> Self {
        self.attributes.push((name, Value::Flag(flag)));
        self
    }

    /// It failed with this code, if any.
    pub(crate) fn failed(mut self, code: Option<String>) -> Self {
        self.error = code.map(cut);
        self
    }
}

fn cut(text: String) -> String {
    if text.len() <= TEXT_CHARS_MAX { text } else { text.chars().take(TEXT_CHARS_MAX).collect() }
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Of which trace.
    pub trace: u128,
    /// Which.
    pub id: u64,
    /// Under which it hangs.
    pub parent: Option<u64>,
    /// Whether that one is the caller's.
    pub parent_is_remote: bool,
    /// When it began.
    pub began_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it says.
    pub told: Told,
}

/// Takes spans. Neither of its functions waits for anything.
pub trait Collector: Send + Sync + 'static {
    /// Whether the spans of a trace are kept. The same answer in every life of the process.
    fn wants(&self, trace: &Trace) -> bool;

    /// Takes a span, or drops it and counts that.
    fn take(&self, span: Span);

    /// How many spans were sent, dropped for lack of room, and lost because they could not be sent.
    fn counts(&self) -> Counts;
}

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Taken by the collector's machine.
    pub sent: u64,
    /// There was no room for them.
    pub dropped: u64,
    /// They could not be sent.
    pub lost: u64,
}

/// Whoever makes spans of a run: nobody where they are not kept, at no cost.
#[derive(Clone, Default)]
pub(crate) struct Spans(Option<Arc<Inner>>);

struct Inner {
    collector: Arc<dyn Collector>,
    clock: Arc<dyn Clock>,
    entropy: Arc<Entropy>,
    trace: Trace,
}

/// A moment at which something began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    at: Timestamp,
    monotonic: Duration,
}

impl Moment {
    /// Now.
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), monotonic: clock.monotonic() }
    }
}

/// Under what the spans hang that begin in a task of the program.
#[derive(Clone)]
struct Here {
    spans: Arc<Inner>,
    parent: u64,
}

tokio::task_local! {
    // As the log's own spans: those who stand between an attempt and its request need not hand it on.
    static HERE: Here;
}

impl Spans {
    /// Of the run whose trace this is.
    pub(crate) fn of(
        collector: Option<&Arc<dyn Collector>>,
        clock: &Arc<dyn Clock>,
        entropy: &Arc<Entropy>,
        trace: Trace,
    ) -> Self {
        let inner = collector.filter(|collector| collector.wants(&trace)).map(|collector| {
            Arc::new(Inner { collector: collector.clone(), clock: clock.clone(), entropy: entropy.clone(), trace })
        });
        Self(inner)
    }

    /// The span of the trigger, which began at `began` and ends now.
    pub(crate) fn triggered(&self, began: Moment, tell: impl FnOnce() -> Told) {
        let Some(inner) = &self.0 else { return };
        let given = inner.trace.given.map(|given| given.span);
        inner.ends((inner.trace.trigger, given, given.is_some()), began, tell());
    }

    /// Something of the run that takes no time.
    pub(crate) fn happened(&self, tell: impl FnOnce() -> Told) {
        let Some(inner) = &self.0 else { return };
        inner.ends((inner.new_id(), Some(inner.trace.trigger), false), Moment::now(inner.clock.as_ref()), tell());
    }

    /// Does `work` as a span of the run. What begins in it hangs under it.
    pub(crate) async fn span<T>(&self, work: impl Future<Output = T>, tell: impl FnOnce(&T) -> Told) -> T {
        match &self.0 {
            Some(inner) => spanned(Here { spans: inner.clone(), parent: inner.trace.trigger }, work, tell).await,
            None => work.await,
        }
    }
}

/// Does `work` as a span under the one in which it is called. Where there is none, nobody looks.
pub(crate) async fn within<T>(work: impl Future<Output = T>, tell: impl FnOnce(&T) -> Told) -> T {
    match HERE.try_with(Here::clone) {
        Ok(here) => spanned(here, work, tell).await,
        Err(_) => work.await,
    }
}

async fn spanned<T>(here: Here, work: impl Future<Output = T>, tell: impl FnOnce(&T) -> Told) -> T {
    let Here { spans, parent } = here;
    let (id, began) = (spans.new_id(), Moment::now(spans.clock.as_ref()));
    let done = HERE.scope(Here { spans: spans.clone(), parent: id }, work).await;
    spans.ends((id, Some(parent), false), began, tell(&done));
    done
}

impl Inner {
    fn new_id(&self) -> u64 {
        self.entropy.next().max(1)
    }

    fn ends(&self, (id, parent, parent_is_remote): (u64, Option<u64>, bool), began: Moment, told: Told) {
        let took = self.clock.monotonic().saturating_sub(began.monotonic);
        let trace = self.trace.id;
        self.collector.take(Span { trace, id, parent, parent_is_remote, began_at: began.at, took, told });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bellhop_clock::Manual;

    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says_and_anything_else_is_none() {
        let read = Traceparent::parse(TEXT).unwrap();
        assert_eq!((read.span, read.is_sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(read.to_string(), TEXT);
        // A newer version is read as far as it is known.
        for newer in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-is-new",
            TEXT.replace("00-4", "01-4").as_str(),
        ] {
            assert_eq!(Traceparent::parse(newer), Some(read), "{newer}");
        }
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-000f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Traceparent::parse(wrong), None, "{wrong}");
        }
        assert!(!Traceparent::parse(&TEXT.replace("-01", "-02")).unwrap().is_sampled);
    }

    #[test]
    fn a_trace_follows_from_the_run_or_from_what_came_with_it() {
        let run = RunId::new(Timestamp::from_millis(7), 1);
        let trace = Trace::of(run, None);
        assert_eq!(trace, Trace::of(run, None));
        assert_ne!(trace.id, Trace::of(RunId::new(Timestamp::from_millis(8), 1), None).id);
        let given = Traceparent::parse(TEXT);
        let told = Trace::of(run, given);
        assert_eq!(told.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(told.trigger, trace.trigger);
    }

    /// Keeps every span.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Span>>, bool);

    impl Collector for Kept {
        fn wants(&self, _: &Trace) -> bool {
            !self.1
        }

        fn take(&self, span: Span) {
            self.0.lock().unwrap().push(span);
        }

        fn counts(&self) -> Counts {
            Counts::default()
        }
    }

    fn spans(kept: &Arc<Kept>, clock: &Manual) -> Spans {
        let collector: Arc<dyn Collector> = kept.clone();
        let clock: Arc<dyn Clock> = Arc::new(clock.clone());
        let trace = Trace::of(RunId::new(Timestamp::from_millis(7), 1), Traceparent::parse(TEXT));
        Spans::of(Some(&collector), &clock, &Arc::new(Entropy::seeded(1)), trace)
    }

    fn told(name: &str) -> Told {
        Told::of(Kind::Internal, name)
    }

    #[tokio::test]
    async fn what_begins_in_a_span_hangs_under_it() {
        let (kept, clock) = (Arc::new(Kept::default()), Manual::new(Timestamp::from_millis(1_000)));
        let spans = spans(&kept, &clock);
        spans.triggered(Moment::now(&clock), || told("start"));
        let work = async {
            within(async { 1 }, |one| told("inner").number("one", *one)).await;
            within(async {}, |()| told("other")).await;
        };
        spans.span(work, |()| told("outer").failed(Some("x".repeat(1_000)))).await;
        // Nothing stands around this one.
        within(async {}, |()| told("nowhere")).await;
        let kept = kept.0.lock().unwrap();
        let names: Vec<&str> = kept.iter().map(|span| span.told.name.as_str()).collect();
        assert_eq!(names, ["start", "inner", "other", "outer"]);
        let (start, outer) = (&kept[0], &kept[3]);
        assert_eq!((start.parent, start.parent_is_remote), (Some(0x00f0_67aa_0ba9_02b7), true));
        assert_eq!((outer.parent, outer.parent_is_remote), (Some(start.id), false));
        assert_eq!([kept[1].parent, kept[2].parent], [Some(outer.id); 2]);
        assert_eq!(outer.told.error.as_ref().map(String::len), Some(TEXT_CHARS_MAX));
        assert!(kept.iter().all(|span| span.trace == start.trace));
    }

    #[tokio::test]
    async fn a_trace_that_nobody_wants_costs_nothing() {
        let (kept, clock) = (Arc::new(Kept(Mutex::default(), true)), Manual::new(Timestamp::from_millis(1_000)));
        let spans = spans(&kept, &clock);
        assert!(spans.0.is_none());
        assert_eq!(spans.span(async { within(async { 2 }, |_| told("in")).await }, |_| told("out")).await, 2);
        assert!(kept.0.lock().unwrap().is_empty());
    }
}
