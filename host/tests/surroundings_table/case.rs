//! A case as data: what surrounds a host or a verb, and what must happen.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::Deserialize;

use crate::probe::Probe;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    case: Vec<Case>,
    #[serde(default)]
    flood: Vec<Flood>,
}

/// Everything that is to be played.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) cases: Vec<Case>,
    pub(crate) floods: Vec<Flood>,
}

/// What is done in the surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Does {
    /// A host starts, answers, carries a run, ends at SIGTERM, and its store opens again.
    Serves,
    /// A host does not start: it ends with a code, says why and what helps, and changes nothing.
    Refuses,
    /// A verb ends with a code and says something.
    Answers,
}

/// Where a stream leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stream {
    /// To the harness, which reads all of it.
    Read,
    /// To /dev/null, or from there.
    Null,
    /// It is not open.
    Closed,
    /// To /dev/full.
    Full,
    /// Into a pipe whose reader has gone.
    Ends,
    /// Into a pipe that nobody reads.
    Unread,
}

/// Somebody who answers on the loopback otherwise than is hoped. `@{NAME}` is its `host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fake {
    /// Nobody listens there.
    Nobody,
    /// Takes connections and closes them.
    Closes,
    /// Takes connections and never answers.
    Hangs,
    /// Answers as a proxy that wants a password.
    Asks,
    /// Answers as a proxy that forbids it.
    Forbids,
    /// Answers with bytes that are no HTTP.
    Babbles,
}

/// One surrounding and what must happen in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique.
    pub(crate) name: String,
    /// What must happen, in words.
    pub(crate) must: String,
    /// Only the full form plays it.
    #[serde(default)]
    pub(crate) slow: bool,
    /// What has to be possible on this machine.
    #[serde(default)]
    pub(crate) probes: Vec<Probe>,

    /// The host's folder is not there yet. Elsewhere it is a copy of one that has a workflow, a run and a token.
    #[serde(default)]
    pub(crate) fresh: bool,
    /// Files by name.
    #[serde(default)]
    pub(crate) files: BTreeMap<String, String>,
    /// Lines of shell in the place, before anything starts.
    #[serde(default)]
    pub(crate) setup: Vec<String>,
    /// A disk of that size at `disk`, in memory.
    #[serde(default)]
    pub(crate) disk_mb: Option<u64>,
    #[serde(default)]
    pub(crate) fakes: BTreeMap<String, Fake>,
    /// A user without rights.
    #[serde(default)]
    pub(crate) user: bool,
    /// Flags of `unshare`: namespaces of its own.
    #[serde(default)]
    pub(crate) apart: Vec<String>,
    /// Lines of shell in these namespaces, in the process that becomes the program; `"$@"` is what is started.
    #[serde(default)]
    pub(crate) inside: Vec<String>,
    /// A program and its arguments that starts the program, such as `env -i`.
    #[serde(default)]
    pub(crate) wrap: Vec<String>,
    /// The folder that it is started in, from the place.
    #[serde(default)]
    pub(crate) folder: Option<String>,
    /// Another name of the program.
    #[serde(default)]
    pub(crate) program: Option<String>,
    /// All arguments, instead of those of a usual host.
    #[serde(default)]
    pub(crate) arguments: Option<Vec<String>>,
    /// Arguments after these.
    #[serde(default)]
    pub(crate) more: Vec<String>,
    #[serde(default)]
    pub(crate) environment: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) unset: Vec<String>,
    #[serde(default = "null")]
    pub(crate) stdin: Stream,
    #[serde(default = "read")]
    pub(crate) stdout: Stream,
    #[serde(default = "read")]
    pub(crate) stderr: Stream,

    pub(crate) does: Does,
    /// A verb is asked beside a host that runs as usual.
    #[serde(default)]
    pub(crate) host: bool,
    /// The start, or a verb, takes no longer.
    #[serde(default = "some_seconds")]
    pub(crate) within_s: u64,
    /// The exit code: of a refusal, of a verb, of a host at its end.
    #[serde(default)]
    pub(crate) code: i32,
    /// What is said; of a host, within the time of its start.
    #[serde(default)]
    pub(crate) shows: Vec<String>,
    /// What is not said.
    #[serde(default)]
    pub(crate) lacks: Vec<String>,
    /// What helps, as a refusal says it; without it, any line that looks like a remedy does.
    #[serde(default)]
    pub(crate) remedy: Option<String>,
    /// Lines of shell that do what the remedy says: then the host has to start.
    #[serde(default)]
    pub(crate) mended_by: Vec<String>,
    /// What `/readyz` answers with, and what stands there.
    #[serde(default = "ok")]
    pub(crate) ready: u16,
    #[serde(default)]
    pub(crate) readyz: Vec<String>,
    /// By how much the host's own time is shifted, which is asserted before anything else.
    #[serde(default)]
    pub(crate) shifted_s: Option<i64>,
    /// Whether a run is started and has to complete.
    #[serde(default = "yes")]
    pub(crate) run: bool,
    /// Where the host keeps everything, from the place.
    #[serde(default = "data")]
    pub(crate) data: String,
    /// The socket in the file system that the host listens on, from the place, instead of a port.
    #[serde(default)]
    pub(crate) socket: Option<String>,
    /// What may be written besides the host's folder.
    #[serde(default)]
    pub(crate) leaves: Vec<String>,
    /// A refusal comes after the store was opened, so that the folder may have changed.
    #[serde(default)]
    pub(crate) data_changes: bool,
    /// What is done while the host serves.
    #[serde(default)]
    pub(crate) step: Vec<Step>,
}

