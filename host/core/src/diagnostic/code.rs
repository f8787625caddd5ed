//! The one table of codes. Every code has a page under `host/docs/errors`, and a test compares both ways.

use super::Code;

/// A code and what it means in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The code.
    pub code: Code,
    /// One line, without a full stop.
    pub summary: &'static str,
}

macro_rules! table {
    ($($name:ident = $text:literal: $summary:literal;)*) => {
        $(
            #[doc = $summary]
            pub const $name: Code = Code($text);
        )*
        /// Every code, in the order of the table.
        pub const ALL: &[Entry] = &[$(Entry { code: $name, summary: $summary }),*];
    };
}

table! {
    // The text of a definition.
    YAML_INVALID = "yaml-invalid": "The file cannot be read as YAML or JSON";
    DUPLICATE_KEY = "duplicate-key": "A key stands twice in one mapping";
    KEY_NOT_TEXT = "key-not-text": "A key is not text";
    VALUE_NOT_JSON = "value-not-json": "A value that JSON does not have";
    DEFINITION_TOO_LARGE = "definition-too-large": "The definition is larger or deeper than is read";
    TOO_MANY_FAULTS = "too-many-faults": "More faults were found than are shown";
    // The language.
    UNKNOWN_KEY = "unknown-key": "A key that the language does not have at this place";
    MISSING_KEY = "missing-key": "A key that has to be there is missing";
    WRONG_TYPE = "wrong-type": "A value of the wrong type";
    INVALID_VALUE = "invalid-value": "A value of the right type that is not allowed";
    INVALID_NAME = "invalid-name": "A name that does not follow the rule for names";
    INVALID_VERSION = "invalid-version": "A version that is not a semantic version";
    INVALID_DURATION = "invalid-duration": "A duration that cannot be read";
    INVALID_SCHEMA = "invalid-schema": "A JSON Schema that is invalid or larger than is allowed";
    SCHEMA_TOO_COSTLY = "schema-too-costly": "Comparing a value with a JSON Schema would take too long";
    NOT_SUPPORTED = "not-supported": "A part of the language that this version does not carry out";
    UNKNOWN_TASK_KIND = "unknown-task-kind": "A task that says nothing known to do";
    AMBIGUOUS_TASK = "ambiguous-task": "One item of a list holds two tasks, or one task two kinds";
    DUPLICATE_TASK = "duplicate-task": "Two tasks of one list have the same name";
    UNKNOWN_TASK = "unknown-task": "`then` names a task that its list does not have";
    UNKNOWN_REFERENCE = "unknown-reference": "A name that `use` does not declare";
    INVALID_CALL = "invalid-call": "A `call` that is not NAME:VERSION@PLUGIN";
    CATALOG_CLASH = "catalog-clash": "A plugin's name is declared in `use.catalogs` as well";
    // Expressions.
    EXPRESSION_INVALID = "expression-invalid": "An expression that cannot be evaluated";
    EXPRESSION_BUDGET = "expression-budget": "An expression used more time or memory than it may";
    EXPRESSION_IN_TEXT = "expression-in-text": "`${` stands inside a longer text, which is kept as it is";
    // Arguments of a call.
    ARGUMENT_UNKNOWN = "argument-unknown": "`with` has a field that the action does not take";
    ARGUMENT_MISSING = "argument-missing": "`with` lacks a field that the action needs";
    ARGUMENT_INVALID = "argument-invalid": "`with` has a value that the action does not take";
    // A plugin's manifest; what it shares with definitions stands above.
    DUPLICATE_ENTRY = "duplicate-entry": "Two entries of a list stand for the same thing";
    TOO_LONG = "too-long": "A text or a list is longer than is taken";
    CHARACTER_INVALID = "character-invalid": "A text has a character that steers terminals or hides text";
    INVERSE_UNKNOWN = "inverse-unknown": "An action's inverse is no action of its plugin";
    FIELD_UNKNOWN = "field-unknown": "A pointer leads to no field of the action's input";
    CODE_RESERVED = "code-reserved": "A plugin declares an error code that only the host says";
    EFFECT_UNDERSTATED = "effect-understated": "An action says that it only reads and declares a call that changes something";
    IMPORT_MISSING = "import-missing": "An action declares a call that its plugin's binary does not import";
    IMPORT_UNDECLARED = "import-undeclared": "A plugin imports a call that none of its actions declares";
    // Preflight.
    PLAN_REQUIRED = "plan-required": "The kind or plan of the connection cannot do what the action calls";
    PERMISSION_READ_ONLY = "permission-read-only": "The action changes something and the connection is read only";
    TOKEN_KIND_MISSING = "token-kind-missing": "The connection lacks a token of the kind that a method takes";
    SCOPE_MISSING = "scope-missing": "The token lacks a scope";
    SCOPE_RECOMMENDED = "scope-recommended": "A scope that only resolving an unknown outcome needs is not there";
    PURPOSE_NOT_ALLOWED = "purpose-not-allowed": "The action is not for the workflow's purpose";
    GRANT_INVALID = "grant-invalid": "A grant that would allow nothing";
    CAPABILITY_NOT_GRANTED = "capability-not-granted": "The operator did not grant the method to the plugin";
    ACTION_UNKNOWN = "action-unknown": "The plugin has no such action";
    PLUGIN_UNKNOWN = "plugin-unknown": "No such plugin is installed";
    VERSION_UNKNOWN = "version-unknown": "The plugin is not installed in such a version";
    METHOD_UNKNOWN = "method-unknown": "The plugin calls what this host's catalog does not have";
    UNKNOWN_UNTIL_RUN = "unknown-until-run": "Whether it is allowed shows only at the call";
    CONNECTION_MISSING = "connection-missing": "The installation has no connection at all";
    CONNECTION_UNKNOWN = "connection-unknown": "A trigger, a binding or a table names a connection that is not there";
    CONNECTION_DIFFERS = "connection-differs": "A connection's name leads to another workspace or organisation than it did";
    CONNECTIONS_DIFFER = "connections-differ": "Tokens, or connections of one run, that do not belong together";
    CONNECTION_AMBIGUOUS = "connection-ambiguous": "Several connections would do and nothing says which";
    CONNECTION_KIND = "connection-kind": "The connection is of a kind that the alias does not accept";
    CONNECTION_NOT_STATIC = "connection-not-static": "It cannot be told which connections an expression may give";
    TABLE_UNKNOWN = "table-unknown": "No such table is there";
    TABLE_COLUMN_UNKNOWN = "table-column-unknown": "The table has no such column, or not of the type asked for";
    ASSUMPTION_INVALID = "assumption-invalid": "A connection assumed on the command line is not of the form `NAME=KIND[:PLAN[:PERMISSION]]`";
    QUEUE_HELD_LONG = "queue-held-long": "A run waits longer than a day while others wait for its place in their group";
    WORKSPACE_MISMATCH = "workspace-mismatch": "An id belongs to another workspace than the connection";
}

/// The entry of `code`, if there is such a code.
#[must_use]
pub fn find(code: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.code.0 == code)
}
