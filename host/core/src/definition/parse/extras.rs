//! `metadata.bellhop` of a document and of a task (semantics, section 4).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::name::is_plugin_name;
use super::{At, Reader};
use crate::definition::{
    Compensate, Concurrency, DeclaredConnection, Extras, GroupScope, NotifyTarget, TaskExtras, WhenFull, duration,
};
use crate::diagnostic::{Diagnostic, code};
use crate::expression::{Template, Text, program_of};
use crate::pointer;
use crate::requirement::{Kind, Permission, TokenKind};

/// What a workflow or an action can be for.
pub const PURPOSES: [&str; 6] = ["onboarding", "offboarding", "access-request", "access-review", "licence", "other"];
/// The most connections, tables and sensitive fields that a definition can declare.
const DECLARATIONS_MAX: usize = 100;
/// The most iterations of a `for` at one time.
const CONCURRENCY_MAX: u64 = 100;
/// The most runs of a group at one time.
const GROUP_MEMBERS_MAX: u64 = 10_000;

impl<'a> Reader<'a> {
    pub(super) fn extras(&mut self, at: &At<'a>) -> Extras {
        let mut extras = Extras::default();
        let Some(map) = self.mapping(at, "a mapping") else { return extras };
        self.known_keys(
            at,
            map,
            &[
                "connections",
                "purpose",
                "idempotencyKey",
                "concurrency",
                "onFault",
                "tables",
                "sensitive",
                "retention",
                "schedule",
                "organisations",
            ],
        );
        if let Some(at) = at.get("connections") {
            extras.connections = self.connections(&at);
        }
        if let Some(at) = at.get("purpose") {
            extras.purpose = self.word(&at, &PURPOSES).map(|i| PURPOSES[i].to_owned());
        }
        if let Some(at) = at.get("idempotencyKey") {
            extras.idempotency_key = self.idempotency_key(&at);
        }
        if let Some(at) = at.get("onFault") {
            self.on_fault(&at, &mut extras);
        }
        if extras.rollback_on_fault
            && !extras.rolls_back()
            && let Some(at) = at.get("onFault").and_then(|at| at.get("rollback"))
        {
            let help = Some("remove it, and let a person have a failed run tried again".to_owned());
            self.fault(code::INVALID_VALUE, &at, "offboarding goes forward only: nothing of it is taken back", help);
        }
        if let Some(at) = at.get("tables") {
            for item in self.names(&at) {
                if let Some(name) = self.alias(&item) {
                    extras.tables.push(name);
                }
            }
        }
        if let Some(at) = at.get("sensitive") {
            for item in self.names(&at) {
                let Some(pointer) = self.text(&item) else { continue };
                if is_pointer(pointer) {
                    extras.sensitive.push(pointer.to_owned());
                } else {
                    let path = pointer.trim_start_matches(['$', '.']).replace('.', "/");
                    let help = (!pointer.starts_with('/')).then(|| format!("write /{path}"));
                    self.fault(
                        code::INVALID_VALUE,
                        &item,
                        format!("`{pointer}` is not a JSON pointer into the input"),
                        help,
                    );
                }
            }
        }
        if let Some(at) = at.get("concurrency") {
            extras.concurrency = self.group(&at);
        }
        if let Some(at) = at.get("organisations") {
            extras.several_organisations = self.word(&at, &["one", "several"]) == Some(1);
        }
        if let Some(at) = at.get("retention") {
            extras.retention_ms = self.retention(&at);
        }
        self.reserved(at, &mut extras);
        extras
    }

    fn connections(&mut self, at: &At<'a>) -> BTreeMap<String, DeclaredConnection> {
        let mut declared = BTreeMap::new();
        let Some(map) = self.mapping(at, "a mapping of aliases") else { return declared };
        if map.len() > DECLARATIONS_MAX {
            self.fault(
                code::INVALID_VALUE,
                at,
                format!("at most {DECLARATIONS_MAX} connections can be declared"),
                None,
            );
            return declared;
        }
        for (alias, value) in map {
            let at = at.child(alias, value);
            if !is_plugin_name(alias) {
                let message = format!("`{alias}` is not a name of a connection: lower-case words with `-` between");
                self.fault_at_key(code::INVALID_NAME, &at, message, None);
            }
            let mut connection = DeclaredConnection { kinds: Vec::new(), permission: Permission::Act, optional: false };
            // `ALIAS:` with nothing after it is any connection.
            if !value.is_null() {
                let Some(map) = self.mapping(&at, "a mapping with `kinds`, `permission` or `optional`") else {
                    continue;
                };
                self.known_keys(&at, map, &["kinds", "permission", "optional"]);
                if let Some(at) = at.get("kinds") {
                    for item in self.names(&at) {
                        let word = self.word(&item, &Kind::ALL.map(Kind::as_str));
                        connection.kinds.extend(word.map(|i| Kind::ALL[i]).filter(|k| !connection.kinds.contains(k)));
                    }
                }
                if let Some(at) = at.get("permission") {
                    let permissions = [Permission::Read, Permission::Act];
                    if let Some(i) = self.word(&at, &permissions.map(Permission::as_str)) {
                        connection.permission = permissions[i];
                    }
                }
                connection.optional = self.boolean(at.get("optional"));
            }
            declared.insert(alias.clone(), connection);
        }
        declared
    }

