//! From a request to its answer: the log line, the fault, the change, the ledger, the answer, the second log line.

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Request, Response,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE},
    http::request::Parts,
};
use serde_json::{Map, Value, json};

use crate::{
    admission,
    answer::Answer,
    arguments::Arguments,
    audit,
    call::{Call, Change, Refusal},
    control,
    faults::{Action, Picked, Release},
    journal, local_ids, methods,
    rules::{Rule, TokenKind},
    scim,
    server::{Shared, State},
    wire::{Allowance, Payload},
    world::Token,
};

/// A request's body may not be larger.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The connection ends without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut")]
pub(crate) struct Cut;

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// A call as it was read off the wire.
pub(crate) struct Asked {
    pub(crate) surface: Surface,
    /// The name that rules, faults and logs know it by.
    pub(crate) method: String,
    pub(crate) bearer: Option<String>,
    pub(crate) arguments: Result<Arguments, &'static str>,
}

pub(crate) enum Surface {
    Web,
    Scim(scim::Request),
    Audit,
    Nowhere,
}

pub(crate) async fn serve(
    shared: Arc<Shared>,
    connection: u64,
    from: IpAddr,
    allowance: Arc<Allowance>,
    request: Request<Incoming>,
) -> Result<Response<Payload>, Cut> {
    allowance.lift();
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            return Ok(Answer::json(413, &json!({"ok": false, "error": "request_too_large"})).into_response());
        }
        Err(_) => return Err(Cut),
    };
    if parts.uri.path().starts_with("/_sim/") {
        // Whoever may reach this Slack may not therefore change its world.
        if !from.to_canonical().is_loopback() {
            let why = "the control routes are for this machine alone";
            return Ok(Answer::json(403, &json!({"ok": false, "error": why})).into_response());
        }
        return Ok(control::serve(&shared, &parts, &body).await.into_response());
    }
    let asked = read(&parts, &body);
    let (seq, fault) = arrive(&shared, connection, &parts.method, &asked);
    let mut departure = Departure { shared: Arc::clone(&shared), seq, accepted: false, told: false };
    match fault {
        None => Ok(settle(&shared, &asked, None, &mut departure).into_response()),
        Some(fault) => with_fault(&shared, &allowance, &asked, &fault, &mut departure).await,
    }
}

async fn with_fault(
    shared: &Arc<Shared>,
    allowance: &Allowance,
    asked: &Asked,
    fault: &Picked,
    departure: &mut Departure,
) -> Result<Response<Payload>, Cut> {
    match &fault.action {
        Action::DelayMs(ms) => {
            fault.fire();
            tokio::time::sleep(Duration::from_millis(*ms)).await;
        }
        Action::HoldBeforeAccept => {
            departure.note("held", fault.id);
            fault.fire();
            // Whoever hangs up while this waits drops this future with the connection: the call was never accepted.
            if fault.released().await == Release::Cut {
                return departure.cut("cut-before", fault);
            }
        }
        Action::CutBefore => {
            let cut = departure.cut("cut-before", fault);
            fault.fire();
            return cut;
        }
        _ => {}
    }
    let answer = settle(shared, asked, Some(fault), departure);
    match &fault.action {
        Action::AcceptThenWithhold => {
            // The change stands from here on, whatever becomes of this future.
            departure.told = false;
            fault.fire();
            if fault.released().await == Release::Cut {
                return departure.cut("cut-after", fault);
            }
            departure.tell(&mut shared.lock(), shared.clock.now_us(), "answered", &answer);
            Ok(answer.into_response())
        }
        Action::CutAfterAccept => {
            let cut = departure.cut("cut-after", fault);
            fault.fire();
            cut
        }
        Action::CutResponseAt(bytes) => {
            allowance.limit(*bytes);
            fault.fire();
            Ok(answer.into_response())
        }
        Action::SlowDrip { bytes, every_ms } => {
            fault.fire();
            let piece = usize::try_from(*bytes).unwrap_or(1);
            Ok(answer.into_response().map(|payload| payload.drip(piece, Duration::from_millis(*every_ms))))
        }
        Action::DelayMs(_) | Action::HoldBeforeAccept => Ok(answer.into_response()),
        _ => {
            fault.fire();
            Ok(answer.into_response())
        }
    }
}

