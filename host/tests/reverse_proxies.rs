//! A host behind the reverse proxies of which there are pages, configured as the pages say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod bellhop;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bellhop::hosted::now;
use bellhop::http::{self, Answer, Request, Stream};
use bellhop::{Place, Started, tls};
use serde_json::{Value, json};

const LONG: &str = "\
document: {dsl: 1.0.3, namespace: it, name: long, version: 1.0.0}
do:
  - a: {wait: {minutes: 20}}
";

/// Whatever is waited for comes sooner.
const DEADLINE: Duration = Duration::from_secs(30);
/// What is passed on at once is there by then.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Different ones: each is held until all are chosen.
fn free_ports<const COUNT: usize>() -> [u16; COUNT] {
    let held = [(); COUNT].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn last_word(line: &str) -> String {
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// A host that trusts this machine.
struct Hosted {
    place: Place,
    _host: Started,
    /// `host:port`.
    address: String,
    token: String,
}

impl Hosted {
    fn start(limits: &str, flags: &[&str]) -> Self {
        let place = Place::new();
        place.write("bellhop.toml", &format!("trusted_proxies = [\"127.0.0.1\"]\n[limits]\n{limits}"));
        place.write("long.yaml", LONG);
        let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
        let mut host = place.start(&[&serve[..], flags].concat());
        let (token, url) = (last_word(&host.line()), last_word(&host.line()));
        let address = url.trim_start_matches("http://").to_owned();
        let hosted = Self { place, _host: host, address, token };
        hosted.verb(&format!("http://{}", hosted.address), &["workflows", "apply", "long.yaml"], &[]);
        hosted
    }

    /// A verb that asks the host at `url` and has to succeed.
    fn verb(&self, url: &str, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let own = [("BELLHOP_URL", url), ("BELLHOP_TOKEN", self.token.as_str())];
        let done = self.place.run_with(arguments, &[&own[..], environment].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.stderr);
        done.stdout
    }

    fn request<'a>(&'a self, method: &'a str, path: &'a str, headers: &[(&str, &str)], body: &str) -> Request<'a> {
        let own = [("Content-Type", "application/json")];
        let headers = own.iter().chain(headers).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Request { method, path, token: &self.token, headers: headers.collect(), body: body.into() }
    }

    fn send(&self, address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        http::send(address, &self.request(method, path, headers, body)).unwrap()
    }

    fn open(&self, address: &str, path: &str, headers: &[(&str, &str)]) -> Stream {
        http::open(address, &self.request("GET", path, headers, "")).unwrap()
    }
}

/// The one block of a page in this language.
fn block(page: &str, language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/surroundings").join(page);
    let text = fs::read_to_string(path).unwrap();
    let fence = format!("```{language}\n");
    let mut blocks = text.split(&fence).skip(1);
    let block = blocks.next().and_then(|rest| rest.split("```").next()).unwrap().to_owned();
    assert!(blocks.next().is_none(), "{page} has one block of {language}");
    block
}

/// A block of a page with what is this machine's in place of what stands there.
fn with(mut text: String, changes: &[(&str, &str)]) -> String {
    for (written, here) in changes {
        assert!(text.contains(written), "`{written}` stands in the page: {text}");
        text = text.replace(written, here);
    }
    text
}

/// A program that is there, by its name.
fn program(name: &str) -> Option<PathBuf> {
    let beside_python =
        std::env::var_os("BELLHOP_PYTHON").and_then(|python| Some(Path::new(&python).parent()?.join(name)));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let named = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|folder| folder.join(name));
    beside_python.into_iter().chain(named).find(|path| path.is_file())
}

