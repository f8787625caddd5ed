//! What has to hold for every case, in one table, by the form that is played.

use std::time::Duration;

/// The bounds of one form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// `/healthz` is asked so often, on a connection of its own each time.
    pub(crate) asked_every: Duration,
    /// It is answered within this, but for `late_of_1000`.
    pub(crate) health: Duration,
    /// So many of a thousand may take longer.
    pub(crate) late_of_1000: f64,
    /// None takes longer.
    pub(crate) health_max: Duration,
    /// A run that does one thing is started every second, and has ended within this.
    pub(crate) others_max: Duration,
    /// Resident memory of the host.
    pub(crate) memory_mb_max: u64,
    /// From the start of the process after a kill until it is ready.
    pub(crate) ready_max: Duration,
    /// No generated case is begun after this.
    pub(crate) in_all_max: Option<Duration>,
    /// Generated cases, unless another number is asked for.
    pub(crate) generated: usize,
}

/// A release build with the machine for itself.
pub(crate) const FULL: Bounds = Bounds {
    asked_every: Duration::from_millis(20),
    health: Duration::from_millis(100),
    late_of_1000: 1.0,
    health_max: Duration::from_secs(1),
    others_max: Duration::from_secs(2),
    memory_mb_max: 1_024,
    ready_max: Duration::from_secs(10),
    in_all_max: None,
    generated: 1_000,
};

/// A build for tests on a machine that does other things too: what it computes takes a few times as long.
pub(crate) const QUICK: Bounds = Bounds {
    health: Duration::from_millis(500),
    late_of_1000: 10.0,
    health_max: Duration::from_secs(4),
    others_max: Duration::from_secs(10),
    ready_max: Duration::from_secs(30),
    // Of what is generated: what somebody wrote is played to its end. A case that is begun ends half a minute later.
    in_all_max: Some(Duration::from_secs(210)),
    generated: 200,
    ..FULL
};

impl Bounds {
    /// The table, as it is printed.
    pub(crate) fn told(&self) -> String {
        format!(
            "/healthz every {} ms: {:.1} % within {} ms, none later than {} ms; another run ends within {} ms; \
             at most {} MB; ready again within {} ms",
            self.asked_every.as_millis(),
            100.0 - self.late_of_1000 / 10.0,
            self.health.as_millis(),
            self.health_max.as_millis(),
            self.others_max.as_millis(),
            self.memory_mb_max,
            self.ready_max.as_millis()
        )
    }
}
