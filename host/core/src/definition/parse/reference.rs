//! `NAME:VERSION@PLUGIN`.

use super::name::{is_action_name, is_number, is_plugin_name, is_version};
use crate::definition::ActionReference;

/// Reads a reference as a `call` writes it.
///
/// # Errors
/// What is wrong, and a reference that may have been meant.
pub fn parse_reference(text: &str) -> Result<ActionReference, (String, String)> {
    let form = || "write NAME:VERSION@PLUGIN, as in message.send:1@slack".to_owned();
    let Some((function, plugin)) = text.rsplit_once('@') else {
        let message = format!("`{text}` does not say which plugin it is of");
        return Err((
            message,
            match text.split_once(':') {
                Some((name, version)) if is_action_name(name) && !version.is_empty() => {
                    format!("add the plugin: {text}@slack")
                }
                _ => form(),
            },
        ));
    };
    let Some((action, version)) = function.split_once(':') else {
        let help = if is_action_name(function) { format!("add a version: {function}:1@{plugin}") } else { form() };
        return Err((format!("`{text}` does not say which version"), help));
    };
    if !is_action_name(action) {
        let message = format!("`{action}` is not a name of an action: lower-case words with `.` or `-` between");
        return Err((message, form()));
    }
    if !(is_number(version) || is_version(version)) {
        let message = format!("`{version}` is neither a major version (`1`) nor a full one (`1.2.0`)");
        let major = version.trim_start_matches('v').split('.').next().unwrap_or_default();
        let help = if is_number(major) { format!("write {action}:{major}@{plugin}") } else { form() };
        return Err((message, help));
    }
    if !is_plugin_name(plugin) {
        return Err((format!("`{plugin}` is not a name of a plugin: lower-case words with `-` between"), form()));
    }
    Ok(ActionReference { action: action.to_owned(), version: version.to_owned(), plugin: plugin.to_owned() })
}