/// One thing that is done while a host serves, and what must come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Step {
    /// A request with the operator's token.
    Send {
        #[serde(default = "get")]
        method: String,
        path: String,
        #[serde(default)]
        body: String,
        #[serde(default)]
        headers: Vec<(String, String)>,
        #[serde(default = "ok")]
        status: u16,
        /// In the answer, its head too.
        #[serde(default)]
        shows: Vec<String>,
        #[serde(default)]
        lacks: Vec<String>,
    },
    /// Starts a run, which has to complete.
    Run,
    /// A verb in usual surroundings, which asks this host.
    Verb {
        line: Vec<String>,
        #[serde(default)]
        code: i32,
        #[serde(default)]
        shows: Vec<String>,
        #[serde(default)]
        lacks: Vec<String>,
        #[serde(default)]
        environment: BTreeMap<String, String>,
    },
    /// Lines of shell in the place; `$PID` is the host.
    Sh { lines: Vec<String> },
    /// A signal to the host.
    Signal { name: String },
    /// What the host says, in time.
    Log {
        shows: String,
        #[serde(default = "some_seconds")]
        within_s: u64,
    },
    /// The host ends by itself.
    Ends {
        #[serde(default)]
        code: i32,
        #[serde(default = "some_seconds")]
        within_s: u64,
    },
    /// SIGKILL.
    Kill,
    /// The host, which has ended, starts again: in the usual surroundings, unless `around` says the case's own.
    Start {
        #[serde(default)]
        around: bool,
        /// What `/readyz` answers with in usual surroundings.
        #[serde(default = "ok")]
        ready: u16,
    },
}

/// What somebody does to a host who has no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Attack {
    /// Connections on which nothing is sent.
    Idle,
    /// A request's head, a byte now and then.
    SlowHeaders,
    /// A request's body, a byte now and then.
    SlowBodies,
    /// Half a request, and the end of what is sent.
    HalfClosed,
    /// Requests one after the other, whose answers are not read.
    Pipelined,
}

/// A flood: as long as it lasts a probe is answered within a second; five seconds later the host is as before.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flood {
    pub(crate) name: String,
    pub(crate) must: String,
    #[serde(default)]
    pub(crate) slow: bool,
    #[serde(default)]
    pub(crate) probes: Vec<Probe>,
    pub(crate) attack: Attack,
    /// Held open at a time; who is cut off comes again.
    pub(crate) connections: usize,
    /// The loopback addresses that they come from, in turn.
    pub(crate) from: Vec<Ipv4Addr>,
    /// What the host may have open.
    pub(crate) descriptors: u64,
    /// Resident memory of the host, at most.
    pub(crate) memory_mb: u64,
}

fn null() -> Stream {
    Stream::Null
}

fn read() -> Stream {
    Stream::Read
}

fn some_seconds() -> u64 {
    20
}

fn ok() -> u16 {
    200
}

fn yes() -> bool {
    true
}

fn data() -> String {
    "data".to_owned()
}

fn get() -> String {
    "GET".to_owned()
}

impl Table {
    /// Every case and flood of the files of a folder, in the order of their names.
    pub(crate) fn of(folder: &Path) -> Result<Self, String> {
        let entries = folder.read_dir().map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
        files.sort();
        let mut table = Self::default();
        for file in files {
            let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
            let written: Written = toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
            table.cases.extend(written.case);
            table.floods.extend(written.flood);
        }
        let mut names: Vec<&str> = table.cases.iter().map(|case| case.name.as_str()).collect();
        names.extend(table.floods.iter().map(|flood| flood.name.as_str()));
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two cases are called {}", twice[0]));
        }
        table.cases.iter().try_for_each(Case::check)?;
        Ok(table)
    }
}

impl Case {
    /// A host as usual, but for what it is started by.
    pub(crate) fn of_a_host(name: &str, wrap: Vec<String>) -> Self {
        let usual = "name = ''\nmust = 'it serves'\ndoes = 'serves'";
        let usual: Self = toml::from_str(usual).unwrap_or_else(|e| panic!("{e}"));
        Self { name: name.to_owned(), wrap, ..usual }
    }

    /// A case that is possible only somewhere names the probe that says so.
    fn check(&self) -> Result<(), String> {
        let fails = |why: &str| Err(format!("the case {} {why}", self.name));
        if self.must.is_empty() {
            return fails("does not say what must happen");
        }
        let starts = |word: &str| self.wrap.iter().any(|part| part == word) || self.inside.join(" ").contains(word);
        for (is_wanted, probe) in [
            (self.user, Probe::Setpriv),
            (self.disk_mb.is_some(), Probe::Mounts),
            (self.apart.iter().any(|flag| flag == "--pid"), Probe::Processes),
            (self.apart.iter().any(|flag| flag == "--net"), Probe::Network),
            (self.apart.iter().any(|flag| flag == "--mount"), Probe::Mounts),
            (starts("faketime"), Probe::Faketime),
        ] {
            if is_wanted && !self.probes.contains(&probe) {
                return fails(&format!("does not name the probe {probe:?}"));
            }
        }
        if starts("faketime") && self.shifted_s.is_none() {
            return fails("does not say by how much the host's time is shifted");
        }
        if self.does == Does::Refuses && self.code == 0 {
            return fails("does not say with which code the host refuses");
        }
        if self.does != Does::Serves && !self.step.is_empty() {
            return fails("has steps and no host that serves");
        }
        Ok(())
    }
}
