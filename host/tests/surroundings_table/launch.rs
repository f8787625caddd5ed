//! The program, started in the surroundings of a case: namespaces, lines of shell, wrappers, streams.

use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::bellhop::hosted::now;
use crate::case::{Case, Stream};
use crate::place::Place;
use crate::probe::as_nobody;

/// Between two looks at something that is waited for.
const LOOKS_EVERY: Duration = Duration::from_millis(5);
/// Where programs are found.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What was read of a stream so far.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn hear(&self, mut from: impl Read + Send + 'static) {
        let heard = Arc::clone(&self.0);
        std::thread::spawn(move || {
            let mut part = [0; 4_096];
            while let Ok(read) = from.read(&mut part) {
                if read == 0 {
                    return;
                }
                heard.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&part[..read]);
            }
        });
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// What is started.
pub(crate) struct Order<'a> {
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// In the surroundings of the case; else in usual ones, as the case's user.
    pub(crate) around: bool,
    pub(crate) program: &'a Path,
}

/// A program that runs. It is killed when this is dropped, with all that started it.
pub(crate) struct Running {
    child: Child,
    out: Heard,
    err: Heard,
    /// The ends of pipes that nobody reads.
    _unread: Vec<std::io::PipeReader>,
    /// The program itself, once it is known: a namespace or a wrapper may be its parent.
    own: Option<u32>,
    ended: Option<ExitStatus>,
}

fn stdio(stream: Stream, is_input: bool, unread: &mut Vec<std::io::PipeReader>) -> Result<Stdio, String> {
    let device = |name: &str| {
        std::fs::OpenOptions::new().write(true).open(name).map(Stdio::from).map_err(|e| format!("{name}: {e}"))
    };
    match stream {
        // It is closed by the shell.
        Stream::Null | Stream::Closed => Ok(Stdio::null()),
        Stream::Read => Ok(Stdio::piped()),
        Stream::Full if is_input => Err("standard input cannot be full".to_owned()),
        Stream::Full => device("/dev/full"),
        Stream::Ends | Stream::Unread => {
            let (reader, writer) = std::io::pipe().map_err(|e| e.to_string())?;
            if is_input {
                return Ok(Stdio::from(reader));
            }
            if stream == Stream::Unread {
                unread.push(reader);
            }
            Ok(Stdio::from(writer))
        }
    }
}

/// The lines of shell that become the program.
fn script(case: &Case, place: &Place) -> String {
    let mut lines: Vec<String> = case.inside.iter().map(|line| place.filled(line)).collect();
    let streams = [(case.stdin, "exec 0<&-"), (case.stdout, "exec 1>&-"), (case.stderr, "exec 2>&-")];
    lines.extend(streams.iter().filter(|(is, _)| *is == Stream::Closed).map(|(_, line)| (*line).to_owned()));
    lines.push("exec \"$@\"".to_owned());
    lines.join("\n")
}

