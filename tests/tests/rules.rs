//! The simulator's rules and the host's catalog were written apart, so that a mistake on either side shows. This
//! prints where they differ; each difference is explained in `facts/rules-differences.toml`, or is a mistake.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::requirement::{Access, Availability, Kind, Method, Plan, TokenKind};
use bellhop_simulator::rules::{self, Actor, Installation, Rule};
use bellhop_slack::catalog::Catalog;
use serde::Deserialize;

/// Where the two say different things of a method.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Difference {
    method: String,
    field: &'static str,
    simulator: String,
    host: String,
}

/// `field` of these methods is known to differ, in just this way, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Explanation {
    field: String,
    simulator: String,
    host: String,
    why: String,
    methods: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Explanations {
    difference: Vec<Explanation>,
}

impl Explanation {
    fn explains(&self, difference: &Difference) -> bool {
        self.field == difference.field
            && self.simulator == difference.simulator
            && self.host == difference.host
            && self.methods.contains(&difference.method)
    }
}

/// What the host knows: preflight's rule, and the least plan on which Slack documents the method.
type Host = BTreeMap<String, (Method, Plan)>;

fn host() -> Host {
    let catalog = Catalog::built_in();
    let documented = |name: &str| catalog.by_name(name).unwrap().plan;
    let methods = bellhop_slack::rules::rules(catalog).methods;
    methods.into_iter().map(|(name, method)| (name.clone(), (method, documented(&name)))).collect()
}

fn simulator() -> Vec<Rule> {
    rules::WEB.iter().chain(rules::SCIM).chain(rules::AUDIT).copied().collect()
}

/// Everything that the simulator can be asked for, held against what the host knows of it.
fn differences(simulator: &[Rule], host: &Host) -> BTreeSet<Difference> {
    let mut found = BTreeSet::new();
    for rule in simulator {
        let mut note = |field, simulator: String, host: String| {
            if simulator != host {
                found.insert(Difference { method: rule.method.to_owned(), field, simulator, host });
            }
        };
        let Some((method, plan)) = host.get(rule.method) else {
            note("there", "yes".to_owned(), "no".to_owned());
            continue;
        };
        note("writes", rule.write.to_string(), method.writes.to_string());
        note("plan", plan_of_simulator(rule).to_owned(), plan.to_string());
        note("team_id", rule.needs_team_id.to_string(), method.needs_workspace_on_org.to_string());
        note("rate", rule.budget.per_minute.to_string(), method.rate_per_minute.to_string());
        note("tokens", tokens_of_simulator(rule), tokens_of_host(method));
        for (kind, field) in [(rules::TokenKind::Bot, "bot-scopes"), (rules::TokenKind::User, "user-scopes")] {
            if rule.tokens.contains(&kind) {
                note(field, list(rule.scopes(kind).iter().copied()), scopes_of_host(rule, method, kind));
            }
        }
        for (kind, field) in [
            (Kind::Workspace, "on-workspace"),
            (Kind::GridWorkspace, "on-grid-workspace"),
            (Kind::GridOrg, "on-grid-org"),
        ] {
            note(field, availability_of_simulator(rule, kind), availability_of_host(method, kind));
        }
    }
    found
}

fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" ")
}

/// The simulator knows whom a token belongs to; the host calls an Org Owner's user token `audit`.
fn tokens_of_simulator(rule: &Rule) -> String {
    list(rule.tokens.iter().map(|kind| match kind {
        rules::TokenKind::Bot => "bot",
        rules::TokenKind::User if rule.actor == Actor::OrganisationOwner => "audit",
        rules::TokenKind::User => "user",
    }))
}

fn tokens_of_host(method: &Method) -> String {
    list(method.access.iter().map(|access| access.token.as_str()))
}

fn scopes_of_host(rule: &Rule, method: &Method, kind: rules::TokenKind) -> String {
    let token = match kind {
        rules::TokenKind::Bot => TokenKind::Bot,
        rules::TokenKind::User if rule.actor == Actor::OrganisationOwner => TokenKind::Audit,
        rules::TokenKind::User => TokenKind::User,
    };
    let access: Option<&Access> = method.access.iter().find(|access| access.token == token);
    access.map_or_else(|| "not taken".to_owned(), |access| list(access.scopes.iter().map(String::as_str)))
}

