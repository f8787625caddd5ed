//! `bellhop runs`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::flags::Which;
use super::http::{Client, query};
use super::one_run::{self, Show, address, ended, exit_of, stands, until_end};
use super::output::{Exit, Failure};
use super::timeline::Timeline;
use super::{Context, browse, export, run};

/// `bellhop runs`
#[derive(Debug, Subcommand)]
pub(super) enum Runs {
    /// List runs, the newest first
    List(List),
    /// Show one run, and what happened in it
    Show(One),
    /// Show what happened in a run and what happens, until it ends
    Watch(One),
    /// Write everything that is on record of runs as JSON lines, for audits
    Export(export::Export),
    /// Stop a run: what was sent is ended first
    Cancel(Cancel),
    /// Try again what failed, or is parked, in a run
    Retry(Retry),
    /// Take back what an ended run changed
    Undo(One),
    /// Begin nothing more in a run until it is resumed
    Suspend(One),
    /// Let a suspended run go on
    Resume(One),
    /// Say of a call whose outcome nobody could tell whether it was done; its run goes on
    Resolve(Resolve),
}

/// `bellhop runs list`
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
}

/// One run.
#[derive(Debug, Args)]
pub(super) struct One {
    /// The run's id: run_…
    #[arg(value_name = "RUN")]
    id: String,
}

/// `bellhop runs retry`
#[derive(Debug, Args)]
pub(super) struct Retry {
    /// The run's id: run_…
    #[arg(value_name = "RUN")]
    id: String,
    /// Go on with this version of the workflow; what the run has been through must be the same there
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// `bellhop runs cancel`
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The run's id: run_…
    #[arg(value_name = "RUN")]
    id: String,
    /// Take back what the run changed before it ends
    #[arg(long)]
    rollback: bool,
    /// End it whatever it leaves behind: calls in doubt, a rollback that cannot go on
    #[arg(long, conflicts_with = "rollback")]
    force: bool,
}

/// `bellhop runs resolve`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("outcome").required(true).args(["done", "not_done"])))]
pub(super) struct Resolve {
    /// The run's id: run_…
    #[arg(value_name = "RUN")]
    id: String,
    /// It was done
    #[arg(long)]
    done: bool,
    /// It was not done: it is sent again
    #[arg(long)]
    not_done: bool,
    /// What Slack would have answered, where the action needs it: a file of JSON, or JSON itself
    #[arg(long, value_name = "FILE", requires = "done")]
    answer: Option<String>,
    /// What is meant, where several things are open: its address, as `runs show` has it; or the task, where one is of it
    #[arg(long, value_name = "ADDRESS")]
    task: Option<String>,
}

