//! What a process gathers over time, and whether it rises.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::bellhop::hosted::Hosted;

/// A line rises by less than this part of its mean, from where it is looked at to the end.
const RISE_MAX: f64 = 0.05;
/// What is counted in ones may differ by so many, whatever their mean: a run more or less under way is no leak.
const ONES: f64 = 8.0;

/// The lines: seconds and values, by name.
#[derive(Default)]
pub(crate) struct Gathered {
    lines: BTreeMap<&'static str, Vec<(f64, f64)>>,
}

/// What is read from `/metrics`, and how it is called here.
const COUNTED: [(&str, &str); 3] =
    [("bellhop_tasks ", "tasks"), ("bellhop_timers ", "timers"), ("bellhop_runs_live ", "runs in memory")];

impl Gathered {
    /// Looks at everything once.
    pub(crate) fn look(&mut self, at: Duration, hosted: &Hosted) {
        let at = at.as_secs_f64();
        let Some(pid) = hosted.pid() else { return };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok())
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).map(Iterator::count);
        #[expect(clippy::cast_precision_loss, reason = "descriptors of one process")]
        let descriptors = descriptors.ok().map(|count| count as f64);
        for (name, value) in [
            ("memory, kB", number("VmRSS:")),
            ("threads", number("Threads:")),
            ("descriptors", descriptors),
            ("store, bytes", Some(size(Path::new(&hosted.place.path("data/store"))))),
        ] {
            self.put(name, at, value);
        }
        let metrics = hosted.try_call("GET", "/metrics", None, &[]).map(|answer| answer.text).unwrap_or_default();
        for (metric, name) in COUNTED {
            let value = metrics.lines().find_map(|line| line.strip_prefix(metric)).and_then(|v| v.trim().parse().ok());
            self.put(name, at, value);
        }
    }

    fn put(&mut self, name: &'static str, at: f64, value: Option<f64>) {
        if let Some(value) = value {
            self.lines.entry(name).or_default().push((at, value));
        }
    }

    /// The last value of each.
    pub(crate) fn told(&self) -> String {
        let last = |(name, line): (&&str, &Vec<(f64, f64)>)| format!("{name} {}", line.last().map_or(0.0, |(_, v)| *v));
        self.lines.iter().map(last).collect::<Vec<_>>().join(", ")
    }

    /// Which lines rise from `from` on, or were never read; says of each how it goes.
    pub(crate) fn rising(&self, from: Duration) -> Vec<String> {
        let mut wrong = Vec::new();
        for (_, name) in COUNTED {
            if !self.lines.contains_key(name) {
                wrong.push(format!("/metrics has nothing of: {name}"));
            }
        }
        for (name, line) in &self.lines {
            let line: Vec<_> = line.iter().copied().filter(|(at, _)| *at >= from.as_secs_f64()).collect();
            let Some(fitted) = Fitted::to(&line) else {
                wrong.push(format!("{name}: too few looks"));
                continue;
            };
            println!("{name}: mean {:.1}, {:+.2} % from {} s on", fitted.mean, fitted.part() * 100.0, from.as_secs());
            if fitted.rises() {
                wrong.push(format!("{name} rises by {:.1}, its mean is {:.1}", fitted.rise, fitted.mean));
            }
        }
        wrong
    }
}

/// Bytes of the files in a folder.
fn size(folder: &Path) -> f64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0.0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            #[expect(clippy::cast_precision_loss, reason = "a few gigabytes")]
            Ok(metadata) => metadata.len() as f64,
            Err(_) => 0.0,
        })
        .sum()
}

/// A line fitted to values over time, by least squares.
struct Fitted {
    mean: f64,
    /// From the first look to the last.
    rise: f64,
}

impl Fitted {
    fn to(line: &[(f64, f64)]) -> Option<Self> {
        let (first, last) = (line.first()?.0, line.last()?.0);
        #[expect(clippy::cast_precision_loss, reason = "looks of some hours")]
        let count = line.len() as f64;
        if count < 3.0 || last <= first {
            return None;
        }
        let mean = line.iter().map(|(_, value)| value).sum::<f64>() / count;
        let middle = line.iter().map(|(at, _)| at).sum::<f64>() / count;
        let together: f64 = line.iter().map(|(at, value)| (at - middle) * (value - mean)).sum();
        let spread: f64 = line.iter().map(|(at, _)| (at - middle).powi(2)).sum();
        Some(Self { mean, rise: together / spread * (last - first) })
    }

    fn part(&self) -> f64 {
        if self.mean.abs() < f64::EPSILON { 0.0 } else { self.rise / self.mean }
    }

    fn rises(&self) -> bool {
        self.part() >= RISE_MAX && self.rise >= ONES
    }
}

/// That a line that rises is found, and that noise is not.
pub(crate) fn hold_to_its_word() {
    let at = |value: fn(f64) -> f64| (0..100).map(|n| (f64::from(n), value(f64::from(n)))).collect::<Vec<_>>();
    let rises = |value: fn(f64) -> f64| Fitted::to(&at(value)).is_some_and(|fitted| fitted.rises());
    assert!(rises(|n| 1_000.0 + n));
    assert!(!rises(|n| 1_000.0 + n / 3.0));
    assert!(!rises(|n| 1_000.0 + 200.0 * (n % 2.0)));
    assert!(!rises(|n| 1_000.0 - n));
    assert!(!rises(|n| 3.0 + (n / 50.0).floor()));
    assert!(Fitted::to(&[]).is_none());
}
