//! What may be missing because it is damaged or broken: said beside what preflight says is missing.

use bellhop_core::diagnostic::{Diagnostic, Has, HttpRemedy, Needs, Remedy, Retryable, code as core_code};
use bellhop_core::requirement::Elsewhere;
use bellhop_core::text::shell_word;

use crate::Engine;
use crate::accept::trigger::code;
use crate::setup::connections::Broken;
use bellhop_journal::key::Space;

impl Engine {
    /// What may well be missing because its record is damaged.
    pub(crate) fn damages(&self) -> impl Iterator<Item = Diagnostic> {
        let damages = self.services.journal.damages().into_iter();
        let needed = damages.filter(|d| matches!(d.space, Space::Connection | Space::Plugin | Space::Grant));
        needed.map(|damage| {
            let message = format!("{} cannot be read: what is stored of it is damaged", damage.fact);
            let mut diagnostic = Diagnostic::error(code::STORAGE_DAMAGED, message)
                .with_help("connect or install it anew, or restore a backup of the data folder");
            diagnostic.who = Some("whoever keeps the host running".to_owned());
            diagnostic
        })
    }
}

/// A connection that leads elsewhere than when the run pinned it.
pub(crate) fn leads_elsewhere(elsewhere: &Elsewhere) -> Diagnostic {
    let again = Remedy {
        title: format!("make the connection of {} again", elsewhere.pinned),
        command: Some(elsewhere.command()),
        http: None,
    };
    Diagnostic {
        connection: Some(elsewhere.name.clone()),
        needs: Some(Needs { text: Some(elsewhere.pinned.to_string()), ..Needs::default() }),
        has: Some(Has { text: Some(elsewhere.has()), ..Has::default() }),
        retryable: Retryable::AfterRemedy,
        who: Some("the operator of this host".to_owned()),
        remedies: vec![again],
        ..Diagnostic::error(core_code::CONNECTION_DIFFERS, elsewhere.to_string())
    }
}

/// Beside what a run lacks: a connection that was to be there.
pub(crate) fn is_broken(broken: &Broken) -> Diagnostic {
    let name = &broken.new.name;
    let again = Remedy {
        title: match &broken.fix {
            Some(fix) => format!("{fix}; the host asks Slack again by itself, or at once"),
            None => "ask Slack again, once its tokens are put right".to_owned(),
        },
        command: Some(format!("bellhop connections test {}", shell_word(name))),
        http: Some(HttpRemedy {
            method: "POST".to_owned(),
            path: format!("/v1/connections/{name}/test"),
            body: serde_json::json!({}),
        }),
    };
    Diagnostic {
        connection: Some(name.clone()),
        has: Some(Has { text: Some(broken.reason.clone()), ..Has::default() }),
        retryable: Retryable::AfterRemedy,
        who: Some("the operator of this host".to_owned()),
        remedies: vec![again],
        ..Diagnostic::error(code::CONNECTION_BROKEN, format!("the connection `{name}` was to be there and is broken"))
    }
}
