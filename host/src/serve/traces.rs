//! Sends spans to a collector of OpenTelemetry's, by OTLP over HTTP.
//!
//! Nothing waits for it: a span goes into a queue that has an end, and one that finds no room is counted and gone. One
//! task takes them out and sends them; a collector that is away, slow or hanging costs the spans of that time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bellhop_slack::client::{self, certificates};
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, InstrumentationScope, Key, KeyValue};
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    Config, SamplingDecision, ShouldSample, SpanData, SpanEvents, SpanExporter as _, SpanLinks,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use bellhop_clock::Clock;
use bellhop_engine::traces::{Collector, Counts, Kind, Span, Trace, Traceparent, Value};
use bellhop_limits::Limits;

/// So many spans go with one request at most.
const BATCH_SPANS_MAX: usize = 512;
/// So long spans are gathered, once there is one.
const GATHER: Duration = Duration::from_secs(1);
/// What a service is called of which nobody says the name.
const NAMELESS: &str = "unknown_service";
const SERVICE_NAME: Key = Key::from_static_str("service.name");

/// Where spans go.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The whole address, with its path.
    pub(crate) endpoint: reqwest::Url,
    /// Longest that one request may take.
    pub(crate) timeout: Duration,
    /// Through which it is asked.
    pub(crate) proxy: Option<client::Proxy>,
    /// Certificates that are believed besides the system's.
    pub(crate) certificates: certificates::Own,
}

/// Why spans cannot be sent: the options are wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The HTTP library.
    #[error("the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
    /// A variable `OTEL_…`.
    #[error(transparent)]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// See the module.
pub(crate) struct Exporter {
    queue: mpsc::Sender<Span>,
    counted: Arc<Counted>,
    sampler: Box<dyn ShouldSample>,
    closing: watch::Sender<bool>,
    /// Ends with the task.
    works: watch::Receiver<()>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Counted {
    sent: AtomicU64,
    dropped: AtomicU64,
    lost: AtomicU64,
}

impl Exporter {
    /// Starts the task. Headers, the sampler and the name of the service are those of the usual variables.
    ///
    /// # Errors
    /// The options or a variable are of no use.
    pub(crate) fn start(options: &Options, limits: &Limits, clock: Arc<dyn Clock>) -> Result<Arc<Self>, Error> {
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client_of(options)?)
            .with_endpoint(options.endpoint.as_str())
            .with_retry_policy(RetryPolicy::disabled())
            .build()?;
        exporter.set_resource(&resource());
        let room = usize::try_from(limits.trace_queue_spans_max).unwrap_or(usize::MAX);
        let (queue, spans) = mpsc::channel(room.clamp(1, tokio::sync::Semaphore::MAX_PERMITS));
        let (closing, closes) = watch::channel(false);
        let (working, works) = watch::channel(());
        let counted = Arc::<Counted>::default();
        let sending = send(spans, exporter, counted.clone(), clock, closes);
        let task = tokio::spawn(async move {
            let _working = working;
            sending.await;
        });
        let task = std::sync::Mutex::new(Some(task));
        Ok(Arc::new(Self { queue, counted, sampler: Config::default().sampler, closing, works, task }))
    }

    /// Ready when nobody sends spans any more, however that came.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut works = self.works.clone();
        async move { while works.changed().await.is_ok() {} }
    }

    /// Sends what is there, for no longer than `longest`; what is left then is lost.
    pub(crate) async fn close(&self, clock: &dyn Clock, longest: Duration) {
        self.closing.send_replace(true);
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        tokio::select! {
            _ended = &mut task => {}
            () = clock.pause(longest) => {
                task.abort();
                tracing::warn!("spans are lost: the collector took longer for the last ones than this host waits");
            }
        }
    }
}

