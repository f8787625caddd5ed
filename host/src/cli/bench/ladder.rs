//! Calls into WebAssembly without a journal: wasmtime alone, and ours.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde_json::json;

use super::{Figures, Options, clock, median};
use crate::cli::child::{Outcome, failed};
use crate::cli::output::say;
use bellhop_limits::Limits;
use bellhop_sandbox::bench::Bare;
use bellhop_sandbox::{self as sandbox, Halt, Host, Package};

/// A host that answers every call at once.
struct Immediately;

impl Host for Immediately {
    fn call<'a>(&'a mut self, _: &'a str, _: String) -> BoxFuture<'a, Result<Result<String, String>, Halt>> {
        Box::pin(std::future::ready(Ok(Ok(ANSWER.to_owned()))))
    }
    fn log(&mut self, _: &str, _: &str) {}
}

const ANSWER: &str = r#"{"ok":true,"channel":"C0HQIT","ts":"1.000100"}"#;

/// Calls of one round: enough that a round takes tenths of a second.
const CALLS: u32 = 5_000;

/// Both sides take turns for so many rounds, so that neither has the quieter machine.
const ROUNDS: u32 = 9;

fn input(arguments: &serde_json::Value) -> String {
    json!({
        "input": arguments,
        "context": { "run": "r", "task": "/do/0/x#0", "attempt": 1, "dryRun": false, "startedAt": "2026-01-01T00:00:00.000Z",
            "connection": { "name": "acme-hq", "kind": "grid-workspace", "plan": "enterprise", "workspaceId": "T0HQ", "enterpriseId": "E0ACME" } },
    })
    .to_string()
}

/// The bare rung and ours, with no capability call and with one.
pub(super) async fn climb(options: &Options, folder: &Path, figures: &mut Figures) -> Outcome<()> {
    let bytes = std::fs::read(&options.plugin)?;
    let sandbox = crate::serve::sandbox(&folder.join("compiled"), &Limits::default())?;
    let package = sandbox.prepare(&bytes).await?;
    let bare = Bare::new(&package, ANSWER)?;
    // Without a text the action reads its input, refuses it and calls nothing.
    let none = input(&json!({ "channel": "C0HQIT" }));
    let one = input(&json!({ "channel": "C0HQIT", "text": "Hello" }));
    for (what, input, names) in [
        ("no capability call", none, ["bare_call_us", "action_call_us", "action_call_ratio"]),
        ("one capability call", one, ["bare_one_call_us", "action_one_call_us", "action_one_call_ratio"]),
    ] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let began = clock();
            for _ in 0..CALLS {
                let _answered = bare.call("message.send", &input).await?;
            }
            theirs.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
            let began = clock();
            for _ in 0..CALLS {
                call(&package, &input).await?;
            }
            ours.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS));
        }
        let (theirs, ours) = (median(theirs), median(ours));
        say!("{what}: bare wasmtime {theirs:.1} µs, our action call {ours:.1} µs, {:.2} times", ours / theirs);
        for (name, value) in names.into_iter().zip([theirs, ours, ours / theirs]) {
            figures.insert(name, value);
        }
    }
    Ok(())
}

async fn call(package: &Package, input: &str) -> Outcome<()> {
    let call = sandbox::Call {
        action: "message.send",
        input,
        budget: sandbox::Budget::default(),
        context: sandbox::Context::default(),
        memory: Arc::default(),
    };
    match package.run(call, Immediately).await {
        Ok(_) => Ok(()),
        Err(error) => failed(format!("the action does not answer: {error}")),
    }
}
