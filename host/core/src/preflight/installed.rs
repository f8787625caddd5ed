//! The plugins that are installed, and which of their actions a reference means.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::definition::ActionReference;
use crate::diagnostic::{Diagnostic, Needs, Remedy, Retryable, code, nearest};
use crate::manifest::{Action, Manifest};
use crate::requirement::Grant;
use crate::text::shell_word;

/// One installed version of a plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// What it says of itself.
    pub manifest: Arc<Manifest>,
    /// What the operator granted at its installation.
    pub grants: Arc<[Grant]>,
}

/// Everything that is installed.
#[derive(Debug, Clone, Default)]
pub struct Plugins {
    by_name: BTreeMap<String, Vec<(Version, Plugin)>>,
}

/// A plugin's version, ordered as semantic versions are. Texts that are none sort lowest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: Option<[u64; 3]>,
    /// A release comes after its pre-releases.
    released: bool,
    text: String,
}

/// The action that a reference means.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// With the full version: what a run pins.
    pub reference: ActionReference,
    /// The plugin.
    pub plugin: Plugin,
    index: usize,
}

/// Which part of a reference leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Missing {
    /// No plugin of that name.
    Plugin {
        /// The installed one that may have been meant.
        nearest: Option<String>,
    },
    /// The plugin is there in other versions.
    Version {
        /// Those, newest first.
        installed: Vec<String>,
    },
    /// The plugin has no such action.
    Action {
        /// The version looked at.
        version: String,
        /// The one of its actions that may have been meant.
        nearest: Option<String>,
    },
}

impl Resolved {
    /// The action.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.plugin.manifest.actions[self.index]
    }
}

impl Plugins {
    /// Those plugins. Of two with equal name and version the later one is kept.
    #[must_use]
    pub fn of(plugins: impl IntoIterator<Item = Plugin>) -> Self {
        let mut all = Self::default();
        for plugin in plugins {
            let version = Version::of(&plugin.manifest.version);
            let versions = all.by_name.entry(plugin.manifest.name.clone()).or_default();
            versions.retain(|(v, _)| *v != version);
            versions.push((version, plugin));
            versions.sort_by(|a, b| b.0.cmp(&a.0));
        }
        all
    }

    /// The action that `reference` means: of a full version just that, of a major one the highest installed release.
    pub fn resolve(&self, reference: &ActionReference) -> Result<Resolved, Missing> {
        let versions = self.by_name.get(&reference.plugin).ok_or_else(|| Missing::Plugin {
            nearest: nearest(&reference.plugin, self.by_name.keys().map(String::as_str)).map(str::to_owned),
        })?;
        let (_, plugin) = versions
            .iter()
            .find(|(v, _)| v.satisfies(&reference.version))
            .ok_or_else(|| Missing::Version { installed: versions.iter().map(|(v, _)| v.text.clone()).collect() })?;
        let actions = &plugin.manifest.actions;
        let index = actions.iter().position(|a| a.name == reference.action).ok_or_else(|| Missing::Action {
            version: plugin.manifest.version.clone(),
            nearest: nearest(&reference.action, actions.iter().map(|a| a.name.as_str())).map(str::to_owned),
        })?;
        let version = plugin.manifest.version.clone();
        Ok(Resolved { reference: ActionReference { version, ..reference.clone() }, plugin: plugin.clone(), index })
    }
}

/// Which of two plugin versions is the newer one, as semantic versions are ordered. A text that is none is the oldest.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    Version::of(a).cmp(&Version::of(b))
}

impl Version {
    fn of(text: &str) -> Self {
        let core = text.split(['-', '+']).next().unwrap_or(text);
        let numbers: Option<Vec<u64>> = core.split('.').map(|n| n.parse().ok()).collect();
        Self {
            numbers: numbers.and_then(|n| n.try_into().ok()),
            released: !text.split('+').next().is_some_and(|core| core.contains('-')),
            text: text.to_owned(),
        }
    }

    fn satisfies(&self, wanted: &str) -> bool {
        match wanted.parse::<u64>() {
            Ok(major) => self.released && self.numbers.is_some_and(|n| n[0] == major),
            Err(_) => self.text == wanted,
        }
    }
}

