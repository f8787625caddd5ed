//! `bellhop backup`: what a host keeps, as one file.
//!
//! What comes from the host is looked at while it is written, so that a file under the name that was given is always a whole
//! backup.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use tempfile::NamedTempFile;

use super::http::{Ask, Client};
use super::output::{Exit, Failure};
use super::progress::{Progress, size};
use super::{Context, files};
use crate::serve;
use bellhop_engine::operate;
use bellhop_engine::setup::sealed::{PASSPHRASE_BYTES_MAX, Passphrase};
use bellhop_journal::backup::{self, Header, Part, Reader, Trailer};

/// `bellhop backup`
#[derive(Debug, Args)]
pub(super) struct Backup {
    /// Where it goes; `-` is standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// With the tokens of connections, sealed with the passphrase of --passphrase-file
    #[arg(long, requires = "passphrase_file")]
    with_secrets: bool,
    /// A file with the passphrase
    #[arg(long, value_name = "FILE", requires = "with_secrets")]
    passphrase_file: Option<PathBuf>,
    /// Of the folder of a host that is stopped
    #[arg(long)]
    offline: bool,
}

/// The passphrase in a file.
pub(super) fn passphrase(path: &Path) -> Result<Passphrase, Failure> {
    let text = files::text(path, PASSPHRASE_BYTES_MAX as u64 + 2)?;
    Passphrase::new(text).map_err(|wrong| Failure::usage(format!("--passphrase-file {}: {wrong}", path.display())))
}

/// `-`.
pub(super) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

pub(super) fn run(wanted: &Backup, context: &Context) -> Result<Exit, Failure> {
    let passphrase = wanted.passphrase_file.as_deref().map(passphrase).transpose()?;
    if is_standard(&wanted.file) {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(Failure::usage(
                "a backup is not written to a terminal: name a file, or a program behind a `|`",
            ));
        }
        let mut checked = Checked::new(&wanted.file, stdout.lock(), context);
        taken(wanted, passphrase, context, &mut |bytes| checked.take(bytes))?;
        let told = checked.finish()?;
        // Standard output is the backup's.
        context.out.note(&told.line(&wanted.file));
        return Ok(Exit::Done);
    }
    let unwritable = |error: io::Error| Failure::unwritable(&wanted.file, &error);
    must_be_a_file(&wanted.file).map_err(unwritable)?;
    let folder = wanted.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // Only its user can read it.
    let aside = tempfile::Builder::new().prefix(".bellhop-backup-").tempfile_in(folder).map_err(unwritable)?;
    let told = {
        let mut checked = Checked::new(&wanted.file, aside.as_file(), context);
        taken(wanted, passphrase, context, &mut |bytes| checked.take(bytes))?;
        checked.finish()?
    };
    keep(aside, &wanted.file, folder).map_err(unwritable)?;
    context.out.answer(|| format!("{}\n", told.line(&wanted.file)), &told.json(&wanted.file));
    Ok(Exit::Done)
}

/// A file takes the place of a file alone: a device of that name would be gone.
fn must_be_a_file(path: &Path) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something that is no file; `-` is standard output",
        )),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives the file its name, once all of it is on the disk.
fn keep(aside: NamedTempFile, path: &Path, folder: &Path) -> io::Result<()> {
    aside.as_file().sync_all()?;
    // A link stays one: what it leads to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    aside.persist(&path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(folder);
    File::open(folder)?.sync_all()
}

/// Has the backup taken; `each` gets it piece by piece.
fn taken(
    wanted: &Backup,
    passphrase: Option<Passphrase>,
    context: &Context,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if wanted.offline {
        return offline(passphrase, context, each);
    }
    let client = Client::new(context)?;
    match passphrase {
        None => client.stream(Ask::new("GET", "/v1/backup"), each),
        Some(passphrase) => {
            let body = json!({ "passphrase": passphrase.reveal() });
            client.stream(Ask::new("POST", "/v1/backup").json(&body), each)
        }
    }
}

fn offline(
    passphrase: Option<Passphrase>,
    context: &Context,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let settings = &context.settings;
    super::runtime()?.block_on(async {
        let begun = serve::backup_offline(&settings.data_dir, &settings.limits, passphrase);
        let mut begun = begun.map_err(|error| match &error {
            serve::Error::NoStore(_) => Failure::missing("store-missing", error.to_string())
                .with_help("name the host's folder by --data-dir; a host that has never been started keeps nothing"),
            serve::Error::InUse(_) => Failure::storage(error.to_string())
                .with_help("the host has to be stopped for this; while it runs, take the backup without --offline"),
            _ => Failure::storage(error.to_string()),
        })?;
        while let Some(bytes) = begun.next().await.map_err(|error| not_taken(&error))? {
            each(&bytes)?;
        }
        begun.close().map_err(|error| Failure::storage(error.to_string()))
    })
}

