//! A host as supervisors have it: told by a socket how it is, given a socket to listen on, signals and a log that rotates.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use bellhop::Place;
use bellhop::hosted::{GOOD, Hosted, now};
use bellhop::http::{Request, send};
use serde_json::json;

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

const SERVE: [&str; 7] =
    ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];

fn heard(socket: &UnixDatagram) -> String {
    let mut bytes = [0; 512];
    let length = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap().success());
}

/// Waits until `is_so`.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn last_word(line: &str) -> String {
    line.rsplit(' ').next().unwrap().to_owned()
}

/// The status of `GET /healthz` at `host:port`.
fn health(address: &str) -> u16 {
    let request = Request { method: "GET", path: "/healthz", token: "", headers: Vec::new(), body: Vec::new() };
    send(address, &request).unwrap().status
}

#[test]
fn a_supervisor_hears_that_a_host_is_ready_lives_and_stops() {
    let place = Place::new();
    let path = place.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut host = place.start_with(&SERVE, &[("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "100000")]);
    let starts = heard(&socket);
    assert!(starts.starts_with("STATUS=starting") && starts.contains("\nEXTEND_TIMEOUT_USEC="), "{starts}");
    assert_eq!(heard(&socket), "READY=1\nSTATUS=ready; 0 open runs were taken up");
    for _ in 0..3 {
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }
    host.terminate();
    let mut stops = heard(&socket);
    while stops == "WATCHDOG=1" {
        stops = heard(&socket);
    }
    assert!(stops.starts_with("STOPPING=1\nSTATUS=stopping"), "{stops}");
    assert!(stops.ends_with("\nEXTEND_TIMEOUT_USEC=42000000"), "twice the drain, the spans, and a while: {stops}");
    assert_eq!(host.wait(), 0);
}

#[test]
fn a_supervisor_that_does_not_listen_changes_nothing() {
    let place = Place::new();
    let wrong = place.path("no/such/socket");
    let mut host = place.start_with(&SERVE, &[("NOTIFY_SOCKET", &wrong), ("WATCHDOG_USEC", "nonsense")]);
    let (_, url) = (host.line(), last_word(&host.line()));
    assert_eq!(health(url.trim_start_matches("http://")), 200);
    host.terminate();
    assert_eq!(host.wait(), 0);
}

/// A program that is given a descriptor as the third.
struct Given {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Given {
    fn start(place: &Place, socket: OwnedFd, listen: &str) -> Self {
        let arguments = ["serve", "--listen", listen, "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
        // What is its standard input here is its third descriptor there.
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec \"$0\" \"$@\" 3<&0 0</dev/null";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script, bellhop::program()]).args(arguments);
        let log = fs::File::create(place.path("stderr.log")).unwrap();
        command.current_dir(place.path("")).stdin(socket).stdout(Stdio::piped()).stderr(log);
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        let mut child = command.env("XDG_CACHE_HOME", cache).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next line of its standard output; empty when it has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ended(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[test]
fn surroundings_s7_a_host_listens_on_the_socket_that_is_handed_over() {
    let place = Place::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for listen in ["systemd", "systemd:web"] {
        let mut host = Given::start(&place, listener.try_clone().unwrap().into(), listen);
        let mut line = host.line();
        if line.starts_with("operator token") {
            line = host.line();
        }
        assert_eq!(line, format!("bellhop listens on http://{address}"), "{}", text(&place.path("stderr.log")));
        assert_eq!(health(&address.to_string()), 200);
        signal(host.child.id(), "TERM");
        assert_eq!(host.ended(), 0);
    }
    // Whoever connects in between is not refused.
    assert!(std::net::TcpStream::connect(address).is_ok());
    // One in the file system stays, because it is not the host's.
    let path = place.path("web.sock");
    let mut host = Given::start(&place, UnixListener::bind(&path).unwrap().into(), "systemd");
    while !host.line().ends_with("web.sock") {
        assert!(host.child.try_wait().unwrap().is_none(), "{}", text(&place.path("stderr.log")));
    }
    assert!(UnixStream::connect(&path).is_ok());
    signal(host.child.id(), "TERM");
    assert_eq!(host.ended(), 0);
    assert!(Path::new(&path).exists());
}

#[test]
fn surroundings_s7_a_socket_that_is_missing_or_wrong_is_said() {
    let place = Place::new();
    let serve = ["serve", "--listen", "systemd", "--data-dir", "data"];
    for (environment, said, helps) in [
        (&[][..], "no socket was handed over", "systemctl start"),
        (&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")], "LISTEN_PID is 1", "start bellhop itself"),
        (&[("LISTEN_FDS", "all")], "LISTEN_FDS says `all`", "--listen 127.0.0.1:7420"),
        // There are as many as it says, but no sockets.
        (&[("LISTEN_FDS", "1")], "of no use", "ListenStream="),
        (
            &[("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "a:b")],
            "2 sockets were handed over: a, b",
            "--listen systemd:NAME",
        ),
    ] {
        let done = place.run_with(&[&serve[..], &["--output", "json"]].concat(), environment);
        assert_eq!(done.code, 1, "{environment:?}: {}", done.stderr);
        let error = &done.json()["error"];
        assert_eq!(error["code"], "socket-unusable", "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        assert!(error["help"].as_str().unwrap().contains(helps), "{error}");
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(Given::start(&place, datagrams.into(), "systemd").ended(), 1);
    // A connection, as `Accept=yes` hands over.
    let (connection, _other) = UnixStream::pair().unwrap();
    assert_eq!(Given::start(&place, connection.into(), "systemd").ended(), 1);
    let said = text(&place.path("stderr.log"));
    assert!(said.contains("it is a connection, and does not listen") && said.contains("no Accept=yes"), "{said}");
}

#[test]
fn a_name_in_no_file_system_is_found_by_the_same_configuration() {
    let place = Place::new();
    let name = format!("bellhop-supervised-{}", std::process::id());
    place.write("bellhop.toml", &format!("listen = \"unix:@{name}\"\n"));
    let mut host = place.start(&["serve", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"]);
    let token = last_word(&host.line());
    assert_eq!(host.line(), format!("bellhop listens on unix:@{name}"));
    let listed = place.run_with(&["runs", "list"], &[("BELLHOP_TOKEN", token.as_str())]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
}

#[test]
fn surroundings_s1_a_log_goes_to_its_file_and_follows_its_name() {
    let place = Place::new();
    let (log, rotated) = (place.path("log"), place.path("log.1"));
    let mut host = place.start(&[&SERVE[..], &["--log-file", "log"]].concat());
    let (_, url) = (host.line(), last_word(&host.line()));
    until("the log says that the host is ready", || text(&log).contains("ready"));
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
    assert_eq!(text(&place.path("stderr.log")), "", "nothing goes to standard error");
    // As logrotate does it, and says so by SIGHUP.
    fs::rename(&log, &rotated).unwrap();
    signal(host.pid(), "HUP");
    until("the log is opened anew", || text(&log).contains("SIGHUP"));
    assert!(!text(&rotated).contains("SIGHUP"));
    // As it does with a file that is only removed: whoever logs later than a second after that finds out.
    fs::remove_file(&log).unwrap();
    signal(host.pid(), "HUP");
    until("the log is made anew", || text(&log).contains("SIGHUP"));
    assert_eq!(health(url.trim_start_matches("http://")), 200);
    host.terminate();
    assert_eq!(host.wait(), 0);
    assert!(text(&log).contains("stopping"), "{}", text(&log));
    // It is appended to.
    let before = text(&log);
    let mut again = place.start(&[&SERVE[..], &["--log-file", "log"]].concat());
    again.line();
    until("the next start appends", || text(&log).len() > before.len());
    assert!(text(&log).starts_with(&before));
}

#[test]
fn surroundings_s1_a_log_on_a_full_disk_costs_lines_and_says_how_many() {
    let place = Place::new();
    let (log, real) = (place.path("log"), place.path("real"));
    symlink("/dev/full", &log).unwrap();
    let mut host = place.start(&[&SERVE[..], &["--log-file", "log"]].concat());
    let (_, url) = (host.line(), last_word(&host.line()));
    let address = url.trim_start_matches("http://");
    for _ in 0..3 {
        signal(host.pid(), "HUP");
        assert_eq!(health(address), 200);
    }
    // In one step: the host may open its log at any time, and would make a file of a name that is not there.
    let other = place.path("other");
    symlink(&real, &other).unwrap();
    fs::rename(&other, &log).unwrap();
    signal(host.pid(), "HUP");
    until("what was lost is counted", || text(&real).contains("could not be written"));
    let said = text(&real);
    assert!(said.contains("No space left on device") && said.contains("lines="), "{said}");
    assert_eq!(health(address), 200);
    host.terminate();
    assert_eq!(host.wait(), 0);
}

#[test]
fn a_log_file_that_cannot_be_opened_is_said_at_the_start() {
    let place = Place::new();
    for (path, said) in [("no/such/folder/log", "No such file or directory"), (".", "Is a directory")] {
        let done = place.run(&[&SERVE[..], &["--log-file", path, "--output", "json"]].concat());
        assert_eq!(done.code, 1, "{}", done.stderr);
        let error = &done.json()["error"];
        assert_eq!(error["code"], "file-unwritable", "{error}");
        assert!(error["message"].as_str().unwrap().contains(said), "{error}");
        assert!(error["help"].as_str().unwrap().contains("--log-file PATH"), "{error}");
    }
    assert!(!Path::new(&place.path("data")).exists(), "nothing was begun");
    // A file that only lies in the folder in which somebody starts a host may name any.
    place.write("bellhop.toml", "log_file = \"log\"\n");
    let done = place.run(&SERVE);
    assert_eq!(done.code, 2, "{}", done.stderr);
    assert!(done.stderr.contains("`log_file`") && done.stderr.contains("--config"), "{}", done.stderr);
    let mut host = place.start(&[&SERVE[..], &["--config", "bellhop.toml"]].concat());
    host.line();
    until("the setting counts", || text(&place.path("log")).contains("ready"));
}

#[test]
fn a_hangup_ends_no_host_that_has_no_terminal() {
    let place = Place::new();
    let mut host = place.start(&SERVE);
    let (_, url) = (host.line(), last_word(&host.line()));
    signal(host.pid(), "HUP");
    until("it is said", || text(&place.path("stderr.log")).contains("SIGHUP changes nothing"));
    assert_eq!(health(url.trim_start_matches("http://")), 200);
    host.terminate();
    assert_eq!(host.wait(), 0);
}

#[test]
fn a_second_signal_ends_a_host_at_once_and_loses_nothing() {
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let mut hosted = Hosted::start("[limits]\nreconcile_delay_ms = 1000\n");
        hosted.install_slack();
        hosted.connect("plus", "workspace", "act", &json!({ "bot": "xoxb-plus" }));
        hosted.ready();
        hosted.apply("it/good", GOOD);
        // Slack takes the message, and its answer never comes: the drain waits for it.
        let held = hosted.fault(&json!({ "method": "chat.postMessage", "action": "accept_then_withhold" }));
        let run = hosted.done("POST", "/v1/workflows/it/good/runs", Some(&json!({ "input": {} })));
        let run = run["id"].as_str().unwrap().to_owned();
        hosted.fired(held, 1);
        hosted.terminate();
        while hosted.call("GET", "/readyz", None).status == 200 {
            std::thread::yield_now();
        }
        let begun = now();
        signal(hosted.pid().unwrap(), second);
        assert_eq!(hosted.ended(), code, "{}", hosted.log());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        hosted.no_faults();
        hosted.start_host();
        let view = hosted.done("GET", &format!("/v1/runs/{run}?wait=60s"), None);
        assert_eq!(view["status"], "completed", "{view:#}");
        assert_eq!(hosted.ledger().len(), 1, "once: {:#?}", hosted.ledger());
    }
}

#[test]
fn a_host_leaves_no_core_dump() {
    let place = Place::new();
    let mut host = place.start(&SERVE);
    host.line();
    let limits = text(&format!("/proc/{}/limits", host.pid()));
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[test]
fn limits_that_follow_from_the_machine_say_what_they_come_to() {
    let place = Place::new();
    let shown = place.run(&["config"]).stdout;
    let here: Vec<&str> = shown.lines().filter(|line| line.starts_with("# here ")).collect();
    assert!(here.iter().any(|line| line.contains("memory of the machine")), "{shown}");
    let all = place.run(&["config", "--output", "json"]).json();
    let line = all["limits"].as_array().unwrap().iter().find(|line| line["name"] == "guests_memory_bytes_max").unwrap();
    assert!(line["here"]["value"].as_u64().unwrap() < line["value"].as_u64().unwrap(), "{line}");
    // With few descriptors.
    let script = "ulimit -n 256 && exec \"$0\" config";
    let few = Command::new("/bin/sh").args(["-c", script, bellhop::program()]).current_dir(place.path("")).output();
    let few = String::from_utf8(few.unwrap().stdout).unwrap();
    assert!(few.contains("the descriptors that the process may have"), "{few}");
}
