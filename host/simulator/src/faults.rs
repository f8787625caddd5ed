//! What goes wrong on purpose: rules that pick a call and what is done to it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

/// Fault rules at one time.
const FAULTS_MAX: usize = 1_000;

/// A fault as the control API takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewFault {
    /// A method (`chat.postMessage`, `scim.v2.post.Users`), a start of one with `*`, or nothing for every call.
    #[serde(default)]
    method: Option<String>,
    /// Arguments that must have these values.
    #[serde(default, rename = "match")]
    arguments: Map<String, Value>,
    /// The workspace or organisation of the calling token.
    #[serde(default)]
    place: Option<String>,
    /// Skips the matching calls before this one; 1 is the next.
    #[serde(default = "one")]
    nth: u64,
    /// How many matching calls it is done to; 0 is all of them.
    #[serde(default = "one")]
    times: u64,
    action: Action,
}

fn one() -> u64 {
    1
}

/// What is done to the call that a fault picked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Action {
    /// Waits, then goes on as usual.
    DelayMs(u64),
    /// Nothing is done; the answer is this error.
    Refuse { error: String },
    /// The answer is this; the change is made only if `accepted`.
    Http {
        status: u16,
        #[serde(default)]
        body: Value,
        #[serde(default)]
        accepted: bool,
    },
    /// Nothing is done; 429 with `Retry-After` in seconds.
    RateLimit { retry_after: u64 },
    /// The change is made and stands in the ledger; the answer waits for a release, or never comes.
    AcceptThenWithhold,
    /// The request was read and nothing is done until a release; who hangs up meanwhile was never accepted.
    HoldBeforeAccept,
    /// Nothing is done; the connection is closed without an answer.
    CutBefore,
    /// The change is made; the connection is closed without an answer.
    CutAfterAccept,
    /// The change is made; the connection is closed after this many bytes of the answer, head included.
    CutResponseAt(usize),
    /// The change is made; the body of the answer comes in pieces of `bytes`, one every `every_ms`.
    SlowDrip {
        #[serde(default = "one")]
        bytes: u64,
        every_ms: u64,
    },
    /// The change is made; the body of the answer is not JSON.
    Garbage,
}

/// How the calls that a fault holds go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Release {
    /// As if nothing had held them.
    Answer,
    /// Their connections are closed.
    Cut,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signal {
    pub(crate) fired: u64,
    pub(crate) release: Option<Release>,
}

#[derive(Debug)]
struct Fault {
    id: u64,
    rule: NewFault,
    seen: u64,
    spent: u64,
    signal: Arc<watch::Sender<Signal>>,
}

/// A fault that picked the call at hand.
#[derive(Clone, Debug)]
pub(crate) struct Picked {
    pub(crate) id: u64,
    pub(crate) action: Action,
    signal: Arc<watch::Sender<Signal>>,
}

impl Picked {
    /// Tells those who wait for it that the fault has happened.
    pub(crate) fn fire(&self) {
        self.signal.send_modify(|signal| signal.fired += 1);
    }

    /// Waits until somebody lets the held call go.
    pub(crate) async fn released(&self) -> Release {
        let mut seen = self.signal.subscribe();
        match seen.wait_for(|signal| signal.release.is_some()).await {
            Ok(signal) => signal.release.unwrap_or(Release::Cut),
            Err(_) => Release::Cut,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Fault>,
    next: u64,
}

impl Faults {
    /// Adds a rule and answers its number, or None when there are too many.
    pub(crate) fn add(&mut self, rule: NewFault) -> Option<u64> {
        if self.rules.len() >= FAULTS_MAX {
            return None;
        }
        self.next += 1;
        let signal = Arc::new(watch::Sender::new(Signal::default()));
        self.rules.push(Fault { id: self.next, rule, seen: 0, spent: 0, signal });
        Some(self.next)
    }

    /// The first rule that picks this call. Rules that match and still skip, or are spent, count on.
    pub(crate) fn pick(&mut self, method: &str, place: Option<&str>, arguments: &Map<String, Value>) -> Option<Picked> {
        for fault in &mut self.rules {
            if !matches(&fault.rule, method, place, arguments) {
                continue;
            }
            fault.seen += 1;
            let due = fault.seen >= fault.rule.nth;
            let left = fault.rule.times == 0 || fault.spent < fault.rule.times;
            if due && left {
                fault.spent += 1;
                let signal = Arc::clone(&fault.signal);
                return Some(Picked { id: fault.id, action: fault.rule.action.clone(), signal });
            }
        }
        None
    }

    pub(crate) fn signal(&self, id: u64) -> Option<watch::Receiver<Signal>> {
        self.rules.iter().find(|fault| fault.id == id).map(|fault| fault.signal.subscribe())
    }

    pub(crate) fn release(&mut self, id: u64, how: Release) -> bool {
        match self.rules.iter().find(|fault| fault.id == id) {
            Some(fault) => {
                fault.signal.send_modify(|signal| signal.release = Some(how));
                true
            }
            None => false,
        }
    }

    /// Takes all rules away. The calls that they hold are cut.
    pub(crate) fn clear(&mut self) {
        for fault in self.rules.drain(..) {
            fault.signal.send_modify(|signal| signal.release = signal.release.or(Some(Release::Cut)));
        }
    }

    pub(crate) fn list(&self) -> Vec<Value> {
        self.rules
            .iter()
            .map(|fault| {
                serde_json::json!({
                    "id": fault.id,
                    "rule": fault.rule,
                    "matched": fault.seen,
                    "fired": fault.signal.borrow().fired,
                    "released": fault.signal.borrow().release,
                })
            })
            .collect()
    }
}

fn matches(rule: &NewFault, method: &str, place: Option<&str>, arguments: &Map<String, Value>) -> bool {
    let named = match rule.method.as_deref() {
        None => true,
        Some(name) => match name.strip_suffix('*') {
            Some(start) => method.starts_with(start),
            None => name == method,
        },
    };
    // A form knows strings only, JSON knows more: the text counts.
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let same = |wanted: &Value, given: &Value| wanted == given || plain(wanted) == plain(given);
    named
        && rule.place.as_deref().is_none_or(|wanted| place == Some(wanted))
        && rule.arguments.iter().all(|(name, wanted)| arguments.get(name).is_some_and(|given| same(wanted, given)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: Value) -> NewFault {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_rule_picks_by_method_argument_place_and_count() {
        let mut faults = Faults::default();
        let picky = json!({"method": "chat.*", "match": {"channel": "C1", "n": 2}, "place": "T1", "nth": 2, "action": "cut_before"});
        faults.add(rule(picky)).unwrap();
        let fits = json!({"channel": "C1", "n": "2"});
        let fits = fits.as_object().unwrap();
        let other = json!({"channel": "C2", "n": 2});
        assert!(faults.pick("chat.postMessage", Some("T1"), fits).is_none(), "the first is skipped");
        assert!(faults.pick("chat.postMessage", Some("T2"), fits).is_none());
        assert!(faults.pick("chat.postMessage", Some("T1"), other.as_object().unwrap()).is_none());
        assert!(faults.pick("users.list", Some("T1"), fits).is_none());
        assert!(faults.pick("chat.update", Some("T1"), fits).is_some());
        assert!(faults.pick("chat.update", Some("T1"), fits).is_none(), "once only");
    }

    #[test]
    fn unknown_keys_and_actions_are_errors() {
        assert!(serde_json::from_value::<NewFault>(json!({"metod": "x", "action": "garbage"})).is_err());
        assert!(serde_json::from_value::<NewFault>(json!({"action": "explode"})).is_err());
    }
}
