//! Each planted mistake, switched on alone, has to break a promise that is kept without it.

use crate::bellhop::{hosted::now, traced};
use crate::crowd::{self, Dice};
use crate::points::EVERY;
use crate::scenarios::named;
use crate::stage::{Outcome, Stage};
use crate::{doubt, points};

/// So often the system calls of a life are looked at.
const PROOFS: usize = 3;

/// How a mistake is found out.
enum By {
    /// Dying at each point of this scenario.
    Points(&'static str),
    /// The same without reading back.
    Doubts,
    /// The system calls.
    Calls,
    /// Fifty people come into one group.
    Adds,
    /// Slack wants to be left alone; with a kill or without.
    LeftAlone { killed: bool },
}

/// The mistakes that are made outside of the core, and what finds each.
const PLANTS: &[(&str, By)] = &[
    ("skip-sync", By::Calls),
    ("acknowledge-unsynced", By::Calls),
    ("answer-unsynced", By::Calls),
    ("send-unsynced", By::Calls),
    ("intent-last", By::Points("plain")),
    ("forget-outcome", By::Points("differs")),
    ("ignore-hash", By::Points("differs")),
    ("resend-unseen", By::Points("plain")),
    ("doubt-is-absence", By::Doubts),
    ("drop-exclusive-key", By::Adds),
    ("claim-what-was-so", By::Points("rollback")),
    ("forget-ledger", By::Points("rollback")),
    ("undo-again", By::Points("undone")),
    ("forget-idempotency-key", By::Points("plain")),
    ("forget-timers", By::Points("timer")),
    ("keep-place", By::Points("queue")),
    ("ignore-group-limit", By::Points("queue")),
    ("abandon-sent-call", By::Points("cancel")),
    ("forget-open-run", By::Points("plain")),
    ("tell-unseen", By::Points("notice")),
    ("ignore-retry-after", By::LeftAlone { killed: false }),
    ("forget-retry-after", By::LeftAlone { killed: true }),
    ("watermark-ahead", By::Points("plain")),
];

impl By {
    fn name(&self) -> String {
        match self {
            Self::Points(scenario) => format!("every point of `{scenario}`"),
            Self::Doubts => "every point, without reading back".to_owned(),
            Self::Calls => "the system calls".to_owned(),
            Self::Adds => "one group".to_owned(),
            Self::LeftAlone { .. } => "left alone".to_owned(),
        }
    }

    fn look(&self, stage: &mut Stage) -> Outcome<()> {
        match self {
            Self::Points(scenario) => points::singles(stage, named(scenario), EVERY).map(drop),
            Self::Doubts => doubt::singles(stage, 1).map(drop),
            // What somebody else waits for may hide one that is missing.
            Self::Calls => (0..PROOFS).try_for_each(|_| stage.prove()),
            Self::Adds => crowd::adds(stage, &mut Dice::of(1), 0).map(drop),
            Self::LeftAlone { killed } => crowd::left_alone(stage, *killed),
        }
    }
}

/// Plants each in turn; gives how many were found, or which were not.
pub(crate) fn all(stages: &mut [Stage], only: Option<&str>) -> Outcome<String> {
    let wanted: Vec<_> = PLANTS.iter().filter(|(plant, _)| only.is_none_or(|only| plant.contains(only))).collect();
    if wanted.is_empty() {
        return Err("no planted mistake has such a name".to_owned());
    }
    let found = crate::share(stages, &wanted, |stage, (plant, by)| {
        let began = now();
        if matches!(by, By::Calls) && !traced::is_possible() {
            println!("skipped: {plant}: there is no strace here, or it may not watch");
            return Ok(String::new());
        }
        stage.plant = Some((*plant).to_owned());
        let looked = by.look(stage);
        stage.plant = None;
        let seconds = began.elapsed().as_secs_f32();
        let (mark, why) = match &looked {
            Ok(()) => ("MISSED", ""),
            Err(why) => ("caught", why.lines().next().unwrap_or_default()),
        };
        println!("{mark:<7} {seconds:>6.1} s  {plant:<24} {:<36} {why}", by.name());
        Ok(if looked.is_ok() { (*plant).to_owned() } else { String::new() })
    })?;
    let missed: Vec<&String> = found.iter().filter(|plant| !plant.is_empty()).collect();
    if missed.is_empty() {
        Ok(format!("{} of {}", found.len(), found.len()))
    } else {
        Err(format!("not caught: {missed:?}"))
    }
}
