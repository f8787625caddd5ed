//! The judgement of one call of a running action.

use std::collections::BTreeMap;

use serde_json::Value;

use super::flow::Reach;
use super::judgement::{Facts, Judgement, judge_method};
use super::say::{self, Subject, There};
use crate::diagnostic::{Diagnostic, Needs, Retryable, code};
use crate::manifest::{Action, DeclaredCall, When as Occurs};
use crate::requirement::{Arguments, Connection, Grant, Rules, TokenKind};
use crate::time::Timestamp;

/// A call that a running action asks for.
#[derive(Debug, Clone, Copy)]
pub struct CallQuestion<'a> {
    /// The action.
    pub action: &'a Action,
    /// Its plugin's name.
    pub plugin: &'a str,
    /// The method, as guests import it: `chat.post-message`.
    pub function: &'a str,
    /// The connection on which the action runs.
    pub connection: &'a Connection,
    /// What is known of the provider's methods.
    pub rules: &'a Rules,
    /// What the plugin was granted.
    pub grants: &'a [Grant],
    /// What goes to the provider.
    pub arguments: &'a Value,
    /// The names of channels by id, without `#`, as far as the host read them. A grant for a channel's name allows
    /// no id that is not among them.
    pub names: &'a BTreeMap<String, String>,
    /// As whom the file wants the action's calls to go out.
    pub token: Option<TokenKind>,
    /// The time.
    pub now: Timestamp,
}

/// Whether the action may make that call. What preflight leaves unknown is no refusal here: the provider answers it.
///
/// # Errors
/// The first thing that forbids it. The refusal is an answer to the guest, never a trap, and nothing was sent.
pub fn judge_call(question: &CallQuestion<'_>) -> Result<(), Box<Diagnostic>> {
    let CallQuestion { action, plugin, function, connection, rules, grants, arguments, names, token, now } = *question;
    let method = rules.by_function(function);
    let subject = Subject {
        what: format!("`{}`", action.name),
        prefix: "",
        plugin: Some(plugin.to_owned()),
        action: Some(action.name.clone()),
        task: None,
        place: None,
        pointer: None,
        reach: Reach::All,
    };
    let declared = action.alternative(connection.kind).and_then(|a| a.methods.iter().find(|c| c.function == function));
    let (Some(declared), Some(method)) = (declared, method) else {
        let name = method.map_or(function, |m| m.name.as_str());
        let code = if method.is_some() { code::CAPABILITY_NOT_GRANTED } else { code::METHOD_UNKNOWN };
        let message = format!(
            "`{}` does not declare that it calls {name} on a connection of kind `{}`",
            action.name, connection.kind
        );
        return Err(Box::new(Diagnostic {
            methods: vec![name.to_owned()],
            connection: Some(connection.name.clone()),
            needs: Some(Needs {
                text: Some("a call that the action's manifest declares".to_owned()),
                ..Needs::default()
            }),
            retryable: Retryable::No,
            who: Some("whoever writes the plugin".to_owned()),
            ..subject.error(code, message)
        }));
    };
    // Made now, so whatever it lacks it lacks for sure.
    let made = DeclaredCall { when: Occurs::Always, ..declared.clone() };
    let facts = Facts {
        rules,
        grants: Some(grants),
        arguments: Arguments::Call { arguments, names },
        reads: &[],
        accepted: &[],
        token,
        now,
    };
    let mut findings = Vec::new();
    judge_method(action, &made, method, connection, facts, &mut findings);
    let judgement = Judgement { alternative: action.alternative(connection.kind), reads: &[], findings };
    let said = say::diagnostics(&subject, &judgement, connection, There { present: &[], accepted: &[] });
    said.into_iter().find(Diagnostic::is_error).map_or(Ok(()), |d| Err(Box::new(named(d))))
}

/// A refusal whose message names the method: whoever reads a fault sees nothing else of it.
fn named(refusal: Diagnostic) -> Diagnostic {
    let message = match &refusal.label {
        Some(label) => format!("{}: it {label}", refusal.message),
        None => refusal.message.clone(),
    };
    Diagnostic { message, ..refusal }
}
