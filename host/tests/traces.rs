//! What a collector of traces sees of the built program: one trace for each run, over lives of the host, and nothing of
//! what people gave. A collector that is away, slow or hanging costs spans and nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bellhop::Place;
use bellhop::hosted::{Hosted, now, try_call};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message as _;
use serde_json::{Value, json};

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

const STARTS: &str = "/v1/workflows/it/twice/runs";

/// Greets, waits long enough for a host to be started anew, and greets again.
const TWICE: &str = "\
document: { dsl: 1.0.3, namespace: it, name: twice, version: 1.0.0 }
do:
  - first:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: '${ $workflow.input.text }' }
  - between: { wait: { seconds: 3 } }
  - second:
      call: message.send:1@slack
      with: { connection: plus, channel: C0PLUSIT, text: '${ $workflow.input.text }' }
";

/// What nobody would write by chance.
const TEXT: &str = "Zaphod-4711-Beeblebrox";

/// A collector that takes everything.
struct Collector {
    address: String,
    kept: Arc<(Mutex<Kept>, Condvar)>,
}

#[derive(Default)]
struct Kept {
    heads: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let kept = Arc::<(Mutex<Kept>, Condvar)>::default();
        let takes = kept.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let takes = takes.clone();
                std::thread::spawn(move || while let Some(()) = take(&socket, &takes) {});
            }
        });
        Self { address, kept }
    }

    fn spans(&self) -> Vec<Span> {
        let kept = self.kept.0.lock().unwrap();
        kept.bodies.iter().flat_map(|body| spans_of(body)).collect()
    }

    /// The spans, once they are as `enough` wants them.
    fn until(&self, what: &str, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let end = now() + DEADLINE;
        loop {
            let spans = self.spans();
            if enough(&spans) {
                return spans;
            }
            let left = end.saturating_duration_since(now());
            assert!(!left.is_zero(), "{what}: {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
            let kept = self.kept.0.lock().unwrap();
            drop(self.kept.1.wait_timeout(kept, left.min(Duration::from_millis(200))).unwrap());
        }
    }
}

fn spans_of(body: &[u8]) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let scopes = request.resource_spans.into_iter().flat_map(|of_resource| of_resource.scope_spans);
    scopes.flat_map(|of_scope| of_scope.spans).collect()
}

/// One request; none when the connection has ended.
fn take(socket: &TcpStream, takes: &(Mutex<Kept>, Condvar)) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
        head.push_str(&line);
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    {
        let mut kept = takes.0.lock().unwrap();
        kept.heads.push(head);
        kept.bodies.push(body);
    }
    takes.1.notify_all();
    let mut socket = socket;
    socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n").ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The attributes that are texts.
fn texts(span: &Span) -> BTreeMap<&str, &str> {
    fn text(of: &KeyValue) -> Option<&str> {
        match of.value.as_ref()?.value.as_ref()? {
            Attribute::StringValue(text) => Some(text.as_str()),
            _ => None,
        }
    }
    span.attributes.iter().filter_map(|of| Some((of.key.as_str(), text(of)?))).collect()
}

fn hosted(configuration: &str, environment: &[(&str, &str)]) -> Hosted {
    let hosted = Hosted::start_with(configuration, environment);
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply("it/twice", TWICE);
    hosted.ready();
    hosted
}

fn started(hosted: &Hosted, headers: &[(&str, &str)]) -> Value {
    let body = json!({ "input": { "text": TEXT } });
    let answer = hosted.try_call("POST", STARTS, Some(&body), headers).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()
}

/// The run, once it stands like this.
fn until(hosted: &Hosted, run: &Value, status: &str) -> Value {
    let (path, end) = (format!("/v1/runs/{}", run["id"].as_str().unwrap()), now() + DEADLINE);
    loop {
        let shown = hosted.done("GET", &path, None);
        if shown["status"] == status {
            return shown;
        }
        assert!(now() < end, "{status}: {shown}");
        std::thread::yield_now();
    }
}

