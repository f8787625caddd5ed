//! `bellhop serve` and `bellhop dev`: flags only; the host puts itself together elsewhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Once;
use std::time::Duration;

use bellhop_core::requirement::{Kind, Permission, TokenKind};
use bellhop_core::text::{is_steering, shell_word};
use bellhop_slack::client::Secret;
use clap::Args;

use super::cache::Cache;
use super::flags::Listen;
use super::http::{is_on_this_machine, of_this_folder};
use super::json_log::OfRuns;
use super::output::{Exit, Failure};
use super::settings::LogFormat;
use super::{Context, environment, offline, shipped};
use crate::serve;
use crate::serve::log::{Log, LogFile};
use bellhop_api::problem::without_tokens;

/// `bellhop serve`
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    listen: Listen,
    /// Slack's address; another one only for a simulator
    #[arg(long, value_name = "URL")]
    slack_url: Option<String>,
    /// Where the first operator's token goes, instead of the standard output; the file goes with the token's first use
    #[arg(long, value_name = "FILE")]
    first_token_file: Option<PathBuf>,
    #[command(flatten)]
    logging: Logging,
    /// Multiplies Slack's budget; for measurements and tests against a simulator
    #[arg(long, value_name = "FACTOR", hide = true, default_value_t = 1.0)]
    budget_scale: f64,
}

/// `bellhop dev`
#[derive(Debug, Args)]
pub(super) struct Dev {
    #[command(flatten)]
    listen: Listen,
    /// Where the simulated Slack listens; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    slack_listen: SocketAddr,
    /// The file in which the simulated Slack keeps its world over restarts [default: it begins anew each time]
    #[arg(long, value_name = "FILE")]
    slack_state: Option<PathBuf>,
    #[command(flatten)]
    logging: Logging,
    /// Multiplies Slack's budget, here and in the simulator
    #[arg(long, value_name = "FACTOR", hide = true, default_value_t = 1.0)]
    budget_scale: f64,
}

/// What is logged and how.
#[derive(Debug, Args)]
struct Logging {
    /// For people or for programs [default: text]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,bellhop::engine=debug [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// The file to which the log is appended, opened anew when its name leads elsewhere, as after a rotation [default: standard error]
    #[arg(long, value_name = "PATH")]
    log_file: Option<PathBuf>,
}

/// By how much the threads that carry runs give way to those that answer over HTTP and to the one that writes: what a
/// crowd of runs computes delays no probe, and runs still have a third of a processor that all want.
const RUNS_NICENESS: i32 = 5;

/// Slack's own address: nobody multiplies its budget.
const SLACK_HOST: &str = "slack.com";

fn options(
    listen: &Listen,
    slack_url: Option<&String>,
    budget_scale: f64,
    provision: serve::Provision,
    compiled_dir: PathBuf,
    context: &Context,
) -> Result<serve::Options, Failure> {
    let settings = &context.settings;
    if slack_url.is_none() && !settings.slack_url_is_named && !is_on_this_machine(&settings.slack_url) {
        let flag = format!("--slack-url {}", shell_word(&settings.slack_url));
        return Err(of_this_folder("what Slack is told", &settings.slack_url, &flag));
    }
    let slack_url = slack_url.unwrap_or(&settings.slack_url).clone();
    let scaled = (budget_scale - 1.0).abs() > f64::EPSILON;
    if scaled && slack_url.contains(SLACK_HOST) {
        return Err(Failure::usage("--budget-scale is for a simulator: Slack itself has the budget that it has"));
    }
    Ok(serve::Options {
        settings_file: settings.file.clone(),
        data_dir: settings.data_dir.clone(),
        compiled_dir,
        listen: listen.listen.clone().unwrap_or_else(|| settings.listen.clone()),
        metrics_listen: listen.metrics_listen.or(settings.metrics_listen),
        trusted_proxies: settings.trusted_proxies.clone(),
        public_url: listen.public_url.clone().or_else(|| settings.public_url.clone()),
        proxy: settings.proxy_in_force()?,
        certificates: settings.certificates()?,
        slack_url,
        limits: settings.limits.clone(),
        budget_scale,
        provision,
        first_token_file: None,
        traces: settings.traces_in_force()?,
    })
}

/// A log without tokens. In one for people what others wrote turns no direction; control characters are the formatter's
/// affair, and so is everything in one for programs.
struct Steady<W>(W, bool);

