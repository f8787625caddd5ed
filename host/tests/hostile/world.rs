//! A simulated Slack and a host before it, which is watched the whole time, killed, and started again on its folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bellhop::hosted::now;
use crate::bellhop::{Place, Started, program, slack_plugin};
use crate::bounds::Bounds;
use crate::guest;
use crate::watch::{Life, OTHER, OTHER_FLOW, Seen, Watch};
use crate::wire::{self, Answer, Request};

/// Slack's budget, multiplied: nothing here is about it.
const BUDGET_SCALE: &str = "1000";
/// A process says where it listens within this.
const LISTENS_IN: Duration = Duration::from_secs(60);
/// What prepares a host takes no longer.
const PREPARED_IN: Duration = Duration::from_secs(180);
/// The host's `drain_ms_max`, and what it needs to close its store.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(15);
/// After a new start it has to live on: what kills it at once is a run that it has taken up.
const LIVES_ON: Duration = Duration::from_millis(500);

/// The connections that every host has: name, kind, tokens.
const CONNECTIONS: [(&str, &str, &str); 3] = [
    ("plus", "workspace", r#"{"bot":"xoxb-plus","user":"xoxp-plus-admin"}"#),
    ("hq", "grid-workspace", r#"{"bot":"xoxb-hq"}"#),
    ("acme", "grid-org", r#"{"bot":"xoxb-org","user":"xoxp-org-admin"}"#),
];

/// The component with the Slack actions.
static PLUGIN: OnceLock<String> = OnceLock::new();

/// Takes the component from a file instead of building it.
pub(crate) fn take_plugin(file: &str) {
    PLUGIN.get_or_init(|| file.to_owned());
}

/// What cases of one host have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs<'a> {
    pub(crate) limits: &'a BTreeMap<String, u64>,
    pub(crate) memory_mb_max: u64,
    pub(crate) disk_mb: Option<u64>,
}

pub(crate) struct World {
    pub(crate) place: Place,
    /// Something is mounted at the host's folder.
    is_mounted: bool,
    /// `host:port` of the simulator.
    pub(crate) slack: String,
    bounds: Bounds,
    token: Mutex<String>,
    lives: Mutex<u64>,
    host: Mutex<Option<Started>>,
    watch: Arc<Watch>,
    /// Runs that have to be there at the end, with how they were last seen and the case that started them.
    remembered: Mutex<BTreeMap<String, (String, String)>>,
    /// It goes last: a host that still runs has somebody to talk to.
    _simulator: Started,
}

/// Waits for the line that ends a program's start.
fn listening(mut started: Started) -> Result<(Started, String, Option<String>), String> {
    let pid = started.pid().to_string();
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut token = None;
        while let Some(line) = started.try_line() {
            if let Some(given) = line.strip_prefix("operator token (shown this once): ") {
                token = Some(given.to_owned());
            }
            if let Some((_, address)) = line.split_once("http://") {
                let address = address.split_whitespace().next().unwrap_or_default().to_owned();
                let _gone = told.send(Ok((started, address, token)));
                return;
            }
        }
        let _gone = told.send(Err(format!("it ends at its start with exit code {}", started.wait())));
    });
    match heard.recv_timeout(LISTENS_IN) {
        Ok(heard) => heard,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let _killed = Command::new("kill").args(["-KILL", &pid]).status();
            Err(format!("it does not say within {} s where it listens", LISTENS_IN.as_secs()))
        }
    }
}

/// A host's folder with all that every host has, and its first token.
pub(crate) struct Prepared {
    folder: tempfile::TempDir,
    token: String,
}

impl Prepared {
    /// Lets one host install the Slack actions, make the connections and register what others run; compiling is the long
    /// part of that.
    pub(crate) fn make(bounds: Bounds) -> Result<Self, String> {
        let limits = BTreeMap::new();
        let needs = Needs { limits: &limits, memory_mb_max: bounds.memory_mb_max, disk_mb: None };
        let world = World::bare(needs, bounds)?;
        let life = world.live(PREPARED_IN)?;
        world.prepare(&life)?;
        world.terminated(DRAIN_MAX)?;
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        copy(Path::new(&world.place.path("data")), &folder.path().join("data")).map_err(|e| e.to_string())?;
        Ok(Self { folder, token: life.token })
    }
}

