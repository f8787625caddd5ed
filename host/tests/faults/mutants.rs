//! Each planted mistake, switched on alone, has to break a promise that is kept without it.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::bellhop::dice::Dice;
use crate::bellhop::{hosted::now, traced};
use crate::points::EVERY;
use crate::scenarios::named;
use crate::stage::{Outcome, Stage};
use crate::{crowd, doubt, points};

/// So often the system calls of a life are looked at.
const PROOFS: usize = 3;

/// Tests that a mistake keeps from ending have found it.
const TESTS_TIME_MAX: Duration = Duration::from_secs(300);

/// The same of tests that a mistake has grow: all that they started may hold so much memory together.
const TESTS_BYTES_MAX: u64 = 6 << 30;

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
    /// The tests of the program itself whose names begin so.
    Tests(&'static str),
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
    ("decide-unbounded", By::Tests("tests::outgrown")),
    ("run-error-ends-host", By::Tests("tests::store_errors")),
    ("full-is-of-the-run", By::Tests("tests::store_errors")),
    ("read-timers-anew", By::Tests("tests::waking")),
    ("suspect-at-once", By::Tests("tests::recovery")),
    ("ignore-full-disk", By::Tests("tests::space")),
    ("speak-for-the-host", By::Tests("call::answer::tests")),
    ("leave-calls-under-way", By::Tests("tests::carried")),
    ("forget-slices", By::Tests("tests::never_doubled")),
    ("forget-next-page", By::Tests("tokens::tests")),
    ("park-at-first-failure", By::Tests("tests::outages")),
    ("ignore-shares", By::Tests("door::tests")),
    ("ignore-guards", By::Tests("tests::guards")),
];

impl By {
    fn name(&self) -> String {
        match self {
            Self::Points(scenario) => format!("every point of `{scenario}`"),
            Self::Doubts => "every point, without reading back".to_owned(),
            Self::Calls => "the system calls".to_owned(),
            Self::Adds => "one group".to_owned(),
            Self::LeftAlone { .. } => "left alone".to_owned(),
            Self::Tests(prefix) => format!("tests `{prefix}`"),
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
            Self::Tests(prefix) => own_tests(prefix, stage.plant.as_deref()),
        }
    }
}

/// Plays tests of the program itself, with the mistake in it. An error that is none of theirs ends all.
fn own_tests(prefix: &str, plant: Option<&str>) -> Outcome<()> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--quiet", "--workspace", "--features", "bellhop/faults", "--lib", "--", prefix]);
    cargo.env("BELLHOP_FAULTS_PLANT", plant.unwrap_or_default());
    let Some(said) = told(cargo)? else { return Err("they do not end, or grow without end".to_owned()) };
    // A line of each crate: those that have no such test pass none.
    let results: Vec<&str> = said.lines().filter(|line| line.starts_with("test result: ")).collect();
    let passed = |result: &&str| result.split_once(". ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    let is_failed = results.iter().any(|result| result.starts_with("test result: FAILED"));
    if !is_failed && results.iter().filter_map(passed).sum::<u32>() > 0 {
        return Ok(());
    }
    let first = said.lines().find_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"));
    match first.filter(|_| is_failed) {
        Some(first) => Err(format!("{first} fails")),
        None => panic!("`{prefix}` names no tests that can be played: {said}"),
    }
}

/// What a command prints; none where it has to be ended, because it takes longer or more memory than tests may.
fn told(mut command: Command) -> Outcome<Option<String>> {
    let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let out = || file.reopen().map_err(|error| error.to_string());
    command.stdin(Stdio::null()).stdout(out()?).stderr(out()?).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let began = now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if began.elapsed() > TESTS_TIME_MAX || held_bytes(child.id()) > TESTS_BYTES_MAX {
            // What it started itself goes with it.
            let _killed = Command::new("kill").args(["-9", "--", &format!("-{}", child.id())]).status();
            let _ended = child.wait();
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::fs::read_to_string(file.path()).map(Some).map_err(|error| error.to_string())
}

/// Memory of all processes of a group, as far as the system tells (`/proc/PID/stat`, whose fields are those of proc(5):
/// behind the name come the state, the parent, the group and, as the 22nd, the resident pages of 4 KiB). Whoever ends while
/// this looks counts nothing.
fn held_bytes(group: u32) -> u64 {
    let pages = |stat: String| {
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let is_of_it = fields.get(2)?.parse() == Ok(group);
        is_of_it.then(|| fields.get(21)?.parse::<u64>().ok()).flatten()
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| pages(std::fs::read_to_string(process.path().join("stat")).ok()?)).sum::<u64>()
        * 4_096
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