impl<W: std::io::Write> std::io::Write for Steady<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = without_tokens(String::from_utf8_lossy(bytes).into_owned());
        let steers = |c: char| is_steering(c) || ('\u{80}'..='\u{9f}').contains(&c);
        if self.1 || !text.contains(steers) {
            self.0.write_all(text.as_bytes())?;
            return Ok(bytes.len());
        }
        let shown: String =
            text.chars().map(|c| if steers(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect();
        self.0.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Where a host keeps its compiled code: in its own folder where that was named by whoever starts it, else in the cache of
/// the user, which has to stay as long as the host. The folder in which a host is started may be anybody's.
pub(super) fn compiled(context: &Context) -> Result<(PathBuf, Option<Cache>), Failure> {
    let settings = &context.settings;
    if settings.data_dir_is_named {
        return Ok((settings.data_dir.join("compiled"), None));
    }
    let cache = Cache::of_the_user()?;
    Ok((cache.path.clone(), Some(cache)))
}

/// The log. Dropped, it waits for its reader, and not for long.
struct Flushed(Log);

impl Drop for Flushed {
    fn drop(&mut self) {
        self.0.flush(Duration::MAX);
    }
}

/// The file of the log, where it has one.
fn log_file(logging: &Logging, context: &Context) -> Result<Option<LogFile>, Failure> {
    let path = match &logging.log_file {
        Some(path) => Some(path.as_path()),
        None => context.settings.log_file_in_force()?,
    };
    let Some(path) = path else { return Ok(None) };
    let file = LogFile::open(path).map_err(|error| {
        Failure::unwritable(path, &error)
            .with_help("name a file that this user can write, in a folder that is there: --log-file PATH; without it the log goes to standard error")
    })?;
    Ok(Some(file))
}

fn log(logging: &Logging, context: &Context) -> Result<Flushed, Failure> {
    let filter = logging.log.as_deref().unwrap_or(&context.settings.log);
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .map_err(|e| Failure::usage(format!("`{filter}` does not say what to log: {e}")))?;
    let file = log_file(logging, context)?;
    let is_for_eyes = file.is_none() && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = Log::start(file, &context.settings.limits)
        .map_err(|e| Failure::failed("no-runtime", format!("the program cannot start its threads: {e}")))?;
    let (text, json) = (log.lines(), log.lines());
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || Steady(text.clone(), false))
        .with_ansi(is_for_eyes);
    // A second start in one process keeps the first one's log.
    let begun = match logging.log_format.unwrap_or(context.settings.log_format) {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => {
            lines.with_writer(move || Steady(json.clone(), true)).json().map_event_format(OfRuns).try_init()
        }
    };
    if begun.is_ok() {
        // As the log, it waits for no reader.
        std::panic::set_hook(Box::new(|panic| {
            let backtrace = std::backtrace::Backtrace::capture();
            let captured = backtrace.status() == std::backtrace::BacktraceStatus::Captured;
            let thread = std::thread::current();
            let backtrace = captured.then(|| tracing::field::display(backtrace));
            tracing::error!(thread = thread.name(), backtrace, "{panic}");
        }));
    }
    Ok(Flushed(log))
}

fn failure(error: &serve::Error) -> Failure {
    match error {
        serve::Error::InUse(_) => Failure::storage(error.to_string())
            .with_help("stop that process first, or name another folder by --data-dir"),
        serve::Error::Store(_) => Failure::storage(error.to_string()),
        serve::Error::NotOpened(why) => Failure::storage(error.to_string()).with_help(why.remedy()),
        serve::Error::OlderStore(_) => offline::older(error.to_string()),
        serve::Error::NewerStore(_) => offline::newer(error.to_string()),
        serve::Error::Part(_) => Failure { exit: Exit::Part, ..Failure::failed("part-ended", error.to_string()) }
            .with_help("start the host again: what it was doing goes on from its records"),
        serve::Error::Folder(why) => {
            Failure { exit: Exit::Storage, ..Failure::failed("data-dir-refused", why.to_string()) }
                .with_help(why.remedy())
        }
        serve::Error::FirstToken { .. } => Failure::failed("host-failed", error.to_string()).with_help(
            "name a file that is not there yet, in a folder that this user can write, by --first-token-file",
        ),
        serve::Error::ForeignSocket(why) => {
            Failure::failed("socket-unusable", error.to_string()).with_help(why.remedy())
        }
        serve::Error::Listen { address, source, .. } => {
            Failure::failed("host-failed", error.to_string()).with_help(where_else(address, source.kind()))
        }
        serve::Error::Connection { diagnostics, .. } => {
            Failure { exit: Exit::Diagnostics, ..Failure::failed("connection-refused", error.to_string()) }
                .with_diagnostics(diagnostics.clone())
                .with_help("look at the variables BELLHOP_CONNECTION_…: each names its connection")
        }
        serve::Error::Plugin { diagnostics, .. } => {
            Failure { exit: Exit::Diagnostics, ..Failure::failed("plugin-refused", error.to_string()) }
                .with_diagnostics(diagnostics.clone())
        }
        _ => Failure::failed("host-failed", error.to_string()),
    }
}

/// The first port that everybody may listen on.
const UNPRIVILEGED: u16 = 1_024;

/// What helps where an address cannot be listened on.
fn where_else(address: &serve::At, why: std::io::ErrorKind) -> &'static str {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
    match why {
        PermissionDenied if address.port().is_some_and(|port| port < UNPRIVILEGED) => {
            "a port below 1024 takes a right of its own: name a higher one by --listen and put a proxy before it, or give the program CAP_NET_BIND_SERVICE"
        }
        AddrInUse => "stop that process first, or name another address by --listen",
        AddrNotAvailable => "name an address of this machine by --listen, or :PORT for all of them",
        _ => "name another address by --listen",
    }
}

