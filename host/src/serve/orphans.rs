//! As the first process of a container a host inherits what others have started and left: those that have ended are waited
//! for, so that they do not stay as zombies.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use bellhop_clock::Clock;
use rustix::process::{Pid, WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// A child of our own is waited for by whoever started it, and sooner than this.
const OURS_WITHIN: Duration = Duration::from_secs(5);

/// Waits for those that have ended and are nobody's, for as long as the host lives. Elsewhere than in the first process it
/// has nothing to do.
pub(super) async fn waited_for(clock: Arc<dyn Clock>) {
    if std::process::id() != 1 {
        return;
    }
    let Ok(mut ends) = signal(SignalKind::child()) else { return };
    let mut seen = BTreeSet::new();
    loop {
        // Signals that come together are one: as long as somebody is left, it is looked again.
        if seen.is_empty() && ends.recv().await.is_none() {
            return;
        }
        clock.sleep(OURS_WITHIN).await;
        let ended = ended();
        let (orphans, new) = ended.into_iter().partition::<BTreeSet<i32>, _>(|pid| seen.contains(pid));
        for pid in orphans.into_iter().filter_map(Pid::from_raw) {
            // Somebody else may have waited for it meanwhile.
            let _gone = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        seen = new;
    }
}

/// The children of this process that have ended, and that nobody has waited for.
fn ended() -> BTreeSet<i32> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists: Vec<String> =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
    let children = lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|pid| pid.parse().ok());
    children.filter(|pid| has_ended(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())).collect()
}

/// Whether the line that the system has of a process says that it is a zombie. Its name may have anything in it.
fn has_ended(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_a_child_that_has_ended_is_known() {
        assert!(has_ended("12 (sleep) Z 1 12 12 0"));
        assert!(has_ended("12 (a) S (b) Z 1 12 12 0"));
        assert!(!has_ended("12 (Z) S 1 12 12 0") && !has_ended(""));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while !ended().contains(&pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!ended().contains(&pid));
    }
}
