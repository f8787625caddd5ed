//! One case, from its start to its end: what must happen happens, or a sentence says what did instead.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::bellhop::hosted::now;
use crate::case::{Case, Does, Step, Stream};
use crate::launch::{Order, Running};
use crate::place::{Place, Shared, TEXT, WORKFLOW, differences};
use crate::wire::{Answer, Peer, Request};

/// One request takes no longer.
const ANSWERS_IN: Duration = Duration::from_secs(20);
/// A host ends within this after SIGTERM.
const ENDS_IN: Duration = Duration::from_secs(15);
/// A verb in usual surroundings takes no longer.
const VERB_IN: Duration = Duration::from_secs(30);
/// Between two looks at a host that starts.
const LOOKS_EVERY: Duration = Duration::from_millis(10);
/// The host's own time is right when it is not further off than this.
const SHIFT_ERROR_S: i64 = 3_600;

/// Lines with one of these say what helps.
const REMEDIES: [&str; 4] = ["fix: ", "did you mean", "such as ", "tip: "];

/// Ports that the system gives to nobody by itself: one that it gives to whoever connects would be taken by the time that a
/// host listens there.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A port that nobody else here was given.
pub(crate) fn free_port() -> Result<u16, String> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    // Where two harnesses play, they begin elsewhere.
    let first = std::process::id() % u32::from(PORTS.end - PORTS.start);
    let first = PORTS.start + u16::try_from(first).map_err(|e| e.to_string())?;
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let mut ports = (first..PORTS.end).chain(PORTS.start..first).filter(|port| !given.contains(port));
    let port = ports.find(is_free).ok_or("there is no free port")?;
    drop(ports);
    given.insert(port);
    Ok(port)
}

/// Plays a case; what fell.
pub(crate) fn play(shared: &Shared, case: &Case) -> Result<(), String> {
    let port = free_port()?;
    let place = Place::make(shared, case, port)?;
    let peer = match &case.socket {
        Some(name) => Peer::Path(place.path().join(name)),
        None => Peer::Port(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
    };
    let played = Played { shared, case, place: &place, peer, token: Mutex::new(None) };
    match case.does {
        Does::Serves => played.serves(),
        Does::Refuses => played.refuses(),
        Does::Answers => played.answers(),
    }
}

/// A host that serves, for whoever floods it.
pub(crate) struct Up<'a> {
    pub(crate) peer: &'a Peer,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    played: &'a Played<'a>,
    host: &'a Running,
}

impl Up<'_> {
    /// A run completes.
    pub(crate) fn run(&self) -> Result<(), String> {
        self.played.run(self.host)
    }
}

/// Does something while the host of a case serves; then it has to end in order, and its store to open again.
pub(crate) fn while_up(
    shared: &Shared,
    case: &Case,
    during: impl FnOnce(&Up<'_>) -> Result<String, String>,
) -> Result<String, String> {
    let port = free_port()?;
    let place = Place::make(shared, case, port)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let played = Played { shared, case, place: &place, peer: Peer::Port(address), token: Mutex::new(None) };
    let mut host = played.start(true)?;
    played.up(&mut host)?;
    played.serving(&mut host)?;
    let pid = host.pid()?;
    let told = during(&Up { peer: &played.peer, address, pid, played: &played, host: &host })?;
    played.stop(&mut host)?;
    played.opens_again()?;
    Ok(told)
}

struct Played<'a> {
    shared: &'a Shared,
    case: &'a Case,
    place: &'a Place,
    peer: Peer,
    /// The operator's, once it is known.
    token: Mutex<Option<String>>,
}

fn shows(said: &str, case_shows: &[String], place: &Place) -> Result<(), String> {
    match case_shows.iter().map(|text| place.filled(text)).find(|text| !said.contains(text.as_str())) {
        Some(text) => Err(format!("`{text}` is not said: {}", shortened(said))),
        None => Ok(()),
    }
}