/// The threads that carry runs give way to those that answer.
fn give_way() {
    static SAID: Once = Once::new();
    if let Err(error) = rustix::process::nice(RUNS_NICENESS) {
        SAID.call_once(|| {
            tracing::warn!(%error, "threads of one priority: while many runs compute, requests may be answered late");
        });
    }
}

pub(super) fn serve(arguments: &Serve, context: &Context) -> Result<Exit, Failure> {
    serve::handed_over::keep();
    serve::signals::unblock();
    let log = log(&arguments.logging, context)?;
    let connections = environment::connections(std::env::vars_os())?;
    let provision = serve::Provision { connections, ..serve::Provision::default() };
    let (compiled, _cache) = compiled(context)?;
    let slack_url = arguments.slack_url.as_ref();
    let mut options = options(&arguments.listen, slack_url, arguments.budget_scale, provision, compiled, context)?;
    options.first_token_file.clone_from(&arguments.first_token_file);
    // As many threads as there are processors, and two more: an expression may hold one for some milliseconds. Counted are
    // those that the process may run on, by its affinity and by the quotas of control groups of both versions.
    let threads = std::thread::available_parallelism().map_or(2, usize::from) + 2;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("runs")
        .on_thread_start(give_way)
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("no-runtime", format!("the program cannot start its threads: {e}")))?;
    runtime.block_on(serve::serve(options, &log.0)).map_err(|e| failure(&e))?;
    Ok(Exit::Done)
}

/// The organisation of every simulated Slack, and one of its workspaces.
fn simulated() -> impl Iterator<Item = serve::Declared> {
    use TokenKind::{Audit, Bot, User};
    let acme: &[_] = &[(Bot, "xoxb-org"), (User, "xoxp-org-admin"), (Audit, "xoxp-org-owner")];
    let hq: &[_] = &[(Bot, "xoxb-hq"), (User, "xoxp-hq-admin")];
    [("acme", Kind::GridOrg, acme), ("acme-hq", Kind::GridWorkspace, hq)].into_iter().map(|(name, kind, tokens)| {
        serve::Declared {
            stem: serve::stem(name),
            kind: Some(kind),
            permission: Some(Permission::Act),
            tokens: tokens.iter().map(|(kind, token)| (*kind, Secret::new((*token).to_owned()))).collect(),
        }
    })
}

/// Whether what listens there can be reached over the loopback.
fn is_reached_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

pub(super) fn dev(arguments: &Dev, context: &Context) -> Result<Exit, Failure> {
    serve::handed_over::keep();
    serve::signals::unblock();
    let log = log(&arguments.logging, context)?;
    if !is_reached_here(arguments.slack_listen.ip()) {
        let message = format!(
            "--slack-listen {}: a simulated Slack speaks plain HTTP, which this host sends tokens over only on its own machine",
            arguments.slack_listen
        );
        return Err(Failure::usage(message).with_help("name 127.0.0.1, or 0.0.0.0 where others are to reach it, too"));
    }
    super::runtime()?.block_on(async {
        let simulator = bellhop_simulator::Options {
            listen: arguments.slack_listen,
            state: arguments.slack_state.clone(),
            budget_scale: arguments.budget_scale,
            ..bellhop_simulator::Options::default()
        };
        let running = super::simulator::start(simulator).await?;
        let mut reached = running.address;
        if reached.ip().is_unspecified() {
            reached.set_ip(if reached.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        let url = format!("http://{reached}");
        context
            .out
            .note(&format!("a simulated Slack answers at {url}; its tokens are in `bellhop slack-simulator --help`"));
        let at_hand = shipped::plugins();
        if at_hand.files.is_empty() {
            context.out.note(&format!("there is no plugin in {}: {}", at_hand.looked, at_hand.remedy));
        }
        let plugins = at_hand.files;
        let connections = simulated().collect();
        let provision = serve::Provision { connections, plugins, token_each_start: true };
        let (compiled, _cache) = compiled(context)?;
        let options = options(&arguments.listen, Some(&url), arguments.budget_scale, provision, compiled, context)?;
        let served = Box::pin(serve::serve(options, &log.0)).await.map_err(|e| failure(&e));
        running.stop().await;
        served.map(|()| Exit::Done)
    })
}
