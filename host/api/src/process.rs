//! What the system says of this process, by the names that every exporter of Prometheus has.

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

/// Of one moment. What the system does not tell is left out.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Process {
    /// Processor time of all threads, in seconds.
    pub(super) cpu_s: Option<f64>,
    /// Memory that it has of the machine's.
    pub(super) resident_bytes: Option<u64>,
    /// Addresses that it has taken.
    pub(super) virtual_bytes: Option<u64>,
    /// When it began, in seconds since 1970.
    pub(super) started_s: Option<f64>,
    /// Threads.
    pub(super) threads: Option<u64>,
    /// Descriptors that are open.
    pub(super) open_fds: Option<u64>,
    /// Descriptors that may be.
    pub(super) max_fds: Option<u64>,
}

impl Process {
    /// As the system has it now.
    pub(super) fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let boot = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let open_fds = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            // The folder itself is open while it is read.
            open_fds: open_fds.map(|entries| (entries.count() as u64).saturating_sub(1)),
            max_fds: getrlimit(Resource::Nofile).current,
            ..Self::read(&stat, &boot, (clock_ticks_per_second(), page_size() as u64))
        }
    }

    /// Reads what `proc(5)` describes: of the process, and the time of the boot.
    fn read(stat: &str, boot: &str, (ticks, page): (u64, u64)) -> Self {
        // The name of the program may have spaces and parentheses.
        let Some((_, rest)) = stat.rsplit_once(") ") else { return Self::default() };
        let fields: Vec<u64> = rest.split(' ').map(|field| field.trim().parse().unwrap_or(0)).collect();
        // Field 3 of the page is the first here.
        let field = |number: usize| fields.get(number - 3).copied();
        let seconds = |ticked: u64| ticked as f64 / ticks.max(1) as f64;
        let booted = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
        Self {
            cpu_s: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            threads: field(20),
            started_s: booted.zip(field(22)).map(|(booted, ticked)| booted + seconds(ticked)),
            virtual_bytes: field(23),
            resident_bytes: field(24).map(|pages| pages * page),
            open_fds: None,
            max_fds: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_writes_of_a_process_is_read() {
        let stat =
            "4711 (a ) program) S 1 4711 4711 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 1000 4096000 25 184467\n";
        let read = Process::read(stat, "cpu 1 2\nbtime 1700000000\n", (100, 4_096));
        assert_eq!(read.cpu_s, Some(3.0));
        assert_eq!((read.threads, read.virtual_bytes, read.resident_bytes), (Some(7), Some(4_096_000), Some(102_400)));
        assert_eq!(read.started_s, Some(1_700_000_010.0));
        assert_eq!(Process::read("", "", (100, 4_096)), Process::default());
        let now = Process::now();
        assert!(now.resident_bytes > Some(1 << 20) && now.open_fds > Some(2), "{now:?}");
    }
}
