//! The codes of preflight's diagnostics. Each has a page under `host/docs/errors`.

use crate::diagnostic::Code;

/// The kind or plan of the connection cannot do what the action calls.
pub const PLAN_REQUIRED: Code = Code("plan-required");
/// The action changes something and the connection is read only.
pub const PERMISSION_READ_ONLY: Code = Code("permission-read-only");
/// The connection lacks a token of the kind that a method takes.
pub const TOKEN_KIND_MISSING: Code = Code("token-kind-missing");
/// The token lacks a scope.
pub const SCOPE_MISSING: Code = Code("scope-missing");
/// A scope that only resolving an unknown outcome needs is not there.
pub const SCOPE_RECOMMENDED: Code = Code("scope-recommended");
/// The action is not for the workflow's purpose.
pub const PURPOSE_NOT_ALLOWED: Code = Code("purpose-not-allowed");
/// The operator did not grant the method to the plugin.
pub const CAPABILITY_NOT_GRANTED: Code = Code("capability-not-granted");
/// The plugin has no such action.
pub const ACTION_UNKNOWN: Code = Code("action-unknown");
/// No such plugin is installed.
pub const PLUGIN_UNKNOWN: Code = Code("plugin-unknown");
/// The plugin is not installed in such a version.
pub const VERSION_UNKNOWN: Code = Code("version-unknown");
/// The plugin calls what this host's catalog does not have.
pub const METHOD_UNKNOWN: Code = Code("method-unknown");
/// Whether it is allowed shows only at the call.
pub const UNKNOWN_UNTIL_RUN: Code = Code("unknown-until-run");
/// The installation has no connection at all.
pub const CONNECTION_MISSING: Code = Code("connection-missing");
/// A trigger, a binding or a table names a connection that is not there.
pub const CONNECTION_UNKNOWN: Code = Code("connection-unknown");
/// Several connections would do and nothing says which.
pub const CONNECTION_AMBIGUOUS: Code = Code("connection-ambiguous");
/// The connection is of a kind that the alias does not accept.
pub const CONNECTION_KIND: Code = Code("connection-kind");
/// It cannot be told which connections an expression may give.
pub const CONNECTION_NOT_STATIC: Code = Code("connection-not-static");
/// No such table is there.
pub const TABLE_UNKNOWN: Code = Code("table-unknown");
/// The table has no such column, or not of the type asked for.
pub const TABLE_COLUMN_UNKNOWN: Code = Code("table-column-unknown");
/// A connection assumed on the command line is not of the form `NAME=KIND[:PLAN[:PERMISSION]]`.
pub const ASSUMPTION_INVALID: Code = Code("assumption-invalid");
/// An id belongs to another workspace than the connection.
pub const WORKSPACE_MISMATCH: Code = Code("workspace-mismatch");

/// All of them.
pub const ALL: &[Code] = &[
    PLAN_REQUIRED,
    PERMISSION_READ_ONLY,
    TOKEN_KIND_MISSING,
    SCOPE_MISSING,
    SCOPE_RECOMMENDED,
    PURPOSE_NOT_ALLOWED,
    CAPABILITY_NOT_GRANTED,
    ACTION_UNKNOWN,
    PLUGIN_UNKNOWN,
    VERSION_UNKNOWN,
    METHOD_UNKNOWN,
    UNKNOWN_UNTIL_RUN,
    CONNECTION_MISSING,
    CONNECTION_UNKNOWN,
    CONNECTION_AMBIGUOUS,
    CONNECTION_KIND,
    CONNECTION_NOT_STATIC,
    TABLE_UNKNOWN,
    TABLE_COLUMN_UNKNOWN,
    ASSUMPTION_INVALID,
    WORKSPACE_MISMATCH,
];