    fn idempotency_key(&mut self, at: &At<'a>) -> Option<Template> {
        let Some(map) = at.value.as_object() else { return self.program(at).map(Template::Text) };
        self.known_keys(at, map, &["key", "revision"]);
        let field = |reader: &mut Self, key: &str| -> Option<Text> {
            let at = reader.required(at, key)?;
            reader.program(&at)
        };
        let (key, revision) = (field(self, "key"), field(self, "revision"));
        Some(Template::Object(vec![
            ("key".to_owned(), Template::Text(key?)),
            ("revision".to_owned(), Template::Text(revision?)),
        ]))
    }

    fn on_fault(&mut self, at: &At<'a>, extras: &mut Extras) {
        let Some(map) = self.mapping(at, "a mapping with `rollback` or `notify`") else { return };
        self.known_keys(at, map, &["rollback", "notify"]);
        if let Some(at) = at.get("rollback") {
            extras.rollback_on_fault = self.word(&at, &["completed", "none"]) == Some(0);
        }
        if let Some(at) = at.get("notify")
            && let Some(map) = self.mapping(&at, "a mapping with `connection` and `channel`")
        {
            self.known_keys(&at, map, &["connection", "channel"]);
            let connection = self.required(&at, "connection").and_then(|at| self.alias(&at));
            let channel = self.required(&at, "channel").and_then(|at| self.text(&at));
            if let (Some(connection), Some(channel)) = (connection, channel) {
                extras.notify = Some(NotifyTarget { connection, channel: channel.to_owned() });
            }
        }
    }

    fn group(&mut self, at: &At<'a>) -> Option<Concurrency> {
        let map = self.mapping(at, "a mapping with `group`")?;
        self.known_keys(at, map, &["group", "scope", "limit", "whenFull"]);
        let group = self.required(at, "group").and_then(|at| {
            let text = self.text(&at)?.trim();
            if text.is_empty() || text.starts_with(['.', '$']) && program_of(text).is_none() {
                let help = (!text.is_empty()).then(|| format!("if an expression is meant: ${{ {text} }}"));
                self.fault(code::INVALID_VALUE, &at, format!("`{text}` is not a name of a group"), help);
                return None;
            }
            Some(self.template(&at))
        });
        let scopes = [GroupScope::Workflow, GroupScope::Namespace];
        let scope = at.get("scope").and_then(|at| self.word(&at, &["workflow", "namespace"]));
        let limit = at.get("limit").and_then(|at| self.integer(&at, 1, GROUP_MEMBERS_MAX));
        let policies = [WhenFull::Queue, WhenFull::Reject, WhenFull::Supersede, WhenFull::Cancel];
        let when_full = at.get("whenFull").and_then(|at| self.word(&at, &["queue", "reject", "supersede", "cancel"]));
        Some(Concurrency {
            group: group?,
            scope: scope.map(|i| scopes[i]).unwrap_or_default(),
            limit: limit.and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            when_full: when_full.map(|i| policies[i]).unwrap_or_default(),
        })
    }

    /// What is checked in form and kept, and carried out by a later version.
    fn reserved(&mut self, at: &At<'a>, extras: &mut Extras) {
        if let Some(at) = at.get("schedule")
            && let Some(map) = self.mapping(&at, "a mapping")
        {
            self.known_keys(&at, map, &["timeZone", "overlap", "missed"]);
        }
        if let Some(at) = at.get("schedule") {
            extras.reserved.insert("schedule".to_owned(), at.value.clone());
            let mut diagnostic =
                Diagnostic::warning(code::NOT_SUPPORTED, "this version reads `schedule` and does not carry it out yet");
            diagnostic.place = self.source.key_place(&at.pointer);
            self.push(diagnostic, &at.pointer);
        }
    }

