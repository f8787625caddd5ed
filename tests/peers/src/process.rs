//! A server that is started, read until it says where it listens, and ended with its value.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Outcome;

/// No server here takes as long to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Process {
    child: Child,
    /// Kept open: who writes to a pipe that nobody reads from any more may end.
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it; what it says on standard error goes to `log`.
    pub(crate) fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)], log: &Path) -> Outcome<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(log)?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        Ok(Self { child, lines: BufReader::new(stdout).lines() })
    }

    /// Its id.
    pub(crate) fn pid(&self) -> Outcome<u32> {
        Ok(self.child.id().ok_or("it has ended")?)
    }

    /// Reads on to the next word that begins so.
    pub(crate) async fn word(&mut self, beginning: &str) -> Outcome<String> {
        let read = async {
            while let Some(line) = self.lines.next_line().await? {
                if let Some(word) = line.split_whitespace().find(|word| word.starts_with(beginning)) {
                    return Ok(word.to_owned());
                }
            }
            Err(format!("it ended before it said `{beginning}…`").into())
        };
        tokio::time::timeout(PATIENCE, read).await?
    }

    /// Ends it and waits for that.
    pub(crate) async fn end(mut self) -> Outcome<()> {
        Ok(self.child.kill().await?)
    }
}
