//! `bellhop restore`: a host's folder, made of a backup; and the word that has a restored host go on.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use bellhop_core::text::shell_word;
use clap::Args;
use serde_json::{Value, json};

use super::backup::{described, is_standard, passphrase, unusable};
use super::http::Client;
use super::output::{Exit, Failure};
use super::progress::Progress;
use super::{Context, browse};
use crate::serve::restored::{Done, Error, Sealed, restore};
use bellhop_engine::setup::sealed;
use bellhop_journal::sled::OpenError;

/// `bellhop restore`
#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The backup; `-` is standard input. The folder of --data-dir has to be empty, or not there
    #[arg(value_name = "FILE", required_unless_present = "go_on")]
    file: Option<PathBuf>,
    /// A file with the passphrase of the tokens in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["without_secrets", "go_on"])]
    passphrase_file: Option<PathBuf>,
    /// Leave the tokens of connections that are in it
    #[arg(long, conflicts_with = "go_on")]
    without_secrets: bool,
    /// Have a restored host, which was started, go on with its runs
    #[arg(long, conflicts_with = "file")]
    go_on: bool,
}

pub(super) fn run(wanted: &Restore, context: &Context) -> Result<Exit, Failure> {
    let Some(file) = &wanted.file else {
        let answer = Client::new(context)?.send("POST", "/v1/restore/go-on", &json!({}))?.body;
        context.out.answer(|| format!("it goes on, since {}\n", browse::text(&answer, "goneOnAt")), &answer);
        return Ok(Exit::Done);
    };
    let sealed = match &wanted.passphrase_file {
        Some(path) => Sealed::With(passphrase(path)?),
        None if wanted.without_secrets => Sealed::Left,
        None => Sealed::Unsaid,
    };
    let folder = &context.settings.data_dir;
    let mut progress = Progress::new("restore", context);
    let mut from = opened(file)?;
    let restored =
        super::runtime()?.block_on(restore(folder, &mut *from, &sealed, &context.settings.limits, &mut |bytes| {
            progress.bytes(bytes);
        }));
    let done = restored.map_err(|error| failure(file, &error))?;
    if !done.trailer.has_secrets && wanted.passphrase_file.is_some() {
        context.out.note("note: the backup has no tokens of connections, and the passphrase was not needed");
    }
    context.out.answer(|| said(&done, folder), &answer(&done, folder));
    Ok(Exit::Done)
}

/// The bytes of a backup.
pub(super) fn opened(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if is_standard(path) {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Err(Failure::usage("a backup is not typed: name a file, or put a program before a `|`"));
        }
        return Ok(Box::new(stdin.lock()));
    }
    let file = File::open(path).map_err(|error| Failure::unreadable(path, &error))?;
    Ok(Box::new(file))
}

fn answer(done: &Done, folder: &Path) -> Value {
    let mut value = described(&done.header, &done.trailer);
    value["dataDir"] = json!(folder.display().to_string());
    value["connectionsWithoutTokens"] = json!(done.lacking);
    value
}

fn said(done: &Done, folder: &Path) -> String {
    let word = shell_word(&folder.display().to_string()).into_owned();
    let mut text =
        format!("{}: as it was at {}, {} items\n", folder.display(), done.header.began_at, done.trailer.items);
    if done.trailer.damaged > 0 {
        text.push_str(&format!("{} items were damaged in the store, and are\n", done.trailer.damaged));
    }
    if !done.lacking.is_empty() {
        text.push_str(&format!("without tokens: {}; give them again: ", done.lacking.join(", ")));
        text.push_str("bellhop connect slack --kind KIND --name NAME --replace\n");
    }
    text.push_str(&format!(
        "start it: bellhop serve --data-dir {word}; its runs go on with: bellhop restore --go-on\n"
    ));
    text
}

/// Why nothing was restored, or a backup is not whole.
pub(super) fn failure(file: &Path, error: &Error) -> Failure {
    let message = error.to_string();
    match error {
        Error::NotEmpty { .. } => Failure::missing("folder-not-empty", message)
            .with_help("name a folder that is empty, or not there, by --data-dir; nothing was changed"),
        Error::Busy(_) => {
            Failure::missing("folder-not-empty", message).with_help("wait for it, or name another folder by --data-dir")
        }
        Error::Folder(refused) => {
            let failure = Failure { exit: Exit::Storage, ..Failure::failed("data-dir-refused", message) };
            failure.with_help(refused.remedy())
        }
        Error::Unreadable(source) => Failure::unreadable(file, source),
        Error::Backup(error) => unusable(error),
        Error::PassphraseNeeded => Failure::failed("passphrase-needed", message).with_help(
            "name a file with the passphrase by --passphrase-file, or leave the tokens by --without-secrets",
        ),
        Error::Sealed(sealed::Error::Wrong) => Failure::failed("passphrase-wrong", message)
            .with_help("name the file with the passphrase of this backup, or leave the tokens by --without-secrets"),
        Error::Sealed(_) => Failure::failed("backup-damaged", message)
            .with_help("leave the tokens by --without-secrets, and connect anew"),
        Error::Store(OpenError::Io { .. }) | Error::Connections(_) => Failure::failed("file-unwritable", message),
        Error::Store(_) | Error::Journal(_) => Failure::storage(message),
    }
}
