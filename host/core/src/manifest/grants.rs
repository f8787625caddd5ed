//! Grants, looked at when they are given: one that would allow nothing is a mistake, and nobody would notice it before a
//! run faults.

use std::collections::{BTreeSet, HashMap};

use super::Manifest;
use super::report::quoted;
use crate::diagnostic::{Code, Diagnostic, Needs, Remedy, Retryable, code, nearest};
use crate::requirement::{Grant, GrantError, Method, Rules};
use crate::text::few;

/// Most grants of one plugin.
pub const GRANTS_MAX: usize = 1_000;
/// After so many faults no more grants are looked at.
const FAULTS_MAX: usize = 50;
/// At most so many names are listed.
const SHOWN_MAX: usize = 10;
/// Who grants.
const OPERATOR: &str = "the operator of this host";

/// What grants to a plugin are compared with.
#[derive(Debug, Clone, Copy)]
pub struct Granting<'a> {
    /// What the plugin says of itself.
    pub manifest: &'a Manifest,
    /// What its binary imports, as `chat.post-message`.
    pub imports: &'a [String],
    /// What is known of methods.
    pub rules: &'a Rules,
    /// The names of the connections that are there.
    pub connections: &'a [String],
}

/// Everything that the plugin's actions declare, granted on every connection.
#[must_use]
pub fn declared(manifest: &Manifest, rules: &Rules) -> Vec<Grant> {
    let methods = methods(manifest, rules);
    methods.into_iter().filter_map(|method| Grant::of_method(method).ok()).collect()
}

/// The methods that the actions declare, as the provider writes them, sorted.
#[must_use]
pub fn methods<'r>(manifest: &Manifest, rules: &'r Rules) -> Vec<&'r str> {
    let names: HashMap<&str, &str> =
        rules.methods.values().map(|method| (method.function.as_str(), method.name.as_str())).collect();
    let functions = manifest.actions.iter().flat_map(|action| action.functions());
    let methods: BTreeSet<&str> = functions.filter_map(|function| names.get(function).copied()).collect();
    methods.into_iter().collect()
}

/// Of the methods that the actions declare those of which nothing is granted, as the provider writes them.
#[must_use]
pub fn missing<'r>(manifest: &Manifest, grants: &[Grant], rules: &'r Rules) -> Vec<&'r str> {
    let mut methods = methods(manifest, rules);
    methods.retain(|method| grants.iter().all(|grant| grant.method() != *method));
    methods
}

/// Reads grants that are to be given to a plugin; the same grant given twice is one. `at` is the JSON pointer of the
/// list (`/add`).
///
/// # Errors
/// Every text that is no grant, or would allow nothing, with what was probably meant.
pub fn grants(texts: &[String], at: &str, granting: &Granting<'_>) -> Result<Vec<Grant>, Vec<Diagnostic>> {
    if texts.len() > GRANTS_MAX {
        return Err(vec![too_many(texts.len(), at)]);
    }
    let mut found = BTreeSet::new();
    let faults = faults_of(texts, at, |text| match read(text, granting.rules) {
        Ok((grant, method)) => {
            let wrong = would_allow(&grant, method, granting);
            found.insert(grant);
            wrong
        }
        Err(wrong) => vec![wrong],
    });
    if faults.is_empty() { Ok(found.into_iter().collect()) } else { Err(faults) }
}

/// What is wrong with grants, whatever the plugin: those that cannot be read or are of no method.
#[must_use]
pub fn misspelt(texts: &[String], at: &str, rules: &Rules) -> Vec<Diagnostic> {
    faults_of(texts, at, |text| read(text, rules).err().into_iter().collect())
}

/// What is wrong with a grant, and what mends it.
type Wrong = (String, String);

/// What `wrong` says of each text. After [`FAULTS_MAX`] no more texts are looked at, and the last fault says how many
/// these are.
fn faults_of<'t>(texts: &'t [String], at: &str, mut wrong: impl FnMut(&'t str) -> Vec<Wrong>) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        if faults.len() >= FAULTS_MAX {
            let left = texts.len() - index;
            let message =
                format!("the last {left} of {} grants are not looked at: {FAULTS_MAX} faults are told", texts.len());
            faults.push(fault(code::TOO_MANY_FAULTS, at, message, "mend these, then look again"));
            break;
        }
        faults.extend(wrong(text).into_iter().map(|(message, fix)| invalid(&format!("{at}/{index}"), message, fix)));
    }
    faults
}

/// The fault of more grants than are looked at.
#[must_use]
pub fn too_many(grants: usize, at: &str) -> Diagnostic {
    let message = format!("{grants} grants are named, a plugin has at most {GRANTS_MAX}");
    invalid(at, message, "grant methods without a pattern")
}

/// A grant of a method that there is; else what is wrong, and what was meant.
fn read<'r>(text: &str, rules: &'r Rules) -> Result<(Grant, &'r Method), Wrong> {
    let grant = text
        .parse::<Grant>()
        .map_err(|error| (format!("{} is not a grant: {error}", quoted(text)), spelt(text, &error, rules)))?;
    match rules.methods.get(grant.method()) {
        Some(method) => Ok((grant, method)),
        None => {
            let message = format!("`{grant}`: this host gives no method {} to plugins", quoted(grant.method()));
            let fix = match rules.meant(grant.method()) {
                Some(method) => format!("did you mean `{}`?", method.name),
                None => "see which methods a plugin declares: bellhop plugin inspect FILE".to_owned(),
            };
            Err((message, fix))
        }
    }
}

