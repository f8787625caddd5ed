//! Who uses the host, and what goes wrong around it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::Duration;

use serde_json::json;

use crate::bellhop::dice::Dice;
use crate::bellhop::hosted::Hosted;
use crate::bellhop::http::{self, Request};

/// What every text begins with by which a message is found again.
pub(crate) const MARK: &str = "soak-";
/// Clients that start runs.
const CLIENTS: u64 = 4;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(60);
/// Between two times that Slack is cut off, and how long it is.
const SLACK_BACK: Duration = Duration::from_secs(40);
const SLACK_AWAY: Duration = Duration::from_secs(4);
/// Between two backups.
const BACKUP_EVERY: Duration = Duration::from_secs(30);
/// Reasons that are kept.
const TROUBLES_MAX: usize = 20;

/// What was done, and what was answered.
#[derive(Default)]
pub(crate) struct Load {
    /// Acknowledged runs that post a message, by the message.
    runs: Mutex<BTreeMap<String, String>>,
    /// Runs that somebody asked to cancel.
    cancelled: Mutex<BTreeSet<String>>,
    troubles: Mutex<Vec<String>>,
    started: AtomicU64,
    refused: AtomicU64,
    hung_up: AtomicU64,
    cuts: AtomicU64,
    backups: AtomicU64,
}

impl Load {
    /// Begins everything; it ends soon after `over`.
    pub(crate) fn begin<'s>(&'s self, scope: &'s Scope<'s, '_>, hosted: &'s Hosted, over: &'s AtomicBool) {
        for client in 0..CLIENTS {
            scope.spawn(move || self.start_runs(client, hosted, over));
        }
        scope.spawn(move || self.hang_up(hosted, over));
        scope.spawn(move || self.cut_slack(hosted, over));
        scope.spawn(move || self.back_up(hosted, over));
    }

    pub(crate) fn acknowledged(&self) -> BTreeMap<String, String> {
        self.runs.lock().unwrap().clone()
    }

    pub(crate) fn was_cancelled(&self, run: &str) -> bool {
        self.cancelled.lock().unwrap().contains(run)
    }

    pub(crate) fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap().clone()
    }

    pub(crate) fn told(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "{} runs started, {} refused, {} connections hung up, Slack away {} times, {} backups",
            count(&self.started),
            count(&self.refused),
            count(&self.hung_up),
            count(&self.cuts),
            count(&self.backups)
        )
    }

    fn trouble(&self, why: String) {
        let mut troubles = self.troubles.lock().unwrap();
        if troubles.len() < TROUBLES_MAX {
            troubles.push(why);
        }
    }

    /// Starts runs of each kind, reads, and cancels some.
    fn start_runs(&self, client: u64, hosted: &Hosted, over: &AtomicBool) {
        let mut dice = Dice::of(client);
        let mut number = 0_u64;
        while !over.load(Ordering::Acquire) {
            std::thread::sleep(PAUSE);
            number += 1;
            let mark = format!("{MARK}{client}-{number}");
            let workflow = *dice.one(&["prompt", "prompt", "patient", "wrong"]);
            let path = format!("/v1/workflows/it/{workflow}/runs");
            let input = if workflow == "wrong" { json!({}) } else { json!({ "mark": mark }) };
            let answer =
                hosted.try_call("POST", &path, Some(&json!({ "input": input })), &[("Idempotency-Key", &mark)]);
            match answer {
                Ok(answer) if answer.status == 202 || answer.status == 200 => {
                    self.started.fetch_add(1, Ordering::Relaxed);
                    let run = answer.json()["id"].as_str().unwrap_or_default().to_owned();
                    if workflow != "wrong" {
                        self.runs.lock().unwrap().insert(mark, run.clone());
                    }
                    self.look_at(&run, &mut dice, hosted);
                }
                Ok(answer) if answer.status == 503 || answer.status == 429 => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => self.trouble(format!("POST {path}: {} {}", answer.status, answer.text)),
                Err(error) => self.trouble(format!("POST {path}: {error}")),
            }
        }
    }

    /// Now and then reads the run, its events or a list, or cancels it.
    fn look_at(&self, run: &str, dice: &mut Dice, hosted: &Hosted) {
        let (method, path) = match dice.below(10) {
            0 => ("GET", format!("/v1/runs/{run}")),
            1 => ("GET", "/v1/runs?limit=50".to_owned()),
            2 => ("GET", format!("/v1/runs/{run}/events")),
            3 => {
                self.cancelled.lock().unwrap().insert(run.to_owned());
                ("POST", format!("/v1/runs/{run}/cancel"))
            }
            _ => return,
        };
        match hosted.try_call(method, &path, None, &[]) {
            // 404 and 409: it has ended meanwhile, or was removed.
            Ok(answer) if answer.status < 500 || answer.status == 503 => {}
            Ok(answer) => self.trouble(format!("{method} {path}: {} {}", answer.status, answer.text)),
            Err(error) => self.trouble(format!("{method} {path}: {error}")),
        }
    }

    /// Opens connections and leaves them: in the middle of a request, of a body, of a stream of events.
    fn hang_up(&self, hosted: &Hosted, over: &AtomicBool) {
        let mut dice = Dice::of(77);
        while !over.load(Ordering::Acquire) {
            std::thread::sleep(PAUSE);
            self.hung_up.fetch_add(1, Ordering::Relaxed);
            if dice.below(3) == 0 {
                let headers = vec![("Accept".to_owned(), "text/event-stream".to_owned())];
                let run = self.runs.lock().unwrap().values().next_back().cloned().unwrap_or_default();
                let path = format!("/v1/runs/{run}/events");
                let request = Request { method: "GET", path: &path, token: &hosted.token, headers, body: Vec::new() };
                drop(http::open(&hosted.address, &request));
                continue;
            }
            let Ok(mut socket) = TcpStream::connect(&hosted.address) else { continue };
            let parts: [&[u8]; 4] = [
                b"GET /healthz HT",
                b"POST /v1/workflows/it/prompt/runs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"inp",
                b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                b"",
            ];
            // Gone or not: what is sent is thrown away.
            let _sent = socket.write_all(dice.one::<&[u8]>(&parts));
        }
    }

    /// Has Slack answer nothing for a while, again and again.
    fn cut_slack(&self, hosted: &Hosted, over: &AtomicBool) {
        let mut dice = Dice::of(78);
        while wait(SLACK_BACK, over) {
            let action = *dice.one(&["cut_before", "cut_after_accept"]);
            hosted.fault(&json!({ "times": 0, "action": action }));
            self.cuts.fetch_add(1, Ordering::Relaxed);
            wait(SLACK_AWAY, over);
            hosted.no_faults();
        }
    }

    fn back_up(&self, hosted: &Hosted, over: &AtomicBool) {
        while wait(BACKUP_EVERY, over) {
            let file = hosted.place.path("soak.backup");
            let _none = std::fs::remove_file(&file);
            let done = hosted.run(&["backup", &file]);
            if done.code == 0 {
                self.backups.fetch_add(1, Ordering::Relaxed);
            } else {
                self.trouble(format!("bellhop backup ends with {}: {}", done.code, done.stderr));
            }
        }
    }
}

/// Whether it is not over after this time.
fn wait(span: Duration, over: &AtomicBool) -> bool {
    let mut left = span;
    while !left.is_zero() && !over.load(Ordering::Acquire) {
        let part = left.min(Duration::from_millis(200));
        std::thread::sleep(part);
        left -= part;
    }
    !over.load(Ordering::Acquire)
}