/// Does what is asked, or what the fault says instead, and writes the second log line.
fn settle(shared: &Shared, asked: &Asked, fault: Option<&Picked>, departure: &mut Departure) -> Answer {
    let mut state = shared.lock();
    let now_us = shared.clock.now_us();
    let action = fault.map(|fault| &fault.action);
    let mut answer = match action {
        Some(Action::Refuse { error }) => made_up(asked, Refusal::new(error.clone())),
        Some(Action::RateLimit { retry_after }) => {
            made_up(asked, Refusal { retry_after_s: Some(*retry_after), ..Refusal::new("ratelimited") })
        }
        Some(Action::Http { accepted: false, .. }) => Answer::empty(200),
        _ => carry_out(&mut state, asked, departure.seq, now_us),
    };
    if answer.accepted {
        shared.keep(&state.world);
    }
    match action {
        Some(Action::Http { status, body, .. }) => {
            answer.status = *status;
            answer.body = match body {
                Value::String(text) => text.clone().into_bytes(),
                Value::Null => Vec::new(),
                other => other.to_string().into_bytes(),
            };
        }
        Some(Action::Garbage) => answer.body = b"<html><body>upstream connect error".to_vec(),
        _ => {}
    }
    answer.headers.push(("x-slack-req-id", format!("sim-{}", departure.seq)));
    departure.accepted = answer.accepted;
    let event = match action {
        Some(Action::AcceptThenWithhold) => "withheld",
        Some(Action::CutResponseAt(_)) => "cut-response",
        // The line of the cut itself follows.
        Some(Action::CutAfterAccept) => return answer,
        _ => "answered",
    };
    departure.tell(&mut state, now_us, event, &answer);
    answer
}

fn made_up(asked: &Asked, refusal: Refusal) -> Answer {
    match (&asked.surface, refusal.retry_after_s) {
        (Surface::Scim(request), None) => Answer::scim_error(request.version, 400, &refusal.error),
        _ => Answer::web(Err(refusal), &[]),
    }
}

/// What a request is, from its head and body.
fn read(parts: &Parts, body: &Bytes) -> Asked {
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let mut bearer =
        header(AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).map(|text| text.trim().to_owned());
    let path = parts.uri.path();
    if let Some(method) = path.strip_prefix("/api/") {
        let mut arguments = Arguments::parse(parts.uri.query(), header(CONTENT_TYPE), body);
        if !matches!(parts.method, Method::GET | Method::POST) {
            arguments = Err("invalid_post_type");
        }
        if let Ok(arguments) = &mut arguments {
            bearer = bearer.or_else(|| arguments.token.take());
        }
        return Asked { surface: Surface::Web, method: method.trim_matches('/').to_owned(), bearer, arguments };
    }
    if let Some((request, method)) = scim::Request::read(&parts.method, path, parts.uri.query(), body) {
        let arguments = Ok(Arguments::from_object(request.facts()));
        return Asked { surface: Surface::Scim(request), method, bearer, arguments };
    }
    let query = Arguments::parse(parts.uri.query(), None, b"");
    if path == "/audit/v1/logs" && parts.method == Method::GET {
        return Asked { surface: Surface::Audit, method: "audit.v1.logs".to_owned(), bearer, arguments: query };
    }
    Asked { surface: Surface::Nowhere, method: path.chars().take(200).collect(), bearer, arguments: query }
}

/// Writes the request down and sees whether a fault waits for it.
fn arrive(shared: &Shared, connection: u64, http: &Method, asked: &Asked) -> (u64, Option<Picked>) {
    let mut state = shared.lock();
    let State { world, journal, faults, .. } = &mut *state;
    let token = asked.bearer.as_ref().and_then(|text| world.tokens.get(text));
    let seq = journal.requests.next_seq();
    let nothing = Map::new();
    let arguments = asked.arguments.as_ref().map_or(&nothing, Arguments::values);
    let mut line = Map::new();
    line.insert("seq".into(), json!(seq));
    line.insert("at_ms".into(), json!(shared.clock.now_us() / 1000));
    line.insert("event".into(), json!("request"));
    line.insert("connection".into(), json!(connection));
    line.insert("http".into(), json!(http.as_str()));
    line.insert("method".into(), json!(asked.method));
    line.insert("place".into(), json!(token.map(|token| token.place())));
    line.insert("token".into(), json!(token.map(|token| token.kind.word())));
    if let Some(key) = asked.arguments.as_ref().ok().and_then(admission::key_of) {
        line.insert("key".into(), json!(key));
    }
    line.insert("args".into(), journal::facts(arguments));
    if let Err(error) = journal.requests.append(&line) {
        tracing::error!(%error, "cannot write the request log");
    }
    let fault = faults.pick(&asked.method, token.map(|token| token.place()), arguments);
    (seq, fault)
}