/// What was probably meant by a text that is no grant.
fn spelt(text: &str, error: &GrantError, rules: &Rules) -> String {
    let method = text.split(['@', ':']).next().unwrap_or_default();
    // `slack::conversations::set_topic` has a colon of its own.
    let meant = match error {
        GrantError::Method { .. } => rules.meant(text).or_else(|| rules.meant(method)),
        GrantError::Connection { .. } | GrantError::Field { .. } | GrantError::Pattern { .. } => rules.meant(text),
        GrantError::TooLong | GrantError::Unknown { .. } => None,
    };
    match meant {
        Some(method) => format!("did you mean `{}`?", method.name),
        None => "write METHOD[@CONNECTION][:[FIELD=]PATTERN], as in chat.postMessage@hq:#it-*".to_owned(),
    }
}

/// Why a grant would allow nothing, and what helps; at most one fault of each part.
fn would_allow(grant: &Grant, method: &Method, granting: &Granting<'_>) -> Vec<Wrong> {
    let connections = granting.connections;
    let mut faults = Vec::new();
    faults.extend(of_no_use(grant, method, granting));
    if let Some(name) = grant.connection()
        && connections.iter().all(|there| there != name)
    {
        let message = format!("`{grant}`: there is no connection `{name}`");
        let fix = match nearest(name, connections.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "see which there are: bellhop connections list".to_owned(),
        };
        faults.push((message, fix));
    }
    if let Some((field, pattern)) = grant.argument()
        && !method.arguments.is_empty()
        && method.arguments.iter().all(|argument| argument != field)
    {
        let message = format!("`{grant}`: {} takes no argument `{field}`", method.name);
        let fix = match nearest(field, method.arguments.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{}:{near}={pattern}`?", method.name),
            None => format!("name one that it takes: {}", method.arguments.join(", ")),
        };
        faults.push((message, fix));
    }
    faults
}

/// A method that the plugin can never call is granted in vain.
fn of_no_use(grant: &Grant, method: &Method, granting: &Granting<'_>) -> Option<Wrong> {
    let Granting { manifest, imports, rules, .. } = *granting;
    if manifest.actions.iter().any(|action| action.functions().any(|function| function == method.function)) {
        return None;
    }
    let declared = methods(manifest, rules);
    let why = if imports.contains(&method.function) { "no action of it declares" } else { "it does not import" };
    let message = format!("`{grant}`: plugin `{}` never calls {}, which {why}", manifest.name, method.name);
    let fix = match nearest(&method.name, declared.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if declared.is_empty() => "leave it out: the plugin calls nothing".to_owned(),
        None => format!("leave it out; the plugin declares {}", few(&declared, SHOWN_MAX)),
    };
    Some((message, fix))
}

/// The grants of `present` that `texts` name. `at` is the JSON pointer of the list (`/remove`).
///
/// # Errors
/// Every text that names none of them.
pub fn given(texts: &[String], at: &str, plugin: &str, present: &[Grant]) -> Result<Vec<Grant>, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let shown: Vec<String> = present.iter().map(ToString::to_string).collect();
    let faults = faults_of(texts, at, |text| {
        // However it was written, it is compared as it is shown.
        if let Some(grant) = text.parse::<Grant>().ok().filter(|grant| present.contains(grant)) {
            found.push(grant);
            return Vec::new();
        }
        let message = format!("{} is not granted to plugin `{plugin}`", quoted(text));
        let fix = match nearest(text, shown.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if shown.is_empty() => "leave it out: nothing is granted".to_owned(),
            None => format!("granted are {}", few(&shown, SHOWN_MAX)),
        };
        vec![(message, fix)]
    });
    if faults.is_empty() { Ok(found) } else { Err(faults) }
}

fn invalid(at: &str, message: String, fix: impl Into<String>) -> Diagnostic {
    fault(code::GRANT_INVALID, at, message, fix)
}

fn fault(code: Code, at: &str, message: String, fix: impl Into<String>) -> Diagnostic {
    Diagnostic {
        pointer: Some(at.to_owned()),
        needs: Some(Needs { text: Some("a grant that allows something".to_owned()), ..Needs::default() }),
        retryable: Retryable::No,
        who: Some(OPERATOR.to_owned()),
        remedies: vec![Remedy { title: fix.into(), command: None, http: None }],
        ..Diagnostic::error(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_are_not_looked_at_are_counted() {
        let texts: Vec<String> = (0..60).map(|n| format!("chat.postMessage@c{n}")).collect();
        let faults = given(&texts, "/remove", "acme", &[]).unwrap_err();
        assert_eq!(faults.len(), FAULTS_MAX + 1);
        let last = &faults[FAULTS_MAX];
        assert_eq!((last.code, last.pointer.as_deref()), (code::TOO_MANY_FAULTS, Some("/remove")));
        assert_eq!(last.message, "the last 10 of 60 grants are not looked at: 50 faults are told");
        assert_eq!(given(&texts[..50], "/remove", "acme", &[]).unwrap_err().len(), FAULTS_MAX);
        assert_eq!(misspelt(&texts, "/add", &Rules::default()).len(), FAULTS_MAX + 1);
    }
}
