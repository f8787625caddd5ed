//! The built program, run in a folder of its own.

#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod compiled;
pub(crate) mod dice;
pub(crate) mod hosted;
pub(crate) mod http;
pub(crate) mod tls;
pub(crate) mod traced;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// A folder to run the program in.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// How it ended.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.stdout, self.stderr))
    }
}

/// Variables of this machine that a test must not see.
const VARIABLES: [&str; 4] =
    ["BELLHOP_URL", "BELLHOP_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// The program that is driven, where it is not the one that was built with the test.
static OTHER: OnceLock<String> = OnceLock::new();

/// Drives another build of the program from here on.
pub(crate) fn drive(program: &str) {
    OTHER.get_or_init(|| program.to_owned());
}

/// The program that is driven.
pub(crate) fn program() -> &'static str {
    OTHER.get().map_or(env!("CARGO_BIN_EXE_bellhop"), String::as_str)
}

fn command() -> Command {
    command_of(program())
}

fn command_of(program: &str) -> Command {
    let mut command = Command::new(program);
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    // Compiled code is kept beside the tests, so that the second run is quick.
    command.env("XDG_CACHE_HOME", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[])
    }

    pub(crate) fn run_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Done {
        let mut command = command();
        command.args(arguments).envs(environment.iter().copied()).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts a verb that goes on until it is dropped.
    pub(crate) fn start(&self, arguments: &[&str]) -> Started {
        self.start_with(arguments, &[])
    }

    pub(crate) fn start_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Started {
        let data = arguments.iter().skip_while(|argument| **argument != "--data-dir").nth(1);
        let data = data.map(|data| self.folder.path().join(data));
        data.iter().for_each(|data| compiled::lend(data));
        let mut started = self.start_other(program(), arguments, environment);
        started.data = data;
        started
    }

    /// Another program, in the same folder.
    pub(crate) fn start_other(&self, program: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Started {
        let mut command = command_of(program);
        command.args(arguments).envs(environment.iter().copied()).current_dir(self.folder.path()).stdin(Stdio::null());
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("stderr.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Started { child, stdout, data: None }
    }
}

/// A verb that goes on; it is killed when this is dropped.
pub(crate) struct Started {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Where a host keeps everything, if it is one.
    data: Option<PathBuf>,
}

impl Started {
    /// The next line of standard output; panics when there is none.
    pub(crate) fn line(&mut self) -> String {
        self.try_line().expect("the program ended")
    }

    /// The next line of standard output; none when the program has ended.
    pub(crate) fn try_line(&mut self) -> Option<String> {
        let mut line = String::new();
        (self.stdout.read_line(&mut line).unwrap() > 0).then(|| line.trim_end().to_owned())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    pub(crate) fn wait(&mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        self.data.iter().for_each(|data| compiled::keep(data));
    }
}

/// The Slack actions as a component, built once by the program itself.
pub(crate) fn slack_plugin() -> &'static str {
    static BUILT: OnceLock<String> = OnceLock::new();
    BUILT.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        // Tests of several binaries may build at the same time.
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("slack-{}.wasm", env!("CARGO_CRATE_NAME")));
        let out = out.to_string_lossy().into_owned();
        let built = command()
            .args(["plugin", "build", "plugins/slack", "--out", &out])
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("guests"))
            .current_dir(workspace)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        out
    })
}
