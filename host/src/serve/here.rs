//! What limits come to in this place: some follow from the machine, or from the group in which a process is held.

use bellhop_api::places_of;
use bellhop_limits::Limits;
use bellhop_sandbox as sandbox;
use rustix::process::{Resource, getrlimit};

/// What a sandbox is given, on this machine.
pub(super) fn sandbox_limits(limits: &Limits) -> sandbox::Limits {
    let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    sandbox::Limits {
        concurrent_calls_max: u32::try_from(limits.concurrent_calls_max).unwrap_or(u32::MAX),
        guest_memory_bytes_max: size(limits.guest_memory_bytes_max),
        component_bytes_max: size(limits.plugin_bytes_max),
        compile_cpu_s_max: limits.compile_cpu_ms_max.div_ceil(1_000),
        compile_memory_bytes_max: limits.compile_memory_bytes_max,
        compiled_bytes_max: limits.compiled_bytes_max,
        ..sandbox::Limits::default()
    }
    .on_this_machine(limits.guests_memory_bytes_max)
}

/// `limits` on a machine where one plugin can have so many guests at once: those that wait for a turn of Slack's are kept
/// in memory only as far as three of four places are left to what can do something.
pub(super) fn leaving_places(mut limits: Limits, guests: u64) -> Limits {
    let part = (guests / 4).max(1);
    limits.waiting_runs_max = limits.waiting_runs_max.min(part);
    limits.leaving_runs_max = limits.leaving_runs_max.min(part);
    limits
}

/// A line of the table of limits that is another one here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Here {
    /// As in the table.
    pub(crate) name: &'static str,
    /// What it comes to.
    pub(crate) value: u64,
    /// From what that follows.
    pub(crate) follows_from: &'static str,
}

/// What surrounds a process, as far as limits follow from it.
struct Place {
    /// For all guests that run actions, after those that evaluate have theirs.
    guests_memory_bytes: u64,
    guests_of_one_plugin: u64,
    descriptors: u64,
}

/// The lines of the table that are less here than they say, in its order.
pub(crate) fn come_to(limits: &Limits) -> Vec<Here> {
    let told = sandbox_limits(limits);
    // A host raises the soft limit to the hard one.
    let descriptors = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let (guests_memory_bytes, guests_of_one_plugin) = (told.guests_memory_bytes_max, told.guests_of_one_plugin());
    come_to_in(limits, &Place { guests_memory_bytes, guests_of_one_plugin, descriptors })
}

fn come_to_in(limits: &Limits, place: &Place) -> Vec<Here> {
    const MEMORY: &str = "half of the memory of the machine, or of its control group, less what evaluating takes";
    const GUESTS: &str = "a quarter of the guests of one plugin that fit into the memory for guests";
    const DESCRIPTORS: &str = "the descriptors that the process may have (`ulimit -Hn`, LimitNOFILE=)";
    let leaving = leaving_places(limits.clone(), place.guests_of_one_plugin);
    let lines = [
        ("guests_memory_bytes_max", place.guests_memory_bytes, MEMORY),
        ("waiting_runs_max", leaving.waiting_runs_max, GUESTS),
        ("leaving_runs_max", leaving.leaving_runs_max, GUESTS),
        ("connections_max", places_of(limits.connections_max, place.descriptors), DESCRIPTORS),
    ];
    let in_the_table = |(name, value, follows_from): &(&'static str, u64, &'static str)| {
        let is_less = limits.get(name).is_some_and(|said| *value < said);
        is_less.then_some(Here { name, value: *value, follows_from })
    };
    lines.iter().filter_map(in_the_table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_wait_leave_places_on_a_small_machine() {
        for (guests, waiting, leaving) in [(154, 32, 8), (24, 6, 6), (6, 1, 1), (1, 1, 1)] {
            let limits = leaving_places(Limits::default(), guests);
            assert_eq!((limits.waiting_runs_max, limits.leaving_runs_max), (waiting, leaving), "{guests}");
        }
    }

    #[test]
    fn the_lines_that_follow_from_a_place_say_what_they_come_to() {
        let small = Place { guests_memory_bytes: 1 << 28, guests_of_one_plugin: 4, descriptors: 1_024 };
        let limits = Limits { guests_memory_bytes_max: 1 << 30, ..Limits::default() };
        let lines: Vec<(&str, u64)> = come_to_in(&limits, &small).iter().map(|here| (here.name, here.value)).collect();
        assert_eq!(
            lines,
            [
                ("guests_memory_bytes_max", 1 << 28),
                ("waiting_runs_max", 1),
                ("leaving_runs_max", 1),
                ("connections_max", places_of(limits.connections_max, 1_024)),
            ]
        );
        let large = Place { guests_memory_bytes: 1 << 30, guests_of_one_plugin: 256, descriptors: 1 << 20 };
        assert_eq!(come_to_in(&limits, &large), []);
        // Whatever machine this is, the default for guests is more than it has.
        assert!(come_to(&Limits::default()).iter().any(|here| here.name == "guests_memory_bytes_max"));
    }
}
