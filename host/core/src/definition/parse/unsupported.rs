//! Parts of the language that are legal and not carried out by this version: what to do instead.

use super::{At, Reader};
use crate::diagnostic::code;

/// The kinds of task that this version carries out.
pub(super) const KINDS: [&str; 9] = ["call", "do", "set", "switch", "for", "fork", "try", "wait", "raise"];
/// The others that the language has.
pub(super) const OTHER_KINDS: [&str; 3] = ["emit", "listen", "run"];

/// What `call` names in the language itself.
pub(super) const PROTOCOLS: [&str; 6] = ["http", "grpc", "openapi", "asyncapi", "a2a", "mcp"];

fn instead_of(what: &str) -> &'static str {
    match what {
        "emit" => "tell others with an action, such as message.send:1@slack",
        "listen" => "split the workflow: let what is waited for start the second one over HTTP",
        "run" => "copy the tasks into this workflow, or start the other one over HTTP",
        "http" | "grpc" | "openapi" | "asyncapi" | "a2a" | "mcp" => {
            "call an action of a plugin: only plugins reach other systems, through what they are granted"
        }
        "schedule" => "let a scheduler of yours start the workflow over HTTP",
        "extensions" => "write the tasks before and after those that they belong to",
        "functions" => "write the task where it is called",
        "secrets" | "authentications" => "connections hold the secrets: declare one in metadata.bellhop.connections",
        "url" => "install the plugin and call it by name: NAME:VERSION@PLUGIN",
        "resource" => "write the schema into the definition, as `document`",
        _ => "leave it out",
    }
}

impl<'a> Reader<'a> {
    /// Reports `what`, marked at its key.
    pub(super) fn unsupported_key(&mut self, at: &At<'a>, what: &str) {
        let message = format!("this version does not carry out `{what}` yet");
        let name = what.rsplit('.').next().unwrap_or(what);
        self.fault_at_key(code::NOT_SUPPORTED, at, message, Some(instead_of(name).to_owned()));
    }

    /// Reports `what`, marked at the value.
    pub(super) fn unsupported_value(&mut self, at: &At<'a>, what: &str, instead: &str) {
        let message = format!("this version does not carry out {what} yet");
        self.fault(code::NOT_SUPPORTED, at, message, Some(instead_of(instead).to_owned()));
    }
}
