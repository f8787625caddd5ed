//! `bellhop doctor`: what surrounds a host, as it says itself, or as this program sees it where none runs.

use std::io::IsTerminal as _;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use bellhop_core::text::shell_word;
use clap::Args;
use serde_json::{Value, json};

use super::http::{Client, is_on_this_machine, of_this_folder};
use super::output::{Exit, Failure, plain};
use super::serve::compiled;
use super::{Context, runtime};
use crate::serve;

/// A probe that takes longer has failed.
const LIVE_MAX: Duration = Duration::from_secs(5);
/// A host is through with its looks sooner.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// From then on a terminal is told that somebody still looks.
const SILENT_MAX: Duration = Duration::from_secs(2);

/// `bellhop doctor`
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Only ask the host whether it lives, in a line and an exit code of 0 or 1, as a container's health check does
    #[arg(long)]
    live: bool,
    /// Slack's address, where no host runs that knows it; another one only for a simulator
    #[arg(long, value_name = "URL", conflicts_with = "live")]
    slack_url: Option<String>,
}

pub(super) fn run(arguments: &Doctor, context: &Context) -> Result<Exit, Failure> {
    if arguments.live {
        return live(context);
    }
    let progress = Progress::begin(context);
    let looked = asked(arguments, context);
    drop(progress);
    let (report, from) = looked?;
    let checks = report.get("checks").and_then(Value::as_array).cloned().unwrap_or_default();
    context.out.answer(|| text(&checks, &from), &report);
    let is_wrong = checks.iter().any(|check| check["state"] == "wrong");
    Ok(if is_wrong { Exit::Diagnostics } else { Exit::Done })
}

/// `GET /healthz` and nothing else.
fn live(context: &Context) -> Result<Exit, Failure> {
    let answered = Client::without_token(context)?.within(LIVE_MAX).get("/healthz");
    let (exit, said, why) = match answered {
        Ok(_) => (Exit::Done, "live".to_owned(), None),
        Err(failure) => {
            let why = failure.message.lines().next().unwrap_or_default().to_owned();
            (Exit::Failed, format!("not live: {why}"), Some(why))
        }
    };
    context.out.answer(|| format!("{said}\n"), &json!({ "live": exit == Exit::Done, "reason": why }));
    Ok(exit)
}

/// The checks, and who has looked, for people.
fn asked(arguments: &Doctor, context: &Context) -> Result<(Value, String), Failure> {
    let settings = &context.settings;
    match Client::new(context)?.within(ANSWER_MAX).get("/v1/doctor") {
        Ok(answer) => Ok((answer.body, format!("the host at {} has looked, for its own process", settings.url))),
        // What is here says nothing of another machine.
        Err(failure) if failure.is_nobody_there() && is_on_this_machine(&settings.url) => {
            let checks = here(arguments, context)?;
            let from = format!("no host answers at {}: looked at from here", settings.url);
            Ok((json!({ "asked": "here", "checks": checks }), from))
        }
        Err(failure) => Err(failure),
    }
}

/// Looks in place of a host.
fn here(arguments: &Doctor, context: &Context) -> Result<Value, Failure> {
    let settings = &context.settings;
    let slack_url = arguments.slack_url.as_ref().unwrap_or(&settings.slack_url).clone();
    if arguments.slack_url.is_none() && !settings.slack_url_is_named && !is_on_this_machine(&slack_url) {
        let flag = format!("--slack-url {}", shell_word(&slack_url));
        return Err(of_this_folder("what Slack is told", &slack_url, &flag));
    }
    // It stays until this is through: it may be a temporary one.
    let (compiled_dir, _cache) = compiled(context)?;
    let options = serve::Options {
        traces: None,
        settings_file: settings.file.clone(),
        data_dir: settings.data_dir.clone(),
        compiled_dir,
        listen: settings.listen.clone(),
        metrics_listen: None,
        trusted_proxies: Vec::new(),
        public_url: None,
        slack_url,
        limits: settings.limits.clone(),
        budget_scale: 1.0,
        proxy: settings.proxy_in_force()?,
        certificates: settings.certificates()?,
        provision: serve::Provision::default(),
        first_token_file: None,
    };
    let runtime = runtime()?;
    let looked = runtime.block_on(serve::doctor::here(&options));
    // Whoever still waits for a disk that stands still holds up nobody.
    runtime.shutdown_background();
    looked.map_err(|error| match &error {
        serve::Error::InUse(_) => Failure::unreachable(format!("{error}, and no host answers at {}", settings.url))
            .with_help("say where it is by --url or BELLHOP_URL"),
        serve::Error::Client(_) => Failure::usage(error.to_string()),
        serve::Error::Store(_) => Failure::storage(error.to_string()),
        _ => Failure::failed("host-failed", error.to_string()),
    })
}

/// A line for each check, and what helps below those that are not as they have to be.
fn text(checks: &[Value], from: &str) -> String {
    let field = |check: &Value, name: &str| check.get(name).and_then(Value::as_str).map(plain);
    let count = |state: &str| checks.iter().filter(|check| check["state"] == state).count();
    let name_of = |check: &Value| {
        let name = field(check, "check").unwrap_or_default();
        field(check, "about").map_or_else(|| name.clone(), |about| format!("{name} {about}"))
    };
    let width = checks.iter().map(|check| name_of(check).chars().count()).max().unwrap_or_default().min(40);
    let mut text = format!("{}\n", plain(from));
    for check in checks {
        let state = field(check, "state").unwrap_or_default();
        let has = field(check, "has").unwrap_or_default();
        let line = format!("{state:<8} {:<width$}  {has}", name_of(check));
        text.push_str(line.trim_end());
        text.push('\n');
        for (name, label) in [("needs", "needs:"), ("fix", "fix:")] {
            if let Some(said) = field(check, name) {
                text.push_str(&format!("         {label:<6} {said}\n"));
            }
        }
        if let Some(code) = field(check, "code") {
            text.push_str(&format!("         more:  bellhop explain {code}\n"));
        }
    }
    let (wrong, warnings, unknown) = (count("wrong"), count("warning"), count("unknown"));
    text.push_str(&match (wrong, warnings, unknown) {
        (0, 0, 0) => "all is well\n".to_owned(),
        _ => format!("{wrong} wrong, {warnings} to see to, {unknown} unknown\n"),
    });
    text
}

/// Says on a terminal that somebody still looks. Dropped, it says nothing more.
struct Progress {
    _end: Option<Sender<()>>,
}

impl Progress {
    fn begin(context: &Context) -> Self {
        if context.out.is_json() || !std::io::stderr().is_terminal() {
            return Self { _end: None };
        }
        let (end, ended) = mpsc::channel::<()>();
        let out = context.out;
        let told = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            if ended.recv_timeout(SILENT_MAX) == Err(RecvTimeoutError::Timeout) {
                out.note("looking: the disk, the way to Slack and each connection take up to 15 s");
            }
        });
        // Without a thread nothing is said.
        drop(told);
        Self { _end: Some(end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_with_its_remedy() {
        let checks = [
            json!({ "check": "disk", "state": "ok", "has": "5 GB free" }),
            json!({ "check": "connection", "about": "hq", "state": "wrong", "code": "connection-broken", "needs": "a", "has": "b", "fix": "c" }),
        ];
        let expected = "here\n\
             ok       disk           5 GB free\n\
             wrong    connection hq  b\n         needs: a\n         fix:   c\n         more:  bellhop explain connection-broken\n\
             1 wrong, 0 to see to, 0 unknown\n";
        assert_eq!(text(&checks, "here"), expected);
        assert!(text(&checks[..1], "here").ends_with("all is well\n"));
    }
}
