//! The folder that a case is played in: a copy of a host's folder, a home, a folder for what is temporary; and what
//! stands there before and after.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bellhop::hosted::now;
use crate::bellhop::{self, Place as Folder};
use crate::case::Case;
use crate::fake;
use crate::probe::NOBODY;
use crate::wire::{Peer, Request};

/// The workflow of every prepared host; an expression is evaluated in it.
pub(crate) const WORKFLOW: &str = "it/one";
/// Its definition.
pub(crate) const TEXT: &str = "\
document: { dsl: 1.0.3, namespace: it, name: one, version: 1.0.0 }
do: [ { only: { set: { sum: '${ 1 + 1 }' } } } ]
";
/// The key of the run that every prepared host has.
pub(crate) const KEY: &str = "prepared";
/// Preparing takes no longer: the evaluator may have to be compiled.
const PREPARED_IN: Duration = Duration::from_secs(120);
/// Larger files are compared by their length alone.
const COMPARED_BYTES_MAX: u64 = 4 << 20;

/// What all cases share.
pub(crate) struct Shared {
    root: tempfile::TempDir,
    /// The program, under a path that a user without rights can follow.
    pub(crate) program: PathBuf,
    /// The first operator's token of the prepared host.
    pub(crate) token: String,
    /// Its run.
    pub(crate) run: String,
}

fn told(what: &Path) -> impl Fn(std::io::Error) -> String + '_ {
    move |error| format!("{}: {error}", what.display())
}

/// Lines of shell in a folder.
pub(crate) fn shell(folder: &Path, lines: &[String], environment: &[(&str, String)]) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.arg("-euc").arg(lines.join("\n")).current_dir(folder).stdin(Stdio::null());
    let done = shell.envs(environment.iter().map(|(name, value)| (name, value))).output();
    let done = done.map_err(|e| format!("sh: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("`{}` ends with {}: {}", lines.join("; "), done.status, String::from_utf8_lossy(&done.stderr).trim()))
}

/// Copies a folder with its modes; of what is never written again, only the names.
fn copy(from: &Path, to: &Path, is_linked: bool) -> Result<(), String> {
    let flags = if is_linked { "-al" } else { "-a" };
    let done = Command::new("cp").args([flags, "-T", "--"]).arg(from).arg(to).status();
    match done {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`cp` of {} ends with {status}", from.display())),
        Err(error) => Err(format!("cp: {error}")),
    }
}

impl Shared {
    /// Lets one host make its folder, a workflow, a token and a run.
    pub(crate) fn prepare() -> Result<Self, String> {
        let root = tempfile::tempdir().map_err(|e| e.to_string())?;
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(told(path));
        open(root.path())?;
        let bin = root.path().join("bin");
        fs::create_dir(&bin).map_err(told(&bin))?;
        let program = bin.join("bellhop");
        let built = Path::new(bellhop::program());
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).map_err(told(built))?;
        }
        open(&bin)?;
        open(&program)?;
        let folder = Folder::new();
        let serve = ["serve", "--listen", "127.0.0.1:0", "--slack-url", "http://127.0.0.1:1", "--data-dir", "data"];
        let mut host = folder.start(&serve);
        let word = |line: Option<String>| {
            let line = line.ok_or("the host ends at its start")?;
            Ok::<_, String>(line.rsplit(' ').next().unwrap_or_default().to_owned())
        };
        let token = word(host.try_line())?;
        let url = word(host.try_line())?;
        let address = url.trim_start_matches("http://").parse().map_err(|e| format!("{url}: {e}"))?;
        let run = Self::fill(&Peer::Port(address), &token)?;
        host.terminate();
        if host.wait() != 0 {
            return Err("the host does not end in order".to_owned());
        }
        copy(Path::new(&folder.path("data")), &root.path().join("prepared"), false)?;
        Ok(Self { root, program, token, run })
    }

    fn fill(peer: &Peer, token: &str) -> Result<String, String> {
        let until = now() + PREPARED_IN;
        let path = format!("/v1/workflows/{WORKFLOW}");
        let kind = "application/yaml";
        let definition = Request { method: "PUT", path: &path, token, kind, body: TEXT.as_bytes(), headers: &[] };
        let applied = peer.send(&definition, until)?;
        let path = format!("{path}/runs?wait=60s");
        let key = [("Idempotency-Key".to_owned(), KEY.to_owned())];
        let kind = "application/json";
        let start = Request { method: "POST", path: &path, token, kind, headers: &key, body: br#"{"input":{}}"# };
        let run = peer.send(&start, until)?.json();
        match (run["status"].as_str(), run["id"].as_str()) {
            (Some("completed"), Some(id)) => Ok(id.to_owned()),
            _ => Err(format!("the first run: {run}; its workflow: {} {}", applied.status, applied.text)),
        }
    }
}

/// The folder of one case. What is mounted in it is unmounted when it is dropped.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    /// What `@{NAME}` stands for.
    names: BTreeMap<String, String>,
    disk: Option<PathBuf>,
}

