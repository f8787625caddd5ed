//! What surrounds a host in this place. A host looks for its own process, and `bellhop doctor` looks where none runs.

use std::sync::Arc;
use std::time::Duration;

use bellhop_clock::belief::Doubt;
use bellhop_clock::{self as clock, Clock};
use bellhop_engine::Engine;
use bellhop_engine::gateway::Gateway;
use bellhop_engine::setup::connections::Connections;
use bellhop_engine::setup::plugins::Plugins;
use bellhop_engine::setup::tokens::Tokens;
use bellhop_journal::Journal;
use bellhop_slack::client::Client;
use futures_util::future::{BoxFuture, join_all};
use serde_json::{Map, Value, json};

use super::Options;

mod here;
mod kept;
mod machine;
mod slack;

pub(crate) use here::here;

/// A check that takes longer is said to be unknown.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// As it has to be.
    Ok,
    /// It works, and not as well as it could, or not for long.
    Warning,
    /// Something does not work.
    Wrong,
    /// It could not be told.
    Unknown,
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Check {
    check: &'static str,
    about: Option<String>,
    state: State,
    code: Option<&'static str>,
    needs: Option<String>,
    has: Option<String>,
    fix: Option<String>,
    more: Map<String, Value>,
}

impl Check {
    /// One that is as it has to be.
    fn of(check: &'static str) -> Self {
        let (about, code, needs, has, fix) = (None, None, None, None, None);
        Self { check, about, state: State::Ok, code, needs, has, fix, more: Map::new() }
    }

    /// Of several alike, which one.
    fn about(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }

    /// What was found.
    fn fault(mut self, code: &'static str, state: State) -> Self {
        (self.code, self.state) = (Some(code), state);
        self
    }

    /// It could not be told, for this reason.
    fn unknown(mut self, why: impl Into<String>) -> Self {
        (self.state, self.has) = (State::Unknown, Some(why.into()));
        self
    }

    fn needs(mut self, needs: impl Into<String>) -> Self {
        self.needs = Some(needs.into());
        self
    }

    fn has(mut self, has: impl Into<String>) -> Self {
        self.has = Some(has.into());
        self
    }

    /// What helps, to be typed where that can be.
    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// A figure for programs.
    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn json(self) -> Value {
        let state = match self.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Wrong => "wrong",
            State::Unknown => "unknown",
        };
        let mut shown = json!({ "check": self.check, "state": state });
        let texts = [("about", self.about), ("needs", self.needs), ("has", self.has), ("fix", self.fix)];
        for (name, text) in texts.into_iter().chain([("code", self.code.map(str::to_owned))]) {
            if let Some(text) = text {
                shown[name] = json!(text);
            }
        }
        for (name, value) in self.more {
            shown[name] = value;
        }
        shown
    }
}

/// Checks as an answer has them.
pub(crate) fn shown(checks: Vec<Check>) -> Value {
    checks.into_iter().map(Check::json).collect()
}

/// What is known inside of a host, or of the folder of one that is stopped.
struct Inside<'a> {
    clock: &'a dyn Clock,
    journal: &'a Journal,
    gateway: &'a Gateway,
    connections: &'a Connections,
    tokens: &'a Tokens,
    plugins: &'a Plugins,
    /// Whether a host has all this.
    is_host: bool,
}

/// Checks that are looked at together.
type Looking<'a> = BoxFuture<'a, Vec<Check>>;

/// The same, or that it took too long.
fn within<'a>(name: &'static str, work: impl Future<Output = Vec<Check>> + Send + 'a) -> Looking<'a> {
    Box::pin(async move {
        tokio::time::timeout(CHECK_MAX, work).await.unwrap_or_else(|_| {
            let why = format!("it was not through after {} s", CHECK_MAX.as_secs());
            let fix = "look again; where it stays so, the disk or the way to Slack stands still";
            vec![Check::of(name).unknown(why).fault("check-timed-out", State::Unknown).fix(fix)]
        })
    })
}

/// What waits for the disk, on a thread of its own.
fn aside<'a>(name: &'static str, work: impl FnOnce() -> Vec<Check> + Send + 'static) -> Looking<'a> {
    within(name, async move {
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| vec![Check::of(name).unknown(error.to_string())])
    })
}

/// Looks at everything at once. `client` is the way to Slack, where there is one.
async fn look(
    options: &Options,
    client: &Client,
    clock: &dyn Clock,
    doubt: Option<Doubt>,
    inside: Option<&Inside<'_>>,
) -> Vec<Check> {
    let (folder, limits) = (options.data_dir.clone(), options.limits.clone());
    let guests = inside.map(|inside| inside.plugins.guests_of_one_plugin());
    let now = clock.now();
    let (disk_folder, sync_folder, disk_limits) = (folder.clone(), folder.clone(), limits.clone());
    let mut looking: Vec<Looking<'_>> = vec![
        aside("settings", {
            let options = options.clone();
            move || vec![machine::versions(), machine::settings(&options)]
        }),
        aside("machine", move || vec![machine::descriptors(&limits), machine::memory(&limits, guests)]),
        aside("data-dir", move || vec![machine::folder(&folder)]),
        aside("disk", move || vec![machine::disk(&disk_folder, &disk_limits, now)]),
        aside("sync", move || vec![machine::sync(&sync_folder)]),
        within("slack", slack::reach(client, options, clock, doubt)),
    ];
    if let Some(inside) = inside {
        looking.push(within("store", kept::store(inside, options)));
        looking.push(within("tokens", kept::tokens(inside, options)));
        looking.push(within("connection", slack::connections(inside)));
        looking.push(within("plugin", std::future::ready(kept::plugins(inside))));
    }
    join_all(looking).await.into_iter().flatten().collect()
}

/// What a host says of itself.
pub(super) async fn of_host(options: &Options, engine: &Engine) -> Value {
    let services = &engine.services;
    let inside = Inside {
        clock: &*services.clock,
        journal: &services.journal,
        gateway: &services.gateway,
        connections: &engine.connections,
        tokens: &engine.tokens,
        plugins: &services.plugins,
        is_host: true,
    };
    let host = Check::of("host");
    let host = match (engine.is_draining(), engine.is_ready()) {
        (true, _) => host.unknown("it is stopping"),
        (false, false) => host.unknown("it is starting: what was open is taken up"),
        (false, true) => host.has(format!("ready, {} runs in memory", engine.runs().live())),
    };
    let mut checks = vec![host.with("pid", std::process::id())];
    // The machine's own clock, whatever is held of it.
    let machine = clock::System::new();
    checks.extend(look(options, services.gateway.client(), &machine, services.time.doubt(), Some(&inside)).await);
    shown(checks)
}

/// The same for the HTTP interface of a host that was started with `options`.
pub(super) fn for_api(options: &Options) -> bellhop_api::Doctor {
    let options = Arc::new(options.clone());
    bellhop_api::Doctor(Arc::new(move |engine: Arc<Engine>| {
        let options = options.clone();
        Box::pin(async move { of_host(&options, &engine).await })
    }))
}
