//! What became of a request or a run, in a few words, and whether that is one of the ends that are right.
//!
//! An end is a line of words: `completed`, `faulted CODE`, `parked CODE`, `STATUS CODE DIAGNOSTIC…`. A right end names
//! some of these words, and all that it names have to be there. `documented` is right for every end whose code has a page
//! and says that it is the caller's or the author's, or that one can come again; `2xx` and `4xx` are for any such status.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::Value;

use crate::wire::Answer;

/// Codes that say that the host failed. Nothing that is sent may lead to one.
const OF_THE_HOST: [&str; 6] =
    ["internal", "run-poisoned", "storage-failed", "storage-damaged", "sandbox-unavailable", "nondeterministic-plugin"];

/// How a run stands that goes on by itself.
const UNDER_WAY: [&str; 3] = ["running", "waiting", "cancelling"];

fn pages() -> &'static BTreeSet<String> {
    static PAGES: OnceLock<BTreeSet<String>> = OnceLock::new();
    PAGES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors");
        let names = folder.read_dir().into_iter().flatten().filter_map(|entry| {
            let path = entry.ok()?.path();
            Some(path.file_stem()?.to_string_lossy().into_owned())
        });
        names.collect()
    })
}

fn last_part(text: &str) -> &str {
    text.rsplit('/').next().unwrap_or(text)
}

/// Of a run as it is shown.
pub(crate) fn of_run(run: &Value) -> String {
    let status = run["status"].as_str().unwrap_or("unknown");
    let error = run["error"]["type"].as_str().map(last_part).unwrap_or_default();
    let waits = ["reason", "code", "type", "on"]
        .iter()
        .filter_map(|field| match &run["waiting"][*field] {
            Value::String(text) => Some(last_part(text)),
            Value::Object(inner) => inner.get("type").and_then(Value::as_str).map(last_part),
            _ => None,
        })
        .collect::<Vec<_>>()
        .join(" ");
    format!("{status} {error} {waits}").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Of an answer: the status, the code, the codes of its diagnostics.
pub(crate) fn of_answer(answer: &Answer) -> String {
    let mut words = vec![answer.status.to_string()];
    if let Ok(problem) = serde_json::from_str::<Value>(&answer.text) {
        words.extend(problem["code"].as_str().map(str::to_owned));
        let diagnostics = problem["diagnostics"].as_array().into_iter().flatten();
        words.extend(diagnostics.filter_map(|d| d["code"].as_str()).map(str::to_owned));
    }
    words.dedup();
    words.join(" ")
}

/// Whether a run stands still or has ended.
pub(crate) fn is_at_rest(run: &Value) -> bool {
    run["status"].as_str().is_some_and(|status| !UNDER_WAY.contains(&status))
}

/// How often there was which end: the first two words of each.
static COUNTED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// The most frequent ends, as a line: cases that are all refused at the door try nothing behind it.
pub(crate) fn told() -> String {
    const TOLD: usize = 16;
    let counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all: Vec<(&String, &usize)> = counted.iter().collect();
    all.sort_by_key(|(_, count)| Reverse(**count));
    let shown: Vec<String> = all.iter().take(TOLD).map(|(end, count)| format!("{count} {end}")).collect();
    let more = all.len().saturating_sub(TOLD);
    format!("ends: {}{}", shown.join(", "), if more > 0 { format!(", and {more} more") } else { String::new() })
}

/// None when `end`, which something came to, is right; else what is wrong with it.
pub(crate) fn wrong(end: &str, right: &[String]) -> Option<String> {
    let start = end.split(' ').take(2).collect::<Vec<_>>().join(" ");
    *COUNTED.lock().unwrap_or_else(PoisonError::into_inner).entry(start).or_default() += 1;
    judged(end, right)
}

/// The same of an end that is only looked at.
pub(crate) fn judged(end: &str, right: &[String]) -> Option<String> {
    let words: Vec<&str> = end.split(' ').collect();
    let fits = |pattern: &String| {
        pattern.split(' ').all(|wanted| match wanted {
            "documented" => is_documented(&words).is_ok(),
            "2xx" => words.first().is_some_and(|word| word.len() == 3 && word.starts_with('2')),
            "4xx" => words.first().is_some_and(|word| word.len() == 3 && word.starts_with('4')),
            wanted => words.contains(&wanted),
        })
    };
    if right.iter().any(fits) {
        return None;
    }
    let why = is_documented(&words).err().map(|why| format!(" ({why})")).unwrap_or_default();
    Some(format!("it ends as `{end}`{why} instead of: {}", right.join(" | ")))
}

fn is_documented(words: &[&str]) -> Result<(), String> {
    let (first, codes) = words.split_first().ok_or("nothing")?;
    match first.parse::<u16>() {
        Ok(status @ (500 | 502 | 504..)) => return Err(format!("{status} is the host's failure")),
        Ok(status @ 400..) if codes.is_empty() && status != 400 && status != 431 => {
            return Err(format!("{status} without a code"));
        }
        Ok(_) => {}
        Err(_) if UNDER_WAY.contains(first) => return Err("it goes on".to_owned()),
        Err(_) if *first == "faulted" && codes.is_empty() => return Err("a fault without a code".to_owned()),
        Err(_) => {}
    }
    for code in codes.iter().filter(|code| code.contains('-')) {
        if OF_THE_HOST.contains(code) {
            return Err(format!("`{code}` is the host's failure"));
        }
        if !pages().contains(*code) {
            return Err(format!("`{code}` has no page"));
        }
    }
    Ok(())
}
