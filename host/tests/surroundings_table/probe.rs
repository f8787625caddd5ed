//! What has to be possible on this machine, by name: a case is left out only where its own probe fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use serde::Deserialize;

/// See [`Probe::fails`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Probe {
    /// A file system in memory can be mounted, where nobody else sees it.
    Mounts,
    /// A namespace of processes.
    Processes,
    /// A namespace of networks.
    Network,
    /// `faketime` shifts the time of a program.
    Faketime,
    /// A program can be started as a user without rights.
    Setpriv,
    /// `prlimit`.
    Prlimit,
    /// `env` that blocks signals.
    Signals,
    /// The loopback of IPv6.
    Ipv6,
    /// `/dev/full`.
    Full,
}

/// The user without rights, and its group.
pub(crate) const NOBODY: u32 = 65_534;

/// Starts a program as the user without rights, where this process has them; a process without rights is such a user.
pub(crate) fn as_nobody() -> Vec<String> {
    if !rustix::process::geteuid().is_root() {
        return Vec::new();
    }
    let id = NOBODY.to_string();
    let words = ["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--inh-caps=-all"];
    words.into_iter().map(str::to_owned).collect()
}

fn can(line: &[&str]) -> bool {
    let Some((program, arguments)) = line.split_first() else { return true };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

impl Probe {
    /// Whether it is not possible here. Each is looked at once.
    pub(crate) fn fails(self) -> bool {
        static KNOWN: Mutex<BTreeMap<Probe, bool>> = Mutex::new(BTreeMap::new());
        let mut known = KNOWN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        !*known.entry(self).or_insert_with(|| self.is_possible())
    }

    fn is_possible(self) -> bool {
        match self {
            // What the harness mounts has to be seen by what it starts, and by nobody else.
            Self::Mounts => crate::is_apart() && can(&["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]),
            Self::Processes => can(&["unshare", "--pid", "--fork", "--mount-proc", "true"]),
            Self::Network => can(&["unshare", "--net", "true"]),
            Self::Faketime => can(&["sh", "-c", "test $(($(faketime -f +2d date +%s) - $(date +%s))) -gt 172000"]),
            Self::Setpriv => {
                let words = as_nobody();
                let line: Vec<&str> = words.iter().map(String::as_str).chain(["true"]).collect();
                can(&line)
            }
            Self::Prlimit => can(&["prlimit", "--nofile=64:64", "true"]),
            Self::Signals => can(&["env", "--block-signal=TERM", "--ignore-signal=PIPE", "true"]),
            Self::Ipv6 => std::net::TcpListener::bind("[::1]:0").is_ok(),
            Self::Full => Path::new("/dev/full").exists(),
        }
    }
}