/// A folder with its rights, which the host looks at.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in from.read_dir()? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())
}

impl World {
    /// Starts both and makes the host ready.
    pub(crate) fn start(prepared: &Prepared, needs: Needs<'_>, bounds: Bounds) -> Result<Self, String> {
        let mut world = Self::bare(needs, bounds)?;
        if let Some(mb) = needs.disk_mb {
            mount(&world.place.path("data"), mb)?;
            world.is_mounted = true;
        }
        copy(&prepared.folder.path().join("data"), Path::new(&world.place.path("data"))).map_err(|e| e.to_string())?;
        prepared.token.clone_into(&mut world.token.lock().unwrap());
        let life = world.live(bounds.ready_max)?;
        world.watch.set(Some(life));
        Ok(world)
    }

    /// A simulated Slack and an empty folder.
    fn bare(needs: Needs<'_>, bounds: Bounds) -> Result<Self, String> {
        let place = Place::new();
        let mut settings = String::from("[limits]\n");
        for (name, value) in needs.limits {
            let _written = writeln!(settings, "{name} = {value}");
        }
        place.write("bellhop.toml", &settings);
        let ledger = place.path("ledger.jsonl");
        let simulator = place.start(&["slack-simulator", "--budget-scale", BUDGET_SCALE, "--ledger", &ledger]);
        let (simulator, slack, _) = listening(simulator)?;
        Ok(Self {
            place,
            is_mounted: false,
            slack,
            bounds,
            token: Mutex::default(),
            lives: Mutex::default(),
            host: Mutex::default(),
            watch: Watch::begin(bounds, needs.memory_mb_max),
            remembered: Mutex::default(),
            _simulator: simulator,
        })
    }