fn lacks(said: &str, case_lacks: &[String], place: &Place) -> Result<(), String> {
    match case_lacks.iter().map(|text| place.filled(text)).find(|text| said.contains(text.as_str())) {
        Some(text) => Err(format!("`{text}` is said: {}", shortened(said))),
        None => Ok(()),
    }
}

fn shortened(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join(" / ").chars().take(1_200).collect()
}

impl Played<'_> {
    /// The arguments of the case's own program.
    fn arguments(&self) -> Vec<String> {
        let data = format!("@{{place}}/{}", self.case.data);
        let listen = match &self.case.socket {
            Some(name) => format!("unix:@{{place}}/{name}"),
            None => "127.0.0.1:@{port}".to_owned(),
        };
        let usual = ["serve", "--listen", &listen, "--slack-url", "http://127.0.0.1:1", "--data-dir", &data];
        let usual = || usual.iter().map(|word| (*word).to_owned()).collect();
        let words: Vec<String> = self.case.arguments.clone().unwrap_or_else(usual);
        words.iter().chain(&self.case.more).map(|word| self.place.filled(word)).collect()
    }

    fn token(&self) -> Option<String> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn start(&self, around: bool) -> Result<Running, String> {
        let order =
            Order { arguments: self.arguments(), environment: Vec::new(), around, program: &self.shared.program };
        Running::start(self.case, self.place, &order)
    }

    /// Waits until the host answers.
    fn up(&self, host: &mut Running) -> Result<(), String> {
        let until = now() + Duration::from_secs(self.case.within_s);
        loop {
            if self.peer.get("/healthz", now() + ANSWERS_IN).is_ok_and(|answer| answer.status == 200) {
                break;
            }
            if let Some(code) = host.ended() {
                std::thread::sleep(LOOKS_EVERY * 2);
                return Err(format!("the host ends at its start with exit code {code}; {}", host.last_words()));
            }
            if now() >= until {
                return Err(format!("/healthz is not 200 within {} s; {}", self.case.within_s, host.last_words()));
            }
            std::thread::sleep(LOOKS_EVERY);
        }
        // From here on it may be renamed.
        host.pid()?;
        Ok(())
    }

    /// Waits until `/readyz` answers as it has to.
    fn ready(&self, host: &mut Running, status: u16, texts: &[String]) -> Result<(), String> {
        let until = now() + Duration::from_secs(self.case.within_s);
        let mut last = String::new();
        let is_so = host.until(until, |_| match self.peer.get("/readyz", now() + ANSWERS_IN) {
            Ok(answer) => {
                last = format!("{} {}", answer.status, answer.text);
                answer.status == status && shows(&answer.text, texts, self.place).is_ok()
            }
            Err(error) => {
                last = error;
                false
            }
        });
        if is_so {
            return Ok(());
        }
        Err(format!("/readyz is not {status} with {texts:?}, but {last}; {}", host.last_words()))
    }

    /// Finds the operator's token: the prepared host's, or what a fresh one has printed.
    fn learn_token(&self, host: &mut Running) -> Result<(), String> {
        // One that was used is not made anew.
        if self.token().is_some() && self.case.run {
            return Ok(());
        }
        let known = if self.case.fresh {
            let file = self.place.path().join("token");
            let until = now() + Duration::from_secs(2);
            let mut found = None;
            host.until(until, |host| {
                let said = host.stdout();
                let printed = said.lines().find_map(|line| line.strip_prefix("operator token (shown this once): "));
                let written = std::fs::read_to_string(&file).ok().map(|text| text.trim().to_owned());
                found = printed.map(str::to_owned).or(written);
                found.is_some() || self.case.stdout != Stream::Read
            });
            found
        } else {
            Some(self.shared.token.clone())
        };
        let Some(token) = known else { return Ok(()) };
        if self.case.fresh && self.case.run {
            let path = format!("/v1/workflows/{WORKFLOW}");
            let kind = "application/yaml";
            let put = Request { method: "PUT", path: &path, token: &token, kind, body: TEXT.as_bytes(), headers: &[] };
            let answer = self.peer.send(&put, now() + ANSWERS_IN)?;
            if !(200..300).contains(&answer.status) {
                return Err(format!("a workflow cannot be applied: {} {}", answer.status, answer.text));
            }
        }
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    fn run(&self, host: &Running) -> Result<(), String> {
        let Some(token) = self.token() else {
            return Err(format!("no token could be read; {}", host.last_words()));
        };
        let path = format!("/v1/workflows/{WORKFLOW}/runs?wait=15s");
        let kind = "application/json";
        let start =
            Request { method: "POST", path: &path, token: &token, kind, body: br#"{"input":{}}"#, headers: &[] };
        let answer = self.peer.send(&start, now() + ANSWERS_IN)?;
        if answer.json()["status"] == "completed" {
            return Ok(());
        }
        Err(format!("a run does not complete: {} {}; {}", answer.status, answer.text, host.last_words()))
    }

    fn is_shifted(&self, shift_s: i64) -> Result<(), String> {
        let answer = self.peer.get("/healthz", now() + ANSWERS_IN)?;
        let date = answer.header("date").ok_or("the host says no time")?;
        let theirs = jiff::fmt::rfc2822::parse(date).map_err(|e| format!("{date}: {e}"))?.timestamp().as_second();
        let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(|e| e.to_string())?;
        let ours = i64::try_from(ours.as_secs()).map_err(|e| e.to_string())?;
        if (theirs - ours - shift_s).abs() < SHIFT_ERROR_S {
            return Ok(());
        }
        Err(format!("the host's time is not shifted: it is {} s off, and has to be {shift_s}", theirs - ours))
    }

    /// What is the host's own, and what it may leave besides.
    fn own(&self) -> Vec<&str> {
        let mut names = vec![self.case.data.as_str()];
        names.extend(self.case.socket.as_deref());
        names.extend(self.case.leaves.iter().map(String::as_str));
        names
    }

    fn serves(&self) -> Result<(), String> {
        let before = self.place.stands(&self.own());
        let mut host = self.start(true)?;
        self.up(&mut host)?;
        self.serving(&mut host)?;
        let mut host = Some(host);
        for (number, step) in self.case.step.iter().enumerate() {
            self.step(step, &mut host).map_err(|why| format!("step {}: {why}", number + 1))?;
        }
        if let Some(mut host) = host.take() {
            self.stop(&mut host)?;
        }
        self.opens_again()?;
        let after = self.place.stands(&self.own());
        let left = differences(&before, &after);
        if left.is_empty() { Ok(()) } else { Err(format!("something was written elsewhere: {}", left.join(", "))) }
    }

    /// What is asked of every host that serves.
    fn serving(&self, host: &mut Running) -> Result<(), String> {
        if let Some(shift) = self.case.shifted_s {
            self.is_shifted(shift)?;
        }
        self.ready(host, self.case.ready, &self.case.readyz)?;
        let until = now() + Duration::from_secs(self.case.within_s);
        host.until(until, |host| shows(&host.said(), &self.case.shows, self.place).is_ok());
        shows(&host.said(), &self.case.shows, self.place)?;
        lacks(&host.said(), &self.case.lacks, self.place)?;
        self.learn_token(host)?;
        if self.case.run { self.run(host) } else { Ok(()) }
    }

    fn stop(&self, host: &mut Running) -> Result<(), String> {
        if let Some(code) = host.ended() {
            return Err(format!("the host has ended with exit code {code}; {}", host.last_words()));
        }
        host.signal("TERM")?;
        let code = host.ends(now() + ENDS_IN).map_err(|why| format!("SIGTERM: {why}"))?;
        if code == self.case.code {
            return Ok(());
        }
        Err(format!("SIGTERM ends it with exit code {code}; {}", host.last_words()))
    }

    /// A verb in usual surroundings, as the user of the case: how it ended and what it said.
    fn verb(&self, line: &[String], environment: Vec<(String, String)>) -> Result<(i32, String), String> {
        let arguments = line.iter().map(|word| self.place.filled(word)).collect();
        let order = Order { arguments, environment, around: false, program: &self.shared.program };
        let mut verb = Running::start(self.case, self.place, &order)?;
        let code = verb.ends(now() + VERB_IN)?;
        Ok((code, verb.said()))
    }

    /// How this host is asked by a verb.
    fn asking(&self) -> Vec<(String, String)> {
        let token = self.token().unwrap_or_else(|| self.shared.token.clone());
        vec![("BELLHOP_URL".to_owned(), self.peer.url()), ("BELLHOP_TOKEN".to_owned(), token)]
    }

    fn opens_again(&self) -> Result<(), String> {
        let folder = self.place.path().join(&self.case.data);
        let mut line = vec!["verify".to_owned()];
        let mut environment = Vec::new();
        if self.case.data == ".bellhop" {
            // One that nobody names has its compiled code in the user's cache.
            let cache = self.case.environment.get_key_value("XDG_CACHE_HOME");
            environment.extend(cache.map(|(name, value)| (name.clone(), self.place.filled(value))));
        } else {
            line.extend(["--data-dir".to_owned(), folder.display().to_string()]);
        }
        let (code, said) = self.verb(&line, environment)?;
        if code == 0 && said.contains("everything fits") {
            return Ok(());
        }
        Err(format!("afterwards `bellhop verify` ends with {code}: {}", shortened(&said)))
    }

    fn refuses(&self) -> Result<(), String> {
        let mut but: Vec<&str> = self.case.leaves.iter().map(String::as_str).collect();
        if self.case.data_changes {
            but.push(&self.case.data);
        }
        let before = self.place.stands(&but);
        let mut host = self.start(true)?;
        let code = host.ends(now() + Duration::from_secs(self.case.within_s))?;
        let said = host.said();
        if code != self.case.code {
            return Err(format!("it ends with {code}, not {}: {}", self.case.code, shortened(&said)));
        }
        shows(&said, &self.case.shows, self.place)?;
        lacks(&said, &self.case.lacks, self.place)?;
        let has_remedy = match &self.case.remedy {
            Some(remedy) => said.contains(&self.place.filled(remedy)),
            None => REMEDIES.iter().any(|word| said.contains(word)),
        };
        if !has_remedy {
            return Err(format!("it does not say what helps: {}", shortened(&said)));
        }
        let changed = differences(&before, &self.place.stands(&but));
        if !changed.is_empty() {
            return Err(format!("it refuses and has changed something: {}", changed.join(", ")));
        }
        if self.case.mended_by.is_empty() {
            return Ok(());
        }
        self.place.shell(&self.case.mended_by, None)?;
        let mut host = self.start(true)?;
        let served = self.up(&mut host).and_then(|()| self.ready(&mut host, 200, &[]));
        served.map_err(|why| format!("after what helps: {why}"))?;
        host.signal("TERM")?;
        match host.ends(now() + ENDS_IN)? {
            0 => Ok(()),
            code => Err(format!("after what helps it ends with {code}; {}", host.last_words())),
        }
    }

    fn answers(&self) -> Result<(), String> {
        let before = self.place.stands(&self.own());
        let mut host = self.case.host.then(|| self.usual_host()).transpose()?;
        let environment = if host.is_some() { self.asking() } else { Vec::new() };
        let order = Order { arguments: self.arguments(), environment, around: true, program: &self.shared.program };
        let mut verb = Running::start(self.case, self.place, &order)?;
        let code = verb.ends(now() + Duration::from_secs(self.case.within_s))?;
        let said = verb.said();
        if code != self.case.code {
            return Err(format!("it ends with {code}, not {}: {}", self.case.code, shortened(&said)));
        }
        shows(&said, &self.case.shows, self.place)?;
        lacks(&said, &self.case.lacks, self.place)?;
        if let Some(remedy) = self.case.remedy.as_ref().filter(|text| !said.contains(&self.place.filled(text))) {
            return Err(format!("`{remedy}`, which helps, is not said: {}", shortened(&said)));
        }
        if let Some(host) = &mut host {
            if self.peer.get("/healthz", now() + ANSWERS_IN)?.status != 200 {
                return Err("afterwards the host does not answer".to_owned());
            }
            host.signal("TERM")?;
            let code = host.ends(now() + ENDS_IN)?;
            if code != 0 {
                return Err(format!("afterwards the host ends with {code}; {}", host.last_words()));
            }
        }
        let left = differences(&before, &self.place.stands(&self.own()));
        if left.is_empty() { Ok(()) } else { Err(format!("something was written elsewhere: {}", left.join(", "))) }
    }

    /// A host in usual surroundings, which a verb asks.
    fn usual_host(&self) -> Result<Running, String> {
        let listen = self.peer.url().trim_start_matches("http://").to_owned();
        let data = self.place.path().join(&self.case.data).display().to_string();
        let words = ["serve", "--listen", &listen, "--slack-url", "http://127.0.0.1:1", "--data-dir", &data];
        let arguments = words.iter().map(|word| (*word).to_owned()).collect();
        let order = Order { arguments, environment: Vec::new(), around: false, program: &self.shared.program };
        let mut host = Running::start(self.case, self.place, &order)?;
        self.up(&mut host)?;
        self.ready(&mut host, 200, &[])?;
        Ok(host)
    }

    fn step(&self, step: &Step, host: &mut Option<Running>) -> Result<(), String> {
        if let Step::Start { around, ready } = step {
            if host.as_mut().is_some_and(|host| host.ended().is_none()) {
                return Err("the host has not ended".to_owned());
            }
            let mut next = self.start(*around)?;
            self.up(&mut next)?;
            if *around {
                self.serving(&mut next)?;
            } else {
                self.ready(&mut next, *ready, &[])?;
                self.learn_token(&mut next)?;
            }
            *host = Some(next);
            return Ok(());
        }
        let Some(running) = host else { return Err("the host has ended before".to_owned()) };
        match step {
            Step::Start { .. } => Ok(()),
            Step::Run => self.run(running),
            Step::Send { method, path, body, headers, status, shows, lacks } => {
                let answer = self.send(method, path, body, headers)?;
                if answer.status != *status {
                    return Err(format!("{method} {path}: {} {}, not {status}", answer.status, answer.text));
                }
                let said = format!("{}\n{}", answer.head, answer.text);
                self::shows(&said, shows, self.place).and_then(|()| self::lacks(&said, lacks, self.place))
            }
            Step::Verb { line, code, shows, lacks, environment } => {
                let own = environment.iter().map(|(name, value)| (name.clone(), self.place.filled(value)));
                let (ended, said) = self.verb(line, self.asking().into_iter().chain(own).collect())?;
                if ended != *code {
                    return Err(format!("{line:?} ends with {ended}, not {code}: {}", shortened(&said)));
                }
                self::shows(&said, shows, self.place).and_then(|()| self::lacks(&said, lacks, self.place))
            }
            Step::Sh { lines } => self.place.shell(lines, Some(running.pid()?)),
            Step::Signal { name } => running.signal(name),
            Step::Log { shows, within_s } => {
                let text = self.place.filled(shows);
                let until = now() + Duration::from_secs(*within_s);
                if running.until(until, |host| host.said().contains(&text)) {
                    return Ok(());
                }
                Err(format!("`{text}` is not said within {within_s} s; {}", running.last_words()))
            }
            Step::Ends { code, within_s } => {
                let ended = running.ends(now() + Duration::from_secs(*within_s))?;
                let words = running.last_words();
                *host = None;
                if ended == *code { Ok(()) } else { Err(format!("it ends with {ended}, not {code}; {words}")) }
            }
            Step::Kill => {
                // Dropping it kills it.
                *host = None;
                Ok(())
            }
        }
    }

    fn send(&self, method: &str, path: &str, body: &str, headers: &[(String, String)]) -> Result<Answer, String> {
        let (path, body) = (self.place.filled(path), self.place.filled(body));
        let token = self.token().unwrap_or_default();
        let kind = if body.is_empty() { "" } else { "application/json" };
        let request = Request { method, path: &path, token: &token, headers, kind, body: body.as_bytes() };
        self.peer.send(&request, now() + ANSWERS_IN)
    }
}