#[test]
fn a_run_is_one_trace_from_its_trigger_to_slack_over_lives_of_the_host() {
    let collector = Collector::start();
    let endpoint = format!("http://{}", collector.address);
    let environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-collector=let-me-in"),
        ("OTEL_SERVICE_NAME", "bellhop-of-a-test"),
    ];
    let mut hosted = hosted("log = \"debug\"\nlog_format = \"json\"\n", &environment);
    let run = started(&hosted, &[]);
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let of_a_caller = started(&hosted, &[("traceparent", own)]);
    let unseen = started(&hosted, &[("traceparent", "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")]);
    until(&hosted, &run, "waiting");
    until(&hosted, &of_a_caller, "waiting");
    // What is there is sent before the end; the rest of the trace comes from the next life.
    hosted.terminate();
    assert_eq!(hosted.ended(), 0);
    let before = collector.spans();
    assert!(before.iter().any(|span| span.name == "chat.postMessage"), "the last spans are sent before the end");
    hosted.start_host();
    hosted.ready();
    until(&hosted, &run, "completed");
    until(&hosted, &of_a_caller, "completed");
    let shown = until(&hosted, &unseen, "completed");
    let ended = |spans: &[Span]| spans.iter().filter(|span| span.name == "run completed").count() == 2;
    let spans = collector.until("the ends of two runs", ended);

    for (run, trace, parent) in [
        (&run, run["trace_id"].as_str().unwrap(), ""),
        (&of_a_caller, "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
    ] {
        let of_run: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
        let named = |name: &str| -> Vec<&Span> { of_run.iter().copied().filter(|span| span.name == name).collect() };
        let [trigger] = named("start it/twice")[..] else { panic!("{of_run:?}") };
        assert_eq!((hex(&trigger.parent_span_id).as_str(), trigger.kind), (parent, SpanKind::Server as i32));
        assert_eq!(texts(trigger)["bellhop.run"], run["id"].as_str().unwrap());
        let (attempts, guests) = (named("message.send:1@slack"), named("guest slack"));
        let (calls, ends) = (named("chat.postMessage"), named("run completed"));
        assert_eq!([attempts.len(), guests.len(), calls.len(), ends.len()], [2, 2, 2, 1], "{of_run:?}");
        let under = |child: &Span, parents: &[&Span]| parents.iter().any(|of| of.span_id == child.parent_span_id);
        assert!(attempts.iter().chain(&ends).all(|span| under(span, &[trigger])), "{of_run:?}");
        assert!(guests.iter().all(|span| under(span, &attempts)), "{of_run:?}");
        assert!(calls.iter().all(|span| under(span, &guests) && span.kind == SpanKind::Client as i32), "{of_run:?}");
        let tasks: Vec<&str> = attempts.iter().map(|span| texts(span)["bellhop.task"]).collect();
        assert_eq!(tasks, ["/do/0/first#0", "/do/2/second#0"]);
        assert!(calls.iter().all(|span| texts(span)["bellhop.outcome"] == "done"), "{calls:?}");
        // None is a wait: the run rests for three seconds.
        let longest = of_run.iter().map(|span| span.end_time_unix_nano - span.start_time_unix_nano).max().unwrap();
        assert!(longest < 2_500_000_000, "{longest} ns");
    }
    let trace = shown["trace_id"].as_str().unwrap();
    assert!(spans.iter().all(|span| hex(&span.trace_id) != trace), "its caller keeps no spans");

    let kept = collector.kept.0.lock().unwrap();
    assert!(kept.heads.iter().all(|head| head.contains("x-collector: let-me-in")), "{:?}", kept.heads);
    assert!(kept.heads.iter().all(|head| head.starts_with("POST /v1/traces ")), "{:?}", kept.heads);
    let sent = kept.bodies.concat();
    let has = |text: &str| sent.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("bellhop-of-a-test") && has("service.version"));
    for secret in [TEXT, "xoxb-plus", "C0PLUSIT", hosted.token.as_str(), "let-me-in"] {
        assert!(!has(secret), "{secret} left the host");
    }
    // Slack is told nothing of it, and what the log says of a run names its trace.
    let requests: String = hosted.requests().iter().map(Value::to_string).collect();
    assert!(!requests.contains("traceparent") && !requests.contains("4bf92f3577b34da6a3ce929d0e0e4736"));
    let id = of_a_caller["id"].as_str().unwrap();
    let log = hosted.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_run: Vec<Value> = lines.filter(|line| line["run"] == id).collect();
    assert!(!of_run.is_empty(), "{log}");
    for line in of_run.iter().filter(|line| line["spans"].is_array()) {
        assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736", "{line}");
    }
}

