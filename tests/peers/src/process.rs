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
    /// What it says, where anybody reads that. Kept open: who writes to a pipe that nobody reads from any more may end.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    /// Starts it; what it says on standard error goes to `log`.
    pub(crate) fn start(program: &Path, arguments: &[&str], log: &Path) -> Outcome<Self> {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::piped());
        let mut process = Self::spawn(command, File::create(log)?)?;
        process.lines = process.child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(process)
    }

    /// Starts one that logs much: a pipe would fill and hold it up. All that it says goes to `log`.
    pub(crate) fn start_logged(
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Outcome<Self> {
        let log = File::create(log)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().copied()).stdout(log.try_clone()?);
        Self::spawn(command, log)
    }

    fn spawn(mut command: Command, log: File) -> Outcome<Self> {
        let child = command.stdin(Stdio::null()).stderr(log).kill_on_drop(true).spawn();
        let child = child.map_err(|error| format!("{:?}: {error}", command.as_std().get_program()))?;
        Ok(Self { child, lines: None })
    }

    /// Its id.
    pub(crate) fn pid(&self) -> Outcome<u32> {
        Ok(self.child.id().ok_or("it has ended")?)
    }

    /// Reads on to the next word that begins so.
    pub(crate) async fn word(&mut self, beginning: &str) -> Outcome<String> {
        let read = async {
            let lines = self.lines.as_mut().ok_or("nobody reads what it says")?;
            while let Some(line) = lines.next_line().await? {
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
