//! Each planted mistake, switched on alone, has to break a promise that is kept without it.
//!
//! The mistakes are patches under `tests/mutants`. A copy of the project with all of them is built once, beside the
//! project's own; the patch says how its mistake is found out.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bellhop_tests::mutants::{self, Mutant};

use crate::bellhop::dice::Dice;
use crate::bellhop::{drive, hosted::now, traced};
use crate::points::EVERY;
use crate::scenarios::{ALL, named};
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
    Points(String),
    /// The same without reading back.
    Doubts,
    /// The system calls.
    Calls,
    /// Fifty people come into one group.
    Adds,
    /// Slack wants to be left alone; with a kill or without.
    LeftAlone { killed: bool },
    /// The tests of a crate whose names begin so.
    Tests { krate: String, prefix: String },
}

impl By {
    fn of(mutant: &Mutant) -> Outcome<Self> {
        let words: Vec<&str> = mutant.found_by.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["points", scenario] if ALL.iter().any(|known| known.name == scenario) => Self::Points(scenario.to_owned()),
            ["doubts"] => Self::Doubts,
            ["calls"] => Self::Calls,
            ["adds"] => Self::Adds,
            ["left-alone"] => Self::LeftAlone { killed: false },
            ["left-alone", "killed"] => Self::LeftAlone { killed: true },
            ["tests", krate, prefix] => Self::Tests { krate: krate.to_owned(), prefix: prefix.to_owned() },
            _ => return Err(format!("{}: nobody knows how to find it by `{}`", mutant.name, words.join(" "))),
        })
    }

    fn name(&self) -> String {
        match self {
            Self::Points(scenario) => format!("every point of `{scenario}`"),
            Self::Doubts => "every point, without reading back".to_owned(),
            Self::Calls => "the system calls".to_owned(),
            Self::Adds => "one group".to_owned(),
            Self::LeftAlone { .. } => "left alone".to_owned(),
            Self::Tests { prefix, .. } => format!("tests `{prefix}`"),
        }
    }

    /// The same without a mistake: whatever is wrong there is found by no mistake, and ends all.
    fn control(&self, stage: &mut Stage) -> Outcome<()> {
        match self {
            Self::Points(scenario) => points::reference(stage, named(scenario)).map(drop),
            Self::Doubts => points::reference(stage, named("plain")).map(drop),
            Self::Calls => stage.prove(),
            Self::LeftAlone { killed } => crowd::left_alone(stage, *killed),
            // An undisturbed crowd takes long, and tests tell by themselves what is theirs.
            Self::Adds | Self::Tests { .. } => Ok(()),
        }
    }

    fn look(&self, stage: &mut Stage, built: &Built) -> Outcome<()> {
        match self {
            Self::Points(scenario) => points::singles(stage, named(scenario), EVERY).map(drop),
            Self::Doubts => doubt::singles(stage, 1).map(drop),
            // What somebody else waits for may hide one that is missing.
            Self::Calls => (0..PROOFS).try_for_each(|_| stage.prove()),
            Self::Adds => crowd::adds(stage, &mut Dice::of(1), 0).map(drop),
            Self::LeftAlone { killed } => crowd::left_alone(stage, *killed),
            Self::Tests { krate, prefix } => built.own_tests(krate, prefix, stage.plant.as_deref()),
        }
    }
}

/// The copy of the project with every mistake in it, built.
pub(crate) struct Built {
    /// A crate, its folder, and the program of its tests.
    tests: Vec<(String, PathBuf, PathBuf)>,
}