/// Judges and does what is asked, and writes an accepted change into the ledger.
fn carry_out(state: &mut State, asked: &Asked, seq: u64, now_us: u64) -> Answer {
    let arguments = match (&asked.surface, &asked.arguments) {
        (Surface::Nowhere, _) => return Answer::json(404, &json!({"ok": false, "error": "not_found"})),
        (_, Err(error)) => return Answer::web(Err(Refusal::new(*error)), &[]),
        (_, Ok(arguments)) => arguments,
    };
    methods::scheduled::post_due(&mut state.world, now_us);
    let found = match &asked.surface {
        Surface::Web => methods::find(&asked.method).map(|(rule, handler)| (rule, Some(handler))),
        _ => Rule::of(&asked.method).map(|rule| (rule, None)),
    };
    let Some((rule, handler)) = found else {
        return match asked.surface {
            Surface::Scim(ref request) => Answer::scim_error(request.version, 404, "not_found"),
            _ => Answer::web(Err("unknown_method".into()), &[]),
        };
    };
    let token = match admission::identify(&state.world, asked.bearer.as_deref()) {
        Ok(token) => token,
        Err(_) if !rule.token_needed => Arc::new(Token::nobody()),
        Err(refusal) => return refused(asked, refusal, None),
    };
    let headers = rule.token_needed.then(|| admission::scope_headers(rule, &token));
    let admitted = if rule.token_needed {
        admission::admit(&state.world, &mut state.limits, rule, &token, arguments, now_us)
    } else {
        Ok(admission::Admitted { token: Arc::clone(&token), workspace: None })
    };
    let admitted = admitted.and_then(|admitted| match message_waits(state, asked, arguments, &admitted, now_us) {
        Some(seconds) => Err(Refusal { retry_after_s: Some(seconds), ..Refusal::new("ratelimited") }),
        None => Ok(admitted),
    });
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return refused(asked, refusal, headers),
    };
    let workspace = admitted.workspace.clone();
    let ids = local_ids::of(&state.world, &token);
    let translated = ids.as_ref().map(|ids| arguments.with_values(local_ids::taken(ids, arguments.values())));
    let arguments = translated.as_ref().unwrap_or(arguments);
    let mut call = Call {
        world: &mut state.world,
        token: admitted.token,
        arguments,
        now_us,
        workspace: admitted.workspace,
        change: None,
        warnings: arguments.warning.into_iter().collect(),
    };
    let mut answer = match (&asked.surface, handler) {
        (Surface::Scim(request), _) => scim::carry_out(&mut call, request),
        (Surface::Audit, _) => Answer::web(audit::logs(&mut call), &[]),
        (_, Some(handler)) => {
            let outcome = handler(&mut call);
            if outcome.is_err() {
                call.change = None;
            }
            Answer::web(outcome, &call.warnings)
        }
        _ => Answer::web(Err("unknown_method".into()), &[]),
    };
    if let Some(ids) = &ids {
        answer.body = local_ids::shown(ids, &answer.body);
    }
    answer.headers.extend(headers.into_iter().flatten());
    if let Some(change) = call.change {
        let mut line = ledger_line(asked, &token, arguments, change);
        line.insert("seq".into(), json!(state.journal.ledger.next_seq()));
        line.insert("at_ms".into(), json!(now_us / 1000));
        line.insert("request".into(), json!(seq));
        line.insert("workspace".into(), json!(workspace));
        answer.accepted = true;
        if let Err(error) = state.journal.ledger.append(&line) {
            // The change stands and the oracle does not know: say so as loudly as an answer can.
            tracing::error!(%error, "cannot write the ledger");
            return Answer::json(500, &json!({"ok": false, "error": "internal_error"}));
        }
    }
    answer
}

