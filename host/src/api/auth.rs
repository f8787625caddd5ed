//! Who asks, and whether they may.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, HOST};

use bellhop_core::definition::WorkflowName;

use super::App;
use super::problem::Problem;
use crate::engine::tokens::{Scope, Stored};

/// What a route asks of the caller. [`Needs::satisfied`] is the one place where that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// Any one of these scopes.
    One(&'static [&'static str]),
    /// `runs:start`, or `runs:start:NAMESPACE/NAME` of the workflow in the address.
    Start,
    /// Every scope that there is: who makes and ends tokens can do everything, so only who can already may.
    Everything,
    /// Nothing from this machine itself, else `runs:read`. A collector of metrics on the same machine rarely has a
    /// token, and the figures name no workflow, person or connection; but how much a company runs is not for everybody
    /// on the network, and who asks through a proxy on this machine is not on this machine.
    Metrics,
}

/// Where a request comes from, as the server saw it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Who asks; none where the route needs no token.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Option<Stored>);

impl Caller {
    /// For records of who did something: the token's id, which is no secret.
    pub(super) fn name(&self) -> String {
        self.0.as_ref().map_or_else(|| "anonymous".to_owned(), |token| format!("{} ({})", token.name, token.id))
    }
}

impl Needs {
    fn satisfied(self, token: &Stored, workflow: &WorkflowName) -> Result<(), Problem> {
        let owned = |scopes: &[&str]| scopes.iter().map(|&s| s.to_owned()).collect::<Vec<String>>();
        match self {
            Self::Nothing => Ok(()),
            Self::One(scopes) if scopes.iter().any(|scope| token.may(scope)) => Ok(()),
            Self::One(scopes) => Err(Problem::scope_missing(&owned(scopes), false)),
            Self::Start if token.may_start(workflow) => Ok(()),
            Self::Start => {
                let narrow = format!("runs:start:{workflow}");
                Err(Problem::scope_missing(&["runs:start".to_owned(), narrow], false))
            }
            Self::Everything => {
                let missing: Vec<String> = owned(&Scope::ALL).into_iter().filter(|scope| !token.may(scope)).collect();
                if missing.is_empty() { Ok(()) } else { Err(Problem::scope_missing(&missing, true)) }
            }
            Self::Metrics if token.may("runs:read") => Ok(()),
            Self::Metrics => Err(Problem::scope_missing(&["runs:read".to_owned()], false)),
        }
    }
}

/// Longer ones are not looked up.
const TOKEN_BYTES_MAX: usize = 128;

/// The caller of a request to a route with these `needs`.
pub(super) fn caller(
    app: &App,
    needs: Needs,
    headers: &HeaderMap,
    peer: Option<Peer>,
    workflow: &WorkflowName,
) -> Result<Caller, Problem> {
    if needs == Needs::Nothing
        || (needs == Needs::Metrics && app.options.metrics_on_loopback && is_local(headers, peer))
    {
        return Ok(Caller(None));
    }
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let first = sent.next().ok_or_else(Problem::token_missing)?;
    let token = first
        .to_str()
        .ok()
        .filter(|_| sent.next().is_none())
        .and_then(|text| text.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .filter(|token| token.starts_with("bh_") && token.len() <= TOKEN_BYTES_MAX)
        .ok_or_else(Problem::token_invalid)?;
    let engine = &app.engine;
    let stored = engine.tokens.find(token, engine.services.clock.now())?.ok_or_else(Problem::token_invalid)?;
    needs.satisfied(&stored, workflow)?;
    Ok(Caller(Some(stored)))
}

/// From this machine itself: not through a proxy on it, and not by a page in a browser on it that was served under a name
/// of its own and had that name lead here.
fn is_local(headers: &HeaderMap, peer: Option<Peer>) -> bool {
    let forwarded = headers.contains_key("forwarded") || headers.contains_key("x-forwarded-for");
    let named_so = headers.get(HOST).is_none_or(|host| {
        let host = host.to_str().unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
        name == "localhost" || host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok()
    });
    !forwarded && named_so && peer.is_some_and(|Peer(address)| address.ip().to_canonical().is_loopback())
}
