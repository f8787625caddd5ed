//! Two programs, row by row in turn: no figure of this one may be worse than the older one's.
//!
//! The rows that start a host are played by this program's own client on either host, so that only the hosts differ. A
//! row without a host is measured by each program itself. The figures of one pair of rounds give one ratio, and it is the
//! median of the ratios that counts. While the ratios leave open on which side of its bound the median is, another pair
//! is played, because one pair alone says more of the machine than of the programs.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum as _;

use super::figures::{FIGURES, Figure};
use super::{Options, Row, median};
use crate::cli::child::{Outcome, failed};
use crate::cli::output::say;

/// Pairs of rounds that every row gets.
const PAIRS_MIN: usize = 3;
/// Pairs after which the median decides, however near to the bound it is.
const PAIRS_MAX: usize = 11;
/// A median of ratios up to this counts as not worse: two builds of one program differ by as much.
const BOUND: f64 = 1.05;

type Measured = BTreeMap<String, f64>;

/// One figure over the pairs played so far.
#[derive(Default)]
struct Ratios {
    before: Vec<f64>,
    now: Vec<f64>,
    /// More than one is worse.
    ratios: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    NotWorse,
    Worse,
    /// Another pair may tell.
    Open,
}

impl Ratios {
    fn add(&mut self, figure: &Figure, before: f64, now: f64) {
        let is_close = (now - before).abs() <= figure.slack.unwrap_or(0.0);
        let ratio = if figure.more { before / now } else { now / before };
        self.ratios.push(if is_close { ratio.min(1.0) } else { ratio });
        self.before.push(before);
        self.now.push(now);
    }

    /// Where the median is, by the order of the samples: at nine in ten it lies between the two that are given.
    fn interval(&self) -> (f64, f64) {
        let mut sorted = self.ratios.clone();
        sorted.sort_by(f64::total_cmp);
        let outer = match sorted.len() {
            0..=7 => 0,
            8..=10 => 1,
            11..=12 => 2,
            _ => 3,
        };
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        (at(outer), at(sorted.len().saturating_sub(outer + 1)))
    }

    fn verdict(&self) -> Verdict {
        let (low, high) = self.interval();
        if self.ratios.len() < PAIRS_MIN {
            Verdict::Open
        } else if high <= BOUND {
            Verdict::NotWorse
        } else if low > BOUND {
            Verdict::Worse
        } else if self.ratios.len() < PAIRS_MAX {
            Verdict::Open
        } else if median(self.ratios.clone()) <= BOUND {
            Verdict::NotWorse
        } else {
            // What is no number is on no side, and meets nothing.
            Verdict::Worse
        }
    }
}

/// Plays the wanted rows by both programs in turn and prints both figures and the ratio of each.
///
/// # Errors
/// A figure is worse than the older program's, or a program could not be measured.
pub(super) async fn run(options: &Options, before: &Path) -> Outcome<()> {
    let before = before.canonicalize()?;
    let now = std::env::current_exe()?;
    std::fs::create_dir_all(&options.folder)?;
    say!(
        "not worse is a median of at most {BOUND} times the figure of {}, over {PAIRS_MIN} to {PAIRS_MAX} pairs",
        before.display()
    );
    say!("{:<28}{:>14}{:>14}{:>8}{:>7}", "figure", "before", "now", "ratio", "pairs");
    let mut worse = Vec::new();
    for row in Row::value_variants().iter().filter(|row| options.wants(**row)) {
        for (figure, ratios) in pairs(options, *row, &before, &now).await? {
            let verdict = ratios.verdict();
            let mark = if verdict == Verdict::Worse { "  WORSE" } else { "" };
            say!(
                "{figure:<28}{:>14.3}{:>14.3}{:>8.3}{:>7}{mark}",
                median(ratios.before.clone()),
                median(ratios.now.clone()),
                median(ratios.ratios.clone()),
                ratios.ratios.len()
            );
            if verdict == Verdict::Worse {
                worse.push(figure);
            }
        }
    }
    if worse.is_empty() { Ok(()) } else { failed(format!("worse than before: {}", worse.join(", "))) }
}

/// Plays one row until each of its figures is decided.
async fn pairs(options: &Options, row: Row, before: &Path, now: &Path) -> Outcome<Vec<(&'static str, Ratios)>> {
    let compared = FIGURES.iter().filter(|figure| figure.row == row && figure.slack.is_some());
    let mut all: Vec<(&Figure, Ratios)> = compared.map(|figure| (figure, Ratios::default())).collect();
    for pair in 0..PAIRS_MAX {
        // Who begins changes, so that a machine that grows slower is to nobody's harm.
        let (was, is) = if pair % 2 == 0 {
            let was = measured(options, row, before).await?;
            (was, measured(options, row, now).await?)
        } else {
            let is = measured(options, row, now).await?;
            (measured(options, row, before).await?, is)
        };
        for (figure, ratios) in &mut all {
            // What strace would count is not there without it, on either side.
            if let (Some(was), Some(is)) = (was.get(figure.name), is.get(figure.name)) {
                ratios.add(figure, *was, *is);
            } else if was.contains_key(figure.name) != is.contains_key(figure.name) {
                return failed(format!("only one of the programs has the figure {}", figure.name));
            }
        }
        if all.iter().all(|(_, ratios)| ratios.ratios.is_empty() || ratios.verdict() != Verdict::Open) {
            break;
        }
    }
    all.retain(|(_, ratios)| !ratios.ratios.is_empty());
    Ok(all.into_iter().map(|(figure, ratios)| (figure.name, ratios)).collect())
}