fn plan_of_simulator(rule: &Rule) -> &'static str {
    match rule.plan {
        rules::Plan::Free => "free",
        rules::Plan::Pro => "pro",
        rules::Plan::BusinessPlus => "business-plus",
        rules::Plan::Enterprise => "enterprise",
    }
}

/// The least plan on which a connection of a kind gets through, as the simulator judges it. A workspace outside of any
/// Grid has no more than Business+; a Free one cannot be connected.
fn availability_of_simulator(rule: &Rule, kind: Kind) -> String {
    let installed = match (rule.installation, kind) {
        (Installation::Either, _) | (Installation::Organisation, Kind::GridOrg) => true,
        (Installation::Organisation, _) => false,
        (Installation::Top, kind) => kind != Kind::GridWorkspace,
    };
    let best = match kind {
        Kind::Workspace => rules::Plan::BusinessPlus,
        Kind::GridWorkspace | Kind::GridOrg => rules::Plan::Enterprise,
    };
    if !installed || rule.plan > best {
        return "never".to_owned();
    }
    match (kind, rule.plan) {
        (Kind::Workspace, rules::Plan::BusinessPlus) => "from business-plus",
        _ => "always",
    }
    .to_owned()
}

fn availability_of_host(method: &Method, kind: Kind) -> String {
    match method.availability.get(&kind) {
        None | Some(Availability::No(_)) => "never".to_owned(),
        // Nothing less can be connected.
        Some(Availability::Yes | Availability::From(Plan::Free | Plan::Pro)) => "always".to_owned(),
        Some(Availability::From(plan)) => format!("from {plan}"),
    }
}

fn explanations() -> Vec<Explanation> {
    let text = include_str!("../facts/rules-differences.toml");
    toml::from_str::<Explanations>(text).unwrap().difference
}

/// What nobody explains, and the explanations of nothing.
fn judge(found: &BTreeSet<Difference>, explanations: &[Explanation]) -> (Vec<Difference>, Vec<String>) {
    let unexplained =
        found.iter().filter(|difference| !explanations.iter().any(|e| e.explains(difference))).cloned().collect();
    let mut idle = Vec::new();
    for explanation in explanations {
        for name in &explanation.methods {
            if !found.iter().any(|difference| difference.method == *name && explanation.explains(difference)) {
                idle.push(format!("{name}: {}", explanation.field));
            }
        }
    }
    (unexplained, idle)
}

#[test]
fn every_difference_is_explained() {
    let found = differences(&simulator(), &host());
    let explanations = explanations();
    for difference in &found {
        let why = explanations.iter().find(|e| e.explains(difference)).map_or("NOT EXPLAINED", |e| &e.why);
        let Difference { method, field, simulator, host } = difference;
        println!("{method}: {field}: the simulator `{simulator}`, the host `{host}`: {why}");
    }
    for explanation in &explanations {
        assert!(explanation.why.len() > 20, "an explanation says why: {explanation:?}");
    }
    let (unexplained, idle) = judge(&found, &explanations);
    assert_eq!(unexplained, [], "differences that facts/rules-differences.toml does not explain");
    assert_eq!(idle, Vec::<String>::new(), "explanations of what does not differ");
}

#[test]
fn the_simulator_has_what_our_own_plugin_calls() {
    let known: BTreeSet<&str> = simulator().iter().map(|rule| rule.method).collect();
    assert!(known.len() > 80, "{} methods", known.len());
    let host = host();
    let both = known.iter().filter(|name| host.contains_key(**name)).count();
    assert!(both > 60, "only {both} methods are on both sides");
}