/// How long a message has to wait whose channel has had too many.
///
/// The budget is the channel's, by whatever it is called (Slack's page of rate limits: "one message per second per channel").
fn message_waits(
    state: &mut State,
    asked: &Asked,
    arguments: &Arguments,
    admitted: &admission::Admitted,
    now_us: u64,
) -> Option<u64> {
    let named = (asked.method == "chat.postMessage").then(|| arguments.text("channel")).flatten()?;
    let token = &admitted.token;
    let channel = state.world.posted_to(token, admitted.workspace.as_deref(), &named);
    state.limits.take_message(&format!("{} {channel}", token.place()), now_us)
}

/// What the ledger has of a change, besides when and by which request.
fn ledger_line(asked: &Asked, token: &Token, arguments: &Arguments, change: Change) -> Map<String, Value> {
    let mut line = Map::new();
    line.insert("method".into(), json!(asked.method));
    line.insert("place".into(), json!(token.place()));
    line.insert("token".into(), json!(token.kind.word()));
    line.insert("actor".into(), json!(token.user));
    line.insert("key".into(), json!(admission::key_of(arguments)));
    line.insert("args".into(), journal::facts(arguments.values()));
    line.insert("changed".into(), json!(change.changed));
    line.insert("effect".into(), change.effect);
    line
}

fn refused(asked: &Asked, refusal: Refusal, headers: Option<[(&'static str, String); 2]>) -> Answer {
    let mut answer = match &asked.surface {
        Surface::Scim(request) => scim::refused(request.version, refusal),
        _ => Answer::web(Err(refusal), &[]),
    };
    answer.headers.extend(headers.into_iter().flatten());
    answer
}

/// Sees to it that every request gets its second line, also when the client hangs up and this future is dropped.
struct Departure {
    shared: Arc<Shared>,
    seq: u64,
    accepted: bool,
    told: bool,
}

impl Departure {
    fn tell(&mut self, state: &mut State, now_us: u64, event: &str, answer: &Answer) {
        let mut line = self.line(now_us, event);
        line.insert("status".into(), json!(answer.status));
        line.insert("error".into(), json!(answer.error));
        line.insert("accepted".into(), json!(answer.accepted));
        self.write(state, &line);
        self.told = true;
    }

    fn note(&self, event: &str, fault: u64) {
        let mut line = self.line(self.shared.clock.now_us(), event);
        line.insert("fault".into(), json!(fault));
        self.write(&mut self.shared.lock(), &line);
    }

    fn cut<T>(&mut self, event: &str, fault: &Picked) -> Result<T, Cut> {
        let mut line = self.line(self.shared.clock.now_us(), event);
        line.insert("fault".into(), json!(fault.id));
        line.insert("accepted".into(), json!(self.accepted));
        self.write(&mut self.shared.lock(), &line);
        self.told = true;
        Err(Cut)
    }

    fn line(&self, now_us: u64, event: &str) -> Map<String, Value> {
        let mut line = Map::new();
        line.insert("seq".into(), json!(self.seq));
        line.insert("at_ms".into(), json!(now_us / 1000));
        line.insert("event".into(), json!(event));
        line
    }

    fn write(&self, state: &mut State, line: &Map<String, Value>) {
        if let Err(error) = state.journal.requests.append(line) {
            tracing::error!(%error, "cannot write the request log");
        }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        if !self.told {
            let mut line = self.line(self.shared.clock.now_us(), "client-gone");
            line.insert("accepted".into(), json!(self.accepted));
            self.write(&mut self.shared.lock(), &line);
        }
    }
}

impl Token {
    /// Stands in where no token is asked for.
    fn nobody() -> Self {
        Self {
            kind: TokenKind::Bot,
            installed: crate::world::Installed::Workspace(String::new()),
            user: String::new(),
            bot: None,
            scopes: std::collections::BTreeSet::new(),
            scope_line: String::new(),
            state: crate::world::TokenState::Good,
        }
    }
}
