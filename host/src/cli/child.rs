//! Processes of this same program, for the demo and the bench: each says where it listens.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// Of what can only be told to people.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// An error with this text.
pub(super) fn failed<T>(text: impl Into<String>) -> Outcome<T> {
    Err(text.into().into())
}

/// A process that this one has started and ends.
pub(super) struct Process {
    pub(super) child: Child,
    /// `host:port`.
    pub(super) address: String,
    /// The first operator's token, where it printed one.
    pub(super) token: Option<String>,
}

impl Process {
    /// Starts this program with `arguments` and waits until it says where it listens.
    pub(super) async fn start(arguments: &[&str], log: &Path) -> Outcome<Self> {
        Self::start_program(&std::env::current_exe()?, arguments, log).await
    }

    /// The same of another program.
    pub(super) async fn start_program(program: &Path, arguments: &[&str], log: &Path) -> Outcome<Self> {
        Self::launch(Command::new(program), arguments, log).await
    }

    /// Starts `command` with the program and the arguments as its last ones, and waits likewise.
    pub(super) async fn start_by(
        mut command: Command,
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Outcome<Self> {
        command.arg(program);
        Self::launch(command, arguments, log).await
    }

    async fn launch(mut command: Command, arguments: &[&str], log: &Path) -> Outcome<Self> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut child = command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let Some(stdout) = child.stdout.take() else { return failed("a process has no output") };
        let mut lines = BufReader::new(stdout).lines();
        let mut address = None;
        let mut token = None;
        let wait = async {
            while let Some(line) = lines.next_line().await? {
                if let Some(at) = line.find("http://") {
                    address = line[at + 7..].split_whitespace().next().map(|a| a.trim_end_matches('/').to_owned());
                }
                if let Some(at) = line.find("bh_") {
                    token = Some(line[at..].trim().to_owned());
                }
                // Where it listens is the last thing that it says.
                if address.is_some() {
                    break;
                }
            }
            Ok::<(), std::io::Error>(())
        };
        let _in_time = tokio::time::timeout(Duration::from_secs(30), wait).await;
        let Some(address) = address else { return failed(format!("`bellhop {}` did not start", arguments.join(" "))) };
        // Whatever it says later goes nowhere, but is read, so that it never waits for us.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, address, token })
    }

    /// Ends it as a power cut would, unless it has ended.
    pub(super) async fn kill(&mut self) -> Outcome<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        self.child.start_kill()?;
        self.child.wait().await?;
        Ok(())
    }
}
