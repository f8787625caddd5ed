//! The verbs: what people type, and what they get to see.
//!
//! `check`, `plugin build`, `plugin inspect`, `explain`, `config`, `restore`, `verify` and `slack-simulator` work without a
//! server, `serve` and `dev` are one, and the others ask one over HTTP; `doctor` looks itself where none runs. Every verb ends
//! with an [`Exit`] that scripts can rely on, and
//! with `--output json` standard output holds one JSON document (`runs watch`: one in each line), also on failure.

mod action;
mod address;
mod arguments;
mod away;
mod backup;
mod bench;
mod browse;
mod cache;
mod check;
mod child;
mod clock;
mod connections;
mod demo;
mod doctor;
mod environment;
mod explain;
mod export;
mod files;
mod flags;
mod http;
mod json_log;
mod limits;
mod offline;
mod one_run;
mod output;
mod packaging;
mod plugin;
mod problem;
mod progress;
mod proxy;
#[cfg(test)]
mod remedies;
mod restore;
mod run;
mod runs;
mod serve;
mod settings;
mod shipped;
mod simulator;
mod tables;
pub(crate) mod timeline;
mod tokens;
mod traces;
mod unreachable;
mod verify;
mod workflows;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Verb};
pub(crate) use output::{Exit, Failure, Format, Out};
pub(crate) use settings::Settings;

/// What every verb is given.
pub(crate) struct Context {
    /// Flags over environment over file.
    pub(crate) settings: Settings,
    /// Where to say things.
    pub(crate) out: Out,
}

/// Carries out what the arguments (the program's own name first) ask for; the code to end the process with.
pub(crate) fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given: Vec<OsString> = arguments.into_iter().collect();
    if asks_for_versions(&given) {
        let versions: serde_json::Map<String, serde_json::Value> =
            crate::serve::versions::all().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let format = asks_for_json(&given).then_some(Format::Json);
        Out::new(format).answer(crate::serve::versions::lines, &versions.into());
        return Exit::Done.into();
    }
    let parsed = match Arguments::try_parse_from(&given) {
        Ok(parsed) => parsed,
        Err(error) => return misused(&error, &given),
    };
    let out = Out::new(parsed.global.output);
    let settings = match Settings::gather(&parsed.global) {
        Ok(settings) => settings,
        Err(failure) => return out.failure(&failure).into(),
    };
    let context = Context { settings, out };
    match perform(parsed.verb, &context) {
        Ok(exit) => exit.into(),
        Err(failure) => context.out.failure(&failure).into(),
    }
}

fn perform(verb: Verb, context: &Context) -> Result<Exit, Failure> {
    match verb {
        Verb::Serve(serve) => serve::serve(&serve, context),
        Verb::Dev(dev) => serve::dev(&dev, context),
        Verb::Check(check) => check::run(&check, context),
        Verb::Run(run) => run::run(&run, context),
        Verb::Runs(runs) => runs::run(&runs, context),
        Verb::Workflows(workflows) => workflows::run(&workflows, context),
        Verb::Action(action) => action::run(&action, context),
        Verb::Tables(tables) => tables::run(&tables, context),
        Verb::Connect(connect) => connections::connect(&connect, context),
        Verb::Connections(connections) => connections::run(&connections, context),
        Verb::Plugin(plugin) => plugin::run(&plugin, context),
        Verb::Token(token) => tokens::run(&token, context),
        Verb::Clock(wanted) => clock::run(&wanted, context),
        Verb::Explain(explain) => explain::run(&explain, context),
        Verb::Doctor(doctor) => doctor::run(&doctor, context),
        Verb::Backup(backup) => backup::run(&backup, context),
        Verb::Restore(restore) => restore::run(&restore, context),
        Verb::Verify(verify) => verify::run(&verify, context),
        Verb::Config => limits::run(context),
        Verb::SlackSimulator(simulator) => simulator::run(&simulator, context),
        Verb::Demo(arguments) => shown(demo::run(&arguments)),
        Verb::Bench(arguments) => shown(bench::run(&arguments)),
        Verb::Packaging(packaging) => packaging::run(&packaging),
    }
}

/// Carries out what tells its own story.
fn shown(work: impl Future<Output = child::Outcome<()>>) -> Result<Exit, Failure> {
    // An error says that there is a provider already.
    let _already = rustls::crypto::ring::default_provider().install_default();
    runtime()?
        .block_on(work)
        .map(|()| Exit::Done)
        .map_err(|error| Failure::failed("not-as-expected", error.to_string()))
}

/// Whether the arguments, which could not be parsed, ask for JSON.
fn asks_for_json(given: &[OsString]) -> bool {
    given.iter().any(|a| a == "--output=json") || given.windows(2).any(|w| w[0] == "--output" && w[1] == "json")
}

/// Whether the arguments are `--version --verbose`, in any order, and nothing but the form of the answer.
fn asks_for_versions(given: &[OsString]) -> bool {
    let flags = given.get(1..).unwrap_or_default();
    let has = |names: &[&str]| flags.iter().any(|flag| names.iter().any(|name| flag == name));
    let known = ["--version", "-V", "--verbose", "--output", "--output=json", "--output=text", "json", "text"];
    has(&["--version", "-V"]) && has(&["--verbose"]) && flags.iter().all(|flag| known.iter().any(|name| flag == name))
}

/// Help and version are no failure; everything else is a usage error.
fn misused(error: &clap::Error, given: &[OsString]) -> ExitCode {
    let json = asks_for_json(given);
    if !error.use_stderr() {
        if let Err(error) = error.print().and_then(|()| std::io::Write::flush(&mut std::io::stdout())) {
            output::ends_unsaid(&error);
        }
        return Exit::Done.into();
    }
    // It repeats the arguments: those of others' making are said as they are shown.
    let plain = given.iter().map(|argument| output::plain(&argument.to_string_lossy()));
    let mut text = Arguments::try_parse_from(plain).err().map_or_else(|| error.to_string(), |plain| plain.to_string());
    text = bellhop_api::problem::without_tokens(text);
    if json {
        let mut lines = text.trim().lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
        let first = lines.next().unwrap_or_default();
        let failure = Failure::usage(first.trim_start_matches("error: ")).with_lines(&lines.collect::<Vec<_>>());
        return Out::new(Some(Format::Json)).failure(&failure).into();
    }
    Out::new(None).note(text.trim_end());
    Exit::Usage.into()
}

/// A runtime for a verb that waits for things.
///
/// # Errors
/// The machine gives no threads.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::failed("no-runtime", format!("the program cannot start its threads: {e}")))
}
