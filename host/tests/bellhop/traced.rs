//! A host whose system calls are written down, and what they prove.

use std::collections::HashMap;
use std::process::{Command, Stdio};

use super::hosted::now;
use super::{Place, Started};

/// Until everything is written down.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// The calls by which bytes leave the process, and by which they get to the disk.
const CALLS: &str = "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync";
/// Longer than anything that is looked for.
const TEXT_BYTES: &str = "1000000";

/// Whether system calls can be watched here.
pub(crate) fn is_possible() -> bool {
    let mut strace = Command::new("strace");
    strace.args(["-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().is_ok_and(|status| status.success())
}

/// Starts `bellhop` with these arguments; its calls go to `file`. What watches is no parent of it: signals go to it.
pub(crate) fn start(place: &Place, file: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Started {
    let program = super::program();
    let strace = ["-D", "-f", "-y", "-s", TEXT_BYTES, "-e", CALLS, "-o", file, program];
    place.start_other("strace", &[&strace, arguments].concat(), environment)
}

/// The workflow whose life is proven; it sends one message, when nobody waits for anything else any more.
pub(crate) const WORKFLOW: &str = "it/traced";
/// Its text.
pub(crate) const TEXT: &str = "\
document: { dsl: 1.0.3, namespace: it, name: traced, version: 1.0.0 }
do:
  - rest: { wait: { milliseconds: 40 } }
  - tell: { call: 'message.send:1@slack', with: { connection: plus, channel: C0PLUSIT, text: '${ $workflow.input.text }' } }
";
/// What the run's input says, and nothing else that is ever written.
const NEEDLE: &str = "needle-in-the-store";

/// Its input.
pub(crate) fn input() -> serde_json::Value {
    serde_json::json!({ "text": NEEDLE })
}

/// Both proofs, from the calls of a host that has carried one run of [`WORKFLOW`].
pub(crate) fn both(trace: &str) -> Result<(), String> {
    const DATABASE: &str = "/store/db";
    proof(trace, DATABASE, NEEDLE, "HTTP/1.1 202")?;
    proof(trace, DATABASE, r#"{\"intent\":{"#, "POST /api/chat.postMessage")
}

/// The calls, once the program has ended.
pub(crate) fn calls_in(file: &str) -> Result<String, String> {
    let end = now() + PATIENCE;
    loop {
        let calls = std::fs::read(file).map_err(|e| e.to_string())?;
        let calls = String::from_utf8_lossy(&calls);
        // The last line is that of the first thread, whose number the first line has.
        let first = calls.split(' ').next().unwrap_or_default();
        if calls.lines().next_back().is_some_and(|last| last.starts_with(first) && last.contains("+++ exited")) {
            return Ok(calls.into_owned());
        }
        if now() > end {
            return Err("the list of calls has no end".to_owned());
        }
        std::thread::yield_now();
    }
}

/// One call, from the line where it begins to the line where it has ended.
#[derive(Debug)]
struct Call<'a> {
    text: &'a str,
    begin: usize,
    end: Option<usize>,
}

impl Call<'_> {
    fn is(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.text.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    }

    fn is_on(&self, file: &str) -> bool {
        self.text
            .split_once(['(', ','])
            .is_some_and(|(_, rest)| rest.split_once('>').is_some_and(|(fd, _)| fd.ends_with(file)))
    }
}

fn calls(trace: &str) -> Vec<Call<'_>> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        if rest.starts_with("<... ") {
            if let Some(call) = unfinished.remove(thread).and_then(|at| calls.get_mut(at)) {
                call.end = Some(number);
            }
            continue;
        }
        let text = rest.strip_suffix("<unfinished ...>");
        if text.is_some() {
            unfinished.insert(thread, calls.len());
        }
        calls.push(Call { text: text.unwrap_or(rest), begin: number, end: text.is_none().then_some(number) });
    }
    calls
}

/// That between the end of the write with `written` in it to `file`, and the beginning of the call by which `left`
/// leaves the process, a synchronisation of that file began and ended.
fn proof(trace: &str, file: &str, written: &str, left: &str) -> Result<(), String> {
    const WRITES: [&str; 3] = ["pwrite64", "pwritev", "write"];
    const SENDS: [&str; 4] = ["write", "writev", "sendto", "sendmsg"];
    const SYNCS: [&str; 2] = ["fdatasync", "fsync"];
    let calls = calls(trace);
    let leaves = calls.iter().find(|call| call.is(&SENDS) && !call.is_on(file) && call.text.contains(left));
    let leaves = leaves.ok_or_else(|| format!("nothing with `{left}` leaves the process"))?.begin;
    let write = calls.iter().find(|call| call.is(&WRITES) && call.is_on(file) && call.text.contains(written));
    let write = write.ok_or_else(|| format!("nothing with `{written}` is written to {file}"))?;
    let end = write.end.filter(|end| *end < leaves);
    let end = end.ok_or_else(|| format!("`{left}` leaves the process before `{written}` is written"))?;
    let between = |call: &Call<'_>| call.begin > end && call.end.is_some_and(|end| end < leaves);
    if calls.iter().any(|call| call.is(&SYNCS) && call.is_on(file) && between(call)) {
        Ok(())
    } else {
        Err(format!(
            "`{left}` leaves the process before `{written}` is on the disk: no synchronisation of {file} between"
        ))
    }
}