impl Running {
    pub(crate) fn start(case: &Case, place: &Place, order: &Order<'_>) -> Result<Self, String> {
        let mut words: Vec<String> = Vec::new();
        if order.around && !case.apart.is_empty() {
            words.push("unshare".to_owned());
            words.extend(case.apart.iter().cloned());
        }
        if order.around {
            words.extend(["sh", "-eu", "-c", &script(case, place), "sh"].map(str::to_owned));
        }
        if case.user {
            words.extend(as_nobody());
        }
        if order.around {
            words.extend(case.wrap.iter().map(|word| place.filled(word)));
        }
        let program = case
            .program
            .as_ref()
            .filter(|_| order.around)
            .map_or_else(|| order.program.display().to_string(), |program| place.filled(program));
        words.push(program);
        words.extend(order.arguments.iter().cloned());
        let (first, rest) = words.split_first().ok_or("nothing is started")?;
        let mut command = Command::new(first);
        command.args(rest).env_clear().process_group(0);
        let folder = case.folder.as_ref().filter(|_| order.around);
        command.current_dir(folder.map_or_else(|| place.path().to_owned(), |folder| place.path().join(folder)));
        command.env("PATH", PATH);
        command.env("HOME", place.path().join("home")).env("TMPDIR", place.path().join("tmp"));
        command.envs(order.environment.iter().map(|(name, value)| (name, value)));
        if order.around {
            command.envs(case.environment.iter().map(|(name, value)| (name, place.filled(value))));
            for name in &case.unset {
                command.env_remove(name);
            }
        }
        let streams = if order.around {
            [case.stdin, case.stdout, case.stderr]
        } else {
            [Stream::Null, Stream::Read, Stream::Read]
        };
        let mut unread = Vec::new();
        command.stdin(stdio(streams[0], true, &mut unread)?);
        command.stdout(stdio(streams[1], false, &mut unread)?).stderr(stdio(streams[2], false, &mut unread)?);
        let mut child = command.spawn().map_err(|e| format!("{first}: {e}"))?;
        let (out, err) = (Heard::default(), Heard::default());
        child.stdout.take().into_iter().for_each(|from| out.hear(from));
        child.stderr.take().into_iter().for_each(|from| err.hear(from));
        Ok(Self { child, out, err, _unread: unread, own: None, ended: None })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        // What a signal ended has its number below nought.
        self.ended.map(|status| status.code().unwrap_or_else(|| -status.signal().unwrap_or(0)))
    }

    /// How it ends by then.
    pub(crate) fn ends(&mut self, until: Instant) -> Result<i32, String> {
        loop {
            if let Some(code) = self.ended() {
                // What it said last is on its way.
                std::thread::sleep(LOOKS_EVERY * 4);
                return Ok(code);
            }
            if now() >= until {
                return Err(format!("it does not end in time; {}", self.last_words()));
            }
            std::thread::sleep(LOOKS_EVERY);
        }
    }

    pub(crate) fn stdout(&self) -> String {
        self.out.text()
    }

    pub(crate) fn said(&self) -> String {
        format!("{}{}", self.out.text(), self.err.text())
    }

    /// The end of what it said.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said();
        let lines: Vec<&str> = said.lines().rev().filter(|line| !line.trim().is_empty()).take(6).collect();
        let text = lines.into_iter().rev().collect::<Vec<_>>().join(" / ");
        format!("it said: {}", text.chars().take(900).collect::<String>())
    }

    /// Waits for something.
    pub(crate) fn until(&mut self, until: Instant, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        loop {
            if is_so(self) {
                return true;
            }
            if now() >= until {
                return false;
            }
            std::thread::sleep(LOOKS_EVERY);
        }
    }

    /// The program itself.
    pub(crate) fn pid(&mut self) -> Result<u32, String> {
        if self.own.is_none() {
            self.own = program_below(self.child.id());
        }
        self.own.ok_or_else(|| "the program is not among the processes".to_owned())
    }

    pub(crate) fn signal(&mut self, name: &str) -> Result<(), String> {
        let pid = self.pid()?.to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status().map_err(|e| e.to_string())?;
        if done.success() { Ok(()) } else { Err(format!("`kill -s {name}` ends with {done}")) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended().is_some() {
            return;
        }
        let pid = |number: u32| i32::try_from(number).ok().and_then(Pid::from_raw);
        if let Some(own) = self.own.or_else(|| program_below(self.child.id())).and_then(pid) {
            let _gone = kill_process(own, Signal::KILL);
        }
        if let Some(group) = pid(self.child.id()) {
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _ended = self.child.wait();
    }
}

/// The first process from here down that runs the program.
fn program_below(from: u32) -> Option<u32> {
    let image = std::fs::read_link(format!("/proc/{from}/exe")).unwrap_or_default();
    if is_the_program(&image) {
        return Some(from);
    }
    let children = std::fs::read_to_string(format!("/proc/{from}/task/{from}/children")).ok()?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).find_map(program_below)
}

fn is_the_program(image: &Path) -> bool {
    image.file_name().is_some_and(|name| name.as_bytes().starts_with(b"bellhop"))
}
