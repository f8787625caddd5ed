//! One case, step by step, against a host that others use too.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bellhop::hosted::now;
use crate::bellhop::program;
use crate::case::{Case, Step};
use crate::wire::{Answer, Request};
use crate::world::World;
use crate::{ends, expand, guest, wire};

/// The namespace of a case's own workflow.
const NAMESPACE: &str = "hostile";
/// Requests and runs of one step at the same time.
const TOGETHER: usize = 64;
/// A run is asked for so long at a time.
const WAIT: &str = "1s";
/// Until something is looked at again that tells nobody when it changes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A case under way.
pub(crate) struct Play<'a> {
    world: &'a World,
    case: &'a Case,
    until: Instant,
    /// What earlier steps kept: of runs that were started together, all.
    kept: BTreeMap<String, Vec<String>>,
}

/// Plays a case to its end.
///
/// # Errors
/// What is not as it should be.
pub(crate) fn play(world: &World, case: &Case) -> Result<(), String> {
    let until = now() + Duration::from_secs(case.within_s);
    let mut play = Play { world, case, until, kept: BTreeMap::new() };
    if !case.flow.is_null() {
        play.flow()?;
    }
    for (number, step) in case.step.iter().enumerate() {
        play.step(step).map_err(|why| format!("step {}: {why}", number + 1))?;
    }
    Ok(())
}

fn right(end: &str, is: &[String], otherwise: &str) -> Result<(), String> {
    let is = if is.is_empty() { &[otherwise.to_owned()][..] } else { is };
    ends::wrong(end, is).map_or(Ok(()), Err)
}

