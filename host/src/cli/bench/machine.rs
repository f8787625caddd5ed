//! What the operating system says: file systems, disks, memory, processor time, system calls.

use std::path::Path;

use tokio::process::Command;

use super::{clock, median, ms};
use crate::cli::child::{Outcome, Process};
use crate::cli::output::say;

/// Milliseconds of an `fdatasync` after an append of 300 bytes.
pub(super) fn fdatasync_ms(folder: &Path) -> Outcome<f64> {
    use std::io::Write as _;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    let mut samples = Vec::new();
    for _ in 0..200 {
        file.write_all(&[7; 300])?;
        let began = clock();
        file.as_file().sync_data()?;
        samples.push(ms(began));
    }
    Ok(median(samples))
}

/// The type and mount point of the file system that a folder is on.
pub(super) fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            let (_, at, kind) = (parts.next()?, parts.next()?, parts.next()?);
            folder.starts_with(at).then(|| (at.len(), kind.to_owned()))
        })
        .max()
        .map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// Memory that a process has in use, in MiB.
pub(super) fn resident_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:")?.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// Seconds of processor time that a process has used.
pub(super) fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<f64>().ok()).sum();
    // USER_HZ, which Linux has fixed for programs.
    ticks / 100.0
}

/// A process under strace, which counts its synchronisations.
pub(super) struct Traced {
    /// strace; the process is its child.
    pub(super) process: Process,
    file: tempfile::NamedTempFile,
}

impl Traced {
    /// Starts a program under strace. None: there is no strace here, or it may not trace.
    ///
    /// It is not attached to a running process, since only what it starts itself can it leave alone at every other
    /// system call, and what is slowed down waits differently.
    pub(super) async fn start(program: &Path, arguments: &[&str], log: &Path) -> Outcome<Option<Self>> {
        let file = tempfile::NamedTempFile::new()?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "--seccomp-bpf", "-e", "trace=fdatasync,fsync,sync_file_range", "-o"]).arg(file.path());
        match Process::start_by(strace, program, arguments, log).await {
            Ok(process) => Ok(Some(Self { process, file })),
            Err(error) => {
                say!("strace does not start the host ({error})");
                Ok(None)
            }
        }
    }

    /// Synchronisations so far.
    pub(super) fn count(&self) -> Outcome<u32> {
        let text = std::fs::read_to_string(self.file.path())?;
        // A call that another thread's line interrupts is `fdatasync(5 <unfinished ...>`, and later `<... fdatasync resumed>`.
        let count = text.lines().filter(|l| l.contains(" fdatasync(") || l.contains(" fsync(")).count();
        Ok(u32::try_from(count)?)
    }

    /// Ends the host, and strace with it.
    pub(super) async fn kill(mut self) -> Outcome<()> {
        let strace = self.process.child.id().unwrap_or_default();
        let children = std::fs::read_to_string(format!("/proc/{strace}/task/{strace}/children"))?;
        for pid in children.split_whitespace() {
            std::process::Command::new("kill").args(["-KILL", pid]).status()?;
        }
        self.process.child.wait().await?;
        Ok(())
    }
}
