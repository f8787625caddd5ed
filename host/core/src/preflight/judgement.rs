//! One action on one connection: what it needs there, and whether that is so.

use std::collections::BTreeSet;

use crate::manifest::{Action, Alternative, DeclaredCall, Effect, When as Occurs};
use crate::requirement::{Access, Arguments, Availability, Connection, Grant, Kind, Method, Permission, Permits, Plan};
use crate::requirement::{Rules, TokenKind, open_to};
use crate::time::Timestamp;

/// Facts about a connection that are older than this are not relied on.
const FACTS_MAX_AGE_MS: u64 = 24 * 60 * 60 * 1000;

/// What a judgement looks at besides the action and the connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub rules: &'a Rules,
    /// The plugin's grants; none where the host itself makes the calls.
    pub grants: Option<&'a [Grant]>,
    pub arguments: Arguments<'a>,
    /// What the host itself reads for the call.
    pub reads: &'a [DeclaredCall],
    /// Kinds that the file accepts for the alias; empty: any.
    pub accepted: &'a [Kind],
    /// As whom the file wants it called.
    pub token: Option<TokenKind>,
    pub now: Timestamp,
}

/// One requirement with its answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding<'a> {
    /// None where the requirement is the action's, not one method's.
    pub method: Option<&'a Method>,
    pub function: &'a str,
    /// Whether every run of the action has this requirement.
    pub always: bool,
    pub state: State,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum State {
    Met(Need),
    Unmet(Lack),
    Unknown(Need, Reason),
}

/// What a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    Kind,
    Plan,
    Permission,
    Token,
    Scope,
    Grant,
    Policy,
}

/// Why an answer must wait.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    PlanUnread(String),
    ScopesUnread(TokenKind),
    ScopeByArgument(TokenKind, Vec<String>),
    GrantByArgument,
    Stale { hours: u64, seen: Option<String> },
    Policy(String),
}

/// What is not there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lack {
    /// Kinds that would do, best first.
    Kind {
        needed: Vec<Kind>,
    },
    Plan {
        from: Plan,
        needed: Vec<Plan>,
        kinds: Vec<Kind>,
    },
    Permission,
    Token {
        accepted: Vec<TokenKind>,
        scopes: Vec<String>,
    },
    Scope {
        token: TokenKind,
        any_of: Vec<String>,
        held: Vec<String>,
    },
    Reconcile {
        missing: Vec<String>,
    },
    Grant,
    Method,
}

/// The judgement of an action on a connection.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judgement<'a> {
    /// The alternative for the connection's kind, where there is one.
    pub alternative: Option<&'a Alternative>,
    /// What the host itself reads for the call.
    pub reads: &'a [DeclaredCall],
    pub findings: Vec<Finding<'a>>,
}

impl Lack {
    pub(super) fn need(&self) -> Need {
        match self {
            Self::Kind { .. } => Need::Kind,
            Self::Plan { .. } => Need::Plan,
            Self::Permission => Need::Permission,
            Self::Token { .. } => Need::Token,
            Self::Scope { .. } | Self::Reconcile { .. } => Need::Scope,
            Self::Grant | Self::Method => Need::Grant,
        }
    }

    /// How far a connection is from what is needed: the lowest sum is the nearest one.
    fn weight(&self) -> u32 {
        match self {
            Self::Kind { .. } => 10_000,
            Self::Plan { .. } => 1_000,
            Self::Permission => 100,
            Self::Token { .. } => 20,
            Self::Scope { .. } => 5,
            Self::Grant | Self::Method => 2,
            Self::Reconcile { .. } => 0,
        }
    }
}

impl Finding<'_> {
    /// Whether it blocks by itself: unmet, and met with in every run.
    pub(super) fn blocks(&self) -> bool {
        self.always && matches!(&self.state, State::Unmet(lack) if !matches!(lack, Lack::Reconcile { .. }))
    }
}

impl Judgement<'_> {
    /// See [`Lack::weight`].
    pub(super) fn distance(&self) -> u32 {
        self.findings
            .iter()
            .map(|f| match &f.state {
                State::Unmet(lack) if f.always => lack.weight(),
                State::Unmet(_) | State::Unknown(..) | State::Met(_) => 0,
            })
            .sum()
    }

    pub(super) fn blocks(&self) -> bool {
        self.findings.iter().any(Finding::blocks)
    }
}

