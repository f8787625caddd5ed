//! Puts findings into words: one diagnostic for everything that one remedy mends.

use serde_json::{Map, Value, json};

use super::flow::Reach;
use super::judgement::{Finding, Judgement, Lack, Reason, State};
use crate::diagnostic::{Code, Diagnostic, Has, HttpRemedy, Needs, Place, Remedy, Retryable, Severity, code};
use crate::requirement::{Connection, Kind, Permission, Plan, TokenKind};
use crate::text::{few, shell_word};

/// More methods than these are only counted.
const METHODS_NAMED_MAX: usize = 4;

pub(super) const OPERATOR: &str = "the operator of this host";
pub(super) const AUTHOR: &str = "whoever writes the workflow";

/// What a diagnostic is about.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    /// What cannot run, in words: `` `message.send` ``.
    pub what: String,
    /// What stands before "calls …" under the mark.
    pub prefix: &'static str,
    /// The plugin; none where the host itself calls.
    pub plugin: Option<String>,
    /// As called.
    pub action: Option<String>,
    pub task: Option<String>,
    pub place: Option<Place>,
    pub pointer: Option<String>,
    pub reach: Reach,
}

/// One group of findings: the same lack, possibly of several methods.
struct Group<'g> {
    lack: Lack,
    always: bool,
    findings: Vec<&'g Finding<'g>>,
}

impl Group<'_> {
    fn methods(&self) -> Vec<String> {
        let mut methods: Vec<String> = Vec::new();
        for finding in &self.findings {
            let name = finding.method.map_or(finding.function, |m| m.name.as_str());
            if !name.is_empty() && methods.iter().all(|m| m != name) {
                methods.push(name.to_owned());
            }
        }
        methods
    }

    fn who(&self) -> Option<String> {
        self.findings.iter().find_map(|f| f.method).map(|m| m.who.clone())
    }
}

impl Subject {
    /// A diagnostic about this, at its place.
    pub(super) fn error(&self, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            place: self.place.clone(),
            task: self.task.clone(),
            pointer: self.pointer.clone(),
            action: self.action.clone(),
            severity: if self.reach == Reach::All { Severity::Error } else { Severity::Warning },
            ..Diagnostic::error(code, message)
        }
    }

    fn condition(&self) -> &'static str {
        match self.reach {
            Reach::All => "",
            Reach::Some => " when the input leads there",
        }
    }
}

/// What a remedy has to go by besides the connection that was judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct There<'a> {
    /// The connections that are there.
    pub present: &'a [Connection],
    /// The kinds that the file accepts; empty: any.
    pub accepted: &'a [Kind],
}

/// The diagnostics of a judgement, errors first.
pub(super) fn diagnostics(
    subject: &Subject,
    judgement: &Judgement<'_>,
    connection: &Connection,
    there: There<'_>,
) -> Vec<Diagnostic> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    let kind_blocks = judgement.findings.iter().any(|f| f.always && matches!(f.state, State::Unmet(Lack::Kind { .. })));
    for finding in &judgement.findings {
        let State::Unmet(lack) = &finding.state else { continue };
        // Where another kind of connection is needed, what this one lacks besides is nobody's business.
        if kind_blocks && !(finding.always && matches!(lack, Lack::Kind { .. })) {
            continue;
        }
        match groups.iter_mut().find(|g| g.takes(lack)) {
            Some(group) => {
                group.always |= finding.always;
                group.findings.push(finding);
                group.narrow(lack);
            }
            None => groups.push(Group { lack: lack.clone(), always: finding.always, findings: vec![finding] }),
        }
    }
    let mut said: Vec<Diagnostic> = groups.iter().map(|g| g.say(subject, connection, there)).collect();
    said.extend(unknowns(subject, judgement, connection));
    said.sort_by_key(|d| d.severity);
    said
}