    fn retention(&mut self, at: &At<'a>) -> Option<u64> {
        match duration::millis_of(at.value) {
            Ok(0) => {
                let help = Some("leave it out for the host's own time".to_owned());
                self.fault(code::INVALID_VALUE, at, "a run is kept for some time after its end", help);
                None
            }
            Ok(kept_ms) => Some(kept_ms),
            Err(error) => {
                self.fault(code::INVALID_DURATION, at, error.to_string(), None);
                None
            }
        }
    }

    /// Whether each sensitive field is one that the input's schema has: one that is mistyped hides nothing.
    pub(super) fn sensitive_fields(&mut self, schema: Option<&Value>) {
        const LIST: &str = "/document/metadata/bellhop/sensitive";
        let Some(items) = self.source.value.pointer(LIST).and_then(Value::as_array) else { return };
        for (i, item) in items.iter().enumerate() {
            // The empty pointer is the whole input, whatever that has.
            let Some(pointer) = item.as_str().filter(|text| is_pointer(text) && !text.is_empty()) else { continue };
            let at = format!("{LIST}/{i}");
            let mut diagnostic = match schema.map_or(Named::Perhaps, |schema| named(schema, pointer)) {
                Named::Yes => continue,
                Named::Perhaps => Diagnostic::warning(
                    code::INVALID_VALUE,
                    format!("the schema of the input does not name `{pointer}`: if it is mistyped, nothing is hidden"),
                )
                .with_help("name the field under `input.schema.document`"),
                Named::No => Diagnostic::error(
                    code::INVALID_VALUE,
                    format!("no input has `{pointer}`: the schema of the input does not allow it"),
                )
                .with_help("write the pointer of a field of `input.schema.document`"),
            };
            diagnostic.place = self.source.place(&at);
            self.push(diagnostic, &at);
        }
    }

    pub(super) fn task_extras(&mut self, at: &At<'a>, kind: &str) -> TaskExtras {
        let mut extras = TaskExtras::default();
        let Some(map) = self.mapping(at, "a mapping") else { return extras };
        let everywhere = ["bestEffort", "noRollbackAfter"];
        let own: &[(&str, &[&str])] = &[
            ("for", &["concurrency", "onItemError"]),
            ("call", &["onUnknown", "onRetry", "compensate", "token"]),
            ("run", &["connections"]),
        ];
        for (key, value) in map {
            if everywhere.contains(&key.as_str()) {
                continue;
            }
            let at = at.child(key, value);
            match own.iter().find(|(_, keys)| keys.contains(&key.as_str())) {
                Some((owner, _)) if *owner == kind => {}
                Some((owner, _)) => {
                    let message = format!("`{key}` belongs to a `{owner}` task, and this is a `{kind}` task");
                    self.fault_at_key(code::UNKNOWN_KEY, &at, message, None);
                }
                None => {
                    let known: Vec<&str> = own
                        .iter()
                        .filter(|(owner, _)| *owner == kind)
                        .flat_map(|(_, keys)| keys.iter())
                        .chain(everywhere.iter())
                        .copied()
                        .collect();
                    self.unknown_key(&at, &known);
                }
            }
        }
        extras.best_effort = self.boolean(at.get("bestEffort"));
        extras.no_rollback_after = self.boolean(at.get("noRollbackAfter"));
        if kind == "for" {
            if let Some(at) = at.get("concurrency") {
                extras.concurrency = self.integer(&at, 1, CONCURRENCY_MAX).and_then(|n| u32::try_from(n).ok());
            }
            if let Some(at) = at.get("onItemError") {
                extras.collect = self.word(&at, &["stop", "collect"]) == Some(1);
            }
        }
        if kind == "call" {
            if let Some(at) = at.get("onUnknown") {
                extras.resend_unknown = self.word(&at, &["park", "resend"]) == Some(1);
            }
            if let Some(at) = at.get("onRetry") {
                extras.retry_again = self.word(&at, &["again"]).is_some();
            }
            if let Some(at) = at.get("token") {
                let kinds = [TokenKind::Bot, TokenKind::User];
                extras.token = self.word(&at, &kinds.map(TokenKind::as_str)).map(|i| kinds[i]);
            }
            extras.compensate = at.get("compensate").and_then(|at| self.compensate(&at));
        }
        extras
    }

