//! Metrics of the built program against a story that is known, and the dashboards and alerts that are made of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bellhop::hosted::{GOOD, Hosted, now};
use serde_json::{Value, json};

const DEADLINE: Duration = Duration::from_secs(60);

const LOST: &str = "\
document: { dsl: 1.0.3, namespace: it, name: lost, version: 1.0.0 }
do:
  - greet:
      call: message.send:1@slack
      with: { connection: plus, channel: C0NOWHERE, text: Good }
";

const LONG: &str = "\
document: { dsl: 1.0.3, namespace: it, name: long, version: 1.0.0 }
do:
  - rest: { wait: { hours: 1 } }
";

/// Every metric that there is. A new one is compared with what has happened, below or where it is counted, and then stands
/// here.
const HELD: [&str; 46] = [
    "bellhop_build_info",
    "bellhop_clock_doubted",
    "bellhop_disk_free_bytes",
    "bellhop_disk_lacks_room",
    "bellhop_disk_size_bytes",
    "bellhop_facts_damaged",
    "bellhop_http_connections",
    "bellhop_http_event_streams",
    "bellhop_journal_batches_total",
    "bellhop_journal_group_batches",
    "bellhop_journal_groups_total",
    "bellhop_journal_queue_batches",
    "bellhop_journal_queue_bytes",
    "bellhop_journal_sync_seconds",
    "bellhop_journal_syncs_total",
    "bellhop_journal_syncs_waited_total",
    "bellhop_journal_written_bytes_total",
    "bellhop_limiter_wait_seconds",
    "bellhop_limiter_waiting",
    "bellhop_ready",
    "bellhop_resolving",
    "bellhop_run_duration_seconds",
    "bellhop_runs_accepted_total",
    "bellhop_runs_in_line",
    "bellhop_runs_left_total",
    "bellhop_runs_live",
    "bellhop_runs_open",
    "bellhop_runs_set_aside",
    "bellhop_sandbox_compiling",
    "bellhop_sandbox_free_slots",
    "bellhop_sandbox_guests",
    "bellhop_sandbox_guests_waiting",
    "bellhop_slack_call_duration_seconds",
    "bellhop_tasks",
    "bellhop_timers",
    "bellhop_trace_spans_total",
    "bellhop_turns_kept",
    "bellhop_waiting_runs",
    "http_server_request_duration_seconds",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
];