/// A wrong rule, planted on one side, is a difference that nothing explains.
#[test]
fn a_wrong_rule_on_either_side_is_seen() {
    let sound = differences(&simulator(), &host());
    let explanations = explanations();
    let reported = |found: &BTreeSet<Difference>, method: &str, field: &str| {
        let (unexplained, idle) = judge(found, &explanations);
        let new = unexplained.iter().any(|d| d.method == method && d.field == field);
        let gone = idle.iter().any(|text| *text == format!("{method}: {field}"));
        assert!(new || gone, "a wrong {field} of {method} was not seen");
    };

    type OnRule = fn(&mut Rule);
    let planted: [(&str, &str, OnRule); 13] = [
        ("chat.postMessage", "plan", |rule| rule.plan = rules::Plan::Pro),
        ("usergroups.create", "plan", |rule| rule.plan = rules::Plan::Free),
        ("scim.v2.post.Users", "on-workspace", |rule| rule.plan = rules::Plan::Pro),
        ("admin.users.assign", "on-workspace", |rule| {
            rule.plan = rules::Plan::Pro;
            rule.installation = Installation::Either;
        }),
        ("admin.users.assign", "on-grid-workspace", |rule| rule.installation = Installation::Either),
        ("users.info", "on-workspace", |rule| rule.plan = rules::Plan::Enterprise),
        ("scim.v2.get.Users", "on-grid-workspace", |rule| rule.installation = Installation::Either),
        ("chat.postMessage", "bot-scopes", |rule| rule.bot_scopes = &["chat:write:bot"]),
        ("admin.users.session.reset", "user-scopes", |rule| rule.user_scopes = &["admin.users:read"]),
        ("users.profile.set", "tokens", |rule| rule.tokens = &[rules::TokenKind::Bot, rules::TokenKind::User]),
        ("usergroups.create", "team_id", |rule| rule.needs_team_id = false),
        ("users.info", "team_id", |rule| rule.needs_team_id = true),
        ("usergroups.users.update", "writes", |rule| rule.write = false),
    ];
    for (method, field, change) in planted {
        let mut rules = simulator();
        change(rules.iter_mut().find(|rule| rule.method == method).unwrap());
        let found = differences(&rules, &host());
        assert_ne!(found, sound, "{method}: {field}");
        reported(&found, method, field);
    }

    type OnMethod = fn(&mut Method);
    let planted: [(&str, &str, OnMethod); 11] = [
        ("chat.postMessage", "on-grid-org", |m| drop(m.availability.insert(Kind::GridOrg, Availability::Yes))),
        ("scim.v2.post.Users", "on-workspace", |m| drop(m.availability.insert(Kind::Workspace, Availability::Yes))),
        ("users.info", "on-grid-org", |m| drop(m.availability.insert(Kind::GridOrg, Availability::No(vec![])))),
        ("admin.users.assign", "on-workspace", |m| drop(m.availability.insert(Kind::Workspace, Availability::Yes))),
        ("admin.users.assign", "on-grid-org", |m| drop(m.availability.remove(&Kind::GridOrg))),
        ("chat.postMessage", "bot-scopes", |m| m.access[0].scopes.push("chat:write.public".to_owned())),
        ("users.lookupByEmail", "bot-scopes", |m| m.access[0].scopes = vec!["users:read".to_owned()]),
        ("audit.v1.logs", "tokens", |m| m.access[0].token = TokenKind::User),
        ("usergroups.create", "team_id", |m| m.needs_workspace_on_org = false),
        ("users.info", "team_id", |m| m.needs_workspace_on_org = true),
        ("admin.users.session.reset", "writes", |m| m.writes = false),
    ];
    for (method, field, change) in planted {
        let mut methods = host();
        change(&mut methods.get_mut(method).unwrap().0);
        let found = differences(&simulator(), &methods);
        assert_ne!(found, sound, "{method}: {field}");
        reported(&found, method, field);
    }
    let mut methods = host();
    methods.get_mut("chat.postMessage").unwrap().1 = Plan::Pro;
    reported(&differences(&simulator(), &methods), "chat.postMessage", "plan");
    let mut methods = host();
    methods.remove("chat.postMessage");
    reported(&differences(&simulator(), &methods), "chat.postMessage", "there");
}