impl Collector for Exporter {
    fn wants(&self, trace: &Trace) -> bool {
        let parent = trace.given.map(|Traceparent { trace, span, is_sampled }| {
            let flags = if is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
            let context = SpanContext::new(trace.into(), span.into(), flags, true, TraceState::default());
            Context::new().with_remote_span_context(context)
        });
        let id = TraceId::from(trace.id);
        let result = self.sampler.should_sample(parent.as_ref(), id, "start", &SpanKind::Server, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn take(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counted { sent, dropped, lost } = &*self.counted;
        Counts { sent: load(sent), dropped: load(dropped), lost: load(lost) }
    }
}

/// Sends spans until nobody makes any more, or it is told to close and has sent what is there.
async fn send(
    mut spans: mpsc::Receiver<Span>,
    exporter: SpanExporter,
    counted: Arc<Counted>,
    clock: Arc<dyn Clock>,
    mut closing: watch::Receiver<bool>,
) {
    let scope = InstrumentationScope::builder("bellhop").with_version(env!("CARGO_PKG_VERSION")).build();
    let mut failing = 0_u64;
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = spans.recv_many(&mut batch, BATCH_SPANS_MAX) => {
                if count == 0 {
                    return;
                }
            }
            // The queue is empty.
            _ = closing.wait_for(|closing| *closing) => return,
        }
        if batch.len() < BATCH_SPANS_MAX {
            tokio::select! {
                () = clock.pause(GATHER) => {}
                _ = closing.wait_for(|closing| *closing) => {}
            }
        }
        while batch.len() < BATCH_SPANS_MAX
            && let Ok(span) = spans.try_recv()
        {
            batch.push(span);
        }
        let count = batch.len() as u64;
        let data: Vec<SpanData> = batch.drain(..).map(|span| data_of(span, &scope)).collect();
        match exporter.export(data).await {
            Ok(()) => {
                counted.sent.fetch_add(count, Ordering::Relaxed);
                if failing > 0 {
                    tracing::info!(lost = failing, "the collector takes spans again");
                    failing = 0;
                }
            }
            Err(error) => {
                counted.lost.fetch_add(count, Ordering::Relaxed);
                if failing == 0 {
                    tracing::warn!(%error, "the collector takes no spans: they are lost until it does");
                }
                failing += count;
            }
        }
    }
}

fn data_of(span: Span, scope: &InstrumentationScope) -> SpanData {
    let Span { trace, id, parent, parent_is_remote, began_at, took, told } = span;
    let start_time = SystemTime::UNIX_EPOCH + Duration::from_millis(began_at.as_millis());
    let flags = TraceFlags::SAMPLED;
    let attributes = told.attributes.into_iter().map(|(name, value)| match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Number(number) => KeyValue::new(name, number),
        Value::Flag(flag) => KeyValue::new(name, flag),
    });
    let failed = told.error.clone().map(|code| KeyValue::new("error.type", code));
    SpanData {
        span_context: SpanContext::new(trace.into(), id.into(), flags, false, TraceState::default()),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanId::from),
        parent_span_is_remote: parent_is_remote,
        span_kind: match told.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        },
        name: told.name.into(),
        start_time,
        end_time: start_time + took,
        attributes: attributes.chain(failed).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: told.error.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

/// Who sends the spans: by the usual variables, else this program.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let said = Resource::builder().build();
    let is_named = said.get(&SERVICE_NAME).is_some_and(|name| !name.as_str().starts_with(NAMELESS));
    let builder = Resource::builder().with_attribute(version);
    if is_named { builder.build() } else { builder.with_service_name("bellhop").build() }
}

fn client_of(Options { endpoint, timeout, proxy, certificates }: &Options) -> Result<reqwest::Client, Error> {
    let mut proxies = Vec::new();
    if let Some(client::Proxy { url, except }) = proxy.as_ref().filter(|_| !client::is_here(endpoint)) {
        proxies.push(reqwest::Proxy::all(url.reveal())?.no_proxy(reqwest::NoProxy::from_string(except)));
    }
    let make = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("bellhop/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .timeout(*timeout)
            .pool_max_idle_per_host(1)
            .no_proxy();
        proxies.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy)
    };
    Ok(certificates::build(make, endpoint.scheme() == "https", certificates)?)
}
