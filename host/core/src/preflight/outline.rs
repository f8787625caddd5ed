//! The plan of a run, for people and machines: what would be called, in which order, on which connection, how fast.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::judgement::{Finding, Judgement, Lack, Need, Reason, State, chosen_access};
use crate::manifest::{Effect, LicenceEffect, When as Occurs};
use crate::requirement::{Connection, Kind, Permission, Plan as SlackPlan, Rules, TokenKind};

/// The plan of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outline {
    /// The calls that a run may come to, in the order of the file.
    pub steps: Vec<Step>,
    /// The connections that they may use.
    pub connections: Vec<ConnectionUse>,
    /// Paid seats.
    pub licences: Licences,
    /// Calls per rate bucket, slowest first.
    pub budget: Vec<Bucket>,
    /// No run that does all of this ends sooner, in milliseconds: literal waits, and the slowest bucket.
    pub least_ms: u64,
}

/// One call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// From 1, in the order of the file.
    pub order: u32,
    /// JSON pointer of the task.
    pub task: String,
    /// Why it is called.
    pub role: Role,
    /// With the full version: `message.send:1.2.0@slack`.
    pub action: String,
    /// Whether, as far as can be told, no input leads past it.
    pub certain: bool,
    /// How often every run that ends well calls it at least: 0 behind an open guard, in a `catch` or in a loop over
    /// something that is not known yet.
    pub times: u32,
    /// Whether it may be called more often than that.
    pub repeats: bool,
    /// What it does, at most.
    pub effect: Effect,
    /// What it does to the number of paid seats.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<LicenceEffect>,
    /// What it would be on each connection that it may use.
    pub connections: Vec<OnConnection>,
}

/// Why an action is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A task calls it.
    Call,
    /// It undoes a call when the run is rolled back.
    Inverse,
    /// `onFault.notify`.
    Notify,
}

/// A call on one connection.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnConnection {
    /// The connection's name.
    pub connection: String,
    /// The kinds of the chosen alternative; empty where the action has none for this connection.
    pub alternative: Vec<Kind>,
    /// Its methods.
    pub methods: Vec<StepMethod>,
    /// What it needs there.
    pub requirements: Vec<Requirement>,
}

/// A method of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepMethod {
    /// As the provider writes it; as the guest imports it where the host does not know it.
    pub name: String,
    /// Whether every run of the action calls it.
    pub when: Occurs,
    /// Whether it changes something.
    pub writes: bool,
    /// As whom the file wants it called.
    #[serde(skip)]
    pub token: Option<TokenKind>,
}

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Requirement {
    /// What it is about.
    pub about: About,
    /// The method that has it; none: the action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Whether it is so.
    pub state: Answer,
    /// Why it is not, or cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a requirement is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum About {
    /// The kind of connection.
    Kind,
    /// The plan.
    Plan,
    /// What the operator allows the connection to be used for.
    Permission,
    /// The kind of token.
    Token,
    /// The token's scopes.
    Scope,
    /// What the operator granted to the plugin.
    Grant,
    /// What the provider's administrators allow.
    Policy,
}

/// See [`Requirement::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is so.
    Met,
    /// It is not so.
    Unmet,
    /// It shows only when the call is made.
    Unknown,
}

/// A connection that a run may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionUse {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: Kind,
    /// Its plan, where known.
    pub plan: Option<SlackPlan>,
    /// Its permission.
    pub permission: Permission,
    /// Scopes that the calls need and that are there, or not known to be missing.
    pub scopes_needed: BTreeSet<String>,
    /// Scopes that the calls need and that are not there.
    pub scopes_missing: BTreeSet<String>,
    /// Scopes that are there and that no call needs.
    pub scopes_unused: BTreeSet<String>,
}

/// Paid seats.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Licences {
    /// Steps that take one.
    pub adds: u32,
    /// Steps that give one back.
    pub reclaims: u32,
}

