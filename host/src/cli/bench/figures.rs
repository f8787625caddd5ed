//! Every figure that is judged: by what we want to reach, by what an older program reaches, or by both.

use super::Row;

/// A figure; its unit is in its name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    /// As it is measured.
    pub(super) name: &'static str,
    /// What it is measured with.
    pub(super) row: Row,
    /// More is better: runs a second.
    pub(super) more: bool,
    /// What we want to reach: the most, or, where more is better, the least.
    pub(super) goal: Option<f64>,
    /// It is compared with an older program's. A difference of less than this is nothing that anybody would see, in the
    /// figure's own unit.
    pub(super) slack: Option<f64>,
}

/// A figure of which less is better.
pub(super) const fn less(row: Row, name: &'static str) -> Figure {
    Figure { name, row, more: false, goal: None, slack: None }
}

/// A figure of which more is better.
pub(super) const fn more(row: Row, name: &'static str) -> Figure {
    Figure { more: true, ..less(row, name) }
}

impl Figure {
    const fn goal(self, goal: f64) -> Self {
        Self { goal: Some(goal), ..self }
    }

    /// Compared, but for differences of less than `slack`.
    pub(super) const fn beyond(self, slack: f64) -> Self {
        Self { slack: Some(slack), ..self }
    }

    /// Whether the goal is reached. What could not be measured is no number, and reaches nothing.
    pub(super) fn reaches(&self, goal: f64, value: f64) -> bool {
        if self.more { value >= goal } else { value <= goal }
    }
}

/// See the module.
pub(super) const FIGURES: &[Figure] = &[
    less(Row::Ladder, "action_call_us").beyond(0.5),
    less(Row::Ladder, "action_call_ratio").goal(1.5),
    less(Row::Ladder, "action_one_call_us").beyond(0.5),
    less(Row::Ladder, "action_one_call_ratio").goal(1.5),
    less(Row::Durable, "run3_p50_ms").goal(4.0).beyond(0.1),
    less(Row::Durable, "run3_p99_ms").beyond(1.0),
    more(Row::Durable, "run3_runs_per_s").goal(1_000.0).beyond(0.0),
    less(Row::Durable, "run3_host_cpu_ms").beyond(0.05),
    less(Row::Durable, "run3_syncs").goal(5.0).beyond(0.05),
    less(Row::Durable, "loaded_rss_mb").beyond(4.0),
    less(Row::Durable, "ready_after_runs_ms").beyond(20.0),
    less(Row::Starting, "ready_ms").goal(300.0).beyond(10.0),
    less(Row::Starting, "idle_rss_mb").goal(80.0).beyond(4.0),
    more(Row::Starting, "run0_runs_per_s").beyond(0.0),
    less(Row::Starting, "ready_100k_ms").goal(1_500.0).beyond(20.0),
    less(Row::Starting, "ready_100k_rss_mb").goal(150.0).beyond(4.0),
    less(Row::Starting, "run3_full_p50_ms").beyond(0.2),
    more(Row::Starting, "run3_full_runs_per_s").beyond(0.0),
    less(Row::Starting, "run3_full_ratio").goal(1.2),
    less(Row::Starting, "ready_full_ms").beyond(100.0),
    less(Row::Sleepers, "sleepers_ready_ms").goal(3_000.0).beyond(50.0),
    less(Row::Sleepers, "sleepers_rss_mb").goal(150.0).beyond(4.0),
    less(Row::Sleepers, "sleepers_late_ms").goal(1_000.0).beyond(50.0),
    less(Row::Waiting, "waiting_rss_over_idle_mb").goal(40.0).beyond(4.0),
    less(Row::Items, "loop_s").beyond(0.2),
    less(Row::Items, "loop_rss_mb").beyond(8.0),
    less(Row::Rolling, "rolling_disk_mb").beyond(8.0),
    less(Row::Rolling, "rolling_disk_ratio").goal(1.2),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_figure_is_named_once_and_judged_by_something() {
        for (at, figure) in FIGURES.iter().enumerate() {
            assert!(figure.goal.is_some() || figure.slack.is_some(), "{figure:?}");
            assert!(FIGURES[..at].iter().all(|other| other.name != figure.name), "{figure:?}");
        }
    }

    #[test]
    fn a_goal_is_the_least_where_more_is_better_and_no_number_reaches_it() {
        let (rate, time) = (more(Row::Durable, "r"), less(Row::Durable, "t"));
        assert!(rate.reaches(10.0, 11.0) && !rate.reaches(10.0, 9.0));
        assert!(time.reaches(10.0, 9.0) && !time.reaches(10.0, 11.0));
        assert!(!rate.reaches(10.0, f64::NAN) && !time.reaches(10.0, f64::NAN));
    }
}
