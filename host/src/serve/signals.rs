//! Signals as a host needs them, whatever its parent has made of them: a program keeps what its parent ignores
//! and blocks.

use std::io;

use nix::sys::signal::SigSet;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Whoever ignores the end of its children cannot wait for them; and a file that comes to its size's limit would end the
/// process, where a write that fails is enough.
const NEEDED: [Signal; 2] = [Signal::CHILD, Signal::XFSZ];

/// From here on no signal is blocked in this thread and in those that it starts: a host whose parent has blocked SIGTERM
/// could not be told to end. To be called before there are other threads.
pub(crate) fn unblock() {
    // Where the system refuses, it is as before.
    let _as_it_was = SigSet::all().thread_unblock();
}

/// After Ok this process hears of its children, and a limit of file sizes is an error of a write. Within a runtime.
///
/// # Errors
/// The system does not let signals be heard.
pub(super) fn take() -> io::Result<()> {
    NEEDED.iter().try_for_each(|needed| signal(SignalKind::from_raw(needed.as_raw())).map(drop))
}
