//! What is seen of a host the whole time, from outside: whether it answers, whether other runs go on, how much memory it
//! has.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::bellhop::hosted::now;
use crate::bounds::Bounds;
use crate::wire::{self, Request};

/// More troubles of one host are not kept.
const TROUBLES_MAX: usize = 8;
/// Between two starts of a run that does one thing.
const OTHERS_EVERY: Duration = Duration::from_secs(1);
/// The workflow of these runs.
pub(crate) const OTHER: &str = "hostile-others/one";
/// Its definition.
pub(crate) const OTHER_FLOW: &str = "\
document: { dsl: 1.0.3, namespace: hostile-others, name: one, version: 1.0.0 }
do: [ { only: { set: { ok: true } } } ]
";

/// One life of a host.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) pid: u32,
    /// Counted from 1.
    pub(crate) number: u64,
}

/// What was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Times at which `/healthz` was to be answered, and those at which the answer was late.
    pub(crate) asked: u64,
    pub(crate) late: u64,
    pub(crate) worst: Duration,
    pub(crate) others: u64,
    pub(crate) worst_other: Duration,
    pub(crate) memory_mb: u64,
    /// What may not be.
    pub(crate) troubles: Vec<String>,
}

/// Shared with the threads that watch.
#[derive(Debug)]
pub(crate) struct Watch {
    bounds: Bounds,
    memory_mb_max: u64,
    /// None while the host is down on purpose.
    life: Mutex<Option<Life>>,
    seen: Mutex<Seen>,
    over: AtomicBool,
}

impl Watch {
    /// Begins to watch; nothing is seen before there is a life.
    pub(crate) fn begin(bounds: Bounds, memory_mb_max: u64) -> Arc<Self> {
        let watch = Arc::new(Self {
            bounds,
            memory_mb_max,
            life: Mutex::default(),
            seen: Mutex::default(),
            over: AtomicBool::new(false),
        });
        for work in [Self::ask as fn(&Self), Self::run_others] {
            let watch = Arc::clone(&watch);
            std::thread::spawn(move || work(&watch));
        }
        watch
    }

    pub(crate) fn set(&self, life: Option<Life>) {
        *self.life.lock().unwrap() = life;
    }

    pub(crate) fn life(&self) -> Option<Life> {
        self.life.lock().unwrap().clone()
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn is_in_trouble(&self) -> bool {
        !self.seen.lock().unwrap().troubles.is_empty()
    }

    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn trouble(&self, life: &Life, why: String) {
        // Whatever was broken off by a death on purpose is no trouble.
        let is_the_same = self.life().is_some_and(|now| now.number == life.number);
        let mut seen = self.seen.lock().unwrap();
        if is_the_same && seen.troubles.len() < TROUBLES_MAX {
            seen.troubles.push(why);
        }
    }

    fn ask(&self) {
        let every = self.bounds.asked_every;
        let mut due = now();
        let mut count = 0_u64;
        while !self.over.load(Ordering::Acquire) {
            std::thread::sleep(due.saturating_duration_since(now()));
            due += every;
            let Some(life) = self.life() else { continue };
            let began = now();
            let request = Request { method: "GET", path: "/healthz", ..Request::default() };
            let answer = wire::send(&life.address, &request, began + self.bounds.health_max * 2);
            let took = began.elapsed();
            match answer {
                Ok(answer) if answer.status == 200 => self.answered(&life, took),
                Ok(answer) => self.trouble(&life, format!("/healthz is answered with {}", answer.status)),
                Err(why) => self.trouble(&life, format!("/healthz, after {} ms: {why}", took.as_millis())),
            }
            count += 1;
            if count.is_multiple_of(5) {
                self.weigh(&life);
            }
            // What was missed meanwhile is counted, not made up for.
            due = due.max(now());
        }
    }

    fn answered(&self, life: &Life, took: Duration) {
        let ticks = |time: Duration| u64::try_from(time.as_micros() / self.bounds.asked_every.as_micros()).unwrap_or(0);
        {
            let mut seen = self.seen.lock().unwrap();
            // Who asks every 20 ms has asked again and again while one answer did not come.
            seen.asked += 1 + ticks(took);
            if let Some(beyond) = took.checked_sub(self.bounds.health) {
                seen.late += 1 + ticks(beyond);
            }
            seen.worst = seen.worst.max(took);
        }
        if took > self.bounds.health_max {
            self.trouble(life, format!("/healthz is answered after {} ms", took.as_millis()));
        }
    }

    fn weigh(&self, life: &Life) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", life.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kb = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0);
        let mb = kb / 1024;
        let before = {
            let mut seen = self.seen.lock().unwrap();
            let before = seen.memory_mb;
            seen.memory_mb = before.max(mb);
            before
        };
        if mb > self.memory_mb_max && before <= self.memory_mb_max {
            self.trouble(life, format!("the host has {mb} MB in memory, more than {}", self.memory_mb_max));
        }
    }

    fn run_others(&self) {
        let path = format!("/v1/workflows/{OTHER}/runs?wait=30s");
        let mut due = now();
        while !self.over.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(50));
            let Some(life) = self.life().filter(|_| now() >= due) else { continue };
            let began = now();
            due = began + OTHERS_EVERY;
            let body = br#"{"input":{}}"#;
            let request = Request {
                method: "POST",
                path: &path,
                token: &life.token,
                kind: "application/json",
                body,
                ..Request::default()
            };
            let answer = wire::send(&life.address, &request, began + self.bounds.others_max * 2);
            let took = began.elapsed();
            {
                let mut seen = self.seen.lock().unwrap();
                seen.others += 1;
                seen.worst_other = seen.worst_other.max(took);
            }
            match answer {
                Ok(answer) if answer.json()["status"] == "completed" && took <= self.bounds.others_max => {}
                Ok(answer) if answer.json()["status"] == "completed" => {
                    self.trouble(&life, format!("another run took {} ms", took.as_millis()));
                }
                // Being told to come again is an answer; the host is asked again in a second.
                Ok(answer) if answer.status == 503 => {}
                Ok(answer) => self.trouble(&life, format!("another run: {} {}", answer.status, answer.text)),
                Err(why) => self.trouble(&life, format!("another run, after {} ms: {why}", took.as_millis())),
            }
        }
    }
}