/// Judges `action` on `connection`.
pub(super) fn judge<'a>(action: &'a Action, connection: &Connection, facts: Facts<'a>) -> Judgement<'a> {
    let alternative = action.alternative(connection.kind);
    let mut findings = Vec::new();
    match alternative {
        None => findings.extend(not_offered(action, connection, facts)),
        Some(alternative) => {
            let own = facts.reads.iter().map(|read| (read, Facts { grants: None, token: None, ..facts }));
            for (call, facts) in alternative.methods.iter().map(|call| (call, facts)).chain(own) {
                match facts.rules.by_function(&call.function) {
                    None => findings.push(finding(call, None, State::Unmet(Lack::Method))),
                    Some(method) => judge_method(action, call, method, connection, facts, &mut findings),
                }
            }
            if action.effect != Effect::Read && !findings.iter().any(|f| is_about(f, Need::Permission)) {
                let state = permission(connection);
                findings.push(Finding { method: None, function: "", always: true, state });
            }
        }
    }
    let reads = if alternative.is_some() { facts.reads } else { &[] };
    Judgement { alternative, reads, findings }
}

/// Judges one method on a connection, as every judgement of an action does.
pub(super) fn judge_method<'a>(
    action: &'a Action,
    call: &'a DeclaredCall,
    method: &'a Method,
    connection: &Connection,
    facts: Facts<'a>,
    findings: &mut Vec<Finding<'a>>,
) {
    let mut push = |state| findings.push(finding(call, Some(method), state));
    let available = availability(action, method, connection, facts);
    let reachable = !matches!(available, State::Unmet(Lack::Kind { .. }));
    push(available);
    if !reachable {
        // Tokens and scopes of a method that this connection can never call are nobody's business.
        return;
    }
    if method.writes {
        push(permission(connection));
    }
    let (token, scope) = access(method, connection, facts.token);
    push(token);
    if let Some(scope) = scope {
        push(stale(scope, connection, facts.now));
    }
    if let Some(grants) = facts.grants {
        push(match Grant::any_permits(grants, &method.name, &connection.name, facts.arguments) {
            Permits::Yes => State::Met(Need::Grant),
            Permits::Depends => State::Unknown(Need::Grant, Reason::GrantByArgument),
            Permits::No => State::Unmet(Lack::Grant),
        });
    }
    if let Some(why) = &method.unknown_because {
        push(State::Unknown(Need::Policy, Reason::Policy(why.clone())));
    }
    if let Some(missing) = reconcile_scopes_missing(method, connection) {
        push(State::Unmet(Lack::Reconcile { missing }));
    }
}

fn finding<'a>(call: &'a DeclaredCall, method: Option<&'a Method>, state: State) -> Finding<'a> {
    Finding { method, function: &call.function, always: call.when == Occurs::Always, state }
}

fn is_about(finding: &Finding<'_>, need: Need) -> bool {
    finding.always
        && match &finding.state {
            State::Met(n) | State::Unknown(n, _) => *n == need,
            State::Unmet(lack) => lack.need() == need,
        }
}

fn permission(connection: &Connection) -> State {
    match connection.permission {
        Permission::Act => State::Met(Need::Permission),
        Permission::Read => State::Unmet(Lack::Permission),
    }
}

/// The action does nothing on this kind: one finding for each method that is why, or one without a method.
fn not_offered<'a>(action: &'a Action, connection: &Connection, facts: Facts<'a>) -> Vec<Finding<'a>> {
    let mut findings: Vec<Finding<'a>> = Vec::new();
    for call in action.calls.iter().flat_map(|a| &a.methods).filter(|c| c.when == Occurs::Always) {
        let Some(method) = facts.rules.by_function(&call.function) else { continue };
        let Some(Availability::No(order)) = method.availability.get(&connection.kind) else { continue };
        if findings.iter().all(|f| f.function != call.function) {
            let needed = kinds_for(action, connection, facts, Some(order));
            findings.push(finding(call, Some(method), State::Unmet(Lack::Kind { needed })));
        }
    }
    if findings.is_empty() {
        let needed = kinds_for(action, connection, facts, None);
        findings.push(Finding { method: None, function: "", always: true, state: State::Unmet(Lack::Kind { needed }) });
    }
    findings
}

