//! `bellhop verify`: what a stopped host keeps, compared with itself.

use clap::Args;
use serde_json::json;

use super::Context;
use super::cache::Cache;
use super::output::{Exit, Failure};
use crate::serve;

/// `bellhop verify`
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Make what does not fit again from the runs
    #[arg(long)]
    mend: bool,
}

pub(super) fn run(wanted: &Verify, context: &Context) -> Result<Exit, Failure> {
    // It stays until this is through: it may be a temporary one.
    let Cache { path: compiled_dir, .. } = &Cache::of_the_user()?;
    let settings = &context.settings;
    let options = serve::Options {
        data_dir: settings.data_dir.clone(),
        compiled_dir: compiled_dir.clone(),
        listen: settings.listen,
        metrics_listen: None,
        trusted_proxies: Vec::new(),
        slack_url: settings.slack_url.clone(),
        limits: settings.limits.clone(),
        budget_scale: 1.0,
        provision: serve::Provision::default(),
    };
    let verified = super::runtime()?.block_on(serve::verify(&options, wanted.mend)).map_err(|error| match &error {
        serve::Error::NoStore(_) => Failure::missing("store-missing", error.to_string())
            .with_help("name the host's folder by --data-dir; a host that has never been started keeps nothing"),
        serve::Error::InUse(_) => {
            Failure::storage(error.to_string()).with_help("the host has to be stopped for this, because its runs go on")
        }
        _ => Failure::storage(error.to_string()),
    })?;
    let differences: Vec<String> = verified.differences.iter().map(ToString::to_string).collect();
    if !differences.is_empty() && !wanted.mend {
        let said = format!("{} of what owners keep does not fit the runs", differences.len());
        return Err(Failure::failed("rows-differ", said)
            .with_lines(&differences)
            .with_help("make it again from the runs: bellhop verify --mend"));
    }
    let answer = json!({
        "runs": verified.runs,
        "unread": verified.unread,
        "rows": verified.rows,
        "mended": differences,
    });
    context.out.answer(
        || {
            let mut text = format!("{} open runs, {} rows of owners and messages\n", verified.runs, verified.rows);
            if verified.unread > 0 {
                text.push_str(&format!("{} runs cannot be read and were not compared\n", verified.unread));
            }
            match differences.len() {
                0 => text.push_str("everything fits\n"),
                count => text.push_str(&format!("{count} made again from the runs\n")),
            }
            text
        },
        &answer,
    );
    Ok(Exit::Done)
}