/// One round of one row with the host of `program`, or by `program` itself where the row has no host.
async fn measured(options: &Options, row: Row, program: &Path) -> Outcome<Measured> {
    let own = std::env::current_exe()?;
    let file = tempfile::NamedTempFile::new_in(&options.folder)?;
    let Some(name) = row.to_possible_value() else { return failed("a row has no name") };
    let name = name.get_name().to_owned();
    let has_host = !matches!(row, Row::Ladder | Row::Rolling);
    let mut command = tokio::process::Command::new(if has_host { own.as_path() } else { program });
    command.arg("bench").arg("--output-file").arg(file.path());
    command.arg("--plugin").arg(&options.plugin).arg("--folder").arg(&options.folder);
    command.args(["--rolling", &options.rolling.to_string()]);
    if has_host {
        command.args(sizes(options)).args(["--only", &name, "--program"]).arg(program);
    } else if knows_rows(program).await? {
        command.args(sizes(options)).args(["--only", &name]);
    } else {
        // An older program measures everything: the rest is made as small as it can be.
        command.args(SMALL);
    }
    let output = command.output().await?;
    // Missing a goal of its own is no matter here; having measured nothing is.
    let text = std::fs::read_to_string(file.path())?;
    serde_json::from_str(&text).or_else(|_| {
        let told = String::from_utf8_lossy(&output.stderr);
        failed(format!("{} did not measure {name}: {told}", program.display()))
    })
}

/// The other rows' sizes, where they cannot be left out.
const SMALL: [&str; 14] = [
    "--runs",
    "300",
    "--ended",
    "300",
    "--parked",
    "1",
    "--ended-in-all",
    "300",
    "--sleepers",
    "10",
    "--waiting",
    "1000",
    "--items",
    "10",
];

/// The sizes of the rows that have a host, as arguments.
fn sizes(options: &Options) -> impl Iterator<Item = String> {
    let numbers = [
        ("--runs", options.runs),
        ("--ended", options.ended),
        ("--parked", options.parked),
        ("--ended-in-all", options.ended_in_all),
        ("--sleepers", options.sleepers),
        ("--waiting", options.waiting),
        ("--items", options.items),
    ];
    numbers.into_iter().flat_map(|(name, number)| [name.to_owned(), number.to_string()])
}

/// Whether a program can measure one row alone.
async fn knows_rows(program: &Path) -> Outcome<bool> {
    let help = tokio::process::Command::new(program).args(["bench", "--help"]).output().await?;
    Ok(String::from_utf8_lossy(&help.stdout).contains("--only"))
}

#[cfg(test)]
mod tests {
    use super::super::figures::{less, more};
    use super::*;

    fn of(figure: &Figure, pairs: &[(f64, f64)]) -> Ratios {
        let mut ratios = Ratios::default();
        for (before, now) in pairs {
            ratios.add(figure, *before, *now);
        }
        ratios
    }

    const TIME: Figure = less(Row::Durable, "t").beyond(0.1);
    const RATE: Figure = more(Row::Durable, "r").beyond(0.0);

    #[test]
    fn what_is_clearly_slower_is_worse_after_the_least_rounds() {
        assert_eq!(of(&TIME, &[(10.0, 12.0); PAIRS_MIN]).verdict(), Verdict::Worse);
        assert_eq!(of(&RATE, &[(1_000.0, 900.0); PAIRS_MIN]).verdict(), Verdict::Worse);
        assert_eq!(of(&TIME, &[(10.0, 9.0); PAIRS_MIN]).verdict(), Verdict::NotWorse);
        assert_eq!(of(&RATE, &[(1_000.0, 1_100.0); PAIRS_MIN]).verdict(), Verdict::NotWorse);
    }

    #[test]
    fn one_noisy_round_asks_for_more_and_does_not_decide() {
        let mut pairs = vec![(10.0, 10.0), (10.0, 14.0), (10.0, 10.0)];
        assert_eq!(of(&TIME, &pairs).verdict(), Verdict::Open);
        pairs.extend([(10.0, 10.0); 5]);
        assert_eq!(of(&TIME, &pairs).verdict(), Verdict::NotWorse);
    }

    #[test]
    fn at_the_last_round_the_median_decides() {
        let near =
            |worse: usize| (0..PAIRS_MAX).map(|n| (10.0, if n < worse { 11.0 } else { 10.0 })).collect::<Vec<_>>();
        assert_eq!(of(&TIME, &near(5)).verdict(), Verdict::NotWorse);
        assert_eq!(of(&TIME, &near(6)).verdict(), Verdict::Worse);
    }

    #[test]
    fn a_difference_that_nobody_sees_is_none_and_no_number_is_worse() {
        assert_eq!(of(&TIME, &[(0.1, 0.19); PAIRS_MIN]).verdict(), Verdict::NotWorse);
        assert_eq!(of(&TIME, &[(10.0, f64::NAN); PAIRS_MAX]).verdict(), Verdict::Worse);
    }
}