/// Calls of one method on one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bucket {
    /// The connection.
    pub connection: String,
    /// The method.
    pub method: String,
    /// What the provider allows.
    pub rate_per_minute: u32,
    /// Calls of every run that ends well, at least.
    pub calls: u32,
    /// Whether it may be more.
    pub repeats: bool,
    /// So long they take at that rate, in milliseconds.
    pub least_ms: u64,
}

pub(super) fn on_connection(
    judgement: &Judgement<'_>,
    connection: &Connection,
    rules: &Rules,
    token: Option<TokenKind>,
) -> OnConnection {
    // The host's own reads are of no task.
    let reads = judgement.reads.iter().map(|read| (read, None));
    let methods = judgement.alternative.map(|a| &a.methods[..]).unwrap_or_default();
    OnConnection {
        connection: connection.name.clone(),
        alternative: judgement.alternative.map(|a| a.on.clone()).unwrap_or_default(),
        methods: methods
            .iter()
            .map(|call| (call, token))
            .chain(reads)
            .map(|(call, token)| {
                let method = rules.by_function(&call.function);
                StepMethod {
                    name: method.map_or_else(|| call.function.clone(), |m| m.name.clone()),
                    when: call.when,
                    writes: method.is_some_and(|m| m.writes),
                    token,
                }
            })
            .collect(),
        requirements: judgement.findings.iter().map(requirement).collect(),
    }
}

fn requirement(finding: &Finding<'_>) -> Requirement {
    let (need, state, reason) = match &finding.state {
        State::Met(need) => (*need, Answer::Met, None),
        State::Unmet(lack) => (lack.need(), Answer::Unmet, Some(lack.in_words())),
        State::Unknown(need, reason) => (*need, Answer::Unknown, Some(reason.in_words())),
    };
    let about = match need {
        Need::Kind => About::Kind,
        Need::Plan => About::Plan,
        Need::Permission => About::Permission,
        Need::Token => About::Token,
        Need::Scope => About::Scope,
        Need::Grant => About::Grant,
        Need::Policy => About::Policy,
    };
    let method = finding.method.map(|m| m.name.clone()).or_else(|| {
        // A method that the host does not know has only the guest's name.
        (!finding.function.is_empty()).then(|| finding.function.to_owned())
    });
    Requirement { about, method, state, reason }
}

impl Lack {
    fn in_words(&self) -> String {
        let titles = |kinds: &[Kind]| kinds.iter().map(|k| k.title()).collect::<Vec<_>>().join(" or ");
        match self {
            Self::Kind { needed } => format!("needs {}", titles(needed)),
            Self::Plan { needed, .. } => format!("needs {}", super::say::plans(needed)),
            Self::Permission => "the connection is read only".to_owned(),
            Self::Token { accepted, .. } => {
                let kinds: Vec<_> = accepted.iter().map(|t| t.as_str()).collect();
                format!("no token of kind {}", kinds.join(" or "))
            }
            Self::Scope { any_of, .. } => format!("lacks the scope {}", any_of.join(" or ")),
            Self::Reconcile { missing } => format!("resolving an unknown outcome needs {}", missing.join(", ")),
            Self::Grant => "not granted to the plugin".to_owned(),
            Self::Method => "not in this host's catalog".to_owned(),
        }
    }
}

impl Reason {
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::PlanUnread(why) => format!("the plan is not known: {why}"),
            Self::ScopesUnread(token) => format!("the scopes of the {token} token are not known"),
            Self::ScopeByArgument(token, missing) => {
                format!("for some arguments the {token} token needs {} as well", missing.join(" or "))
            }
            Self::GrantByArgument => "the operator granted it for some arguments only".to_owned(),
            Self::Stale { hours, seen: None } => format!("what is known of it is {hours} hours old"),
            Self::Stale { hours, seen: Some(seen) } => format!("{hours} hours ago {seen}"),
            Self::Policy(why) => why.clone(),
        }
    }
}

