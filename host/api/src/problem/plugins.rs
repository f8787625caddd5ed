//! What is said of plugins that are not installed, granted or removed.

use std::time::Duration;

use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::text::shell_word;

use super::{
    GRANT_INVALID, PLUGIN_IN_USE, PLUGIN_PUBLISHER_DIFFERS, PLUGIN_REFUSED, PLUGIN_REPLACES, PLUGIN_UNKNOWN, Problem,
    UNAVAILABLE, VERSION_IMMUTABLE, VERSION_UNKNOWN,
};
use bellhop_engine::operate::remove_plugin::RemoveError;
use bellhop_engine::setup::plugins::{GrantError, InstallError};

impl From<InstallError> for Problem {
    fn from(error: InstallError) -> Self {
        const REFUSED: &str = "nothing was installed: the plugin is refused";
        let detail = error.to_string();
        match error {
            InstallError::Refused(refusal) | InstallError::Sandbox(bellhop_sandbox::Error::Refused(refusal)) => {
                let code = bellhop_core::diagnostic::Code(PLUGIN_REFUSED.code);
                let mut diagnostic = Diagnostic::error(code, refusal.to_string()).with_help(refusal.remedy());
                diagnostic.who = Some("whoever writes the plugin".to_owned());
                Self::new(PLUGIN_REFUSED, REFUSED).with_diagnostics(vec![diagnostic])
            }
            InstallError::Manifest(faults) => Self::new(PLUGIN_REFUSED, REFUSED).with_diagnostics(faults),
            InstallError::Grants(faults) => {
                Self::new(GRANT_INVALID, "nothing was installed: what is to be granted is refused")
                    .with_diagnostics(faults)
            }
            InstallError::Immutable { .. } => Self::new(VERSION_IMMUTABLE, detail)
                .with_remedy("give what changed a version of its own, or remove the version first: bellhop plugin remove NAME@VERSION"),
            InstallError::Older { ref newest, .. } => {
                let newest = newest.clone();
                Self::new(VERSION_IMMUTABLE, format!("nothing was installed: {detail}"))
                    .with("newest", newest)
                    .with_remedy("give it a version that is newer; to have it stand beside the newer one, leave `replaces` out")
            }
            InstallError::Follows { name, version, versions, newest, .. } => {
                let remedy = format!(
                    "look at what is there (bellhop plugin list), then install it again: bellhop plugin install FILE --replaces={}; over HTTP `?replaces={newest}`",
                    shell_word(&newest)
                );
                Self::new(PLUGIN_REPLACES, format!("nothing was installed: {detail}"))
                    .with("plugin", name)
                    .with("version", version)
                    .with("versions", versions)
                    .with_remedy(remedy)
            }
            InstallError::PublisherDiffers { name, owner, publisher, versions } => {
                Self::new(PLUGIN_PUBLISHER_DIFFERS, format!("nothing was installed: {detail}"))
                    .with("plugin", name)
                    .with("publisher", publisher)
                    .with("owner", owner)
                    .with("versions", versions)
            }
            InstallError::Sandbox(bellhop_sandbox::Error::Unavailable(cause)) => {
                tracing::error!(%cause, "the sandbox cannot prepare a plugin");
                Self::later(UNAVAILABLE, "the plugin cannot be compiled now", Duration::from_secs(10))
            }
            InstallError::Sandbox(bellhop_sandbox::Error::Busy(cause)) => {
                Self::later(UNAVAILABLE, cause, Duration::from_secs(10))
            }
            InstallError::Journal(error) => error.into(),
        }
    }
}

impl From<GrantError> for Problem {
    fn from(error: GrantError) -> Self {
        let detail = error.to_string();
        match error {
            GrantError::Unknown { nearest, .. } => {
                let problem = Self::new(PLUGIN_UNKNOWN, detail);
                match nearest {
                    Some(near) => problem.with_remedy(format!("did you mean `{near}`?")),
                    None => problem,
                }
            }
            GrantError::VersionUnknown { installed, .. } => {
                let remedy = format!("name one that is there: {}", installed.join(", "));
                Self::new(VERSION_UNKNOWN, detail).with("installed", installed).with_remedy(remedy)
            }
            GrantError::Invalid(faults) => Self::new(GRANT_INVALID, detail).with_diagnostics(faults),
            GrantError::Journal(error) => error.into(),
        }
    }
}

impl From<RemoveError> for Problem {
    fn from(error: RemoveError) -> Self {
        let detail = error.to_string();
        match error {
            RemoveError::Named(error) => error.into(),
            RemoveError::InUse { uses, .. } => {
                let runs: Vec<String> = uses.runs.iter().map(ToString::to_string).collect();
                Self::new(PLUGIN_IN_USE, format!("nothing was removed: {detail}"))
                    .with("runs", runs)
                    .with("runs_more", uses.runs_more)
                    .with("workflows", uses.workflows)
                    .with("workflows_more", uses.workflows_more)
            }
            RemoveError::Journal(error) => error.into(),
        }
    }
}