    /// `ACTION`, or `{call: ACTION, with: …}`.
    fn compensate(&mut self, at: &At<'a>) -> Option<Compensate> {
        if let Some(text) = at.value.as_str() {
            return self.reference(at, text).map(Compensate::Named);
        }
        let map = self.mapping(at, "an action (NAME:VERSION@PLUGIN), or a mapping with `call` and `with`")?;
        self.known_keys(at, map, &["call", "with"]);
        let called = self.required(at, "call")?;
        let call = self.call(at, &called)?;
        Some(match at.get("with") {
            Some(_) => Compensate::Call(call),
            None => Compensate::Named(call.reference),
        })
    }

    /// The items of a list of declarations.
    fn names(&mut self, at: &At<'a>) -> Vec<At<'a>> {
        let Some(items) = self.list(at, "a list") else { return Vec::new() };
        if items.len() > DECLARATIONS_MAX {
            self.fault(
                code::INVALID_VALUE,
                at,
                format!("{} can have at most {DECLARATIONS_MAX} items", at.title()),
                None,
            );
            return Vec::new();
        }
        items.iter().enumerate().map(|(i, value)| at.item(i, value)).collect()
    }

    fn alias(&mut self, at: &At<'a>) -> Option<String> {
        let text = self.text(at)?;
        if !is_plugin_name(text) {
            let message = format!("`{text}` is not a name: lower-case words with `-` between");
            self.fault(code::INVALID_NAME, at, message, None);
            return None;
        }
        Some(text.to_owned())
    }
}

/// Whether a schema has a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// Nothing that fits the schema has it.
    No,
    /// It says nothing of it.
    Perhaps,
    /// It has it.
    Yes,
}

/// Steps through subschemas: a schema may refer to itself.
const SUBSCHEMAS_MAX: usize = 10_000;

/// Whether `schema` has the place that `pointer` names in what fits it.
fn named(schema: &Value, pointer: &str) -> Named {
    let steps: Vec<String> = pointer::keys(pointer).map(Cow::into_owned).collect();
    let mut left = SUBSCHEMAS_MAX;
    named_under(schema, schema, &steps, &mut left)
}

fn named_under(root: &Value, schema: &Value, steps: &[String], left: &mut usize) -> Named {
    if *left == 0 {
        return Named::Perhaps;
    }
    *left -= 1;
    let Some(keywords) = schema.as_object() else {
        return if schema == &Value::Bool(false) { Named::No } else { Named::Perhaps };
    };
    let Some((step, rest)) = steps.split_first() else { return Named::Yes };
    // The best that any part of the schema says; a part that forbids wins over those that say nothing.
    let mut best = Named::Perhaps;
    let mut forbidden = false;
    let mut hear = |said: Named| {
        best = best.max(said);
        forbidden |= said == Named::No;
    };
    if let Some(target) = keywords.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#')) {
        hear(root.pointer(target).map_or(Named::Perhaps, |target| named_under(root, target, steps, left)));
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        let parts = keywords.get(keyword).and_then(Value::as_array);
        let said: Vec<Named> = parts.into_iter().flatten().map(|part| named_under(root, part, steps, left)).collect();
        let said =
            if keyword == "allOf" && said.contains(&Named::No) { Some(Named::No) } else { said.into_iter().max() };
        said.into_iter().for_each(&mut hear);
    }
    for keyword in ["if", "then", "else"] {
        if let Some(part) = keywords.get(keyword) {
            hear(named_under(root, part, steps, left).max(Named::Perhaps));
        }
    }
    let index = step.parse::<usize>().ok();
    let field = keywords.get("properties").and_then(|fields| fields.get(step));
    let element = index.and_then(|i| keywords.get("prefixItems").and_then(|items| items.get(i)));
    if let Some(part) = field.or(element) {
        hear(named_under(root, part, rest, left));
    } else {
        if let (Some(items), Some(_)) = (keywords.get("items"), index) {
            hear(named_under(root, items, rest, left));
        }
        // By whichever pattern: that it is allowed is enough.
        for part in keywords.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(|p| p.values()) {
            hear(named_under(root, part, rest, left).max(Named::Perhaps));
        }
        let patterns = keywords.contains_key("patternProperties");
        match keywords.get("additionalProperties") {
            Some(Value::Bool(false)) if !patterns && keywords.get("items").is_none() => hear(Named::No),
            Some(part @ Value::Object(_)) => hear(named_under(root, part, rest, left)),
            _ => {}
        }
    }
    if forbidden && best != Named::Yes { Named::No } else { best }
}

/// RFC 6901.
fn is_pointer(text: &str) -> bool {
    (text.is_empty() || text.starts_with('/'))
        && text.split('~').skip(1).all(|after| after.starts_with('0') || after.starts_with('1'))
}