/// The lines of `/metrics`, by what stands before their value.
fn metrics(hosted: &Hosted) -> BTreeMap<String, f64> {
    let answer = hosted.call("GET", "/metrics", None);
    let lines = answer.text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

fn run(hosted: &Hosted, name: &str, status: &str) -> String {
    let started = hosted.done("POST", &format!("/v1/workflows/it/{name}/runs"), Some(&json!({ "input": {} })));
    let (path, end) = (format!("/v1/runs/{}", started["id"].as_str().unwrap()), now() + DEADLINE);
    loop {
        let shown = hosted.done("GET", &path, None);
        if shown["status"] == status {
            return path;
        }
        assert!(now() < end, "{status}: {shown}");
        std::thread::yield_now();
    }
}

/// A host with three runs that are done, one that has faulted, two that wait and one that is suspended; and spans that
/// nobody takes.
fn story() -> Hosted {
    let hosted = Hosted::start_with("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]);
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    for (name, text) in [("good", GOOD), ("lost", LOST), ("long", LONG)] {
        hosted.apply(&format!("it/{name}"), text);
    }
    hosted.ready();
    for _ in 0..3 {
        run(&hosted, "good", "completed");
    }
    run(&hosted, "lost", "faulted");
    run(&hosted, "long", "waiting");
    run(&hosted, "long", "waiting");
    let suspended = run(&hosted, "long", "waiting");
    hosted.done("POST", &format!("{suspended}/suspend"), Some(&json!({})));
    hosted.call("GET", "/no/such/address", None);
    hosted
}

/// What no story says in numbers, of a host that nothing but this test asks.
fn fits_together(found: &BTreeMap<String, f64>) {
    // What was synchronised was a group; what was written is on the disk.
    let of = |name: &str| *found.get(name).unwrap_or_else(|| panic!("no {name} in {found:#?}"));
    assert_eq!(of("bellhop_journal_sync_seconds_count"), of("bellhop_journal_syncs_total"));
    assert_eq!(of("bellhop_journal_group_batches_count"), of("bellhop_journal_syncs_total"));
    assert!(of("bellhop_journal_group_batches_sum") <= of("bellhop_journal_batches_total"));
    assert!(of("bellhop_disk_free_bytes") > 0.0 && of("bellhop_disk_free_bytes") <= of("bellhop_disk_size_bytes"));
    assert!(of("process_resident_memory_bytes") > 1e6 && of("process_open_fds") < of("process_max_fds"));
    let [batches, groups, syncs] =
        ["batches", "groups", "syncs"].map(|of_it| of(&format!("bellhop_journal_{of_it}_total")));
    assert!(batches >= groups && groups >= syncs && syncs > 0.0, "{batches} batches, {groups} groups, {syncs} syncs");
    assert_eq!(of("bellhop_journal_queue_batches") == 0.0, of("bellhop_journal_queue_bytes") == 0.0);
    // One that somebody waits for is counted when it begins.
    assert!(syncs + 1.0 >= of("bellhop_journal_syncs_waited_total") && of("bellhop_journal_written_bytes_total") > 1e4);
    assert!((2.0..=3.0).contains(&of("bellhop_timers")), "two runs wait for their time, and one is suspended");
    assert!(of("bellhop_http_connections") >= 1.0 && of("bellhop_tasks") > 1.0, "this request's own");
    assert!(of("process_threads") > 1.0 && of("process_virtual_memory_bytes") > of("process_resident_memory_bytes"));
    assert!(of("process_cpu_seconds_total") > 0.0 && of("process_start_time_seconds") > 1.6e9);
    // Names of people, runs and unknown addresses make no series.
    let strange = found.keys().find(|name| name.contains("run_") && name.contains("id=") || name.contains("such"));
    assert_eq!(strange, None);
}

#[test]
fn surroundings_s14_each_metric_is_what_has_happened() {
    let mut hosted = story();
    // A run is counted when its driver has left it, which is after its end can be seen.
    let end = now() + DEADLINE;
    let durations = |found: &BTreeMap<String, f64>| {
        let of =
            |status: &str| found.get(&format!("bellhop_run_duration_seconds_count{{status=\"{status}\"}}")).copied();
        (of("completed"), of("faulted"))
    };
    // Each of those that rest has left, too, and the one that is suspended twice.
    let left = |found: &BTreeMap<String, f64>| found["bellhop_runs_left_total"];
    let found = loop {
        let found = metrics(&hosted);
        if durations(&found) == (Some(3.0), Some(1.0)) && left(&found) >= 8.0 {
            break found;
        }
        assert!(now() < end, "{found:#?}");
        std::thread::yield_now();
    };
    let starts = |status: &str| {
        format!(
            "http_server_request_duration_seconds_count{{http_request_method=\"POST\",\
             http_route=\"/v1/workflows/{{namespace}}/{{name}}/runs\",http_response_status_code=\"{status}\"}}"
        )
    };
    let calls = |outcome: &str| {
        format!("bellhop_slack_call_duration_seconds_count{{method=\"chat.postMessage\",outcome=\"{outcome}\"}}")
    };
    let open = |status: &str| format!("bellhop_runs_open{{status=\"{status}\"}}");
    for (name, value) in [
        ("bellhop_runs_accepted_total".to_owned(), 7.0),
        (open("running"), 0.0),
        (open("waiting"), 2.0),
        (open("suspended"), 1.0),
        (open("parked"), 0.0),
        (open("blocked"), 0.0),
        ("bellhop_runs_live".to_owned(), 0.0),
        ("bellhop_runs_in_line".to_owned(), 0.0),
        ("bellhop_runs_set_aside".to_owned(), 0.0),
        (calls("done"), 3.0),
        (calls("refused"), 1.0),
        (starts("202"), 7.0),
        ("bellhop_limiter_wait_seconds_count".to_owned(), 4.0),
        ("bellhop_limiter_waiting".to_owned(), 0.0),
        ("bellhop_sandbox_guests".to_owned(), 0.0),
        ("bellhop_sandbox_guests_waiting".to_owned(), 0.0),
        ("bellhop_sandbox_compiling".to_owned(), 0.0),
        ("bellhop_facts_damaged".to_owned(), 0.0),
        ("bellhop_disk_lacks_room".to_owned(), 0.0),
        ("bellhop_resolving".to_owned(), 0.0),
        ("bellhop_waiting_runs".to_owned(), 0.0),
        ("bellhop_turns_kept".to_owned(), 0.0),
        ("bellhop_clock_doubted".to_owned(), 0.0),
        ("bellhop_http_event_streams".to_owned(), 0.0),
        ("bellhop_trace_spans_total{outcome=\"sent\"}".to_owned(), 0.0),
        (format!("bellhop_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ("bellhop_ready".to_owned(), 1.0),
    ] {
        assert_eq!(found.get(&name), Some(&value), "{name}: {found:#?}");
    }
    fits_together(&found);
    // A start reads from the marks how many stand how.
    hosted.terminate();
    assert_eq!(hosted.ended(), 0);
    hosted.start_host();
    hosted.ready();
    let found = metrics(&hosted);
    let stand = ["running", "waiting", "parked", "suspended", "blocked"].map(|status| found[&open(status)]);
    assert_eq!(stand, [0.0, 2.0, 0.0, 1.0, 0.0]);
    assert_eq!(found["bellhop_runs_accepted_total"], 0.0);
}

#[test]
fn surroundings_s14_what_is_under_way_is_counted_for_as_long_as_it_is() {
    let hosted = Hosted::start("");
    hosted.install_slack();
    hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
    hosted.apply("it/good", GOOD);
    hosted.ready();
    let free = metrics(&hosted)["bellhop_sandbox_free_slots"];
    // Slack has the request of the first run and does not answer; the second lacks its connection.
    let fault = hosted.fault(&json!({ "method": "chat.postMessage", "times": 1, "action": "hold_before_accept" }));
    let starts = "/v1/workflows/it/good/runs";
    let open = hosted.done("POST", starts, Some(&json!({ "input": {} })))["id"].as_str().unwrap().to_owned();
    hosted.fired(fault, 1);
    let elsewhere = json!({ "input": {}, "connections": { "plus": "later" } });
    hosted.done("POST", &format!("{starts}?onRefusal=block"), Some(&elsewhere));
    let mut reader = TcpStream::connect(&hosted.address).unwrap();
    let head =
        format!("Host: {}\r\nAuthorization: Bearer {}\r\nAccept: text/event-stream", hosted.address, hosted.token);
    write!(reader, "GET /v1/runs/{open}/events HTTP/1.1\r\n{head}\r\n\r\n").unwrap();

    let seen = |names: [&str; 6]| {
        let found = metrics(&hosted);
        names.map(|name| found[name])
    };
    let names = [
        "bellhop_runs_open{status=\"running\"}",
        "bellhop_runs_open{status=\"blocked\"}",
        "bellhop_runs_live",
        "bellhop_sandbox_guests",
        "bellhop_http_event_streams",
        "bellhop_ready",
    ];
    for (what, wanted) in [("under way", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]), ("over", [0.0, 1.0, 0.0, 0.0, 0.0, 1.0])] {
        let end = now() + DEADLINE;
        while seen(names) != wanted {
            assert!(now() < end, "{what}: {:?} instead of {wanted:?}", seen(names));
            std::thread::yield_now();
        }
        let slots = metrics(&hosted)["bellhop_sandbox_free_slots"];
        assert!(slots <= free, "{what}: {slots} of {free}");
        if what == "under way" {
            assert!(metrics(&hosted)["bellhop_http_connections"] >= 2.0);
            hosted.release(fault);
            reader.shutdown(Shutdown::Both).unwrap();
        }
    }
}

/// The name of a metric, of one of its lines.
fn metric(line: &str) -> &str {
    let name = line.split('{').next().unwrap_or(line);
    let of_histogram = ["_bucket", "_count", "_sum"].into_iter().find_map(|end| name.strip_suffix(end));
    of_histogram.unwrap_or(name)
}

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// The names of metrics in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let ours = |word: &&str| ["bellhop_", "http_server_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    words.filter(ours).map(str::to_owned).collect()
}

#[test]
fn what_dashboards_and_alerts_name_is_there() {
    let rules = std::fs::read_to_string(packaging("prometheus/alerts.yml")).unwrap();
    let dashboard = std::fs::read_to_string(packaging("grafana/bellhop.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let shown = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut used: BTreeSet<String> = shown.flat_map(|target| named(target["expr"].as_str().unwrap())).collect();
    for line in rules.lines().filter(|line| !line.trim_start().starts_with('#')) {
        used.extend(named(line));
    }
    assert!(used.len() > 30, "{used:?}");
    let hosted = story();
    let found = metrics(&hosted);
    let all: BTreeSet<&str> = found.keys().map(|line| metric(line)).collect();
    assert_eq!(all, BTreeSet::from(HELD), "a metric is held by no test, or is gone");
    let there: BTreeSet<&str> = found.keys().map(|name| name.split('{').next().unwrap_or(name)).collect();
    let missing: Vec<&String> = used.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} are in no /metrics");
}

#[test]
fn each_alert_has_its_place_in_the_operators_guide() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let rules = std::fs::read_to_string(packaging("prometheus/alerts.yml")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let headings: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("### Bellhop")).collect();
    let of_alerts: Vec<&str> = alerts.iter().filter_map(|alert| alert.strip_prefix("Bellhop")).collect();
    assert_eq!(headings, of_alerts, "the guide has them in the order of the rules");
    for alert in alerts {
        assert!(
            rules.contains(&format!("runbook_url: https://bellhop.dev/operating#{}", alert.to_lowercase())),
            "{alert}"
        );
    }
}

/// Prometheus's own checker, from Debian's package, which is unpacked and not installed.
fn promtool() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    let tool = folder.join("unpacked/usr/bin/promtool");
    if !tool.is_file() {
        std::fs::create_dir_all(&folder).unwrap();
        let fetched = Command::new("apt-get").args(["download", "prometheus"]).current_dir(&folder).output();
        let fetched = fetched.ok().filter(|done| done.status.success());
        fetched?;
        let mut package = std::fs::read_dir(&folder).unwrap().filter_map(Result::ok).map(|entry| entry.path());
        let package = package.find(|path| path.extension().is_some_and(|end| end == "deb"))?;
        let unpacked = Command::new("dpkg-deb").arg("-x").arg(package).arg(folder.join("unpacked")).status();
        unpacked.ok().filter(std::process::ExitStatus::success)?;
    }
    tool.is_file().then_some(tool)
}

#[test]
fn the_alerts_come_in_the_stories_in_which_they_have_to() {
    let Some(promtool) = promtool() else {
        println!("skipped: Debian's package `prometheus` cannot be had here");
        return;
    };
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let mut command = Command::new(&promtool);
        let done = command.args(arguments).current_dir(packaging("prometheus")).output().unwrap();
        let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
        assert!(done.status.success(), "{said}");
    }
}
