//! A case as data: what is there, what is sent, and which ends are right.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A file of written cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    case: Vec<Case>,
}

/// One attempt to end, block, grow or fool a host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    /// Unique. Before the first `/` stands the kind of a generated case.
    pub(crate) name: String,
    /// What it tries, in words.
    pub(crate) tries: String,
    /// Nothing else is done meanwhile: it kills the host, orders faults of Slack, or counts what there is.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) alone: bool,
    /// Only in the full form, because it takes long.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) slow: bool,
    /// Lines under `[limits]` of the host. Cases with the same ones share a host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<String, u64>,
    /// The host's memory may go up to this instead of the bound of the form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_mb: Option<u64>,
    /// The host's folder is on a disk of its own, of this size. Where nothing may be mounted, the case is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) disk_mb: Option<u64>,
    /// It has ended after so long, or is broken.
    #[serde(default = "a_minute", skip_serializing_if = "is_a_minute")]
    pub(crate) within_s: u64,
    /// Short for a step `put` of a flow and, unless that is refused, a step `start`. A text without `document:` gets a
    /// head with the case's name.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) flow: Value,
    /// What the run of `flow` is started with.
    #[serde(default = "no_input", skip_serializing_if = "is_no_input")]
    pub(crate) input: Value,
    /// So many runs of `flow`, at once.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub(crate) times: usize,
    /// The ends that are right for `flow`: see [`crate::ends`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) is: Vec<String>,
    /// More steps, after `flow` where there is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) step: Vec<Step>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn one() -> usize {
    1
}

fn is_one(value: &usize) -> bool {
    *value == 1
}

fn a_minute() -> u64 {
    60
}

fn is_a_minute(value: &u64) -> bool {
    *value == 60
}

fn no_input() -> Value {
    Value::Object(serde_json::Map::new())
}

fn is_no_input(value: &Value) -> bool {
    *value == no_input()
}

fn some_seconds() -> u64 {
    20
}

/// Texts and values may be generated: see [`crate::expand`]. `@{NAME}` in them is what an earlier step kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Step {
    /// Registers a definition.
    Put {
        flow: Value,
        #[serde(default)]
        is: Vec<String>,
    },
    /// Starts runs and waits until they have ended, wait or are refused.
    Start {
        /// `namespace/name`; the case's own without it.
        #[serde(default)]
        of: Option<String>,
        #[serde(default = "no_input")]
        input: Value,
        #[serde(default = "one")]
        times: usize,
        /// They are not waited for. The host has to know them at the end of the batch.
        #[serde(default)]
        leave: bool,
        /// Keeps their ids under this name. `@{NAME}` is the last one; `until` waits for all of them.
        #[serde(default)]
        keep: Option<String>,
        #[serde(default)]
        is: Vec<String>,
    },
    /// Waits until a run, or each that was kept under a name, has one of these ends; `within_s` is for all of them
    /// together.
    Until {
        run: String,
        #[serde(default = "some_seconds")]
        within_s: u64,
        is: Vec<String>,
    },
    /// A request of HTTP.
    Send {
        method: String,
        path: Value,
        #[serde(default)]
        body: Value,
        /// The body's type; JSON where there is a body.
        #[serde(default)]
        kind: Option<String>,
        #[serde(default)]
        headers: Vec<(String, Value)>,
        /// Instead of the operator's.
        #[serde(default)]
        token: Option<String>,
        #[serde(default = "one")]
        times: usize,
        /// At once instead of one after the other.
        #[serde(default)]
        together: bool,
        #[serde(default)]
        is: Vec<String>,
        /// Names for places of the answer, as JSON pointers.
        #[serde(default)]
        keep: BTreeMap<String, String>,
        /// Places of the answer, and what has to stand there.
        #[serde(default)]
        shows: BTreeMap<String, Value>,
        /// Places that the answer may not have.
        #[serde(default)]
        absent: Vec<String>,
        /// What may stand nowhere in the answer.
        #[serde(default)]
        lacks: Vec<String>,
    },
    /// Bytes on a connection of their own, as they are; `is` is the status, or `closed`.
    Raw {
        bytes: Value,
        #[serde(default)]
        is: Vec<String>,
    },
    /// So many connections of one peer that are held open; each sends `bytes` again and again.
    Flood {
        connections: usize,
        /// The loopback address that they come from.
        #[serde(default)]
        from: Option<String>,
        bytes: Value,
        every_ms: u64,
        for_s: u64,
    },
    /// Installs a plugin that is written by hand.
    Plugin {
        name: String,
        /// The body of `run`, in WebAssembly text. `$fine`, `$again`, `$refuse` and `$text.NAME` are there.
        #[serde(default)]
        run: Option<String>,
        #[serde(default)]
        items: String,
        /// Texts by name: `(call $text.NAME)` pushes address and length.
        #[serde(default)]
        texts: BTreeMap<String, Value>,
        /// Functions that it imports and declares, such as `chat.post-message`.
        #[serde(default)]
        calls: Vec<String>,
        /// What is granted instead of all that it declares.
        #[serde(default)]
        grants: Option<Vec<String>>,
        /// Replaces places of the manifest, by JSON pointer.
        #[serde(default)]
        manifest: BTreeMap<String, Value>,
        #[serde(default = "two")]
        pages: u32,
        #[serde(default)]
        is: Vec<String>,
    },
    /// Runs the action of such a plugin on the connection `plus`.
    Act {
        plugin: String,
        #[serde(default = "no_input")]
        input: Value,
        #[serde(default = "one")]
        times: usize,
        #[serde(default)]
        keep: Option<String>,
        is: Vec<String>,
    },
    /// Orders a fault of Slack; none takes all of them away.
    Slack {
        #[serde(default)]
        fault: Value,
    },
    /// How often Slack accepted a change whose line has all of these texts.
    Ledger { with: Vec<String>, count: usize },
    /// Types a command. Nothing of what it prints may steer a terminal.
    Type {
        line: Vec<Value>,
        code: i32,
        #[serde(default)]
        shows: Vec<String>,
        #[serde(default)]
        lacks: Vec<String>,
    },
    /// Puts a file into the folder where commands are typed.
    File { name: String, text: Value },
    /// Kills the host and starts it again.
    Kill,
    /// SIGTERM: it ends by itself within this time, without an error, and starts again.
    Terminate { within_s: u64 },
    /// Fills the disk of a case with `disk_mb`, until so much is left.
    Fill { leave_mb: u64 },
    /// Takes away what filled it.
    Empty,
    /// Lets time pass, while the host is watched.
    Pause { ms: u64 },
    /// The host's log has no line that begins so.
    Log { lacks: Vec<String> },
}