impl There<'_> {
    /// The best of these kinds that the file accepts.
    fn accepts(&self, needed: &[Kind]) -> Option<Kind> {
        needed.iter().copied().find(|kind| self.accepted.is_empty() || self.accepted.contains(kind))
    }

    pub(super) fn who(&self, best: Kind, needed: &[Kind]) -> String {
        if self.accepts(needed).is_some() { owner_of(best).to_owned() } else { AUTHOR.to_owned() }
    }

    /// Connecting a kind ends the trouble only where the file lets it stand for the alias.
    pub(super) fn connecting(&self, connection: &Connection, needed: &[Kind]) -> Vec<Remedy> {
        let beside = |kind: Kind| connect(kind, &connection.name, Some(connection.kind), self.present);
        let Some(best) = needed.first() else { return Vec::new() };
        if let Some(kind) = self.accepts(needed) {
            return vec![beside(kind)];
        }
        let title = if *best == connection.kind {
            format!("add `{best}` to the `kinds` that the file accepts here")
        } else {
            format!("have the file call on an alias whose `kinds` have `{best}`: those of this one exclude it")
        };
        let change = Remedy { title, command: None, http: None };
        let then = beside(*best);
        let is_there = self.present.iter().any(|c| c.kind == *best);
        let then = (!is_there).then(|| Remedy { title: format!("then {}", then.title), ..then });
        [change].into_iter().chain(then).collect()
    }
}

