//! A person ends a doubt: `runs resolve`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellhop_core::diagnostic::{Code, Diagnostic, HttpRemedy, Needs, Remedy, Retryable};
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status, Why};
use bellhop_core::text::shell_word;
use bellhop_slack::catalog::Method;
use bellhop_slack::reconcile::{Verdict, answer};
use serde_json::{Value, json};

use crate::Engine;
use crate::call::{self, Doubt};
use crate::drive::runs::LoadError;
use crate::execution::open::{self, Open, What};
use crate::execution::{CallKey, Intent, Settle, Word};

/// Why nothing was settled. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such run, or it cannot be taken up.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is not parked.
    #[error("the run is `{}`, only a parked one waits for a person", .0.as_str())]
    NotParked(Status),
    /// It is set aside: nothing of it is in doubt but itself.
    #[error("the run is set aside, and no call of it can be answered: have it taken up again")]
    Aside,
    /// Several things are meant, and one word is for one of them.
    #[error("{} are open, and a word is for one of them: name it by its address", things(.0.len()))]
    Ambiguous(Vec<Open>),
    /// What is named is not open, or not any more; or nothing is.
    #[error("{}", not_open(named.as_deref(), open))]
    NotOpen {
        /// What was named.
        named: Option<String>,
        /// What is open.
        open: Vec<Open>,
    },
    /// Nothing of it was sent and is in doubt, so that nothing of it was carried out.
    #[error("the action at {} waits for no answer: no call of it is in doubt, and it can only be begun again", .0.address())]
    NotInDoubt(Box<Open>),
    /// A call was carried out, and what it was answered has to be said: nobody else can.
    #[error("what was carried out was answered something that only you can say")]
    AnswerNeeded(Vec<Diagnostic>),
}

fn things(count: usize) -> String {
    if count == 1 { "one thing".to_owned() } else { format!("{count} things") }
}

fn not_open(named: Option<&str>, open: &[Open]) -> String {
    let (things, is) = (things(open.len()), if open.len() == 1 { "is" } else { "are" });
    match named {
        _ if open.is_empty() => "nothing of the run waits for a word: no call is in doubt".to_owned(),
        Some(named) => {
            let named: String = named.chars().take(NAMED_CHARS_MAX).collect();
            format!("nothing that is open has the address `{named}`; {things} {is}")
        }
        None => format!("what was open was settled meanwhile; {things} {is} left"),
    }
}

/// So much of a wrong address is repeated.
const NAMED_CHARS_MAX: usize = 200;

/// A person has to say what Slack answered.
const ANSWER_NEEDED: Code = Code("answer-needed");

/// Exactly what was settled.
#[derive(Debug, Clone)]
pub enum Settled {
    /// This, and nothing else.
    One(Box<Open>),
    /// The run was set aside, and is taken up again.
    TakenUp,
}

impl Engine {
    /// Says what became of one thing in a parked run that waits for a person's word, and lets the run go on. `named` is its
    /// address; without it there is one thing only. `answer` is what the action gets for a call that was carried out;
    /// without it the call is read back once more, or answered from its request where that says all. After Ok what was
    /// settled is durable; after an error nothing was.
    ///
    /// A run that was set aside is taken up again instead: nothing of it is in doubt but itself.
    pub async fn resolve(
        self: &Arc<Self>,
        run: RunId,
        named: Option<String>,
        done: bool,
        answer: Option<Value>,
        by: String,
    ) -> Result<Settled, ResolveError> {
        if self.is_aside(run) {
            if done || named.is_some() {
                return Err(ResolveError::Aside);
            }
            self.take_back(run).await?;
            return Ok(Settled::TakenUp);
        }
        self.still_parked(run).await?;
        let open = self.open_of(run).await?;
        let mut meant = open::named(&open, named.as_deref());
        let one = match (meant.pop(), meant.is_empty()) {
            (Some(one), true) => one,
            (None, _) => return Err(ResolveError::NotOpen { named, open }),
            (Some(last), false) => {
                meant.push(last);
                return Err(ResolveError::Ambiguous(meant));
            }
        };
        let mut calls = BTreeMap::new();
        match &one.what {
            What::Call(call, intent) => {
                let answer = if done { Some(self.answered_as(run, &one, call, intent, answer).await?) } else { None };
                calls.insert(call.clone(), Word { sent_at: intent.at, answer });
            }
            // An action that asked for something is told that it is there.
            What::Action(Why::Asked) if answer.is_none() => {}
            What::Action(_) if done => return Err(ResolveError::NotInDoubt(Box::new(one))),
            What::Action(_) => {}
            What::Change(_) if answer.is_some() => return Err(ResolveError::NotInDoubt(Box::new(one))),
            What::Change(_) => {}
        }
        let cause = Cause::Settle { of: Some(one.execution.clone()), done };
        if self.send_and_wait(run, cause, Some(Settle { calls, by })).await? {
            return Ok(Settled::One(Box::new(one)));
        }
        // It was open when it was looked at: somebody else has decided, or the run has ended since.
        self.still_parked(run).await?;
        Err(ResolveError::NotOpen { named, open: self.open_of(run).await? })
    }

    async fn still_parked(&self, run: RunId) -> Result<(), ResolveError> {
        let summary = self.summary(run).await.map_err(LoadError::from)?.ok_or(LoadError::Unknown(run))?;
        if summary.status == Status::Parked { Ok(()) } else { Err(ResolveError::NotParked(summary.status)) }
    }