#[test]
fn a_collector_that_is_away_or_hangs_costs_spans_and_nothing_else() {
    // Nobody listens there any more; and one that takes connections and says nothing.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    for (address, dropped) in [(gone, "lost"), (hanging.local_addr().unwrap(), "dropped")] {
        let endpoint = format!("http://{address}");
        let limits = "[limits]\ntrace_queue_spans_max = 4\ntrace_flush_ms_max = 200\n";
        let mut hosted = hosted(limits, &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint)]);
        let begun = now();
        let runs: Vec<Value> = (0..20).map(|_| started(&hosted, &[])).collect();
        runs.iter().for_each(|run| drop(until(&hosted, run, "completed")));
        assert!(begun.elapsed() < Duration::from_secs(30), "{address}: {:?}", begun.elapsed());
        let counted = |name: &str| -> u64 {
            let metrics = hosted.call("GET", "/metrics", None).text;
            let start = format!("bellhop_trace_spans_total{{outcome=\"{name}\"}} ");
            metrics.lines().find_map(|line| line.strip_prefix(start.as_str())).unwrap().parse().unwrap()
        };
        let end = now() + DEADLINE;
        while counted(dropped) == 0 {
            assert!(now() < end, "{address}: no span is {dropped}");
            std::thread::yield_now();
        }
        assert_eq!(counted("sent"), 0);
        let ends = now();
        hosted.terminate();
        assert_eq!(hosted.ended(), 0);
        assert!(ends.elapsed() < Duration::from_secs(8), "{address}: the end took {:?}", ends.elapsed());
        let warned = hosted.log().matches("the collector takes no spans").count();
        assert!(warned <= 1, "a warning that repeats: {}", hosted.log());
    }
}

#[test]
fn where_spans_go_is_said_by_a_file_that_is_named_and_wrong_words_are_told() {
    let place = Place::new();
    place.write("bellhop.toml", "[traces]\nendpoint = \"http://127.0.0.1:1\"\n");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
    let done = place.run(&serve);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("`traces` is not taken from the bellhop.toml that only lies"), "{}", done.stderr);
    assert!(place.run(&["config"]).stdout.contains("[traces]\nendpoint = \"http://127.0.0.1:1/\"\n"));
    let mut host = place.start(&[&serve[..], &["--config", "bellhop.toml"]].concat());
    host.line();
    let address = host.line().rsplit('/').next().unwrap().to_owned();
    assert_eq!(try_call(&address, "", "GET", "/healthz", None, &[]).unwrap().status, 200);
    drop(host);
    place.write("bellhop.toml", "[traces]\nendpiont = \"http://127.0.0.1:1\"\nendpoint = 4318\n");
    let done = place.run(&serve);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("did you mean `endpoint`?"), "{}", done.stderr);
    place.write("bellhop.toml", "");
    for (name, text, said) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratoi", "did you mean `parentbased_traceidratio`?"),
    ] {
        let environment = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), (name, text)];
        let done = place.run_with(&serve, &environment);
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains(name) && done.stderr.contains(said), "{}", done.stderr);
    }
}
