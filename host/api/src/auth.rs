//! Who asks, and whether they may.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use bellhop_core::definition::WorkflowName;
use bellhop_core::time::Timestamp;

use super::App;
use super::problem::Problem;
use super::way::Base;
use bellhop_engine::setup::tokens::{Scope, Stored};

/// What a route asks of the caller. [`Needs::satisfied`] is the one place where that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// Any one of these scopes.
    One(&'static [&'static str]),
    /// `runs:start`, or `runs:start:NAMESPACE/NAME` of the workflow in the address.
    Start,
}

/// Who asks, and from where they see this host.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// None where the route needs no token.
    token: Option<Stored>,
    /// What links that are meant for them begin with.
    pub(super) base: Base,
}

impl Caller {
    /// For records of who did something: the token's id, which is no secret.
    pub(super) fn name(&self) -> String {
        self.token.as_ref().map_or_else(|| "anonymous".to_owned(), |token| format!("{} ({})", token.name, token.id))
    }
}

impl Caller {
    /// Which of these scopes the caller's own token does not cover: what it may not hand on.
    pub(super) fn lacks<'s>(&self, scopes: impl IntoIterator<Item = &'s Scope>) -> Vec<String> {
        let covered = |scope: &Scope| self.token.as_ref().is_some_and(|token| token.covers(scope));
        scopes.into_iter().filter(|scope| !covered(scope)).map(|scope| scope.as_str().to_owned()).collect()
    }

    /// When the caller's own token ends, where one with the end `at`, or without any, would be there longer.
    pub(super) fn ends_before(&self, at: Option<Timestamp>) -> Option<Timestamp> {
        let own = self.token.as_ref()?.expires_at?;
        at.is_none_or(|at| at > own).then_some(own)
    }

    /// Whether the caller's token allows what `scope` names.
    pub(super) fn may(&self, scope: &str) -> bool {
        self.token.as_ref().is_some_and(|token| token.may(scope))
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
                let mut scopes = vec!["runs:start".to_owned()];
                // An address that can name no workflow makes no scope.
                scopes.extend(Scope::parse(&format!("runs:start:{workflow}")).ok().map(|s| s.as_str().to_owned()));
                Err(Problem::scope_missing(&scopes, false))
            }
        }
    }
}

/// Longer ones are not looked up.
const TOKEN_BYTES_MAX: usize = 128;

/// The caller of a request to a route with these `needs`, who sees the host at `base`.
pub(super) async fn caller(
    app: &App,
    needs: Needs,
    headers: &HeaderMap,
    workflow: &WorkflowName,
    base: Base,
) -> Result<Caller, Problem> {
    if needs == Needs::Nothing {
        return Ok(Caller { token: None, base });
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
    let stored =
        engine.tokens.find(token, engine.services.clock.settled()).await?.ok_or_else(Problem::token_invalid)?;
    needs.satisfied(&stored, workflow)?;
    Ok(Caller { token: Some(stored), base })
}
