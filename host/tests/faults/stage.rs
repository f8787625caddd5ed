//! One simulated Slack, and one host after another before it: lives that end where they were ordered to, and a client
//! that does what every client has to, which is to ask again.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bellhop::hosted::{now, try_call};
use crate::bellhop::http::{self, Answer, Request};
use crate::bellhop::{Place, Started, slack_plugin, traced};
use crate::scenarios;
use crate::slicer;

/// What went wrong, in words.
pub(crate) type Outcome<T> = Result<T, String>;

/// Slack's budget, multiplied: nothing here is about it.
const BUDGET_SCALE: &str = "1000";
/// Nothing that these runs do takes as long.
const PATIENCE: Duration = Duration::from_secs(20);
/// The same where a mistake is planted: what it brings to a stop is not waited for as long.
const PATIENCE_WITH_A_PLANT: Duration = Duration::from_secs(6);
/// The next look at something that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// The exit code that stands for a signal.
const BY_SIGNAL: i32 = -1;

/// What a client saw and what Slack has, with nothing in it that differs between two lives without a fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    /// What the script found worth comparing.
    pub(crate) told: Value,
    /// How often Slack accepted each change.
    pub(crate) effects: BTreeMap<String, usize>,
    /// Who is in what, at the end.
    pub(crate) world: Value,
}

/// Where a life ends, counted from 1. The program says what is a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    AtPoint(u64),
    AtPlace(u64),
}

/// What comes before the name of a point at which a place begins.
const PLACE: &str = "* ";

/// See the module.
pub(crate) struct Stage {
    place: Place,
    slack: String,
    token: String,
    /// The mistake that the hosts of this stage make.
    pub(crate) plant: Option<String>,
    /// Where the system calls of the hosts are written down, if they are.
    calls_to: Option<String>,
    host: Option<Started>,
    address: String,
    /// Where the coming lives end; those after them go on.
    deaths: VecDeque<Death>,
    /// How many have ended where they were ordered to.
    pub(crate) died: usize,
    lives: usize,
    trials: usize,
    /// The runs that were acknowledged, with what started them.
    acknowledged: Vec<(String, Start)>,
    /// It goes last: hosts that still run have somebody to talk to.
    _simulator: Started,
}

/// What starts a run.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) body: Value,
}

impl Start {
    pub(crate) fn of(workflow: &str, key: &str, input: &Value) -> Self {
        let path = format!("/v1/workflows/{workflow}/runs");
        Self { path, key: key.to_owned(), body: json!({ "input": input }) }
    }
}

fn address_of(url: &str) -> Outcome<String> {
    url.strip_prefix("http://").map(str::to_owned).ok_or_else(|| format!("no address: {url}"))
}

fn serve<'a>(listen: &'a str, slack_url: &'a str, data: &'a str) -> [&'a str; 9] {
    let scale = ["--budget-scale", BUDGET_SCALE];
    ["serve", "--listen", listen, "--slack-url", slack_url, "--data-dir", data, scale[0], scale[1]]
}