fn two() -> u32 {
    2
}

/// Every written case, in the order of their files.
pub(crate) fn written(folder: &Path) -> Result<Vec<Case>, String> {
    let entries = folder.read_dir().map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|e| e.to_string())?;
        let written: Written = toml::from_str(&text).map_err(|e| format!("{}: {e}", file.display()))?;
        cases.extend(written.case);
    }
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("two cases are called {}", twice[0]));
    }
    for case in &cases {
        case.check()?;
    }
    Ok(cases)
}

impl Case {
    /// The part of its name that says what kind of case it is; all of it for a written one.
    pub(crate) fn kind(&self) -> &str {
        self.name.split_once('#').map_or(self.name.as_str(), |(kind, _)| kind)
    }

    /// It stands in a file; the others are generated.
    pub(crate) fn is_written(&self) -> bool {
        !self.name.contains('#')
    }

    /// Whether one of its steps comes from an address of its own, for which Python is wanted.
    pub(crate) fn wants_python(&self) -> bool {
        self.step.iter().any(|step| matches!(step, Step::Flood { from: Some(_), .. }))
    }

    /// Its name as a name of workflows has to be.
    pub(crate) fn slug(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let slug: String = self.name.chars().map(plain).collect();
        let slug = slug.trim_matches('-').to_owned();
        if slug.len() <= 60 {
            return slug;
        }
        // What is cut off still tells two of them apart.
        let sum = slug.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let start: String = slug.chars().take(44).collect();
        format!("{}-{sum:x}", start.trim_end_matches('-'))
    }

    fn check(&self) -> Result<(), String> {
        let fails = |why: &str| Err(format!("the case {} {why}", self.name));
        if self.tries.is_empty() {
            return fails("does not say what it tries");
        }
        if !self.flow.is_null() && self.is.is_empty() {
            return fails("has a flow and does not say which ends are right");
        }
        if self.flow.is_null() && self.step.is_empty() {
            return fails("does nothing");
        }
        Ok(())
    }
}