impl Group<'_> {
    fn takes(&self, lack: &Lack) -> bool {
        match (&self.lack, lack) {
            (Lack::Kind { .. }, Lack::Kind { .. }) | (Lack::Plan { .. }, Lack::Plan { .. }) => true,
            (a, b) => a == b,
        }
    }

    /// Keeps what mends both.
    fn narrow(&mut self, lack: &Lack) {
        match (&mut self.lack, lack) {
            (Lack::Kind { needed }, Lack::Kind { needed: other }) => {
                let both: Vec<Kind> = needed.iter().copied().filter(|k| other.contains(k)).collect();
                if !both.is_empty() {
                    *needed = both;
                }
            }
            (Lack::Plan { from, needed, .. }, Lack::Plan { from: other_from, needed: other, .. })
                if other_from > from =>
            {
                *from = *other_from;
                needed.clone_from(other);
            }
            _ => {}
        }
    }

    fn say(&self, subject: &Subject, connection: &Connection, there: There<'_>) -> Diagnostic {
        let methods = self.methods();
        let Words { code, label, needs, has, who, remedies } = self.words(subject, connection, there, &methods);
        let may = if self.always { "cannot run" } else { "may fail" };
        let recommended = matches!(self.lack, Lack::Reconcile { .. });
        let message = if recommended {
            format!(
                "an unknown outcome of {} on connection `{}` would wait for a person",
                subject.what, connection.name
            )
        } else {
            format!("{} {may} on connection `{}`{}", subject.what, connection.name, subject.condition())
        };
        let mut diagnostic = subject.error(code, message);
        if !self.always || recommended {
            diagnostic.severity = Severity::Warning;
        }
        Diagnostic {
            label: Some(label),
            methods,
            connection: Some(connection.name.clone()),
            needs: Some(needs),
            has,
            retryable: Retryable::AfterRemedy,
            who,
            remedies,
            ..diagnostic
        }
    }

    fn calls(&self, subject: &Subject, methods: &[String]) -> String {
        let may = if self.always { "calls" } else { "may call" };
        format!("{}{may} {}", subject.prefix, list(methods))
    }

    fn words(&self, subject: &Subject, connection: &Connection, there: There<'_>, methods: &[String]) -> Words {
        let calls = self.calls(subject, methods);
        match &self.lack {
            Lack::Kind { needed } => {
                let acts = self.findings.iter().find_map(|f| f.method).map(|m| m.acts.as_str());
                let titles: Vec<_> = needed.iter().map(|k| format!("\"{}\"", k.title())).collect();
                Words {
                    code: code::PLAN_REQUIRED,
                    label: acts.map_or_else(
                        || format!("{}is offered on {} only", subject.prefix, titles.join(" and ")),
                        |acts| format!("{calls}, {} {acts}", which(methods)),
                    ),
                    needs: kinds(needed),
                    has: Some(Has {
                        kind: Some(connection.kind),
                        title: Some(connection.kind.title().to_owned()),
                        ..Has::default()
                    }),
                    who: needed.first().map(|k| there.who(*k, needed)),
                    remedies: there.connecting(connection, needed),
                }
            }
            Lack::Plan { needed, .. } => Words {
                code: code::PLAN_REQUIRED,
                label: self
                    .findings
                    .iter()
                    .find_map(|f| f.method)
                    .map_or_else(|| calls.clone(), |m| format!("{calls}, {} {}", which(methods), m.acts)),
                needs: Needs { plans: needed.clone(), title: Some(plans(needed)), ..Needs::default() },
                has: connection.plan.map(|plan| Has { plan: Some(plan), ..Has::default() }),
                who: Some(owner_of(connection.kind).to_owned()),
                remedies: vec![read_again(connection, "upgrade the plan, then have it read again")],
            },
            Lack::Permission => Words {
                code: code::PERMISSION_READ_ONLY,
                label: if methods.is_empty() {
                    format!("{}changes something", subject.prefix)
                } else {
                    format!("{calls}, {} changes something", which(methods))
                },
                needs: Needs { permission: Some(Permission::Act), ..Needs::default() },
                has: Some(Has { permission: Some(connection.permission), ..Has::default() }),
                who: Some(OPERATOR.to_owned()),
                remedies: vec![reconnect(connection, "connect it again with that permission", &["--permission act"])],
            },
            Lack::Token { accepted, scopes } => self.token(connection, accepted, scopes, methods, &calls),
            Lack::Scope { token, any_of, held } => {
                let who = self.who();
                let title = match &who {
                    Some(who) => format!("have {who} approve the app again, with that scope"),
                    None => "approve the app again, with that scope".to_owned(),
                };
                Words {
                    code: code::SCOPE_MISSING,
                    label: format!("{calls}, {} asks for {}", which(methods), any_of.join(" or ")),
                    needs: Needs { scopes: any_of.clone(), token: Some(token.to_string()), ..Needs::default() },
                    has: Some(Has {
                        scopes: held.clone(),
                        text: held.is_empty().then(|| "no scope".to_owned()),
                        ..Has::default()
                    }),
                    who,
                    remedies: vec![reconnect(connection, &title, &[token_flag(*token)])],
                }
            }
            Lack::Reconcile { missing } => Words {
                code: code::SCOPE_RECOMMENDED,
                label: format!("{calls}; reading back whether that was done takes {}", missing.join(", ")),
                needs: Needs { text: Some(format!("recommended: {}", scopes(missing))), ..Needs::default() },
                has: None,
                who: self.who(),
                remedies: vec![reconnect(connection, "approve the app again, with those scopes", &[])],
            },
            Lack::Grant => {
                let plugin = subject.plugin.as_deref().unwrap_or_default();
                let grants: Vec<String> = methods.iter().map(|m| format!("--add {}", shell_word(m))).collect();
                Words {
                    code: code::CAPABILITY_NOT_GRANTED,
                    label: format!("{calls}, which plugin `{plugin}` was not granted here"),
                    needs: Needs {
                        text: Some(format!(
                            "a grant of {} to plugin `{plugin}` on connection `{}`",
                            list(methods),
                            connection.name
                        )),
                        ..Needs::default()
                    },
                    has: None,
                    who: Some(OPERATOR.to_owned()),
                    remedies: vec![Remedy {
                        title: "grant it, if the plugin is to have it".to_owned(),
                        command: Some(format!("bellhop plugin grant {} {}", shell_word(plugin), grants.join(" "))),
                        http: Some(HttpRemedy {
                            method: "POST".to_owned(),
                            path: format!("/v1/plugins/{plugin}/grant"),
                            body: json!({ "add": methods }),
                        }),
                    }],
                }
            }
            Lack::Method => Words {
                code: code::METHOD_UNKNOWN,
                label: format!("{calls}, which this host does not know"),
                needs: Needs { text: Some("a host whose catalog has it".to_owned()), ..Needs::default() },
                has: None,
                who: Some(OPERATOR.to_owned()),
                remedies: Vec::new(),
            },
        }
    }

    fn token(
        &self,
        connection: &Connection,
        accepted: &[TokenKind],
        wanted: &[String],
        methods: &[String],
        calls: &str,
    ) -> Words {
        let names: Vec<&str> = accepted.iter().map(|t| t.as_str()).collect();
        let held: Vec<&str> = connection.tokens.keys().map(|t| t.as_str()).collect();
        let who = self.who();
        let scope = wanted.first().map(|s| format!(" with the scope {s}")).unwrap_or_default();
        let asked = with_article(names.first().copied().unwrap_or("bot"));
        let title = match &who {
            Some(who) => format!("have {who} approve the app for {asked} token{scope}"),
            None => format!("approve the app for {asked} token{scope}"),
        };
        Words {
            code: code::TOKEN_KIND_MISSING,
            label: format!("{calls}, {} takes {} token", which(methods), with_article(&names.join(" or "))),
            needs: Needs { token: Some(names.join(" or ")), scopes: wanted.to_vec(), ..Needs::default() },
            has: Some(Has {
                text: Some(if held.is_empty() {
                    "no token".to_owned()
                } else {
                    format!("tokens of kind {}", held.join(" and "))
                }),
                ..Has::default()
            }),
            who,
            remedies: accepted
                .first()
                .map(|token| reconnect(connection, &title, &[token_flag(*token)]))
                .into_iter()
                .collect(),
        }
    }
}

