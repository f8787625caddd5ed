//! How much memory there is for guests.

use std::fs;
use std::path::{Path, PathBuf};

/// Guests together have at most one part in so many of the memory: the rest is the host's, the system's, and what
/// compiling needs.
const GUESTS_PART: u64 = 2;

/// What all guests together may have in memory here: half of the machine's memory, or of what the control group allows
/// where that is less. None where neither can be told.
pub(super) fn guests_memory_bytes() -> Option<u64> {
    Some(memory_bytes(Path::new("/"))? / GUESTS_PART)
}

/// The memory of the machine, or of a control group around this process where one has less. The files of the system are
/// looked for under `root`.
pub(super) fn memory_bytes(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| total_of(&text));
    let group = fs::read_to_string(root.join("proc/self/cgroup")).ok().and_then(|text| group_limit(root, &text));
    machine.into_iter().chain(group).min()
}

/// `MemTotal:       24683728 kB`.
fn total_of(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the control groups that this process is in, of version 1 and version 2.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':');
            let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
            // Above `high` a group is not ended, and gets so slow that nothing in it is of use.
            let (base, files) = if number == "0" && controllers.is_empty() {
                ("sys/fs/cgroup", &["memory.max", "memory.high"][..])
            } else if controllers.split(',').any(|controller| controller == "memory") {
                ("sys/fs/cgroup/memory", &["memory.limit_in_bytes"][..])
            } else {
                return None;
            };
            files.iter().filter_map(|file| least_of(&root.join(base), path, file)).min()
        })
        .min()
}

/// The least that `file` says in the folder `path` of `base` and those around it. In a container the path is often the
/// host's, which is not there; then its own is at the top.
fn least_of(base: &Path, path: &str, file: &str) -> Option<u64> {
    let mut folder = PathBuf::from(path.trim_start_matches('/'));
    let mut least: Option<u64> = None;
    loop {
        // `max` is no number: no limit. So is a number without end, which is larger than any machine.
        let limit = fs::read_to_string(base.join(&folder).join(file)).ok().and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(limit).min();
        if !folder.pop() {
            return least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 8,000 MB with these files besides.
    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let meminfo = ("proc/meminfo", "MemTotal:        8192000 kB\nMemFree:           1 kB\n");
        for (path, text) in [meminfo].iter().chain(files) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        memory_bytes(root.path())
    }

    #[test]
    fn the_least_of_machine_and_groups_is_what_there_is() {
        const MACHINE: Option<u64> = Some(8_192_000 * 1024);
        let second = ("proc/self/cgroup", "0::/system.slice/bellhop.service\n");
        let first = ("proc/self/cgroup", "12:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/\n");
        for (files, expected) in [
            (vec![], MACHINE),
            (vec![second], MACHINE),
            (vec![second, ("sys/fs/cgroup/system.slice/bellhop.service/memory.max", "max\n")], MACHINE),
            (vec![second, ("sys/fs/cgroup/system.slice/bellhop.service/memory.max", "1000\n")], Some(1000)),
            // A group around it has less.
            (
                vec![
                    second,
                    ("sys/fs/cgroup/system.slice/bellhop.service/memory.max", "1000\n"),
                    ("sys/fs/cgroup/system.slice/memory.max", "900\n"),
                ],
                Some(900),
            ),
            // In a container: the path is the host's.
            (vec![second, ("sys/fs/cgroup/memory.max", "700\n")], Some(700)),
            (vec![("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "600\n")], Some(600)),
            (vec![first, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500\n")], Some(500)),
            (vec![first, ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "400\n")], Some(400)),
            (vec![first, ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")], MACHINE),
            // It allows more than the machine has.
            (vec![second, ("sys/fs/cgroup/memory.max", "99999999999999\n")], MACHINE),
            // Slowed down from there on.
            (
                vec![
                    second,
                    ("sys/fs/cgroup/system.slice/bellhop.service/memory.max", "1000\n"),
                    ("sys/fs/cgroup/system.slice/bellhop.service/memory.high", "800\n"),
                ],
                Some(800),
            ),
            // Both versions at once, and the memory is the first one's affair.
            (
                vec![
                    ("proc/self/cgroup", "4:memory:/a/b\n0::/a/b\n"),
                    ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "300\n"),
                    ("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
                    ("sys/fs/cgroup/unified/a/b/cgroup.procs", "1\n"),
                ],
                Some(300),
            ),
            // In a group beside that of the container's first process.
            (vec![("proc/self/cgroup", "0::/../other\n"), ("sys/fs/cgroup/memory.max", "200\n")], Some(200)),
            (vec![("proc/self/cgroup", "nonsense\n0::\n::::\n")], MACHINE),
        ] {
            assert_eq!(machine(&files), expected, "{files:?}");
        }
    }

    #[test]
    fn a_machine_that_says_nothing_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(memory_bytes(root.path()), None);
        assert!(guests_memory_bytes().is_none_or(|bytes| bytes > 0));
    }
}