fn availability(action: &Action, method: &Method, connection: &Connection, facts: Facts<'_>) -> State {
    match method.availability.get(&connection.kind) {
        Some(Availability::Yes) => State::Met(Need::Kind),
        Some(Availability::No(_)) if connection.plan == Some(Plan::Compliance) => {
            let why = "the provider does not say what an Enterprise compliance workspace may call";
            State::Unknown(Need::Kind, Reason::Policy(why.to_owned()))
        }
        Some(Availability::No(order)) => {
            State::Unmet(Lack::Kind { needed: kinds_for(action, connection, facts, Some(order)) })
        }
        // A method without a row for this kind is refused: silence is no permission.
        None => State::Unmet(Lack::Kind { needed: kinds_for(action, connection, facts, None) }),
        Some(Availability::From(from)) => {
            let plan = connection.plan.or_else(|| (connection.kind != Kind::Workspace).then_some(Plan::Enterprise));
            match plan {
                None => State::Unknown(
                    Need::Plan,
                    Reason::PlanUnread(
                        connection.plan_unknown_because.clone().unwrap_or_else(|| "it could not be read".to_owned()),
                    ),
                ),
                Some(plan) if plan >= *from => stale(State::Met(Need::Plan), connection, facts.now),
                Some(_) => {
                    let kinds = possible_kinds(action, facts);
                    let lack = Lack::Plan { from: *from, needed: plans_from(*from, &kinds), kinds };
                    stale(State::Unmet(lack), connection, facts.now)
                }
            }
        }
    }
}

/// The plans that people can buy, from `from` on; Enterprise Grid only where the action works there.
fn plans_from(from: Plan, kinds: &[Kind]) -> Vec<Plan> {
    let on_grid = kinds.iter().any(|k| *k != Kind::Workspace);
    [Plan::Pro, Plan::BusinessPlus, Plan::Enterprise]
        .into_iter()
        .filter(|p| *p >= from && (*p != Plan::Enterprise || on_grid || from == Plan::Enterprise))
        .collect()
}

/// The kinds on which every method that the action always calls is available on some plan, in the order of the
/// manifest, and that the file accepts.
pub(super) fn possible_kinds(action: &Action, facts: Facts<'_>) -> Vec<Kind> {
    let available = |call: &DeclaredCall, kind: Kind| {
        call.when == Occurs::Maybe
            || facts
                .rules
                .by_function(&call.function)
                .is_some_and(|m| matches!(m.availability.get(&kind), Some(Availability::Yes | Availability::From(_))))
    };
    let mut kinds: Vec<Kind> = Vec::new();
    if action.calls.is_empty() {
        kinds.extend(Kind::ALL.iter().filter(|kind| facts.accepted.is_empty() || facts.accepted.contains(kind)));
    }
    for alternative in &action.calls {
        for kind in &alternative.on {
            let accepted = facts.accepted.is_empty() || facts.accepted.contains(kind);
            if accepted && !kinds.contains(kind) && alternative.methods.iter().all(|c| available(c, *kind)) {
                kinds.push(*kind);
            }
        }
    }
    kinds
}

/// The kinds that would do in place of the connection's, best first: those that the file accepts, and where it accepts none
/// of them all the same, because then it is the file that has to change.
fn kinds_for(action: &Action, connection: &Connection, facts: Facts<'_>, order: Option<&[Kind]>) -> Vec<Kind> {
    let mut offered = possible_kinds(action, facts);
    if offered.is_empty() {
        offered = possible_kinds(action, Facts { accepted: &[], ..facts });
    }
    order.map_or_else(|| near_first(connection.kind, offered.clone()), |order| preferred(order, &offered))
}

/// `order` as far as the action offers it; all of `order` where it offers none of it.
fn preferred(order: &[Kind], offered: &[Kind]) -> Vec<Kind> {
    let both: Vec<Kind> = order.iter().copied().filter(|k| offered.contains(k)).collect();
    if both.is_empty() { order.to_vec() } else { both }
}

/// Whoever has a Grid is helped by a Grid's other kind before a plan outside it.
fn near_first(kind: Kind, mut kinds: Vec<Kind>) -> Vec<Kind> {
    if kind != Kind::Workspace {
        kinds.sort_by_key(|k| *k == Kind::Workspace);
    }
    kinds
}