    /// What the action gets for a call that was carried out; what is asked for instead is shown without what the run hides.
    async fn answered_as(
        &self,
        run: RunId,
        one: &Open,
        call: &CallKey,
        intent: &Intent,
        given: Option<Value>,
    ) -> Result<Value, ResolveError> {
        let stamp = self.stamp_of(run, call).await?;
        let refused = match self.answered(run, one, intent, &stamp, given.as_ref()).await {
            Ok(answer) => return Ok(answer),
            Err(refused) => refused,
        };
        let refused = self.mask_of(run).await?.diagnostic(*refused);
        Err(ResolveError::AnswerNeeded(vec![refused]))
    }

    /// What the action gets for a call that a person says was carried out.
    async fn answered(
        &self,
        run: RunId,
        one: &Open,
        intent: &Intent,
        stamp: &str,
        given: Option<&Value>,
    ) -> Result<Value, Box<Diagnostic>> {
        let gateway = &self.services.gateway;
        let Some(method) = gateway.catalog.by_function(&intent.function) else {
            return given.cloned().ok_or_else(|| needs(run, one, &intent.function, None, "nothing is known of it"));
        };
        if let Some(given) = given {
            let lacks = answer::lacks(method, given);
            if lacks.is_empty() && given.is_object() {
                return Ok(given.clone());
            }
            let why = if given.is_object() {
                format!("the answer lacks `{}`", lacks.join("`, `"))
            } else {
                "the answer is not an object".to_owned()
            };
            return Err(needs(run, one, &method.name, Some(method), &why));
        }
        let kept = match call::request_digest(intent) {
            Some(digest) => self.services.journal.blob(digest).await.ok().flatten(),
            None => None,
        };
        let arguments = kept.and_then(|kept| call::arguments_of(&kept, &intent.function));
        let Some(arguments) = arguments else {
            let enough = answer::said_by_slack(method).is_empty();
            let simple = enough.then(|| answer::from_request(method, &Value::Null)).flatten();
            return simple.ok_or_else(|| needs(run, one, &method.name, Some(method), "its request is not on record"));
        };
        if let Some(answer) = answer::from_request(method, &arguments) {
            return Ok(answer);
        }
        let Some(connection) = gateway.connection(&intent.connection) else {
            let why = format!("the connection `{}` is not there to read it back with", intent.connection);
            return Err(needs(run, one, &method.name, Some(method), &why));
        };
        let pinned = self.pins_of(run).await.map(|(pins, _)| pins.led()).unwrap_or_default();
        if let Err(elsewhere) = connection.facts.leads_to(pinned.get(&intent.connection)) {
            return Err(needs(run, one, &method.name, Some(method), &format!("it cannot be read back: {elsewhere}")));
        }
        let doubt = Doubt { method, arguments: &arguments, intent, stamp, before: None };
        let read = call::read_back(&self.services, &connection, &doubt, run).await;
        match read.unwrap_or_else(|later| Verdict::CannotTell(later.why)) {
            Verdict::Found(body) | Verdict::Holds(body) => Ok(body),
            Verdict::Absent | Verdict::Repeat => {
                Err(needs(run, one, &method.name, Some(method), "reading it back shows nothing of it"))
            }
            Verdict::CannotTell(why) => Err(needs(run, one, &method.name, Some(method), &why)),
        }
    }
}

/// What a person has to give, and why.
fn needs(run: RunId, one: &Open, name: &str, method: Option<&Method>, why: &str) -> Box<Diagnostic> {
    let said: Vec<String> =
        method.map(answer::said_by_slack).unwrap_or_default().iter().map(|pointer| format!("`{pointer}`")).collect();
    let example = method.map(answer::example);
    let mut diagnostic = Diagnostic::error(
        ANSWER_NEEDED,
        format!("say what Slack answered to {name} of the task {}: {why}", one.task()),
    );
    diagnostic.task = Some(one.task().to_owned());
    diagnostic.methods = vec![name.to_owned()];
    let shape = match &example {
        Some(example) if said.is_empty() => format!("the answer of {name}, such as {example}"),
        Some(example) => format!("the answer of {name} with {}, such as {example}", said.join(" and ")),
        None => format!("the answer of {name}"),
    };
    diagnostic.needs = Some(Needs { text: Some(shape), ..Needs::default() });
    let shown = example.unwrap_or(Value::Null);
    let (address, answer) = (one.address(), shown.to_string());
    let (task, word) = (shell_word(&address), shell_word(&answer));
    let command = format!("bellhop runs resolve {run} --task {task} --done --answer {word}");
    let body = json!({ "task": address, "done": true, "answer": shown });
    let path = format!("/v1/runs/{run}/resolve");
    diagnostic.remedies = vec![
        Remedy {
            title: "look in Slack, and say it".to_owned(),
            command: Some(command),
            http: Some(HttpRemedy { method: "POST".to_owned(), path, body }),
        },
        Remedy {
            title: "or, if it was not carried out, say that: it is sent again".to_owned(),
            command: Some(format!("bellhop runs resolve {run} --task {word} --not-done")),
            http: None,
        },
    ];
    diagnostic.retryable = Retryable::AfterRemedy;
    diagnostic.who = Some("whoever can look in Slack".to_owned());
    Box::new(diagnostic)
}