/// A copy of a folder. What was compiled is never written again, and is shared.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.path().extension().is_some_and(|kind| kind == "cwasm") {
            std::fs::hard_link(entry.path(), target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Stage {
    /// A simulator, and data with everything installed that the scenarios need.
    pub(crate) fn set() -> Outcome<Self> {
        let place = Place::new();
        // Nothing is slow on the way here, so that reading back may begin at once.
        place.write("bellhop.toml", "[limits]\nreconcile_delay_ms = 1\n");
        let (ledger, requests) = (place.path("ledger.jsonl"), place.path("requests.jsonl"));
        let scale = ["--budget-scale", BUDGET_SCALE];
        let simulator = ["slack-simulator", scale[0], scale[1], "--ledger", &ledger, "--requests", &requests];
        let mut simulator = place.start(&simulator);
        let slack = address_of(&simulator.try_line().ok_or("the simulator ended")?)?;
        let mut stage = Self {
            place,
            slack,
            token: String::new(),
            plant: None,
            calls_to: None,
            host: None,
            address: "127.0.0.1:0".to_owned(),
            deaths: VecDeque::new(),
            died: 0,
            lives: 0,
            trials: 0,
            acknowledged: Vec::new(),
            _simulator: simulator,
        };
        stage.arrange()?;
        stage.revive()?;
        stage.install()?;
        stage.stop()?;
        // Of what was set up, each trial gets a copy.
        std::fs::rename(stage.data(), stage.template()).map_err(|e| e.to_string())?;
        Ok(stage)
    }

    fn patience(&self) -> Duration {
        if self.plant.is_some() { PATIENCE_WITH_A_PLANT } else { PATIENCE }
    }

    fn template(&self) -> PathBuf {
        PathBuf::from(self.place.path("template"))
    }

    fn data(&self) -> PathBuf {
        PathBuf::from(self.place.path(&format!("data-{}", self.trials)))
    }

    /// Where the current life writes the points that it passes.
    fn trace(&self) -> String {
        self.place.path(&format!("trace-{}-{}", self.trials, self.lives))
    }

    /// What Slack has that is not in every simulator.
    fn arrange(&self) -> Outcome<()> {
        self.slack_post("world", &scenarios::world()).map(drop)
    }

    fn install(&mut self) -> Outcome<()> {
        let plugin = std::fs::read(slack_plugin()).map_err(|e| e.to_string())?;
        for plugin in [plugin, slicer::plugin()] {
            self.upload("POST", "/v1/plugins?grantAll=true", "application/wasm", &plugin)?;
        }
        for connection in scenarios::connections() {
            self.done("POST", "/v1/connections", Some(&connection))?;
        }
        let workflows = Path::new(env!("CARGO_MANIFEST_DIR")).join("../workflows");
        let table = workflows.join("tables/access.yaml").to_string_lossy().into_owned();
        let url = format!("http://{}", self.address);
        let put = ["tables", "put", "access", &table];
        let put = self.place.run_with(&put, &[("BELLHOP_URL", &url), ("BELLHOP_TOKEN", &self.token)]);
        if put.code != 0 {
            return Err(format!("the table was not put: {}", put.stderr));
        }
        for file in ["onboarding.yaml", "offboarding.yaml"] {
            let text = std::fs::read_to_string(workflows.join(file)).map_err(|e| e.to_string())?;
            self.apply(&format!("people/{}", file.trim_end_matches(".yaml")), &text)?;
        }
        for (name, text) in scenarios::WORKFLOWS {
            self.apply(&format!("it/{name}"), text)?;
        }
        Ok(())
    }

    fn apply(&mut self, name: &str, text: &str) -> Outcome<()> {
        self.upload("PUT", &format!("/v1/workflows/{name}"), "application/yaml", text.as_bytes())
    }

    fn upload(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Outcome<()> {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        let request = Request { method, path, token: &self.token, headers, body: body.to_vec() };
        let answer = http::send(&self.address, &request).map_err(|e| e.to_string())?;
        if (200..300).contains(&answer.status) { Ok(()) } else { Err(format!("{method} {path}: {}", answer.text)) }
    }

    /// Begins anew: Slack as it always begins, the data as they were set up, the coming lives ending at these points.
    pub(crate) fn begin(&mut self, deaths: &[Death]) -> Outcome<()> {
        self.host = None;
        self.slack_post("reset", &Value::Null)?;
        self.arrange()?;
        let _absent = std::fs::remove_dir_all(self.data());
        let _absent = std::fs::remove_file(self.place.path("stderr.log"));
        for life in 1..=self.lives {
            let _absent = std::fs::remove_file(self.place.path(&format!("trace-{}-{life}", self.trials)));
        }
        self.trials += 1;
        copy(&self.template(), &self.data()).map_err(|e| e.to_string())?;
        self.deaths = deaths.iter().copied().collect();
        (self.died, self.lives) = (0, 0);
        self.acknowledged.clear();
        self.start()
    }

    /// Starts a life after the one before has ended; one that ends at once is followed by another.
    fn start(&mut self) -> Outcome<()> {
        loop {
            self.lives += 1;
            let (death, trace) = (self.deaths.pop_front(), self.trace());
            let (die_at, number) = match death {
                Some(Death::AtPoint(number)) => ("BELLHOP_FAULTS_DIE_AT", number.to_string()),
                Some(Death::AtPlace(number)) => ("BELLHOP_FAULTS_DIE_AT_PLACE", number.to_string()),
                None => ("BELLHOP_FAULTS_DIE_AT", String::new()),
            };
            let (slack_url, data) = (format!("http://{}", self.slack), self.data().to_string_lossy().into_owned());
            let arguments = serve(&self.address, &slack_url, &data);
            let mut orders = vec![(die_at, number.as_str()), ("BELLHOP_FAULTS_TRACE", &trace)];
            orders.extend(self.plant.as_deref().map(|plant| ("BELLHOP_FAULTS_PLANT", plant)));
            let mut host = match &self.calls_to {
                Some(file) => traced::start(&self.place, file, &arguments, &orders),
                None => self.place.start_with(&arguments, &orders),
            };
            while let Some(line) = host.try_line() {
                if let Some(token) = line.strip_prefix("operator token (shown this once): ") {
                    token.clone_into(&mut self.token);
                }
                if let Some(url) = line.strip_prefix("bellhop listens on ") {
                    self.address = address_of(url)?;
                    self.host = Some(host);
                    return Ok(());
                }
            }
            let code = host.wait();
            if code != BY_SIGNAL || death.is_none() {
                return Err(format!("the host ended with {code} before it listened\n{}", self.log()));
            }
            self.died += 1;
        }
    }

    /// Starts the next life if this one has ended, as it was ordered to.
    pub(crate) fn revive(&mut self) -> Outcome<()> {
        let end = now() + self.patience();
        if let Some(host) = &mut self.host {
            while !host.has_ended() {
                if now() > end {
                    return Err(format!("the host lives and does not answer\n{}", self.log()));
                }
                std::thread::sleep(LOOK_AGAIN);
            }
            let code = host.wait();
            self.host = None;
            if code != BY_SIGNAL {
                return Err(format!("the host ended by itself with {code}\n{}", self.log()));
            }
            self.died += 1;
        }
        self.start()
    }

    /// Starts the next life if this one has ended; nothing where it goes on.
    fn revive_if_dead(&mut self) -> Outcome<()> {
        if self.host.as_mut().is_none_or(Started::has_ended) { self.revive() } else { Ok(()) }
    }

    /// SIGKILL, and the next life.
    pub(crate) fn kill(&mut self) -> Outcome<()> {
        self.host = None;
        self.start()
    }

    /// SIGTERM; true when the host came to its end by itself, false when it died where it was ordered to.
    pub(crate) fn stop(&mut self) -> Outcome<bool> {
        let end = now() + self.patience();
        let Some(host) = &mut self.host else { return Ok(true) };
        // One that died and was not waited for is still there to be told.
        host.terminate();
        while !host.has_ended() {
            if now() > end {
                return Err(format!("the host does not stop\n{}", self.log()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        let code = host.wait();
        self.host = None;
        match code {
            0 => Ok(true),
            BY_SIGNAL => {
                self.died += 1;
                Ok(false)
            }
            other => Err(format!("told to stop, the host ended with {other}\n{}", self.log())),
        }
    }

    /// The end of what the hosts of this trial wrote to standard error.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.place.path("stderr.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn has_panicked(&self) -> bool {
        std::fs::read_to_string(self.place.path("stderr.log")).unwrap_or_default().contains("panicked at")
    }

    fn trace_of(&self, life: usize) -> Vec<String> {
        let trace = self.place.path(&format!("trace-{}-{life}", self.trials));
        std::fs::read_to_string(trace).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// The points that a life passed, counted from 1.
    pub(crate) fn passed(&self, life: usize) -> Vec<String> {
        let name = |line: &String| line.strip_prefix(PLACE).unwrap_or(line).to_owned();
        self.trace_of(life).iter().map(name).collect()
    }

    /// How many points each place has that a life passed.
    pub(crate) fn places(&self, life: usize) -> Vec<u64> {
        let mut places = Vec::new();
        for line in self.trace_of(life) {
            match places.last_mut() {
                Some(points) if !line.starts_with(PLACE) => *points += 1,
                _ => places.push(1),
            }
        }
        places
    }

    /// Where the lives of this trial ended, by name.
    pub(crate) fn ends(&self, deaths: &[Death]) -> String {
        let end = |(life, death): (usize, &Death)| {
            let trace = self.trace_of(life + 1);
            let mut points: Box<dyn Iterator<Item = &str>> = match death {
                Death::AtPoint(_) => Box::new(trace.iter().map(|line| line.strip_prefix(PLACE).unwrap_or(line))),
                Death::AtPlace(_) => Box::new(trace.iter().filter_map(|line| line.strip_prefix(PLACE))),
            };
            let (Death::AtPoint(number) | Death::AtPlace(number)) = death;
            let at = usize::try_from(*number).ok().and_then(|n| points.nth(n.checked_sub(1)?));
            let kind = if matches!(death, Death::AtPlace(_)) { "place " } else { "" };
            format!("{kind}{number} ({})", at.unwrap_or("never"))
        };
        deaths.iter().enumerate().map(end).collect::<Vec<_>>().join(", then ")
    }

    /// Proves from the system calls of one life that a run is on the disk before its caller hears of it, and an intent
    /// before its request leaves.
    pub(crate) fn prove(&mut self) -> Outcome<()> {
        let file = self.place.path("calls");
        let _absent = std::fs::remove_file(&file);
        self.calls_to = Some(file.clone());
        let proven = self.watched();
        self.calls_to = None;
        proven?;
        traced::both(&traced::calls_in(&file)?)
    }

    fn watched(&mut self) -> Outcome<()> {
        self.begin(&[])?;
        let run = self.run(&Start::of(traced::WORKFLOW, "the only one", &traced::input()))?;
        self.ended(&run)?;
        self.stop().map(drop)
    }

    // ------------------------------------------------------------------------------------------------ a client

    /// A request, asked again while the host is away or not ready.
    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Outcome<Answer> {
        let end = now() + 2 * self.patience();
        loop {
            match try_call(&self.address, &self.token, method, path, body, headers) {
                Ok(answer) if answer.status == 503 && now() < end => std::thread::sleep(LOOK_AGAIN),
                Ok(answer) => return Ok(answer),
                Err(_) => self.revive()?,
            }
        }
    }

    /// A request that has to succeed; its JSON.
    pub(crate) fn done(&mut self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let answer = self.call(method, path, body, &[])?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("{method} {path}: {} {}", answer.status, answer.text));
        }
        Ok(if answer.text.is_empty() { Value::Null } else { answer.json() })
    }

    /// Starts a run, or hears which one was started.
    pub(crate) fn run(&mut self, start: &Start) -> Outcome<String> {
        let run = self.post(start)?;
        self.acknowledged.push((run.clone(), start.clone()));
        Ok(run)
    }

    fn post(&mut self, start: &Start) -> Outcome<String> {
        let answer = self.call("POST", &start.path, Some(&start.body), &[("Idempotency-Key", &start.key)])?;
        match (answer.status, answer.json()["id"].as_str()) {
            (202, Some(id)) => Ok(id.to_owned()),
            (status, _) => Err(format!("{}: {status} {}", start.path, answer.text)),
        }
    }

    /// Waits until a run has ended.
    pub(crate) fn ended(&mut self, run: &str) -> Outcome<Value> {
        self.until(run, |view| !view["endedAt"].is_null())
    }

    /// Waits until a run is as `fits` says.
    pub(crate) fn until(&mut self, run: &str, fits: impl Fn(&Value) -> bool) -> Outcome<Value> {
        let end = now() + self.patience();
        loop {
            // Whoever asks to wait is answered when the run ends, or rests.
            let view = self.done("GET", &format!("/v1/runs/{run}?wait=1s"), None)?;
            if fits(&view) {
                return Ok(view);
            }
            if now() > end {
                return Err(format!("the run is not what it is waited for: {view:#}\n{}", self.log()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until Slack has so many changes.
    pub(crate) fn until_changes(&mut self, count: usize) -> Outcome<()> {
        let end = now() + self.patience();
        while self.ledger()?.len() < count {
            if now() > end {
                return Err(format!("Slack has fewer than {count} changes\n{}", self.log()));
            }
            self.revive_if_dead()?;
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    /// The end of a trial: what was acknowledged is still known by its key, the host stops, and everything is as it was.
    /// A host that dies of stopping is started once more.
    pub(crate) fn finish(&mut self, told: Value) -> Outcome<Seen> {
        self.check_acknowledged()?;
        if !self.stop()? {
            self.start()?;
            self.check_acknowledged()?;
            self.stop()?;
        }
        if self.has_panicked() {
            return Err(format!("something panicked\n{}", self.log()));
        }
        let mut effects = BTreeMap::new();
        for line in self.ledger()?.iter().filter(|line| scenarios::counts(line)) {
            *effects.entry(scenarios::effect(line)).or_default() += 1;
        }
        let world = scenarios::memberships(&self.slack_get("state")?);
        Ok(Seen { told, effects, world })
    }

    fn check_acknowledged(&mut self) -> Outcome<()> {
        for (run, start) in self.acknowledged.clone() {
            let again = self.post(&start)?;
            if again != run {
                return Err(format!("the key `{}` has started {run}, and then {again}", start.key));
            }
            self.ended(&run)?;
        }
        Ok(())
    }

    // ------------------------------------------------------------------------------------------------- Slack

    fn slack_call(&self, method: &str, path: &str, body: Option<&Value>) -> Outcome<Value> {
        let answer = try_call(&self.slack, "", method, &format!("/_sim/{path}"), body, &[]);
        let answer = answer.map_err(|e| format!("the simulator: {path}: {e}"))?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(format!("the simulator: {path}: {}", answer.text)) }
    }

    /// A call of Slack's own API, as somebody makes it who is not the host; `so_already` is as good.
    pub(crate) fn by_hand(&self, token: &str, method: &str, arguments: &Value, so_already: &str) -> Outcome<()> {
        let answer = try_call(&self.slack, token, "POST", &format!("/api/{method}"), Some(arguments), &[]);
        let answer = answer.map_err(|e| format!("the simulator: {method}: {e}"))?;
        let body = answer.json();
        if body["ok"] == true || body["error"] == so_already {
            Ok(())
        } else {
            Err(format!("{method}: {}", answer.text))
        }
    }

    pub(crate) fn slack_get(&self, path: &str) -> Outcome<Value> {
        self.slack_call("GET", path, None)
    }

    pub(crate) fn slack_post(&self, path: &str, body: &Value) -> Outcome<Value> {
        self.slack_call("POST", path, (!body.is_null()).then_some(body))
    }

    /// Every change that Slack accepted, in order.
    pub(crate) fn ledger(&self) -> Outcome<Vec<Value>> {
        match self.slack_get("ledger")?["entries"].take() {
            Value::Array(entries) => Ok(entries),
            other => Err(format!("no ledger: {other}")),
        }
    }

    /// The same from the simulator's file, which has those of all trials.
    pub(crate) fn ledger_lines(&self) -> Outcome<Vec<Value>> {
        let text = std::fs::read_to_string(self.place.path("ledger.jsonl")).map_err(|e| e.to_string())?;
        text.lines().map(|line| serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))).collect()
    }

    /// The requests that Slack got, in order.
    pub(crate) fn requests(&self) -> Outcome<Vec<Value>> {
        match self.slack_get("requests")?["entries"].take() {
            Value::Array(entries) => Ok(entries.into_iter().filter(|e| e["event"] == "request").collect()),
            other => Err(format!("no requests: {other}")),
        }
    }

    /// Orders a fault of the simulator; its number.
    pub(crate) fn order(&self, rule: &Value) -> Outcome<u64> {
        self.slack_post("faults", rule)?["id"].as_u64().ok_or_else(|| "a fault has no number".to_owned())
    }

    /// Waits until a fault has happened, through as many lives as it takes.
    pub(crate) fn happened(&mut self, fault: u64) -> Outcome<()> {
        let end = now() + self.patience();
        loop {
            let seen = self.slack_get(&format!("signals/wait?fault={fault}&timeout_ms=20"))?;
            if seen.get("timed_out").is_none() {
                return Ok(());
            }
            if now() > end {
                return Err(format!("the fault has not happened\n{}", self.log()));
            }
            self.revive_if_dead()?;
        }
    }

    pub(crate) fn release(&self, fault: u64) -> Outcome<()> {
        self.slack_post(&format!("faults/{fault}/release"), &Value::Null).map(drop)
    }

    /// For clients of their own: where the host is, and its token.
    pub(crate) fn door(&self) -> (String, String) {
        (self.address.clone(), self.token.clone())
    }
}
