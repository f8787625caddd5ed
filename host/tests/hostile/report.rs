//! What is told: a line now and then, each broken case with how to play it again, and the last line.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::batch::Played;
use crate::bellhop::hosted::now;
use crate::bounds::Bounds;
use crate::case::Case;
use crate::watch::Seen;
use crate::world::broken_folder;

/// Between two lines of progress, on a terminal and elsewhere.
const TOLD_EVERY: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(60));

pub(crate) struct Report<'a> {
    cases: &'a [Case],
    seed: u64,
    is_full: bool,
    began: Instant,
    told: Instant,
    played: usize,
    kinds: usize,
    left_out: usize,
    /// Those that were not played and had to be.
    missed: usize,
    broken: BTreeMap<String, String>,
    seen: Seen,
}

impl<'a> Report<'a> {
    pub(crate) fn new(cases: &'a [Case], seed: u64, is_full: bool) -> Self {
        let kinds = cases.iter().map(Case::kind).collect::<BTreeSet<_>>().len();
        Self {
            cases,
            seed,
            is_full,
            began: now(),
            told: now(),
            played: 0,
            kinds,
            left_out: 0,
            missed: 0,
            broken: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// There was no time for these cases. A generated one may be left out, a written one may not.
    pub(crate) fn left_out(&mut self, numbers: &[usize]) {
        for number in numbers {
            let case = &self.cases[*number];
            if case.is_written() {
                let why = "it was not played: there was no time for it".to_owned();
                println!("BROKEN  {}: {why}", case.name);
                self.broken.insert(case.name.clone(), why);
                self.missed += 1;
            } else {
                self.left_out += 1;
            }
        }
    }

    /// Nothing was played that was to be.
    fn miss_all(&mut self) {
        let why = format!("none of {} was played", self.cases.len());
        println!("BROKEN  no case: {why}");
        self.broken.insert("no case".to_owned(), why);
        self.missed += 1;
    }

    pub(crate) fn take(&mut self, played: Played) {
        self.left_out(&played.left_out);
        self.played += played.cases;
        self.seen.add(&played.seen);
        for (number, why) in played.broken {
            let case = &self.cases[number];
            println!("BROKEN  {}: {why}", case.name);
            println!("        {}", self.again(&case.name));
            self.write(&case.name, &why, &[case]);
            self.broken.insert(case.name.clone(), why);
        }
        if let Some((numbers, why)) = played.together {
            let cases: Vec<&Case> = numbers.iter().map(|number| &self.cases[*number]).collect();
            let name = format!("{} cases together, from {}", cases.len(), cases[0].name);
            println!("BROKEN  {name}: {why}");
            println!("        none of them breaks it alone; all of them are in {}", broken_folder().display());
            self.write(&name, &why, &cases);
            self.broken.insert(name, why);
        }
        self.tell();
    }

    /// How one case is played again.
    fn again(&self, name: &str) -> String {
        if self.is_full {
            format!("make hostile SEED={} CASE='{name}'", self.seed)
        } else {
            format!("cargo test -p bellhop --test hostile -- --seed {} --case '{name}'", self.seed)
        }
    }

    /// The text of broken cases, for whoever looks for the reason and makes a written case of it.
    fn write(&self, name: &str, why: &str, cases: &[&Case]) {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let file: String = name.chars().map(plain).take(80).collect();
        let mut text = format!("# seed {}\n", self.seed);
        text.extend(why.lines().map(|line| format!("# {line}\n")));
        for case in cases {
            let written = serde_json::to_string_pretty(case).unwrap_or_default();
            text.push_str(&format!("# {}\n{written}\n", self.again(&case.name)));
        }
        let folder = broken_folder();
        let written =
            std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join(format!("{file}.json")), text));
        if let Err(error) = written {
            println!("        it could not be written to {}: {error}", folder.display());
        }
    }

    fn tell(&mut self) {
        let every = if std::io::stdout().is_terminal() { TOLD_EVERY.0 } else { TOLD_EVERY.1 };
        if self.told.elapsed() < every {
            return;
        }
        self.told = now();
        println!(
            "{} of {} cases in {} s, {} broken; /healthz at worst {} ms, {} MB",
            self.played,
            self.cases.len(),
            self.began.elapsed().as_secs(),
            self.broken.len(),
            self.seen.worst.as_millis(),
            self.seen.memory_mb
        );
        let _gone = std::io::stdout().flush();
    }

    /// Says what was seen in all; the exit code.
    pub(crate) fn finish(mut self, bounds: Bounds) -> ExitCode {
        if self.played == 0 {
            self.miss_all();
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of a few hours")]
        let late_of_1000 = self.seen.late as f64 * 1e3 / (self.seen.asked.max(1) as f64);
        if late_of_1000 > bounds.late_of_1000 {
            let why = format!(
                "{late_of_1000:.2} of 1000 answers of /healthz took more than {} ms",
                bounds.health.as_millis()
            );
            println!("BROKEN  all cases: {why}");
            self.broken.insert("all cases".to_owned(), why);
        }
        println!(
            "{:.0} s, {} kinds; /healthz asked {} times, {:.3} % within {} ms, at worst {} ms; {} other runs, at worst {} ms; \
             at most {} MB",
            self.began.elapsed().as_secs_f32(),
            self.kinds,
            self.seen.asked,
            100.0 - late_of_1000 / 10.0,
            bounds.health.as_millis(),
            self.seen.worst.as_millis(),
            self.seen.others,
            self.seen.worst_other.as_millis(),
            self.seen.memory_mb
        );
        println!("{}", crate::ends::told());
        if self.left_out > 0 {
            println!("{} generated cases were not played: there was no time for them", self.left_out);
        }
        // As the other tests say it, for who counts them.
        let bad = self.broken.len();
        let good = self.played.saturating_sub(bad.saturating_sub(self.missed));
        if bad > 0 {
            println!("\nfailures:");
            self.broken.iter().for_each(|(name, why)| println!("    {name}: {why}"));
        }
        let word = if bad > 0 { "FAILED" } else { "ok" };
        let ignored = self.left_out;
        println!("\ntest result: {word}. {good} passed; {bad} failed; {ignored} ignored; 0 measured; 0 filtered out");
        println!("hostile: {} cases, {bad} broken", self.played);
        if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