struct Words {
    code: Code,
    label: String,
    needs: Needs,
    has: Option<Has>,
    who: Option<String>,
    remedies: Vec<Remedy>,
}

/// What must wait for the run, one warning for each reason.
fn unknowns(subject: &Subject, judgement: &Judgement<'_>, connection: &Connection) -> Vec<Diagnostic> {
    let mut reasons: Vec<(&Reason, Vec<String>)> = Vec::new();
    for finding in &judgement.findings {
        let State::Unknown(_, reason) = &finding.state else { continue };
        let name = finding.method.map_or_else(|| finding.function.to_owned(), |m| m.name.clone());
        match reasons.iter_mut().find(|(r, _)| *r == reason) {
            Some((_, methods)) if methods.contains(&name) => {}
            Some((_, methods)) => methods.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    // That facts are old is said by what they were.
    let seen = reasons.iter().any(|(r, _)| matches!(r, Reason::Stale { seen: Some(_), .. }));
    reasons.retain(|(r, _)| !(seen && matches!(r, Reason::Stale { seen: None, .. })));
    reasons.into_iter().map(|(reason, methods)| unknown(subject, reason, methods, connection)).collect()
}

fn unknown(subject: &Subject, reason: &Reason, methods: Vec<String>, connection: &Connection) -> Diagnostic {
    let name = &connection.name;
    let again = |title: &str| vec![read_again(connection, title)];
    let (message, who, remedies) = match reason {
        Reason::PlanUnread(_) if connection.assumed => (
            format!("no plan was assumed for connection `{name}`"),
            None,
            vec![Remedy {
                title: "assume one".to_owned(),
                command: Some(format!(
                    "bellhop check FILE --assume {}",
                    shell_word(&format!("{name}={}:{}", connection.kind, Plan::BusinessPlus))
                )),
                http: None,
            }],
        ),
        Reason::PlanUnread(why) => (
            format!("the plan of connection `{name}` is not known: {why}"),
            Some(OPERATOR.to_owned()),
            again("read it"),
        ),
        Reason::ScopesUnread(token) => (
            format!("the scopes of the {token} token of connection `{name}` are not known"),
            Some(OPERATOR.to_owned()),
            again("read them"),
        ),
        Reason::Stale { hours, seen } => (
            match seen {
                None => format!("what is known of connection `{name}` is {hours} hours old"),
                Some(seen) => format!("{hours} hours ago {seen} on connection `{name}`; that may have changed"),
            },
            Some(OPERATOR.to_owned()),
            again("read it again"),
        ),
        Reason::ScopeByArgument(..) | Reason::GrantByArgument | Reason::Policy(_) => {
            (format!("whether {} may run on connection `{name}` shows at the call", subject.what), None, Vec::new())
        }
    };
    Diagnostic {
        severity: Severity::Warning,
        label: Some(format!("{}calls {}: {}", subject.prefix, list(&methods), reason.in_words())),
        methods,
        connection: Some(name.clone()),
        has: Some(Has { text: Some(reason.in_words()), ..Has::default() }),
        retryable: if remedies.is_empty() { Retryable::Later } else { Retryable::AfterRemedy },
        who,
        remedies,
        ..subject.error(code::UNKNOWN_UNTIL_RUN, message)
    }
}

fn which(methods: &[String]) -> &'static str {
    if methods.len() > 1 { "each of which" } else { "which" }
}

fn with_article(noun: &str) -> String {
    format!("{} {noun}", if noun.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" })
}

/// `a, b and c`.
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        many if many.len() > METHODS_NAMED_MAX => few(many, METHODS_NAMED_MAX),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// `Pro, Business+ or Enterprise Grid`.
pub(super) fn plans(plans: &[Plan]) -> String {
    let titles: Vec<&str> = plans.iter().map(|p| p.title()).collect();
    match titles[..] {
        [ref first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => titles.concat(),
    }
}

fn scopes(scopes: &[String]) -> String {
    format!("{} {}", if scopes.len() == 1 { "the scope" } else { "the scopes" }, list(scopes))
}

pub(super) fn kinds(needed: &[Kind]) -> Needs {
    let title = needed.first().map(|k| k.title().to_owned());
    Needs { kinds: needed.to_vec(), title, ..Needs::default() }
}

/// Who can connect such an account.
pub(super) fn owner_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Workspace | Kind::GridWorkspace => "a Workspace Owner of that workspace",
        Kind::GridOrg => "an Org Owner of that Grid",
    }
}

/// Connects an account of `kind` beside the connection `name` of kind `has`, or, without `has`, as `name`.
pub(super) fn connect(kind: Kind, name: &str, has: Option<Kind>, present: &[Connection]) -> Remedy {
    let base = match (has, kind) {
        (None, _) => name.to_owned(),
        (Some(_), Kind::Workspace | Kind::GridWorkspace) => format!("{name}-hq"),
        (Some(_), Kind::GridOrg) => format!("{name}-org"),
    };
    let mut free = base.clone();
    let mut number = 2;
    while present.iter().any(|c| c.name == free) {
        free = format!("{base}-{number}");
        number += 1;
    }
    let title = match (kind, has) {
        (Kind::GridWorkspace, Some(_)) => "connect the workspace too",
        (Kind::GridOrg, Some(Kind::GridWorkspace)) => "connect the Grid account too",
        (Kind::GridOrg, _) => "connect the Grid account",
        (Kind::Workspace, Some(_)) => "connect such a workspace",
        (Kind::Workspace | Kind::GridWorkspace, None) => "connect a workspace",
    };
    Remedy {
        title: title.to_owned(),
        command: Some(format!("bellhop connect slack --kind {kind} --name {}", shell_word(&free))),
        http: Some(HttpRemedy {
            method: "POST".to_owned(),
            path: "/v1/connections".to_owned(),
            body: json!({"kind": kind, "name": free}),
        }),
    }
}

/// Connects the same account again. The flags are those of the command; the link's body follows from them.
fn reconnect(connection: &Connection, title: &str, flags: &[&str]) -> Remedy {
    let (kind, name) = (connection.kind, &connection.name);
    let mut body = Map::from_iter([("kind".to_owned(), json!(kind)), ("name".to_owned(), json!(name))]);
    if flags.contains(&"--permission act") {
        body.insert("permission".to_owned(), json!(Permission::Act));
    }
    let flags: String = flags.iter().map(|f| format!(" {f}")).collect();
    Remedy {
        title: title.to_owned(),
        command: Some(format!("bellhop connect slack --kind {kind} --name {} --replace{flags}", shell_word(name))),
        http: Some(HttpRemedy {
            method: "POST".to_owned(),
            path: "/v1/connections?replace=true".to_owned(),
            body: Value::Object(body),
        }),
    }
}

fn token_flag(token: TokenKind) -> &'static str {
    match token {
        TokenKind::Bot => "--bot-token-file FILE",
        TokenKind::User => "--user-token-file FILE",
        TokenKind::Audit => "--audit-token-file FILE",
    }
}

fn read_again(connection: &Connection, title: &str) -> Remedy {
    Remedy {
        title: title.to_owned(),
        command: Some(format!("bellhop connections test {}", shell_word(&connection.name))),
        http: Some(HttpRemedy {
            method: "POST".to_owned(),
            path: format!("/v1/connections/{}/test", connection.name),
            body: json!({}),
        }),
    }
}