pub(super) fn run(arguments: &Runs, context: &Context) -> Result<Exit, Failure> {
    match arguments {
        Runs::List(list) => {
            let filters = list.which.filters()?;
            let path = format!("/v1/runs{}", query(filters.iter().map(|(name, value)| (*name, value.as_str()))));
            let shown = [
                ("RUN", "/id"),
                ("STATUS", "/status"),
                ("REASON", "/reason"),
                ("UNDONE", "/undone"),
                ("LEFT", "/left"),
                ("WORKFLOW", "/workflow"),
                ("VERSION", "/version"),
                ("STARTED", "/startedAt"),
                ("ENDED", "/endedAt"),
            ];
            browse::some(context, &path, &shown, list.limit.max(1))
        }
        Runs::Show(one) => show(context, &one.id),
        Runs::Export(wanted) => export::run(wanted, context),
        Runs::Watch(one) => {
            let client = Client::new(context)?;
            let run = until_end(context, &client, &one.id, Show { events: true, parked_ends: false })?;
            if context.out.is_json() {
                return Ok(exit_of(&run));
            }
            Ok(ended(context, &run))
        }
        Runs::Cancel(cancel) => {
            let body = match (cancel.rollback, cancel.force) {
                (true, _) => json!({ "rollback": true }),
                (false, true) => json!({ "force": true }),
                (false, false) => json!({}),
            };
            change(context, &cancel.id, "cancel", &body)
        }
        Runs::Retry(retry) => {
            let body = retry.version.as_ref().map_or_else(|| json!({}), |version| json!({ "version": version }));
            change(context, &retry.id, "retry", &body)
        }
        Runs::Undo(one) => change(context, &one.id, "undo", &json!({})),
        Runs::Suspend(one) => change(context, &one.id, "suspend", &json!({})),
        Runs::Resume(one) => change(context, &one.id, "resume", &json!({})),
        Runs::Resolve(resolve) => {
            let mut body = json!({ "done": resolve.done && !resolve.not_done });
            if let Some(answer) = &resolve.answer {
                body["answer"] = run::read_input(answer, context)?;
            }
            if let Some(task) = &resolve.task {
                body["task"] = json!(task);
            }
            let client = Client::new(context)?;
            let answer = client.send("POST", &format!("{}/resolve", address(&resolve.id)), &body)?.body;
            let said = if resolve.done { "it was done" } else { "it was not done" };
            let settled = answer.get("settled").and_then(Value::as_array).into_iter().flatten();
            let text = || {
                let lines = settled.map(|one| format!("settled: {}: {said}\n", browse::text(one, "address")));
                format!("{}{}  {}\n", lines.collect::<String>(), resolve.id, stands(&answer))
            };
            context.out.answer(text, &answer);
            Ok(Exit::Done)
        }
    }
}

/// The run, and below it its story; as JSON the run alone, whose events `watch` and `export` give.
fn show(context: &Context, id: &str) -> Result<Exit, Failure> {
    let client = Client::new(context)?;
    let run = client.get(&address(id))?.body;
    if context.out.is_json() {
        context.out.json(&run);
        return Ok(Exit::Done);
    }
    let mut fields = run.clone();
    for name in ["open", "openMore"] {
        fields.as_object_mut().and_then(|fields| fields.remove(name));
    }
    context.out.text(&browse::thing(&fields));
    context.out.text(&open(id, &run));
    context.out.text("\n");
    let mut timeline = Timeline::default();
    one_run::events(&client, id, &mut |event| {
        context.out.text(&timeline.line(event));
    })?;
    Ok(Exit::Done)
}

/// What of a run waits for a person's word, an address a line, and what to type.
fn open(id: &str, run: &Value) -> String {
    let all: Vec<&Value> = run.get("open").and_then(Value::as_array).into_iter().flatten().collect();
    if all.is_empty() {
        return String::new();
    }
    let line = |one: &&Value| {
        let what = match browse::text(one, "kind").as_str() {
            "call" => format!(
                "{} over {}, sent {}",
                browse::text(one, "function"),
                browse::text(one, "connection"),
                browse::text(one, "sentAt")
            ),
            "change" => "a change that could not be taken back".to_owned(),
            _ => "the action was parked; no call of it is in doubt".to_owned(),
        };
        format!("open  {}  {what}\n", browse::text(one, "address"))
    };
    let more = run.get("openMore").and_then(Value::as_u64).filter(|more| *more > 0);
    let more = more.map(|more| format!("open  {more} more, shown when some of these are settled\n"));
    format!(
        "{}{}say what became of each: bellhop runs resolve {id} --task ADDRESS --done, or --not-done\n",
        all.iter().map(line).collect::<String>(),
        more.unwrap_or_default()
    )
}

fn change(context: &Context, id: &str, verb: &str, body: &Value) -> Result<Exit, Failure> {
    let client = Client::new(context)?;
    let answer = client.send("POST", &format!("{}/{verb}", address(id)), body)?.body;
    context.out.answer(|| format!("{id}  {}\n", stands(&answer)), &answer);
    Ok(Exit::Done)
}