/// A proxy before a host; it is killed when this is dropped.
struct Proxy {
    child: Child,
    /// `host:port` at which it takes plain HTTP.
    address: String,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

impl Proxy {
    /// Starts it, and waits until the host answers through it.
    fn start(hosted: &Hosted, mut command: Command, port: u16) -> Self {
        let log = fs::File::create(hosted.place.path("proxy.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command.env("HOME", hosted.place.path("home")).env("XDG_DATA_HOME", hosted.place.path("home"));
        let mut proxy = Self { child: command.spawn().unwrap(), address: format!("127.0.0.1:{port}") };
        let begun = now();
        let probe = Request { method: "GET", path: "/bellhop/healthz", ..Request::default() };
        while !http::send(&proxy.address, &probe).is_ok_and(|answer| answer.status == 200) {
            let log = || fs::read_to_string(hosted.place.path("proxy.log")).unwrap();
            assert!(begun.elapsed() < DEADLINE && proxy.child.try_wait().unwrap().is_none(), "{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }
}

/// That a host with a limit of 64 KiB for bodies can be used through a proxy that takes `/bellhop` away.
fn works_through(hosted: &Hosted, proxy: &Proxy) {
    let at = proxy.address.as_str();
    // What a client says of its way is not believed.
    let forged =
        [("X-Forwarded-Prefix", "/forged"), ("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9")];
    let started = hosted.send(at, "POST", "/bellhop/v1/workflows/it/long/runs", &forged, r#"{"input":{}}"#);
    assert_eq!(started.status, 202, "{}", started.text);
    let run = started.json();
    let own = format!("/bellhop/v1/runs/{}", run["id"].as_str().unwrap());
    assert_eq!(started.header("location"), Some(own.as_str()));
    let link = |name: &str| run["links"][name].as_str().unwrap().to_owned();
    assert_eq!(link("self"), own);
    assert_eq!(hosted.send(at, "GET", &link("self"), &[], "").json()["id"], run["id"]);

    let begun = now();
    let mut cancelled = None;
    let events = http::events(hosted.open(at, &link("events"), &[]), |seen| {
        if cancelled.is_none() && !seen.is_empty() {
            assert!(begun.elapsed() < AT_ONCE, "the first event took {:?}", begun.elapsed());
            let answer = hosted.send(at, "POST", &link("cancel"), &[], "{}");
            assert_eq!(answer.status, 200, "{}", answer.text);
            cancelled = Some(now());
        }
        seen.last().is_some_and(|event| event.kind == "run.cancelled")
    });
    assert_eq!(events.last().map(|event| event.kind.as_str()), Some("run.cancelled"));
    let took = cancelled.unwrap().elapsed();
    assert!(took < AT_ONCE, "an event of an open stream took {took:?}");

    let large = json!({ "input": "x".repeat(200_000) }).to_string();
    let refused = hosted.send(at, "POST", "/bellhop/v1/workflows/it/long/runs", &[], &large);
    assert_eq!((refused.status, refused.json()["code"].as_str()), (413, Some("body-too-large")), "{}", refused.text);
    assert_eq!(refused.json()["instance"], "/bellhop/v1/workflows/it/long/runs");
    assert_eq!(hosted.send(at, "GET", "/bellhop/v1/nothing", &[], "").json()["code"], "route-unknown");
    let url = format!("http://{at}/bellhop");
    let listed = hosted.verb(&url, &["runs", "list", "--output", "json"], &[]);
    let listed: Value = serde_json::from_str(&listed).unwrap();
    assert!(listed.to_string().contains(run["id"].as_str().unwrap()), "{listed}");
}

const SMALL: &str = "body_bytes_max = 65_536\n";

#[test]
fn surroundings_s15_a_host_works_behind_nginx_as_its_page_says() {
    let Some(nginx) = program("nginx") else {
        println!("skipped: there is no nginx here");
        return;
    };
    let hosted = Hosted::start(SMALL, &[]);
    let [plain, encrypted] = free_ports();
    let certificates = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates/server");
    let server = with(
        block("nginx.md", "nginx"),
        &[
            ("127.0.0.1:7420", &hosted.address),
            ("listen 443 ssl;", &format!("listen 127.0.0.1:{plain}; listen 127.0.0.1:{encrypted} ssl;")),
            ("hosts.example;", "localhost;"),
            ("/etc/ssl/hosts.example", certificates),
        ],
    );
    let folder = hosted.place.path("nginx");
    fs::create_dir_all(&folder).unwrap();
    let kept: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {folder}/{what};\n"))
        .collect();
    let around = format!("daemon off;\npid {folder}/pid;\nevents {{}}\nhttp {{\naccess_log off;\n{kept}{server}}}\n");
    hosted.place.write("nginx/conf", &around);
    let mut command = Command::new(nginx);
    command.args(["-p", &folder, "-c", &format!("{folder}/conf"), "-e", "stderr"]);
    // Its one process: what is killed leaves none behind.
    command.args(["-g", "master_process off;"]);
    let proxy = Proxy::start(&hosted, command, plain);
    works_through(&hosted, &proxy);
    hosted.place.write("ca.pem", std::str::from_utf8(tls::CA).unwrap());
    let ca = hosted.place.path("ca.pem");
    hosted.verb(&format!("https://localhost:{encrypted}/bellhop"), &["runs", "list"], &[("SSL_CERT_FILE", &ca)]);
}

#[test]
fn surroundings_s15_a_host_works_behind_caddy_as_its_page_says() {
    let Some(caddy) = program("caddy") else {
        println!("skipped: there is no Caddy here");
        return;
    };
    let hosted = Hosted::start(SMALL, &[]);
    let [port] = free_ports();
    let here = format!("http://127.0.0.1:{port} {{");
    let site = with(block("caddy.md", "caddyfile"), &[("127.0.0.1:7420", &hosted.address), ("hosts.example {", &here)]);
    hosted.place.write("Caddyfile", &format!("{{\n\tadmin off\n\tauto_https off\n}}\n{site}"));
    let mut command = Command::new(caddy);
    command.args(["run", "--adapter", "caddyfile", "--config", &hosted.place.path("Caddyfile")]);
    works_through(&hosted, &Proxy::start(&hosted, command, port));
}

#[test]
fn surroundings_s15_a_host_works_behind_traefik_as_its_page_says() {
    let Some(traefik) = program("traefik") else {
        println!("skipped: there is no Traefik here");
        return;
    };
    let hosted = Hosted::start(SMALL, &[]);
    let [port] = free_ports();
    let routes = with(
        block("traefik.md", "yaml"),
        &[
            ("127.0.0.1:7420", &hosted.address),
            ("Host(`hosts.example`) && ", ""),
            ("[websecure]", "[web]"),
            ("      tls: {}\n", ""),
        ],
    );
    hosted.place.write("routes.yaml", &routes);
    let mut command = Command::new(traefik);
    command.args([
        format!("--entryPoints.web.address=127.0.0.1:{port}"),
        format!("--providers.file.filename={}", hosted.place.path("routes.yaml")),
        "--global.checkNewVersion=false".to_owned(),
        "--global.sendAnonymousUsage=false".to_owned(),
    ]);
    works_through(&hosted, &Proxy::start(&hosted, command, port));
}

#[test]
fn surroundings_s15_links_begin_with_the_public_address() {
    let public = "https://hosts.example/bellhop";
    let hosted = Hosted::start("", &["--public-url", public]);
    let at = hosted.address.as_str();
    let started =
        hosted.send(at, "POST", "/v1/workflows/it/long/runs", &[("X-Forwarded-Prefix", "/other")], r#"{"input":{}}"#);
    let run = started.json();
    let own = format!("{public}/v1/runs/{}", run["id"].as_str().unwrap());
    assert_eq!((started.status, started.header("location")), (202, Some(own.as_str())), "{}", started.text);
    assert_eq!(run["links"]["events"], format!("{own}/events"));
    let workflows = hosted.send(at, "GET", "/v1/workflows", &[], "").json();
    assert_eq!(workflows["result"][0]["links"]["self"], format!("{public}/v1/workflows/it/long"));
    // The verbs know it without its links.
    hosted.verb(&format!("http://{at}"), &["runs", "list"], &[]);
    for wrong in ["hosts.example", "https://hosts.example/?a=b", "https://u:p@hosts.example"] {
        let done = hosted.place.run(&["serve", "--public-url", wrong]);
        assert_eq!(done.code, 2, "{wrong}: {}", done.stderr);
        assert!(done.stderr.contains("such as https://bellhop.example"), "{wrong}: {}", done.stderr);
    }
}

#[test]
fn surroundings_s15_who_stands_behind_a_proxy_has_a_share_of_its_own() {
    let hosted = Hosted::start("peer_connections_max = 2\n", &[]);
    let at = hosted.address.as_str();
    let run = hosted.send(at, "POST", "/v1/workflows/it/long/runs", &[], r#"{"input":{}}"#).json();
    let events = format!("/v1/runs/{}/events", run["id"].as_str().unwrap());
    let of = |sender: &'static str| [("X-Forwarded-For", sender)];
    let mut open: Vec<Stream> = (0..2).map(|_| hosted.open(at, &events, &of("192.0.2.7"))).collect();
    assert!(open.iter().all(|stream| stream.status == 200));
    let third = hosted.send(at, "GET", "/v1/runs", &of("192.0.2.7"), "");
    assert_eq!((third.status, third.json()["code"].as_str()), (503, Some("connections-full")), "{}", third.text);
    assert_eq!(hosted.send(at, "GET", "/v1/runs", &of("203.0.113.9, 192.0.2.7"), "").status, 503, "forged before it");
    assert_eq!(hosted.send(at, "GET", "/healthz", &of("192.0.2.7"), "").status, 200, "a probe needs no share");
    assert_eq!(hosted.send(at, "GET", "/v1/runs", &of("192.0.2.8"), "").status, 200, "another has one of its own");
    open.pop();
    let begun = now();
    while hosted.send(at, "GET", "/v1/runs", &of("192.0.2.7"), "").status != 200 {
        assert!(begun.elapsed() < DEADLINE, "a stream that was left counts on");
    }
}