impl Place {
    /// Makes all that surrounds the case, but what only its process has.
    pub(crate) fn make(shared: &Shared, case: &Case, port: u16) -> Result<Self, String> {
        let folder = tempfile::tempdir_in(shared.root.path()).map_err(|e| e.to_string())?;
        let path = folder.path().to_owned();
        let mut names = BTreeMap::from([
            ("place".to_owned(), path.display().to_string()),
            ("program".to_owned(), shared.program.display().to_string()),
            ("token".to_owned(), shared.token.clone()),
            ("run".to_owned(), shared.run.clone()),
            ("port".to_owned(), port.to_string()),
            ("compiled".to_owned(), shared.root.path().join("prepared/compiled").display().to_string()),
        ]);
        for (name, fake) in &case.fakes {
            names.insert(name.clone(), fake::begin(*fake)?);
        }
        let mut place = Self { folder, names, disk: None };
        let is_linked = !case.user;
        let prepared = shared.root.path().join("prepared");
        let cache = path.join("home/.cache/bellhop");
        fs::create_dir_all(&cache).map_err(told(&cache))?;
        copy(&prepared.join("compiled"), &cache.join("compiled"), is_linked)?;
        for (name, mode) in [("home", 0o700), ("home/.cache", 0o700), ("home/.cache/bellhop", 0o700), ("tmp", 0o700)] {
            let made = path.join(name);
            fs::create_dir_all(&made).map_err(told(&made))?;
            fs::set_permissions(&made, fs::Permissions::from_mode(mode)).map_err(told(&made))?;
        }
        if let Some(mb) = case.disk_mb {
            place.mount(mb)?;
        }
        if !case.fresh {
            place.put_data(&prepared, &path.join(&case.data), is_linked)?;
        }
        for (name, text) in &case.files {
            let file = path.join(name);
            let above = file.parent().unwrap_or(&path).to_owned();
            fs::create_dir_all(&above).map_err(told(&above))?;
            fs::write(&file, place.filled(text)).map_err(told(&file))?;
        }
        if case.user && rustix::process::geteuid().is_root() {
            let owner = format!("{NOBODY}:{NOBODY}");
            shell(&path, &[format!("chown -R {owner} .")], &[])?;
        }
        place.shell(&case.setup, None)?;
        Ok(place)
    }

    fn put_data(&self, prepared: &Path, data: &Path, is_linked: bool) -> Result<(), String> {
        let is_linked = is_linked && self.disk.is_none();
        fs::create_dir_all(data.parent().unwrap_or(data)).map_err(told(data))?;
        fs::create_dir(data).map_err(told(data))?;
        fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(told(data))?;
        for name in ["store", "secrets", "compiled"] {
            copy(&prepared.join(name), &data.join(name), is_linked && name == "compiled")?;
        }
        Ok(())
    }

    fn mount(&mut self, mb: u64) -> Result<(), String> {
        let disk = self.path().join("disk");
        fs::create_dir(&disk).map_err(told(&disk))?;
        let line = format!("mount -t tmpfs -o size={mb}m,mode=0700 tmpfs disk");
        shell(self.path(), &[line], &[])?;
        self.disk = Some(disk);
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A text of the case with what its `@{NAME}` stand for.
    pub(crate) fn filled(&self, text: &str) -> String {
        let filled = |text: String, (name, value): (&String, &String)| text.replace(&format!("@{{{name}}}"), value);
        self.names.iter().fold(text.to_owned(), filled)
    }

    /// Lines of shell in the place.
    pub(crate) fn shell(&self, lines: &[String], pid: Option<u32>) -> Result<(), String> {
        if lines.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = lines.iter().map(|line| self.filled(line)).collect();
        let folder = |name: &str| self.path().join(name).display().to_string();
        let mut environment = vec![("HOME", folder("home")), ("TMPDIR", folder("tmp"))];
        environment.extend(pid.map(|pid| ("PID", pid.to_string())));
        shell(self.path(), &lines, &environment)
    }

    /// All that stands in the place, but under these names.
    pub(crate) fn stands(&self, but: &[&str]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in folder.read_dir().into_iter().flatten().filter_map(Result::ok) {
                let path = entry.path();
                let name = path.strip_prefix(self.path()).unwrap_or(&path).to_string_lossy().into_owned();
                let Ok(meta) = fs::symlink_metadata(&path) else { continue };
                // The file of the lock says which process had it last.
                if but.contains(&name.as_str()) || name.ends_with("store/lock") {
                    continue;
                }
                if meta.is_dir() {
                    folders.push(path.clone());
                }
                let length = if meta.is_dir() { 0 } else { meta.len() };
                let mut hash = DefaultHasher::new();
                if meta.is_file() && length <= COMPARED_BYTES_MAX {
                    fs::read(&path).unwrap_or_default().hash(&mut hash);
                }
                let kind = meta.file_type();
                let is = format!("{kind:?} {:o} {length} {:x}", meta.permissions().mode(), hash.finish());
                found.insert(name, is);
            }
        }
        found
    }
}

/// What is there and was not, what is not there any more, and what is otherwise.
pub(crate) fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let new = after.keys().filter(|name| !before.contains_key(*name)).map(|name| format!("{name} is new"));
    let gone = before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("{name} is gone"));
    let other = before.iter().filter(|(name, is)| after.get(*name).is_some_and(|now| now != *is));
    new.chain(gone).chain(other.map(|(name, _)| format!("{name} is another"))).collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            let _gone = Command::new("umount").arg("-l").arg(disk).status();
        }
        // What a case forbade itself, the harness needs to remove it.
        let mut chmod = Command::new("chmod");
        chmod.args(["-R", "u+rwX", "--"]).arg(self.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let _done = chmod.status();
    }
}