    /// A new process on the folder, once it is ready. It is not watched yet.
    fn live(&self, within: Duration) -> Result<Life, String> {
        let until = now() + within;
        let slack_url = format!("http://{}", self.slack);
        let scale = ["--budget-scale", BUDGET_SCALE];
        let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", &slack_url, "--data-dir", "data"];
        let (host, address, token) = listening(self.place.start(&[&serve[..], &scale].concat()))?;
        let pid = host.pid();
        *self.host.lock().unwrap() = Some(host);
        if let Some(token) = token {
            *self.token.lock().unwrap() = token;
        }
        let number = {
            let mut lives = self.lives.lock().unwrap();
            *lives += 1;
            *lives
        };
        loop {
            let request = Request { method: "GET", path: "/readyz", ..Request::default() };
            match wire::send(&address, &request, until) {
                Ok(answer) if answer.status == 200 => break,
                _ if self.has_died() => return Err(format!("it dies at its start: {}", self.last_words())),
                _ if now() >= until => return Err(format!("it is not ready after {} s", within.as_secs())),
                _ => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        let token = self.token.lock().unwrap().clone();
        Ok(Life { address, token, pid, number })
    }

    fn prepare(&self, life: &Life) -> Result<(), String> {
        let until = now() + PREPARED_IN;
        let file = PLUGIN.get_or_init(|| slack_plugin().to_owned());
        let plugin = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
        let mut wanted = vec![("POST", granted(file)?, "application/wasm", plugin)];
        for (name, kind, tokens) in CONNECTIONS {
            let tokens: Value = serde_json::from_str(tokens).map_err(|e| e.to_string())?;
            let body = json!({ "name": name, "kind": kind, "permission": "act", "tokens": tokens });
            wanted.push(("POST", "/v1/connections".to_owned(), "application/json", body.to_string().into_bytes()));
        }
        wanted.push(("PUT", format!("/v1/workflows/{OTHER}"), "application/yaml", OTHER_FLOW.as_bytes().to_vec()));
        for (method, path, kind, body) in wanted {
            let request = Request { method, path: &path, token: &life.token, kind, body: &body, ..Request::default() };
            let answer = wire::send(&life.address, &request, until)?;
            if !(200..300).contains(&answer.status) {
                return Err(format!("{method} {path}: {} {}", answer.status, answer.text));
            }
        }
        Ok(())
    }

    /// The life that is watched now.
    ///
    /// # Errors
    /// The host is down.
    pub(crate) fn life(&self) -> Result<Life, String> {
        self.watch.life().ok_or_else(|| "the host is down".to_owned())
    }

    /// A request to the host.
    #[expect(clippy::needless_pass_by_value, reason = "made where it is sent")]
    pub(crate) fn send(&self, request: Request<'_>, until: Instant) -> Result<Answer, String> {
        let life = self.life()?;
        let token = if request.token.is_empty() { &life.token } else { request.token };
        wire::send(&life.address, &Request { token, ..request }, until)
    }

    /// A request for JSON that has to succeed.
    pub(crate) fn get(&self, path: &str, until: Instant) -> Result<Value, String> {
        let answer = self.send(Request { method: "GET", path, ..Request::default() }, until)?;
        if answer.status == 200 {
            Ok(answer.json())
        } else {
            Err(format!("GET {path}: {} {}", answer.status, answer.text))
        }
    }

    /// A request to the simulator's control.
    pub(crate) fn control(&self, method: &str, path: &str, body: &Value, until: Instant) -> Result<Answer, String> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let path = format!("/_sim/{path}");
        let request =
            Request { method, path: &path, kind: "application/json", body: text.as_bytes(), ..Request::default() };
        wire::send(&self.slack, &request, until)
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_died(&self) -> bool {
        self.host.lock().unwrap().as_mut().is_some_and(Started::has_ended)
    }

    /// What may not be, if anything was seen; the death of the host is always seen.
    pub(crate) fn trouble(&self) -> Option<String> {
        if self.watch.life().is_some() && self.has_died() {
            let code = self.host.lock().unwrap().as_mut().map_or(0, Started::wait);
            return Some(format!("the host has ended with exit code {code}: {}", self.last_words()));
        }
        let seen = self.watch.seen();
        (!seen.troubles.is_empty()).then(|| seen.troubles.join("; "))
    }

    pub(crate) fn seen(&self) -> Seen {
        self.watch.seen()
    }

    pub(crate) fn is_in_trouble(&self) -> bool {
        self.watch.is_in_trouble() || self.has_died()
    }

    /// The file that takes the room on a disk of its own.
    fn filler(&self) -> std::path::PathBuf {
        Path::new(&self.place.path("data")).join("filler")
    }

    /// Writes until so much room is left.
    pub(crate) fn fill(&self, leave_mb: u64) -> Result<(), String> {
        use std::io::Write as _;
        if !self.is_mounted {
            return Err("the case has no `disk_mb`".to_owned());
        }
        let mut file = std::fs::File::create(self.filler()).map_err(|e| e.to_string())?;
        let part = vec![7; 1 << 20];
        while file.write_all(&part).is_ok() {}
        let written = file.metadata().map_err(|e| e.to_string())?.len();
        file.set_len(written.saturating_sub(leave_mb << 20)).map_err(|e| e.to_string())
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) -> Result<(), String> {
        std::fs::remove_file(self.filler()).map_err(|e| e.to_string())
    }

    /// The end of the host's log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().filter(|line| !line.trim().is_empty()).take(2).collect();
        let text = lines.into_iter().rev().collect::<Vec<_>>().join(" / ");
        text.chars().take(600).collect()
    }

    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.place.path("stderr.log")).unwrap_or_default()).into_owned()
    }

    pub(crate) fn ledger(&self) -> String {
        std::fs::read_to_string(self.place.path("ledger.jsonl")).unwrap_or_default()
    }

    /// A run that has to be there, and to stand as documented, after the next start.
    pub(crate) fn remember(&self, run: &str, status: &str, case: &str) {
        self.remembered.lock().unwrap().insert(run.to_owned(), (status.to_owned(), case.to_owned()));
    }

    /// SIGKILL, and a new start.
    pub(crate) fn kill(&self) -> Result<(), String> {
        self.watch.set(None);
        drop(self.host.lock().unwrap().take());
        let life = self.live(self.bounds.ready_max).map_err(|why| format!("after a kill: {why}"))?;
        self.watch.set(Some(life));
        Ok(())
    }

    /// SIGTERM; the time until it has ended.
    fn terminated(&self, within: Duration) -> Result<Duration, String> {
        self.watch.set(None);
        let Some(mut host) = self.host.lock().unwrap().take() else { return Err("the host is down".to_owned()) };
        host.terminate();
        let began = now();
        while !host.has_ended() {
            if began.elapsed() > within {
                return Err(format!("SIGTERM does not end it within {} s", within.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        match host.wait() {
            0 => Ok(began.elapsed()),
            code => Err(format!("SIGTERM ends it with exit code {code}: {}", self.last_words())),
        }
    }

    /// SIGTERM, its end within this time, and a new start.
    pub(crate) fn terminate(&self, within: Duration) -> Result<(), String> {
        self.terminated(within)?;
        let life = self.live(self.bounds.ready_max).map_err(|why| format!("after SIGTERM: {why}"))?;
        self.watch.set(Some(life));
        Ok(())
    }

    /// Whether everything is there after a kill, and whether it ends when it is asked to.
    pub(crate) fn end(&self) -> Result<(), String> {
        self.kill()?;
        std::thread::sleep(LIVES_ON);
        let until = now() + self.bounds.ready_max;
        let remembered = self.remembered.lock().unwrap().clone();
        for (run, (status, case)) in remembered {
            let run = format!("{run} of {case}");
            let id = run.split(' ').next().unwrap_or_default();
            let view =
                self.get(&format!("/v1/runs/{id}"), until).map_err(|why| format!("{run}, after a kill: {why}"))?;
            let stands = view["status"].as_str().unwrap_or_default();
            let has_ended = |status: &str| ["completed", "faulted", "cancelled"].contains(&status);
            if has_ended(&status) && stands != status {
                return Err(format!("the run {run} was {status} before a kill and is {stands} after it"));
            }
            if crate::ends::of_run(&view).contains("run-poisoned") {
                return Err(format!("the run {run} is set aside after a kill: {}", view["waiting"]));
            }
        }
        if let Some(trouble) = self.trouble() {
            return Err(format!("after a kill: {trouble}"));
        }
        self.terminated(DRAIN_MAX).map(|_| ())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.watch.set(None);
        self.watch.end();
        drop(self.host.lock().unwrap().take());
        if self.is_mounted {
            let _gone = Command::new("umount").arg("-l").arg(self.place.path("data")).status();
        }
    }
}

/// A disk of that size, in memory, at a folder.
fn mount(folder: &str, mb: u64) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| e.to_string())?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={mb}m,mode=0700"), "tmpfs", folder]);
    match mount.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`mount` ends with {status}")),
        Err(error) => Err(format!("`mount`: {error}")),
    }
}