/// A method, and as whom the file wants it called.
type Used<'s> = (&'s str, Option<TokenKind>);

/// Sums the steps up.
pub(super) fn complete(outline: &mut Outline, present: &[Connection], rules: &Rules, waits_ms: u64) {
    let mut buckets: BTreeMap<(&str, &str), (u32, bool)> = BTreeMap::new();
    let mut used: BTreeMap<&str, BTreeSet<Used<'_>>> = BTreeMap::new();
    for step in &outline.steps {
        if step.role == Role::Call {
            match step.licence {
                Some(LicenceEffect::Adds) => outline.licences.adds += 1,
                Some(LicenceEffect::Reclaims) => outline.licences.reclaims += 1,
                None => {}
            }
        }
        // Of several possible connections only one is used: none can be counted on.
        let sure = step.role == Role::Call && step.connections.len() == 1;
        for on in &step.connections {
            let methods = used.entry(&on.connection).or_default();
            for method in &on.methods {
                methods.insert((&method.name, method.token));
                if sure && method.when == Occurs::Always {
                    let (calls, repeats) = buckets.entry((&on.connection, &method.name)).or_default();
                    *calls = calls.saturating_add(step.times);
                    *repeats |= step.repeats;
                }
            }
        }
    }
    let mut budget: Vec<Bucket> = buckets
        .into_iter()
        .filter_map(|((connection, method), (calls, repeats))| {
            let rate = rules.methods.get(method)?.rate_per_minute.max(1);
            let least_ms = u64::from(calls.saturating_sub(1)) * 60_000 / u64::from(rate);
            let (connection, method) = (connection.to_owned(), method.to_owned());
            Some(Bucket { connection, method, rate_per_minute: rate, calls, repeats, least_ms })
        })
        .collect();
    budget.sort_by(|a, b| b.least_ms.cmp(&a.least_ms).then(a.rate_per_minute.cmp(&b.rate_per_minute)));
    let connections =
        present.iter().filter_map(|c| Some(connection_use(c, used.get(c.name.as_str())?, rules))).collect();
    outline.least_ms = waits_ms.saturating_add(budget.first().map_or(0, |b| b.least_ms));
    outline.budget = budget;
    outline.connections = connections;
}

fn connection_use(connection: &Connection, methods: &BTreeSet<Used<'_>>, rules: &Rules) -> ConnectionUse {
    let mut needed = BTreeSet::new();
    let mut missing = BTreeSet::new();
    for (method, said) in methods.iter().filter_map(|(name, said)| Some((rules.methods.get(*name)?, *said))) {
        let Some(access) = chosen_access(method, connection, said).or_else(|| method.access.first()) else { continue };
        let held = connection.tokens.get(&access.token).and_then(Option::as_ref);
        let has = |scope: &&String| connection.assumed || held.is_some_and(|h| h.contains(*scope));
        let unread = connection.tokens.get(&access.token).is_some_and(Option::is_none);
        let there: Vec<&String> = access.scopes.iter().filter(has).collect();
        if connection.assumed || unread {
            needed.extend(access.scopes.iter().take(if access.depends_on_arguments { usize::MAX } else { 1 }).cloned());
        } else if there.is_empty() {
            missing.extend(access.scopes.first().cloned());
        } else {
            needed.extend(there.into_iter().cloned());
        }
        for scope in method.reconcile_scopes.iter().filter(|_| method.writes) {
            if has(&scope) || connection.tokens.values().flatten().any(|h| h.contains(scope)) {
                needed.insert(scope.clone());
            }
        }
    }
    let held: BTreeSet<String> = connection.tokens.values().flatten().flatten().cloned().collect();
    ConnectionUse {
        name: connection.name.clone(),
        kind: connection.kind,
        plan: connection.plan,
        permission: connection.permission,
        scopes_unused: held.difference(&needed).cloned().collect(),
        scopes_needed: needed,
        scopes_missing: missing,
    }
}