impl Play<'_> {
    fn flow(&mut self) -> Result<(), String> {
        let answer = self.put(&self.case.flow)?;
        if !(200..300).contains(&answer.status) {
            return right(&ends::of_answer(&answer), &self.case.is, "2xx");
        }
        let of = format!("{NAMESPACE}/{}", self.case.slug());
        self.start(&of, &self.case.input, self.case.times, false, &self.case.is).map(|_| ())
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Put { flow, is } => {
                let answer = self.put(flow)?;
                right(&ends::of_answer(&answer), is, "2xx").map_err(|why| format!("{why}: {}", short(&answer.text)))
            }
            Step::Start { of, input, times, leave, keep, is } => {
                let of = of.as_ref().map_or_else(|| format!("{NAMESPACE}/{}", self.case.slug()), |of| self.filled(of));
                let runs = self.start(&of, input, *times, *leave, is)?;
                self.keep(keep.as_ref(), runs)
            }
            Step::Until { run, within_s, is } => self.reached(run, *within_s, is),
            Step::Send { .. } => self.requests(step),
            Step::Raw { bytes, is } => self.raw(bytes, is),
            Step::Flood { connections, from, bytes, every_ms, for_s } => {
                let text = self.filled(&expand::text(bytes));
                crate::flood::hold(self.world, *connections, from.as_deref(), &text, *every_ms, *for_s)
            }
            Step::Plugin { is, .. } => {
                let bytes = guest::build(step)?;
                let path = guest::install(step);
                let kind = "application/wasm";
                let request = Request { method: "POST", path: &path, kind, body: &bytes, ..Request::default() };
                let answer = self.world.send(request, self.until)?;
                right(&ends::of_answer(&answer), is, "201").map_err(|why| format!("{why}: {}", short(&answer.text)))
            }
            Step::Act { plugin, input, times, keep, is } => {
                let path = format!("/v1/actions/{}:1@{plugin}/runs", guest::ACTION);
                let body = json!({ "connection": "plus", "input": expand::value(input) }).to_string();
                let runs = self.runs(&path, &body, *times, false, is)?;
                self.keep(keep.as_ref(), runs)
            }
            Step::Slack { fault } => self.slack(fault),
            Step::Ledger { with, count } => {
                let with: Vec<String> = with.iter().map(|text| self.filled(text)).collect();
                let ledger = self.world.ledger();
                let found = ledger.lines().filter(|line| with.iter().all(|text| line.contains(text))).count();
                if found == *count { Ok(()) } else { Err(format!("Slack has {found} of {with:?} instead of {count}")) }
            }
            Step::Type { line, code, shows, lacks } => self.typed(line, *code, shows, lacks),
            Step::File { name, text } => {
                self.world.place.write(name, &self.filled(&expand::text(text)));
                Ok(())
            }
            Step::Kill => self.world.kill(),
            Step::Terminate { within_s } => self.world.terminate(Duration::from_secs(*within_s)),
            Step::Fill { leave_mb } => self.world.fill(*leave_mb),
            Step::Empty => self.world.empty(),
            Step::Pause { ms } => {
                std::thread::sleep(Duration::from_millis(*ms));
                Ok(())
            }
            Step::Log { lacks } => {
                let log = self.world.log();
                let line = log.lines().find(|line| lacks.iter().any(|text| line.starts_with(text.as_str())));
                line.map_or(Ok(()), |line| Err(format!("the log has the line: {}", short(line))))
            }
        }
    }

    /// A text with what earlier steps kept: of several, the last.
    fn filled(&self, text: &str) -> String {
        if !text.contains("@{") {
            return text.to_owned();
        }
        self.kept.iter().fold(text.replace("@{case}", &self.case.slug()), |text, (name, values)| {
            values.last().map_or_else(|| text.clone(), |last| text.replace(&format!("@{{{name}}}"), last))
        })
    }

    /// All that was kept under a name, where the text is `@{NAME}`.
    fn each(&self, text: &str) -> Vec<String> {
        let name = text.strip_prefix("@{").and_then(|rest| rest.strip_suffix('}'));
        name.and_then(|name| self.kept.get(name)).cloned().unwrap_or_else(|| vec![self.filled(text)])
    }

    fn keep(&mut self, name: Option<&String>, runs: Vec<String>) -> Result<(), String> {
        if let Some(name) = name {
            if runs.is_empty() {
                return Err("no run was started, so none is kept".to_owned());
            }
            self.kept.insert(name.clone(), runs);
        }
        Ok(())
    }

    fn put(&self, flow: &Value) -> Result<Answer, String> {
        let text = self.filled(&expand::text(flow));
        let (name, text) = if text.starts_with("document:") {
            let of = |field: &str| {
                let at = text.find(&format!("{field}:"))? + field.len() + 1;
                let word = text[at..].trim_start().split([',', ' ', '\n', '}']).next()?;
                Some(word.trim_matches(['\'', '"']).to_owned())
            };
            let name = of("namespace").zip(of("name")).ok_or("the document has no namespace and name")?;
            (format!("{}/{}", name.0, name.1), text)
        } else {
            let slug = self.case.slug();
            let head = format!("document: {{ dsl: 1.0.3, namespace: {NAMESPACE}, name: {slug}, version: 1.0.0 }}\n");
            (format!("{NAMESPACE}/{slug}"), head + &text)
        };
        let path = format!("/v1/workflows/{name}");
        let kind = "application/yaml";
        self.world
            .send(Request { method: "PUT", path: &path, kind, body: text.as_bytes(), ..Request::default() }, self.until)
    }

    fn start(&self, of: &str, input: &Value, times: usize, leave: bool, is: &[String]) -> Result<Vec<String>, String> {
        let path = format!("/v1/workflows/{of}/runs");
        let body = format!(r#"{{"input":{}}}"#, self.filled(&expand::value(input).to_string()));
        self.runs(&path, &body, times, leave, is)
    }

    /// Starts runs at once; gives their ids.
    fn runs(&self, path: &str, body: &str, times: usize, leave: bool, is: &[String]) -> Result<Vec<String>, String> {
        let started = Mutex::new(Vec::new());
        self.together(times, TOGETHER, |_| {
            let wait = if leave { String::new() } else { format!("?wait={WAIT}") };
            let path = format!("{path}{wait}");
            let request = Request {
                method: "POST",
                path: &path,
                kind: "application/json",
                body: body.as_bytes(),
                ..Request::default()
            };
            let answer = self.world.send(request, self.until)?;
            if !(200..300).contains(&answer.status) {
                return right(&ends::of_answer(&answer), is, "2xx")
                    .map_err(|why| format!("{why}: {}", short(&answer.text)));
            }
            let view = answer.json();
            let run = view["id"].as_str().ok_or("an accepted run has no id")?.to_owned();
            started.lock().unwrap().push(run.clone());
            if leave {
                self.world.remember(&run, "running", &self.case.name);
                return Ok(());
            }
            self.ended(&run, view, is)
        })?;
        Ok(started.into_inner().unwrap())
    }

    /// Waits for the end of a run; one that goes on for too long is stopped, so that it is nobody else's trouble.
    fn ended(&self, run: &str, mut view: Value, is: &[String]) -> Result<(), String> {
        let path = format!("/v1/runs/{run}?wait={WAIT}");
        while !ends::is_at_rest(&view) {
            // What an earlier step has already decided is an end too: the run need not go on to a rest of its own.
            if is.iter().any(|right| right == view["status"].as_str().unwrap_or_default()) {
                break;
            }
            if now() + Duration::from_secs(1) >= self.until {
                self.stop(run);
                return Err(format!("the run {run} goes on after {} s: {}", self.case.within_s, ends::of_run(&view)));
            }
            view = self.world.get(&path, self.until)?;
        }
        self.world.remember(run, view["status"].as_str().unwrap_or_default(), &self.case.name);
        right(&ends::of_run(&view), is, "completed")
            .map_err(|why| format!("{why}: {}", short(&view["error"].to_string())))
    }

    fn stop(&self, run: &str) {
        let path = format!("/v1/runs/{run}/cancel");
        let body = br#"{"force":true}"#;
        let request = Request { method: "POST", path: &path, kind: "application/json", body, ..Request::default() };
        let _refused = self.world.send(request, now() + Duration::from_secs(5));
    }

    fn reached(&self, runs: &str, within_s: u64, is: &[String]) -> Result<(), String> {
        let until = (now() + Duration::from_secs(within_s)).min(self.until);
        let runs = self.each(runs);
        for (number, run) in runs.iter().enumerate() {
            loop {
                let view = self.world.get(&format!("/v1/runs/{run}"), until)?;
                let wrong = ends::judged(&ends::of_run(&view), is);
                self.world.remember(run, view["status"].as_str().unwrap_or_default(), &self.case.name);
                match wrong {
                    None => break,
                    Some(why) if now() + LOOK_AGAIN >= until => {
                        let which = format!("the run {run}, number {} of {}", number + 1, runs.len());
                        let waiting = short(&view["waiting"].to_string());
                        let posted = self.world.ledger().lines().count();
                        return Err(format!(
                            "after {within_s} s {which}: {why}; it waits for {waiting}; {posted} lines stand in the ledger; the log ends with {}",
                            self.world.last_words()
                        ));
                    }
                    Some(_) => std::thread::sleep(LOOK_AGAIN),
                }
            }
        }
        Ok(())
    }

    /// Does the same so often, so many at a time; the first that fails is told.
    fn together(
        &self,
        times: usize,
        at_once: usize,
        each: impl Fn(usize) -> Result<(), String> + Sync,
    ) -> Result<(), String> {
        if times == 1 {
            return each(0);
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let failed = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..times.min(at_once) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        if number >= times || failed.lock().unwrap().is_some() {
                            break;
                        }
                        if let Err(why) = each(number) {
                            failed.lock().unwrap().get_or_insert(why);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap().map_or(Ok(()), Err)
    }

    fn requests(&mut self, step: &Step) -> Result<(), String> {
        let Step::Send { method, path, body, kind, headers, token, times, together, is, keep, shows, absent, lacks } =
            step
        else {
            return Err("no request".to_owned());
        };
        let path = self.filled(&expand::text(path));
        let body = self.filled(&expand::text(body));
        let json = if body.is_empty() { "" } else { "application/json" };
        let kind = kind.clone().unwrap_or_else(|| json.to_owned());
        let headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.clone(), self.filled(&expand::text(value)))).collect();
        let token = token.as_ref().map(|token| self.filled(token)).unwrap_or_default();
        let got = Mutex::new(Answer::default());
        self.together(*times, if *together { TOGETHER } else { 1 }, |number| {
            let counted = |text: &str| text.replace("#{n}", &number.to_string());
            let (path, body) = (counted(&path), counted(&body));
            let request =
                Request { method, path: &path, token: &token, kind: &kind, headers: &headers, body: body.as_bytes() };
            let answer = self.world.send(request, self.until)?;
            let mut end = ends::of_answer(&answer);
            if method == "HEAD" && answer.text.is_empty() {
                // Its answer has no body in which a code could stand.
                end.push_str(" head");
            }
            let at = format!("{method} {}", short(&path));
            right(&end, is, "2xx").map_err(|why| format!("{at}: {why}: {}", short(&answer.text)))?;
            if let Some(text) = lacks.iter().find(|text| answer.text.contains(self.filled(text).as_str())) {
                return Err(format!("{at}: its answer has `{text}`: {}", short(&answer.text)));
            }
            *got.lock().unwrap() = answer;
            Ok(())
        })?;
        let answer = got.into_inner().unwrap().json();
        for (pointer, wanted) in shows {
            let there = answer.pointer(pointer).unwrap_or(&Value::Null);
            if there != wanted {
                return Err(format!("{pointer} is {} instead of {wanted}", short(&there.to_string())));
            }
        }
        if let Some(pointer) = absent.iter().find(|pointer| answer.pointer(pointer).is_some()) {
            return Err(format!("its answer has {pointer}"));
        }
        for (name, pointer) in keep {
            let value = answer.pointer(pointer).ok_or_else(|| format!("the answer has no {pointer}"))?;
            self.kept.insert(name.clone(), vec![value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
        }
        Ok(())
    }

    fn raw(&self, bytes: &Value, is: &[String]) -> Result<(), String> {
        let life = self.world.life()?;
        let text = self.filled(&expand::text(bytes)).replace("@{host}", &life.address).replace("@{token}", &life.token);
        let end = match wire::exchange(&life.address, &[text.as_bytes()], false, self.until) {
            Ok(answer) => ends::of_answer(&answer),
            Err(why) if why.contains("closed") || why.contains("reset") => "closed".to_owned(),
            Err(why) => return Err(why),
        };
        right(&end, is, "4xx")
    }

    fn slack(&self, fault: &Value) -> Result<(), String> {
        let answer = if fault.is_null() {
            self.world.control("DELETE", "faults", &Value::Null, self.until)?
        } else {
            self.world.control("POST", "faults", &expand::value(fault), self.until)?
        };
        if answer.status == 200 { Ok(()) } else { Err(format!("the simulator refuses a fault: {}", answer.text)) }
    }

    fn typed(&self, line: &[Value], code: i32, shows: &[String], lacks: &[String]) -> Result<(), String> {
        let life = self.world.life()?;
        let words: Vec<String> = line.iter().map(|word| self.filled(&expand::text(word))).collect();
        let (out, err) = (tempfile::NamedTempFile::new(), tempfile::NamedTempFile::new());
        let (Ok(mut out), Ok(mut err)) = (out, err) else { return Err("no file for the output".to_owned()) };
        let file = |named: &tempfile::NamedTempFile| named.reopen().map(Stdio::from).map_err(|e| e.to_string());
        let mut child = std::process::Command::new(program())
            .args(&words)
            .current_dir(self.world.place.path("."))
            .env("BELLHOP_URL", format!("http://{}", life.address))
            .env("BELLHOP_TOKEN", &life.token)
            .stdin(Stdio::null())
            .stdout(file(&out)?)
            .stderr(file(&err)?)
            .spawn()
            .map_err(|e| e.to_string())?;
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if now() < self.until => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) | Err(_) => {
                    let _killed = child.kill();
                    let _ended = child.wait();
                    return Err(format!("`bellhop {}` does not end", words.join(" ")));
                }
            }
        };
        out.flush().and_then(|()| err.flush()).map_err(|e| e.to_string())?;
        let read = |file: &tempfile::NamedTempFile| {
            String::from_utf8_lossy(&std::fs::read(file.path()).unwrap_or_default()).into_owned()
        };
        let told = read(&out) + &read(&err);
        let shown = format!("`bellhop {}`", words.join(" "));
        if let Some(steers) = told.chars().find(|c| steers(*c)) {
            return Err(format!("{shown} prints U+{:04X}", u32::from(steers)));
        }
        if status.code() != Some(code) {
            return Err(format!("{shown} ends with {status} instead of {code}: {}", short(&told)));
        }
        if let Some(text) = shows.iter().find(|text| !told.contains(self.filled(text).as_str())) {
            return Err(format!("{shown} does not print `{text}`: {}", short(&told)));
        }
        if let Some(text) = lacks.iter().find(|text| told.contains(self.filled(text).as_str())) {
            return Err(format!("{shown} prints `{text}`: {}", short(&told)));
        }
        Ok(())
    }
}

/// Whether a character moves, colours or turns round what stands on a terminal.
fn steers(c: char) -> bool {
    let is_bidi = matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || is_bidi
}

/// The beginning of a text.
fn short(text: &str) -> String {
    let start: String = text.chars().take(300).collect();
    if start.len() < text.len() { format!("{start}…") } else { start }
}