impl Missing {
    /// What may have been meant.
    fn nearest(&self) -> Option<&str> {
        match self {
            Self::Plugin { nearest } | Self::Action { nearest, .. } => nearest.as_deref(),
            Self::Version { .. } => None,
        }
    }

    /// The diagnostic for a reference that leads nowhere.
    #[must_use]
    pub fn diagnostic(&self, reference: &ActionReference) -> Diagnostic {
        let ActionReference { action, version, plugin } = reference;
        let meant = self.nearest().map(|near| {
            let meant = match self {
                Self::Plugin { .. } => ActionReference { plugin: near.to_owned(), ..reference.clone() },
                Self::Action { .. } | Self::Version { .. } => {
                    ActionReference { action: near.to_owned(), ..reference.clone() }
                }
            };
            Remedy { title: format!("did you mean `{near}`? Then call {meant}"), command: None, http: None }
        });
        let (code, message, label, needs, remedy) = match self {
            Self::Plugin { nearest } => (
                code::PLUGIN_UNKNOWN,
                format!("no plugin `{plugin}` is installed"),
                did_you_mean(nearest.as_ref()),
                format!("an installed plugin `{plugin}`"),
                Some(Remedy {
                    title: "install it".to_owned(),
                    command: Some(format!("bellhop plugin install {}", shell_word(&format!("{plugin}.wasm")))),
                    http: None,
                }),
            ),
            Self::Version { installed } => (
                code::VERSION_UNKNOWN,
                format!("plugin `{plugin}` is not installed in version {version}"),
                Some(format!("installed: {}", installed.join(", "))),
                format!("version {version} of plugin `{plugin}`"),
                Some(Remedy {
                    title: "install that version, or call one that is installed".to_owned(),
                    command: Some(format!("bellhop plugin install {}", shell_word(&format!("{plugin}.wasm")))),
                    http: None,
                }),
            ),
            Self::Action { version, nearest } => (
                code::ACTION_UNKNOWN,
                format!("plugin `{plugin}` {version} has no action `{action}`"),
                did_you_mean(nearest.as_ref()),
                format!("an action of plugin `{plugin}`"),
                Some(Remedy {
                    title: "see what it has".to_owned(),
                    command: Some(format!("bellhop plugin inspect {}", shell_word(plugin))),
                    http: None,
                }),
            ),
        };
        Diagnostic {
            label,
            action: Some(reference.to_string()),
            needs: Some(Needs { text: Some(needs), ..Needs::default() }),
            retryable: if matches!(self, Self::Action { .. }) { Retryable::No } else { Retryable::AfterRemedy },
            who: Some(match self {
                Self::Action { .. } => "whoever writes the workflow".to_owned(),
                Self::Plugin { .. } | Self::Version { .. } => "the operator of this host".to_owned(),
            }),
            remedies: meant.into_iter().chain(remedy).collect(),
            ..Diagnostic::error(code, message)
        }
    }
}

fn did_you_mean(nearest: Option<&String>) -> Option<String> {
    nearest.map(|n| format!("did you mean `{n}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn author_d5_what_is_printed_of_a_strange_name_can_be_typed() {
        let plugin = "it's; $(rm -rf x)".to_owned();
        let reference = ActionReference { action: "a".to_owned(), version: "1".to_owned(), plugin };
        let quoted = r"'it'\''s; $(rm -rf x)";
        for (missing, command) in [
            (Missing::Plugin { nearest: None }, format!("bellhop plugin install {quoted}.wasm'")),
            (Missing::Version { installed: Vec::new() }, format!("bellhop plugin install {quoted}.wasm'")),
            (
                Missing::Action { version: "1.0.0".to_owned(), nearest: None },
                format!("bellhop plugin inspect {quoted}'"),
            ),
        ] {
            let said = missing.diagnostic(&reference);
            assert_eq!(said.remedies.last().and_then(|remedy| remedy.command.as_deref()), Some(command.as_str()));
        }
    }
}