/// Whether disks can be made here.
pub(crate) fn can_mount() -> bool {
    tempfile::tempdir().is_ok_and(|folder| {
        let folder = folder.path().to_string_lossy().into_owned();
        let can = mount(&folder, 1).is_ok();
        if can {
            let _gone = Command::new("umount").arg("-l").arg(&folder).status();
        }
        can
    })
}

/// The address at which the Slack actions are installed with all that they declare granted.
fn granted(file: &str) -> Result<String, String> {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    if let Some(address) = ADDRESS.get() {
        return Ok(address.clone());
    }
    let asked = Command::new(program()).args(["plugin", "inspect", file, "--output", "json"]).output();
    let told = asked.map_err(|e| e.to_string())?.stdout;
    let told: Value = serde_json::from_slice(&told).unwrap_or(Value::Null);
    let lists = told["actions"].as_array().into_iter().flatten().flat_map(|action| action["calls"].as_array());
    let methods = lists.flatten().flat_map(|call| call["methods"].as_array()).flatten();
    let methods: BTreeSet<String> = methods.filter_map(|m| m["method"].as_str()).map(str::to_owned).collect();
    if methods.is_empty() {
        let told: String = told.to_string().chars().take(600).collect();
        return Err(format!("`plugin inspect {file}` tells no methods: {told}"));
    }
    Ok(ADDRESS.get_or_init(|| guest::granting(methods.into_iter())).clone())
}

/// The folder that broken cases are written to.
pub(crate) fn broken_folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../hostile")
}
