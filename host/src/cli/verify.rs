//! `bellhop verify`: what a stopped host keeps, compared with itself; or a backup, read from its begin to its end.

use std::path::{Path, PathBuf};

use bellhop_core::text::shell_word;
use clap::Args;
use serde_json::json;

use super::cache::Cache;
use super::output::{Exit, Failure};
use super::progress::{self, Progress};
use super::{Context, Settings, backup, offline, restore};
use crate::serve;

/// So much of what does not fit is named; how much there is in all is said first.
const NAMED_MAX: usize = 50;

/// `bellhop verify`
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Make what does not fit again from the runs
    #[arg(long, conflicts_with = "backup")]
    mend: bool,
    /// Look whether this backup is whole, instead of what is in the folder; `-` is standard input
    #[arg(value_name = "BACKUP")]
    backup: Option<PathBuf>,
}

/// Reads a backup, and makes nothing of it.
fn of_backup(path: &Path, context: &Context) -> Result<Exit, Failure> {
    let mut progress = Progress::new("verify", context);
    let mut from = restore::opened(path)?;
    let read = serve::restored::verified(&mut *from, &mut |bytes| progress.bytes(bytes));
    let (header, trailer) = read.map_err(|error| restore::failure(path, &error))?;
    let said = || {
        let secrets = if trailer.has_secrets { "with sealed tokens" } else { "without the tokens of connections" };
        format!(
            "whole: of {}, by bellhop {}, {} items, {}, {secrets}\n",
            header.began_at,
            header.program,
            trailer.items,
            progress::size(trailer.bytes)
        )
    };
    context.out.answer(said, &backup::described(&header, &trailer));
    Ok(Exit::Done)
}

/// The verb that mends, as it is to be typed here.
fn mending(settings: &Settings) -> String {
    let verb = "bellhop verify --mend".to_owned();
    if !settings.data_dir_is_named {
        return verb;
    }
    format!("{verb} --data-dir {}", shell_word(&settings.data_dir.display().to_string()))
}

pub(super) fn run(wanted: &Verify, context: &Context) -> Result<Exit, Failure> {
    if let Some(path) = &wanted.backup {
        return of_backup(path, context);
    }
    // It stays until this is through: it may be a temporary one.
    let Cache { path: compiled_dir, .. } = &Cache::of_the_user()?;
    let settings = &context.settings;
    let options = serve::Options {
        settings_file: settings.file.clone(),
        data_dir: settings.data_dir.clone(),
        compiled_dir: compiled_dir.clone(),
        listen: settings.listen.clone(),
        metrics_listen: None,
        trusted_proxies: Vec::new(),
        public_url: None,
        slack_url: settings.slack_url.clone(),
        limits: settings.limits.clone(),
        budget_scale: 1.0,
        proxy: None,
        certificates: bellhop_slack::client::certificates::Own::default(),
        provision: serve::Provision::default(),
        first_token_file: None,
        traces: None,
    };
    let verified = super::runtime()?.block_on(serve::verify(&options, wanted.mend)).map_err(|error| match &error {
        serve::Error::NoStore(_) => Failure::missing("store-missing", error.to_string())
            .with_help("name the host's folder by --data-dir; a host that has never been started keeps nothing"),
        serve::Error::InUse(_) => {
            Failure::storage(error.to_string()).with_help("the host has to be stopped for this, because its runs go on")
        }
        error => offline::not_opened(error),
    })?;
    let differences = verified.differences.len();
    if differences > 0 && !wanted.mend {
        let said = format!("{differences} of what owners keep does not fit the runs");
        let named: Vec<String> = verified.differences.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        return Err(Failure::failed("rows-differ", said)
            .with_lines(&named)
            .with_help(format!("make it again from the runs: {}", mending(settings))));
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
            match differences {
                0 => text.push_str("everything fits\n"),
                count => text.push_str(&format!("{count} made again from the runs\n")),
            }
            text
        },
        &answer,
    );
    Ok(Exit::Done)
}