impl Built {
    /// Plants and builds; the stages that are set up afterwards play what was built.
    pub(crate) fn new() -> Outcome<(Self, Vec<Mutant>)> {
        let all = mutants::all().map_err(|error| error.to_string())?;
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf);
        let copy = target.join("mutants");
        mutants::plant(&copy, &all).map_err(|error| error.to_string())?;
        // The tests alone would be built without the program.
        let ways: [&[&str]; 2] = [&["test", "--lib", "--no-run"], &["build", "--bin", "bellhop"]];
        let said = ways.iter().map(|way| built(&copy, &target, way)).collect::<Outcome<Vec<String>>>()?.concat();
        let (mut tests, mut program) = (Vec::new(), None);
        for line in said.lines() {
            let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let (Some(made), Some(manifest)) = (message["executable"].as_str(), message["manifest_path"].as_str())
            else {
                continue;
            };
            let name = message["target"]["name"].as_str().unwrap_or_default().replace('_', "-");
            match (name.as_str(), message["profile"]["test"] == true) {
                (_, true) => {
                    let folder = Path::new(manifest).parent().map_or_else(PathBuf::new, Path::to_path_buf);
                    tests.push((name, folder, PathBuf::from(made)));
                }
                ("bellhop", false) => program = Some(made.to_owned()),
                _ => {}
            }
        }
        let program = program.ok_or("the copy with the mistakes has no program")?;
        // Whoever builds the project meanwhile puts another program in its place.
        let own = copy.join("bellhop-with-mistakes");
        std::fs::copy(&program, &own).map_err(|error| format!("{program}: {error}"))?;
        drive(&own.to_string_lossy());
        Ok((Self { tests }, all))
    }

    /// Plays tests of one crate, with the mistake in it. An error that is none of theirs ends all.
    fn own_tests(&self, krate: &str, prefix: &str, plant: Option<&str>) -> Outcome<()> {
        let Some(said) = self.said(krate, prefix, plant)? else {
            // On a machine that is busy they may take long without any mistake.
            let ends = self.said(krate, prefix, None)?.is_some();
            assert!(ends, "`{prefix}` do not end in {} s without a mistake either", TESTS_TIME_MAX.as_secs());
            return Err("they do not end, or grow without end".to_owned());
        };
        let result = said.lines().find(|line| line.starts_with("test result: ")).unwrap_or_default();
        let passed: Option<u32> = result.split_once(". ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        if result.starts_with("test result: ok") && passed.is_some_and(|passed| passed > 0) {
            return Ok(());
        }
        let first = said.lines().find_map(|line| line.strip_prefix("---- ")?.strip_suffix(" stdout ----"));
        match first.filter(|_| result.starts_with("test result: FAILED")) {
            Some(first) => Err(format!("{first} fails")),
            None => panic!("`{prefix}` names no tests that can be played: {said}"),
        }
    }

    /// What tests of one crate say; none where they do not come to an end.
    fn said(&self, krate: &str, prefix: &str, plant: Option<&str>) -> Outcome<Option<String>> {
        let Some((_, folder, program)) = self.tests.iter().find(|(name, ..)| name == krate) else {
            panic!("there is no crate `{krate}`");
        };
        let mut tests = Command::new(program);
        tests.arg(prefix).current_dir(folder).env("BELLHOP_FAULTS_PLANT", plant.unwrap_or_default());
        told(tests)
    }
}

/// Has cargo build something of the copy; gives its messages.
fn built(copy: &Path, target: &Path, way: &[&str]) -> Outcome<String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(copy).env("CARGO_TARGET_DIR", target).env_remove("RUSTC_WORKSPACE_WRAPPER").args(way);
    cargo.args(["--workspace", "--features", "bellhop/faults", "--message-format", "json-render-diagnostics"]);
    let done = cargo.stderr(Stdio::inherit()).output().map_err(|error| format!("cargo: {error}"))?;
    if !done.status.success() {
        return Err("the copy with the mistakes does not compile".to_owned());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
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

/// Makes each mistake in turn; gives how many were found, or which were not.
pub(crate) fn all(stages: &mut [Stage], built: &Built, mutants: &[Mutant], only: Option<&str>) -> Outcome<String> {
    let wanted: Vec<(&Mutant, By)> = mutants
        .iter()
        .filter(|mutant| only.is_none_or(|only| mutant.name.contains(only)))
        .map(|mutant| By::of(mutant).map(|by| (mutant, by)))
        .collect::<Outcome<_>>()?;
    if wanted.is_empty() {
        return Err("no planted mistake has such a name".to_owned());
    }
    let found = crate::share(stages, &wanted, |stage, (mutant, by)| {
        let began = now();
        if matches!(by, By::Calls) && !traced::is_possible() {
            println!("skipped: {}: there is no strace here, or it may not watch", mutant.name);
            return Ok(String::new());
        }
        by.control(stage)?;
        stage.plant = Some(mutant.name.clone());
        let looked = by.look(stage, built);
        stage.plant = None;
        let seconds = began.elapsed().as_secs_f32();
        let (mark, why) = match &looked {
            Ok(()) => ("MISSED", ""),
            Err(why) => ("caught", why.lines().next().unwrap_or_default()),
        };
        println!("{mark:<7} {seconds:>6.1} s  {:<24} {:<36} {why}", mutant.name, by.name());
        Ok(if looked.is_ok() { mutant.name.clone() } else { String::new() })
    })?;
    let missed: Vec<&String> = found.iter().filter(|name| !name.is_empty()).collect();
    if missed.is_empty() {
        Ok(format!("{} of {}", found.len(), found.len()))
    } else {
        Err(format!("not caught: {missed:?}"))
    }
}