/// The accesses by which the host would call it, see [`open_to`].
fn accesses<'m>(method: &'m Method, connection: &Connection, said: Option<TokenKind>) -> Vec<&'m Access> {
    open_to(&method.access, method.speaks, said, |kind| connection.assumed || connection.tokens.contains_key(&kind))
}

/// The access that the host would use: of the tokens held the first whose scopes suffice, else the first held. `said` is as
/// whom the file wants it called.
pub(super) fn chosen_access<'m>(
    method: &'m Method,
    connection: &Connection,
    said: Option<TokenKind>,
) -> Option<&'m Access> {
    let held = |a: &&Access| connection.assumed || connection.tokens.contains_key(&a.token);
    let mut best: Option<(u8, &Access)> = None;
    for access in accesses(method, connection, said).into_iter().filter(held) {
        let rank = match scope_state(access, connection) {
            State::Met(_) => 2,
            State::Unknown(..) => 1,
            State::Unmet(_) => 0,
        };
        if best.is_none_or(|(b, _)| rank > b) {
            best = Some((rank, access));
        }
    }
    best.map(|(_, a)| a)
}

fn access(method: &Method, connection: &Connection, said: Option<TokenKind>) -> (State, Option<State>) {
    if method.access.is_empty() {
        return (State::Met(Need::Token), None);
    }
    match chosen_access(method, connection, said) {
        Some(access) => (State::Met(Need::Token), Some(scope_state(access, connection))),
        None => {
            let open = accesses(method, connection, said);
            let lack = Lack::Token {
                accepted: open.iter().map(|a| a.token).collect(),
                scopes: open.first().map(|a| a.scopes.clone()).unwrap_or_default(),
            };
            (State::Unmet(lack), None)
        }
    }
}

fn scope_state(access: &Access, connection: &Connection) -> State {
    if connection.assumed || access.scopes.is_empty() {
        return State::Met(Need::Scope);
    }
    let Some(Some(held)) = connection.tokens.get(&access.token) else {
        return State::Unknown(Need::Scope, Reason::ScopesUnread(access.token));
    };
    let missing: Vec<String> = access.scopes.iter().filter(|s| !held.contains(*s)).cloned().collect();
    if missing.len() == access.scopes.len() {
        let held = held.iter().cloned().collect();
        State::Unmet(Lack::Scope { token: access.token, any_of: missing, held })
    } else if access.depends_on_arguments && !missing.is_empty() {
        State::Unknown(Need::Scope, Reason::ScopeByArgument(access.token, missing))
    } else {
        State::Met(Need::Scope)
    }
}

fn reconcile_scopes_missing(method: &Method, connection: &Connection) -> Option<Vec<String>> {
    if connection.assumed || !method.writes || connection.tokens.values().any(Option::is_none) {
        return None;
    }
    let held: BTreeSet<&String> = connection.tokens.values().flatten().flatten().collect();
    let missing: Vec<String> = method.reconcile_scopes.iter().filter(|s| !held.contains(s)).cloned().collect();
    (!missing.is_empty()).then_some(missing)
}

/// What was read long ago may have changed either way.
fn stale(state: State, connection: &Connection, now: Timestamp) -> State {
    let Some(age) = connection.checked_at.map(|at| now.millis_since(at)).filter(|age| *age > FACTS_MAX_AGE_MS) else {
        return state;
    };
    let hours = age / (60 * 60 * 1000);
    match state {
        State::Met(need) => State::Unknown(need, Reason::Stale { hours, seen: None }),
        State::Unmet(lack) => {
            let seen = match &lack {
                Lack::Plan { .. } => connection.plan.map(|p| format!("the plan was {}", p.title())),
                Lack::Scope { any_of, .. } => Some(format!("the scope {} was missing", any_of.join(" or "))),
                Lack::Kind { .. } | Lack::Permission | Lack::Token { .. } | Lack::Reconcile { .. } => None,
                Lack::Grant | Lack::Method => None,
            };
            State::Unknown(lack.need(), Reason::Stale { hours, seen })
        }
        unknown @ State::Unknown(..) => unknown,
    }
}
