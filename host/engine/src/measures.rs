//! How long things take, by how they end: counted where they end, and read for `/metrics`.

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Seconds, in series that are told apart by so many labels.
pub type Durations<const LABELS: usize> = Family<[(&'static str, String); LABELS], Histogram, fn() -> Histogram>;

/// Of requests to Slack.
#[must_use]
pub fn of_calls() -> Durations<2> {
    Family::new_with_constructor(|| Histogram::new([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]))
}

/// Of runs, from the acceptance to the end: some take a moment, others wait for months.
#[must_use]
pub fn of_runs() -> Durations<1> {
    const DAY: f64 = 86_400.0;
    Family::new_with_constructor(|| {
        Histogram::new([0.1, 1.0, 10.0, 60.0, 600.0, 3_600.0, DAY, 7.0 * DAY, 30.0 * DAY, 90.0 * DAY])
    })
}

/// Of waits for Slack's budget, as they were told to those who asked for it.
#[must_use]
pub fn of_waits() -> Histogram {
    Histogram::new([0.0, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3_600.0])
}