fn not_taken(error: &operate::backup::Error) -> Failure {
    match error {
        operate::backup::Error::Backup(error) => unusable(error),
        operate::backup::Error::Connections(_) => Failure::storage(error.to_string()),
        operate::backup::Error::Sealed(_) => Failure::failed("no-runtime", error.to_string()),
    }
}

/// Why a backup is not used, or came to no end.
pub(super) fn unusable(error: &backup::Error) -> Failure {
    let message = format!("the backup: {error}");
    match error {
        backup::Error::Store(_) => Failure::storage(error.to_string()),
        backup::Error::NotABackup | backup::Error::Damaged { .. } | backup::Error::Cut { .. } => {
            Failure::failed("backup-damaged", message).with_help("use another backup; nothing was changed")
        }
        backup::Error::Newer { .. } | backup::Error::OtherStore { .. } => {
            Failure::failed("backup-of-another-version", message)
                .with_help("use the version of bellhop that took it; nothing was changed")
        }
        backup::Error::TooSlow { .. } => Failure::failed("backup-too-slow", message).with_help(TOO_SLOW),
        backup::Error::BrokenOff { code, detail } => {
            let failure = Failure::failed(code, format!("the backup was broken off by the host: {detail} ({code})"));
            if code == "backup-too-slow" { failure.with_help(TOO_SLOW) } else { failure.with_help("take it again") }
        }
    }
}

const TOO_SLOW: &str = "take it to a faster place, or raise `backup_queue_bytes_max` under [limits] in bellhop.toml";

/// What was taken.
struct Told {
    header: Header,
    trailer: Trailer,
}

impl Told {
    fn line(&self, file: &Path) -> String {
        let Trailer { items, bytes, damaged, has_secrets, .. } = &self.trailer;
        let secrets = if *has_secrets { "with sealed tokens" } else { "without the tokens of connections" };
        let damaged = if *damaged == 0 { String::new() } else { format!("; {damaged} items are damaged in the store") };
        let began = self.header.began_at;
        format!("{}: of {began}, {items} items, {}, {secrets}{damaged}", file.display(), size(*bytes))
    }

    fn json(&self, file: &Path) -> serde_json::Value {
        let mut value = described(&self.header, &self.trailer);
        value["file"] = json!(file.display().to_string());
        value
    }
}

/// A backup, as programs are told of it.
pub(super) fn described(header: &Header, trailer: &Trailer) -> serde_json::Value {
    json!({
        "beganAt": header.began_at.to_string(),
        "takenAt": trailer.taken_at.to_string(),
        "program": header.program,
        "storeFormat": header.store_format,
        "items": trailer.items,
        "changes": trailer.changes,
        "damaged": trailer.damaged,
        "bytes": trailer.bytes,
        "hasSecrets": trailer.has_secrets,
        "digest": trailer.digest,
    })
}

/// Writes what comes, and looks whether it is a backup.
struct Checked<'a, W> {
    path: &'a Path,
    to: W,
    reader: Reader,
    header: Option<Header>,
    trailer: Option<Trailer>,
    progress: Progress,
}

impl<'a, W: Write> Checked<'a, W> {
    fn new(path: &'a Path, to: W, context: &Context) -> Self {
        let progress = Progress::new("backup", context);
        Self { path, to, reader: Reader::new(), header: None, trailer: None, progress }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.reader.push(bytes);
        while let Some(part) = self.reader.next_part().map_err(|error| unusable(&error))? {
            match part {
                Part::Header(header) => self.header = Some(header),
                Part::Trailer(trailer) => self.trailer = Some(trailer),
                Part::Changes(_) | Part::Secrets(_) => {}
            }
        }
        self.to.write_all(bytes).map_err(|error| Failure::unwritable(self.path, &error))?;
        self.progress.bytes(self.reader.at());
        Ok(())
    }

    fn finish(mut self) -> Result<Told, Failure> {
        self.reader.finish().map_err(|error| unusable(&error))?;
        self.to.flush().map_err(|error| Failure::unwritable(self.path, &error))?;
        match (self.header, self.trailer) {
            (Some(header), Some(trailer)) => Ok(Told { header, trailer }),
            _ => Err(unusable(&backup::Error::NotABackup)),
        }
    }
}
