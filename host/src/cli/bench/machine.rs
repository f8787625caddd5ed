//! What the operating system says: file systems, disks, memory, processor time, system calls.

use std::path::Path;

use super::{clock, median, ms};
use crate::cli::child::Outcome;

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

/// Counts a process's synchronisations from [`Trace::start`] to [`Trace::stop`].
pub(super) struct Trace {
    file: tempfile::NamedTempFile,
    strace: tokio::process::Child,
}

impl Trace {
    /// After Ok, strace watches the process. None: there is no strace here, or it may not.
    pub(super) async fn start(pid: u32) -> Outcome<Option<Self>> {
        let file = tempfile::NamedTempFile::new()?;
        let said = tempfile::NamedTempFile::new()?;
        let started = tokio::process::Command::new("strace")
            .args(["-f", "-e", "trace=fdatasync,fsync", "-o"])
            .arg(file.path())
            .args(["-p", &pid.to_string()])
            .stderr(said.reopen()?)
            .kill_on_drop(true)
            .spawn();
        let Ok(mut strace) = started else { return Ok(None) };
        for _ in 0..5_000 {
            if std::fs::read_to_string(said.path())?.contains(" attached") {
                return Ok(Some(Self { file, strace }));
            }
            if strace.try_wait()?.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        Ok(None)
    }

    /// How many there were.
    pub(super) async fn stop(mut self) -> Outcome<u32> {
        if let Some(id) = self.strace.id() {
            // strace lets go of the process when it is asked to end; killed, it would leave it stopped.
            std::process::Command::new("kill").args(["-INT", &id.to_string()]).status()?;
        }
        self.strace.wait().await?;
        let text = std::fs::read_to_string(self.file.path())?;
        // A call that another thread's line interrupts is `fdatasync(5 <unfinished ...>`, and later `<... fdatasync resumed>`.
        let count = text.lines().filter(|l| l.contains("fdatasync(") || l.contains("fsync(")).count();
        Ok(u32::try_from(count)?)
    }
}
