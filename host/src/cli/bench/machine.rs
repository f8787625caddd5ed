//! What the operating system says: file systems, disks, memory, processor time, system calls.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::process::Command;

use super::{clock, median, ms};
use crate::cli::child::{Outcome, Process};

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

/// Memory that a process has in use, in MiB. A page of a file counts once, however often it is mapped: the memories of a
/// plugin's guests begin as the same few pages of its file, and the system's own count has these once for every guest.
pub(super) fn resident_mb(pid: u32) -> f64 {
    let Ok(maps) = std::fs::read_to_string(format!("/proc/{pid}/smaps")) else { return f64::NAN };
    let (mut own_kib, mut of_files, mut place) = (0.0, BTreeMap::<(String, String), f64>::new(), None);
    let (mut rss_kib, mut own) = (0.0, 0.0);
    for line in maps.lines().chain(["0-0 - 0 0 0"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let kib = || words.get(1).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
        match words.first() {
            Some(&"Rss:") => rss_kib = kib(),
            Some(&"Anonymous:") => own = kib(),
            Some(first) if !first.ends_with(':') => {
                // A region begins: the one before it is complete.
                match place.take() {
                    Some(place) => {
                        own_kib += own;
                        let once = of_files.entry(place).or_default();
                        *once = f64::max(*once, rss_kib - own);
                    }
                    None => own_kib += rss_kib,
                }
                (rss_kib, own) = (0.0, 0.0);
                // Addresses, rights, offset, device, inode.
                let (offset, inode) = (words.get(2).unwrap_or(&""), words.get(4).unwrap_or(&"0"));
                place = (*inode != "0").then(|| ((*inode).to_owned(), (*offset).to_owned()));
            }
            _ => {}
        }
    }
    (own_kib + of_files.values().sum::<f64>()) / 1024.0
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
    /// Starts this program under strace. None: there is no strace here, or it may not trace.
    ///
    /// It is not attached to a running process, since only what it starts itself can it leave alone at every other
    /// system call, and what is slowed down waits differently.
    pub(super) async fn start(arguments: &[&str], log: &Path) -> Outcome<Option<Self>> {
        let file = tempfile::NamedTempFile::new()?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "--seccomp-bpf", "-e", "trace=fdatasync,fsync,sync_file_range", "-o"]).arg(file.path());
        match Process::start_by(strace, arguments, log).await {
            Ok(process) => Ok(Some(Self { process, file })),
            Err(error) => {
                println!("strace does not start the host ({error})");
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
