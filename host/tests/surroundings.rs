//! What surrounds a host and its verbs: streams that end or are full, restarts, addresses as people write them.

#![allow(clippy::disallowed_methods, reason = "a wait has a deadline")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bellhop::{Place, Started};

const LONG: &str = "\
document: {dsl: 1.0.3, namespace: it, name: long, version: 1.0.0}
do:
  - a: {wait: {minutes: 20}}
";

/// Nothing here takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

fn last_word(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// A host that reaches no Slack, with a workflow that waits.
struct Hosted {
    place: Place,
    host: Option<Started>,
    url: String,
    token: String,
}

impl Hosted {
    fn start() -> Self {
        let place = Place::new();
        let mut host = Self::serve(&place, "localhost:0");
        let token = last_word(&host.line());
        let url = last_word(&host.line());
        let hosted = Self { place, host: Some(host), url, token };
        hosted.place.write("long.yaml", LONG);
        assert_eq!(hosted.run(&["workflows", "apply", "long.yaml"]).code, 0);
        hosted
    }

    fn serve(place: &Place, listen: &str) -> Started {
        place.start(&["serve", "--listen", listen, "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"])
    }

    /// Ends the host, and starts it again at the same address.
    fn restart(&mut self) {
        let mut host = self.host.take().unwrap();
        host.terminate();
        assert_eq!(host.wait(), 0);
        drop(host);
        let mut host = Self::serve(&self.place, self.url.trim_start_matches("http://"));
        assert_eq!(last_word(&host.line()), self.url);
        self.host = Some(host);
    }

    fn run(&self, arguments: &[&str]) -> bellhop::Done {
        self.place.run_with(arguments, &[("BELLHOP_URL", &self.url), ("BELLHOP_TOKEN", &self.token)])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bellhop::program());
        command.args(arguments).env("BELLHOP_URL", &self.url).env("BELLHOP_TOKEN", &self.token);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// Starts a run that waits; its id.
    fn waiting_run(&self) -> String {
        let started = self.run(&["run", "it/long"]);
        assert_eq!(started.code, 0, "{}", started.stderr);
        started.stdout.split(' ').next().unwrap().to_owned()
    }
}

/// How a process ended, which has to end soon.
fn ended(child: &mut Child) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > DEADLINE {
            let _ended = child.kill();
            panic!("it goes on");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

#[test]
fn surroundings_s2_a_first_token_that_was_lost_is_made_anew() {
    let place = Place::new();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir"];
    let data = place.path("data");
    let mut lost = Command::new(bellhop::program());
    let mut lost = lost.args(serve).arg(&data).stdout(full()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(lost.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("each start makes it anew") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the host ended");
    }
    lost.kill().unwrap();
    lost.wait().unwrap();
    let mut host = place.start(&[&serve[..], &["data"]].concat());
    let (token, url) = (last_word(&host.line()), last_word(&host.line()));
    let listed = place.run_with(&["runs", "list"], &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", &token)]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    drop(host);
    let mut host = place.start(&[&serve[..], &["data"]].concat());
    assert!(host.line().starts_with("bellhop listens"), "it was used: no other is made");
}

#[test]
fn surroundings_s2_a_first_token_can_go_to_a_file_that_goes_when_it_is_used() {
    let place = Place::new();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
    let mut host = place.start(&[&serve[..], &["--first-token-file", "token"]].concat());
    assert_eq!(host.line(), "operator token: in token, until it is used");
    let url = last_word(&host.line());
    let file = place.path("token");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let token = fs::read_to_string(&file).unwrap();
    let listed = place.run_with(&["runs", "list"], &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", token.trim())]);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let begun = Instant::now();
    while fs::exists(&file).unwrap() {
        assert!(begun.elapsed() < DEADLINE, "the file is still there");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn surroundings_s3_what_cannot_be_written_is_said() {
    let hosted = Hosted::start();
    hosted.waiting_run();
    for verb in [&["runs", "list"][..], &["runs", "export"], &["config"], &["explain", "plan-required"], &["--help"]] {
        let mut child = hosted.command(verb).stdout(full()).spawn().unwrap();
        assert_eq!(ended(&mut child), 1, "{verb:?}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(said.contains("No space left on device"), "{verb:?}: {said}");
    }
}

#[test]
fn surroundings_s4_a_follower_ends_with_its_reader() {
    let hosted = Hosted::start();
    let run = hosted.waiting_run();
    let mut child = hosted.command(&["runs", "watch", &run]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.contains("accepted"), "{first}");
    assert_eq!(ended(&mut child), 0);
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "", "only its reader has gone");
}

#[test]
fn surroundings_s6_a_follower_goes_on_over_a_restart() {
    let mut hosted = Hosted::start();
    let run = hosted.waiting_run();
    let mut child = hosted.command(&["runs", "watch", &run]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("waits 20 min")));
    hosted.restart();
    assert_eq!(hosted.run(&["runs", "cancel", &run]).code, 0);
    let rest: Vec<String> = lines.collect();
    assert_eq!(ended(&mut child), 1, "it did not complete");
    assert!(rest.iter().any(|line| line.contains("cancelled")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("accepted")), "it goes on where it was: {rest:?}");
    // A host that was never there is not waited for.
    let begun = Instant::now();
    let nobody = hosted.place.run_with(&["runs", "watch", &run], &[("BELLHOP_URL", "http://127.0.0.1:1")]);
    assert_eq!(nobody.code, 5, "{}", nobody.stderr);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// Passes connections on to `to`; the first answer is lost.
fn lossy(to: String) -> (String, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&taken);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut host) = (client.unwrap(), TcpStream::connect(&to).unwrap());
            let is_lost = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let (mut from, mut into) = (client.try_clone().unwrap(), host.try_clone().unwrap());
            std::thread::spawn(move || {
                let _cut = std::io::copy(&mut from, &mut into);
            });
            std::thread::spawn(move || {
                if is_lost {
                    // The host has answered, so that it has started the run.
                    let mut begin = [0; 1];
                    let _read = host.read(&mut begin);
                    let _cut = client.shutdown(std::net::Shutdown::Both);
                } else {
                    let _cut = std::io::copy(&mut host, &mut client);
                    let _flushed = client.flush();
                }
            });
        }
    });
    (url, taken)
}

#[test]
fn surroundings_s6_a_start_whose_answer_was_lost_is_one_run() {
    let hosted = Hosted::start();
    let (url, taken) = lossy(hosted.url.trim_start_matches("http://").to_owned());
    let environment = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", &hosted.token)];
    let started = hosted.place.run_with(&["run", "it/long"], &environment);
    assert_eq!(started.code, 0, "{}", started.stderr);
    assert!(taken.load(Ordering::SeqCst) >= 2, "it was sent again");
    assert!(!started.stderr.contains("has started this run before"), "{}", started.stderr);
    let listed = hosted.run(&["runs", "list", "--output", "json"]).json();
    assert_eq!(listed["result"].as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn surroundings_s7_wrong_addresses_are_told_what_is_right() {
    let place = Place::new();
    for wrong in ["localhost", "::1:7420", "http://localhost:7420"] {
        let done = place.run(&["serve", "--listen", wrong, "--data-dir", "data"]);
        assert_eq!(done.code, 2, "{wrong}: {}", done.stderr);
        assert!(
            done.stderr.contains("such as 127.0.0.1:7420, [::1]:7420 or localhost:7420"),
            "{wrong}: {}",
            done.stderr
        );
    }
    assert!(!fs::exists(place.path("data")).unwrap(), "nothing was begun");
}

#[test]
fn surroundings_s13_a_program_that_is_replaced_goes_on_compiling() {
    let place = Place::new();
    let program = place.path("program");
    fs::copy(bellhop::program(), &program).unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
    let mut host = place.start_other(&program, &serve, &[]);
    let (token, url) = (last_word(&host.line()), last_word(&host.line()));
    fs::remove_file(&program).unwrap();
    fs::write(&program, "#!/bin/sh\nexit 3\n").unwrap();
    let install = ["plugin", "install", bellhop::slack_plugin()];
    let installed = place.run_with(&install, &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", &token)]);
    assert_eq!(installed.code, 0, "{}", installed.stderr);
}

/// A proxy that refuses everything, and what it was asked for.
fn refusing_proxy() -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (asked, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut line = String::new();
            let _read = BufReader::new(&client).read_line(&mut line);
            let _told = client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
            if asked.send(line.trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    (address, heard)
}

#[test]
fn surroundings_s8_slack_is_asked_through_the_proxy_that_the_environment_names() {
    let (proxy, heard) = refusing_proxy();
    let place = Place::new();
    place.write("token", "xoxb-1234567890\n");
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "https://slack.invalid", "--data-dir", "data"];
    let connect = ["connect", "slack", "--kind", "workspace", "--name", "hq", "--bot-token-file", "token"];
    let ask = |environment: &[(&str, &str)]| {
        let _gone = fs::remove_dir_all(place.path("data"));
        let mut host = place.start_with(&serve, environment);
        let (token, url) = (last_word(&host.line()), last_word(&host.line()));
        // The way to the host takes no proxy.
        let to_host = [("BELLHOP_URL", url.as_str()), ("BELLHOP_TOKEN", &token), ("HTTP_PROXY", &proxy)];
        let connected = place.run_with(&connect, &to_host);
        assert_ne!(connected.code, 0, "{}", connected.stdout);
        connected.stderr
    };
    ask(&[("HTTPS_PROXY", proxy.as_str())]);
    assert_eq!(heard.recv_timeout(DEADLINE).unwrap(), "CONNECT slack.invalid:443 HTTP/1.1");
    while heard.try_recv().is_ok() {}
    ask(&[("HTTPS_PROXY", proxy.as_str()), ("NO_PROXY", "slack.invalid")]);
    ask(&[]);
    assert!(heard.try_recv().is_err(), "nobody asked the proxy");
}

#[test]
fn surroundings_s9_a_machine_without_certificates_is_no_reason_not_to_start() {
    let nothing = [("SSL_CERT_FILE", "/no/such/file"), ("SSL_CERT_DIR", "/no/such/folder")];
    let place = Place::new();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "https://slack.invalid", "--data-dir", "data"];
    let mut host = place.start_with(&serve, &nothing);
    let (token, url) = (last_word(&host.line()), last_word(&host.line()));
    let environment = [&nothing[..], &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", &token)]].concat();
    let listed = place.run_with(&["runs", "list"], &environment);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    let log = fs::read_to_string(place.path("stderr.log")).unwrap();
    assert!(log.contains("this system has no certificates that can be used"), "{log}");
}

#[test]
fn surroundings_s10_a_file_of_certificates_that_has_none_is_said() {
    let place = Place::new();
    for (text, said) in [(Some("not PEM"), "it has no certificate in PEM form"), (None, "No such file or directory")] {
        text.iter().for_each(|text| place.write("ca.pem", text));
        let name = if text.is_some() { "ca.pem" } else { "gone.pem" };
        place.write("bellhop.toml", &format!("ca_file = \"{name}\"\n"));
        let serve = ["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"];
        let done = place.run(&serve);
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains("only lies in this folder"), "{}", done.stderr);
        let done = place.run(&[&serve[..], &["--config", "bellhop.toml"]].concat());
        assert_eq!(done.code, 2, "{}", done.stderr);
        assert!(done.stderr.contains(&format!("the certificates of {name}: {said}")), "{}", done.stderr);
        assert!(done.stderr.contains("name a file in PEM form by `ca_file`"), "{}", done.stderr);
    }
}

#[test]
fn surroundings_s7_http_to_another_machine_is_taken_when_it_is_said_on_purpose() {
    let place = Place::new();
    let environment = [("BELLHOP_URL", "http://bellhop.invalid:7420"), ("BELLHOP_TOKEN", "bh_1")];
    let refused = place.run_with(&["runs", "list"], &environment);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("--allow-http"), "{}", refused.stderr);
    let asked = place.run_with(&["runs", "list", "--allow-http"], &environment);
    assert_eq!(asked.code, 5, "there is no such machine: {}", asked.stderr);
}

/// A file system that is full from the start.
struct Full(tempfile::TempDir);

impl Full {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path());
        let is_mounted = mount.status().is_ok_and(|status| status.success());
        let full = is_mounted.then_some(Self(folder))?;
        let mut filler = File::create(full.0.path().join("filler")).unwrap();
        while filler.write_all(&[0; 4_096]).is_ok() {}
        Some(full)
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _left = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn surroundings_s16_a_start_on_a_full_disk_says_what_the_system_said() {
    let Some(full) = Full::mount() else {
        println!("skipped: a file system cannot be mounted here");
        return;
    };
    let data = full.0.path().join("data");
    let done = Place::new().run(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &data.to_string_lossy()]);
    assert_eq!(done.code, 70, "{}", done.stderr);
    assert!(done.stderr.contains("No space left on device"), "{}", done.stderr);
}

#[test]
fn surroundings_s7_a_host_is_found_by_a_socket_in_the_file_system() {
    let place = Place::new();
    place.write("bellhop.toml", "listen = \"unix:host.sock\"\n");
    let serve = ["serve", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
    let mut host = place.start(&serve);
    let token = last_word(&host.line());
    assert_eq!(host.line(), "bellhop listens on unix:host.sock");
    // The verbs find it by the same configuration.
    let list = |place: &Place| place.run_with(&["runs", "list"], &[("BELLHOP_TOKEN", token.as_str())]);
    let listed = list(&place);
    assert_eq!(listed.code, 0, "{}", listed.stderr);
    host.terminate();
    assert_eq!(host.wait(), 0);
    assert!(!fs::exists(place.path("host.sock")).unwrap(), "it takes its socket along");
    let nobody = list(&place);
    assert_eq!(nobody.code, 5, "{}", nobody.stderr);
    assert!(nobody.stderr.contains("no host answers at unix:host.sock"), "{}", nobody.stderr);
    // One that was killed leaves its socket, and the next start takes its place.
    let mut killed = place.start(&serve);
    killed.line();
    drop(killed);
    let mut again = place.start(&serve);
    assert_eq!(again.line(), "bellhop listens on unix:host.sock");
    assert_eq!(list(&place).code, 0);
    // Another host does not take it from this one.
    let second = place.run(&["serve", "--slack-url", "http://127.0.0.1:1", "--data-dir", "other"]);
    assert_eq!(second.code, 1, "{}", second.stderr);
    assert!(second.stderr.contains("cannot listen on unix:host.sock"), "{}", second.stderr);
}

#[test]
fn surroundings_s15_a_file_as_systems_write_it_is_read_or_told_what_is_wrong() {
    let hosted = Hosted::start();
    let input = "{\r\n  \"name\": \"Zo\u{eb}\"\r\n}\r\n";
    let marked = format!("\u{feff}{input}");
    hosted.place.write("marked.json", &marked);
    let taken = hosted.run(&["run", "it/long", "--input", "marked.json"]);
    assert_eq!(taken.code, 0, "{}", taken.stderr);
    let wide: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let latin: Vec<u8> = input.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    for (bytes, words) in [(wide, "UTF-16LE"), (latin, "byte 16 (counted from 0) is 0xeb")] {
        fs::write(hosted.place.path("input.json"), bytes).unwrap();
        let refused = hosted.run(&["run", "it/long", "--input", "input.json"]);
        assert_ne!(refused.code, 0);
        assert!(refused.stderr.contains(words), "{words}: {}", refused.stderr);
    }
    for (name, words) in [("badge.yaml", "badge: 00123"), ("phone.yaml", "phone: 0301234567")] {
        hosted.place.write(name, words);
        let refused = hosted.run(&["run", "it/long", "--input", name]);
        assert_eq!(refused.code, 3, "{}", refused.stderr);
        assert!(refused.stderr.contains("in quotes"), "{}", refused.stderr);
    }
    let inline = hosted.run(&["run", "it/long", "--input", "{\"n\": 123456789012345678901234567890}"]);
    assert_eq!(inline.code, 2, "{}", inline.stderr);
    assert!(inline.stderr.contains("send it as text"), "{}", inline.stderr);
    hosted.place.write("windows.yaml", &format!("\u{feff}{}", LONG.replace('\n', "\r\n").replace("1.0.0", "1.0.1")));
    let applied = hosted.run(&["workflows", "apply", "windows.yaml"]);
    assert_eq!(applied.code, 0, "{}", applied.stderr);
}
