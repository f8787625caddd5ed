//! What every refusal looks like: `application/problem+json` (RFC 9457), made in this one file.
//!
//! Rooms below know no statuses. What went wrong inside is logged beside the request's id and never sent.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use bellhop_core::diagnostic::{Diagnostic, Remedy, nearest};
use bellhop_core::fault::ERROR_BASE;
use bellhop_core::id::RequestId;
use bellhop_core::time::Timestamp;

use bellhop_engine::accept::trigger::Refused;
use bellhop_engine::drive::runs::LoadError;
use bellhop_engine::setup::connections::{self, ConnectError};
use bellhop_engine::setup::definitions::PutError;
use bellhop_journal as journal;

use super::way::Base;

mod plugins;

/// A class of problem: its stable code, its status, and a title that is the same each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Stable; the last part of `type`, and a page of the book.
    pub code: &'static str,
    /// Always this one.
    pub status: u16,
    /// Without a full stop.
    pub title: &'static str,
    /// What helps, where no diagnostic says it better. Without a full stop.
    pub remedy: &'static str,
}

macro_rules! kinds {
    ($($name:ident = $code:literal, $status:literal, $title:literal, $remedy:literal;)*) => {
        $(
            #[doc = $title]
            pub const $name: Kind = Kind { code: $code, status: $status, title: $title, remedy: $remedy };
        )*
        /// Every kind, in the order of the table.
        pub const ALL: &[Kind] = &[$($name),*];
    };
}

kinds! {
    // The request as such.
    REQUEST_INVALID = "request-invalid", 400, "The request has fields or parameters that are not what the route takes",
        "send what the detail asks for";
    BODY_MALFORMED = "body-malformed", 400, "The body cannot be read as JSON",
        "send one JSON object, as UTF-8";
    TOKEN_MISSING = "token-missing", 401, "The request carries no token",
        "send `Authorization: Bearer bh_…`; the host printed the first token when it first started, `bellhop token create` makes more";
    TOKEN_INVALID = "token-invalid", 401, "The token is not valid",
        "have a token made: bellhop token create --name NAME --scope SCOPE";
    TOKEN_SCOPE_MISSING = "token-scope-missing", 403, "The token may not do this",
        "have a token made with that scope: bellhop token create --name NAME --scope SCOPE";
    ROUTE_UNKNOWN = "route-unknown", 404, "There is nothing at this address",
        "see which there are: bellhop explain route-unknown";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "The address does not take this method",
        "use one of the methods in the header `Allow`";
    NOT_ACCEPTABLE = "not-acceptable", 406, "The address has nothing of the types that the request accepts",
        "accept one of the types in the detail, or leave out `Accept`";
    BODY_TIMEOUT = "body-timeout", 408, "The body did not arrive in time",
        "send the body faster, or raise `body_ms_max` in bellhop.toml";
    BODY_TOO_LARGE = "body-too-large", 413, "The body is larger than is read",
        "send less; the operator can raise the limit: bellhop config";
    MEDIA_TYPE_UNSUPPORTED = "media-type-unsupported", 415, "The body is of a type that the route does not take",
        "send the content type that the detail names";
    HEADERS_TOO_LARGE = "headers-too-large", 431, "The request's headers are larger than is read",
        "send fewer and shorter headers";
    // What is not there.
    RUN_UNKNOWN = "run-unknown", 404, "There is no such run",
        "see which there are: bellhop runs list";
    WORKFLOW_UNKNOWN = "workflow-unknown", 404, "There is no such workflow, or not in that version",
        "see which there are: bellhop workflows list; register it: bellhop workflows apply FILE";
    TABLE_UNKNOWN = "table-unknown", 404, "No such table is there",
        "see which there are: bellhop tables list; put it: bellhop tables put NAME FILE";
    CONNECTION_UNKNOWN = "connection-unknown", 404, "There is no such connection",
        "see which there are: bellhop connections list; make it: bellhop connect slack --kind KIND --name NAME";
    PLUGIN_UNKNOWN = "plugin-unknown", 404, "No such plugin is installed",
        "see which there are: bellhop plugin list; install it: bellhop plugin install FILE";
    VERSION_UNKNOWN = "version-unknown", 404, "The plugin is not installed in such a version",
        "see which there are: bellhop plugin list";
    ACTION_UNKNOWN = "action-unknown", 404, "The plugin has no such action",
        "see which there are: GET /v1/actions";
    TOKEN_UNKNOWN = "token-unknown", 404, "There is no such token",
        "see which there are: bellhop token list";
    // What does not fit what is there.
    RUN_ENDED = "run-ended", 409, "The run has ended",
        "start another run";
    RUN_NOT_SUSPENDED = "run-not-suspended", 409, "The run is not suspended",
        "suspend it first: bellhop runs suspend RUN";
    GROUP_FULL = "group-full", 409, "The run's group has as many runs as it can have",
        "wait for the runs in the group, or end one: bellhop runs list";
    RUN_NOT_RETRYABLE = "run-not-retryable", 409, "The run has nothing that can be tried again",
        "see how it stands: bellhop runs show RUN; start another run";
    DEFINITION_DIFFERS = "definition-differs", 409, "The version would not have come to where the run stands",
        "change only the task that failed, and what comes after it; or start another run";
    RUN_NOT_UNDOABLE = "run-not-undoable", 409, "The run has nothing that can be taken back",
        "see how it stands: bellhop runs show RUN; one that has not ended is cancelled with: bellhop runs cancel RUN --rollback";
    RUN_NOT_PARKED = "run-not-parked", 409, "The run does not wait for a person",
        "see what it does: bellhop runs show RUN";
    NOT_OPEN = "not-open", 409, "Nothing was settled: what is named does not wait for a word",
        "see what is open, and the address of each: bellhop runs show RUN";
    NOT_RESTORED = "not-restored", 409, "The host was not restored from a backup: it goes on as it is",
        "see how it stands: bellhop runs list";
    VERSION_IMMUTABLE = "version-immutable", 409, "A version once there does not change",
        "give what changed a version of its own";
    CONNECTION_EXISTS = "connection-exists", 409, "There is a connection of that name",
        "choose another name, or replace it: bellhop connect slack --kind KIND --name NAME --replace; over HTTP send `?replace=true`";
    PLUGIN_PUBLISHER_DIFFERS = "plugin-publisher-differs", 409, "The plugin's name belongs to another publisher",
        "install the plugin under a name of its own; if it is to take this one: bellhop plugin install FILE --replace-publisher";
    PLUGIN_REPLACES = "plugin-replaces", 409, "The plugin does not follow what it is said to follow",
        "look at what is there, then say what it follows: bellhop plugin install FILE --replaces=VERSION; over HTTP `?replaces=VERSION`";
    PLUGIN_IN_USE = "plugin-in-use", 409, "The plugin is needed by what is there",
        "end what is named, or register workflows that do without the plugin, then remove it";
    LAST_OPERATOR_TOKEN = "last-operator-token", 409, "No other token makes tokens for good",
        "make another one first: bellhop token create --name NAME --scope tokens:admin; a token that ends does not count";
    TOO_MANY_VERSIONS = "too-many-versions", 409, "The workflow has as many versions as it may have",
        "raise `definition_versions_max` in bellhop.toml, or use another workflow name";
    PRECONDITION_FAILED = "precondition-failed", 412, "The latest version is not the one that the request expects",
        "read the latest version, and send its `ETag` as `If-Match`";
    // What cannot be done as asked.
    PREFLIGHT_REFUSED = "preflight-refused", 422, "Nothing was changed: what the run needs is not there",
        "do what the diagnostics say, then send the same request again";
    INPUT_INVALID = "input-invalid", 422, "The input does not fit the workflow's schema",
        "send an input that fits";
    SCHEMA_TOO_COSTLY = "schema-too-costly", 422, "Comparing the input with its schema would take too long",
        "send a smaller input, or have the schema made simpler";
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused", 422, "The idempotency key was used with another body",
        "send the body of the first time, or another key";
    DEFINITION_INVALID = "definition-invalid", 422, "The definition has faults",
        "mend the definition: bellhop check FILE";
    WORKFLOW_NAME_MISMATCH = "workflow-name-mismatch", 422, "The document names another workflow than the address",
        "put it at the address that its document names";
    PLUGIN_REFUSED = "plugin-refused", 422, "The plugin cannot be installed",
        "see what it is: bellhop plugin inspect FILE";
    GRANT_INVALID = "grant-invalid", 422, "A grant that would allow nothing",
        "do what the diagnostics say, then send it again";
    CONNECTION_REFUSED = "connection-refused", 422, "The connection cannot be made of these tokens",
        "connect with tokens that Slack takes, as what they are";
    ADDRESS_AMBIGUOUS = "address-ambiguous", 422, "Nothing was settled: several things are open, and a word is for one",
        "name one of those in `open` by its address: bellhop runs resolve RUN --task ADDRESS --done, or --not-done";
    NOT_IN_DOUBT = "not-in-doubt", 422, "Nothing was settled: no call of it is in doubt",
        "have the action begun again: bellhop runs resolve RUN --task ADDRESS --not-done";
    ANSWER_NEEDED = "answer-needed", 422, "What Slack answered has to be said",
        "send the answer that Slack gave: bellhop runs resolve RUN --done --answer JSON";
    // The host.
    INTERNAL = "internal", 500, "The host failed",
        "look for the request's id in the log of the host";
    RUN_POISONED = "run-poisoned", 500, "The run cannot be taken up and is set aside",
        "look for the run's id in the log of the host, mend what is missing and resume the run; or give it up: bellhop runs cancel RUN --force";
    STORAGE_DAMAGED = "storage-damaged", 500, "What is stored of something that the request needs is damaged",
        "put it anew, or restore a backup of the data folder; everything else goes on";
    NOT_SUPPORTED = "not-supported", 501, "This version does not carry this out",
        "leave it out";
    NEEDS_OAUTH = "needs-oauth", 501, "Links for connecting need Slack's OAuth, which is not set up",
        "connect with tokens that are there: bellhop connect slack --kind KIND --name NAME --bot-token-file FILE";
    DRAINING = "draining", 503, "The host is stopping",
        "send it again after the time in `Retry-After`";
    RESTORED = "restored", 503, "The host was restored from a backup, and nobody has had it go on yet",
        "look at what is there, give connections their tokens again, then: bellhop restore --go-on";
    BACKUP_TOO_SLOW = "backup-too-slow", 503, "The backup was broken off, because its reader took less than was written meanwhile",
        "take it to a faster place, as a file on a disk of that machine; or raise `backup_queue_bytes_max` in bellhop.toml";
    NOT_READY = "not-ready", 503, "The host is starting",
        "send it again after the time in `Retry-After`";
    CONNECTIONS_FULL = "connections-full", 503, "As many connections are open as may be",
        "send it again after the time in `Retry-After`, over fewer connections; the operator can raise `connections_max` and `peer_connections_max`, and name proxies in `trusted_proxies`";
    STORE_FULL = "store-full", 503, "More waits to be written than may wait",
        "send it again after the time in `Retry-After`";
    CLOCK_DOUBTED = "clock-doubted", 503, "The machine's clock is doubted",
        "set the machine's clock; where it is right, say so: bellhop clock confirm";
    DISK_FULL = "disk-full", 503, "The store's disk has too little room for anything new",
        "send it again after the time in `Retry-After`; the operator makes room on the disk of the data folder";
    UNAVAILABLE = "unavailable", 503, "The host cannot take this now",
        "send it again after the time in `Retry-After`";
    SLACK_UNAVAILABLE = "slack-unavailable", 503, "Slack did not answer",
        "send it again after the time in `Retry-After`";
    TOO_MANY_RUNS = "too-many-runs", 503, "As many runs are open as may be",
        "send it again later, or raise `open_runs_max` in bellhop.toml";
}

/// The one text for every token that is not valid, so that it tells nothing about which tokens there were.
const TOKEN_INVALID_DETAIL: &str = "the token is unknown, has ended or was revoked";

/// Why a request was not carried out. Nothing was changed, unless the kind says otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    diagnostics: Vec<Diagnostic>,
    remedy: Option<String>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem; `detail` says what happened this time, for people.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            diagnostics: Vec::new(),
            remedy: None,
            members: Map::new(),
            headers: Vec::new(),
        }
    }

    /// What class it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// With every fault that was found.
    #[must_use]
    pub fn with_diagnostics(mut self, diagnostics: Vec<Diagnostic>) -> Self {
        self.diagnostics = diagnostics;
        self
    }

    /// With what helps this time, instead of what helps in general.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// With `did you mean …?` where `wanted` is nearly one of `known`.
    #[must_use]
    pub fn with_nearest<'k>(self, wanted: &str, known: impl IntoIterator<Item = &'k str>) -> Self {
        match nearest(wanted, known) {
            Some(near) => {
                let remedy = format!("did you mean `{near}`?");
                self.with_remedy(remedy)
            }
            None => self,
        }
    }

    /// With one more member, for machines.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    fn with_header(mut self, name: HeaderName, value: &str) -> Self {
        // Every value is made of our own words; one that no header can carry is left out.
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// The host's own failure: `cause` goes to the log, beside the request's id, and not to the caller.
    pub fn internal(cause: &dyn Display) -> Self {
        tracing::error!(%cause, "a request failed");
        Self::new(INTERNAL, "the host failed; its log says why, beside this request's id")
    }

    /// No token.
    pub fn token_missing() -> Self {
        Self::new(TOKEN_MISSING, "send `Authorization: Bearer bh_…`")
            .with_header(WWW_AUTHENTICATE, "Bearer realm=\"bellhop\"")
    }

    /// A token that is none of ours.
    pub fn token_invalid() -> Self {
        Self::new(TOKEN_INVALID, TOKEN_INVALID_DETAIL)
            .with_header(WWW_AUTHENTICATE, "Bearer realm=\"bellhop\", error=\"invalid_token\"")
    }

    /// A token without what the route needs: any one of `scopes`, or, with `all`, all of them.
    pub fn scope_missing(scopes: &[String], all: bool) -> Self {
        let quoted: Vec<String> = scopes.iter().map(|s| format!("`{s}`")).collect();
        let word = if all { " and " } else { " or " };
        Self::new(TOKEN_SCOPE_MISSING, format!("the token lacks the scope {}", quoted.join(word)))
            .with("scopes", scopes.to_vec())
            .with_header(
                WWW_AUTHENTICATE,
                &format!("Bearer realm=\"bellhop\", error=\"insufficient_scope\", scope=\"{}\"", scopes.join(" ")),
            )
    }

    /// A token that ends at `end` is to make one that is there longer.
    pub fn token_ends(end: Timestamp) -> Self {
        Self::new(TOKEN_SCOPE_MISSING, format!("the token ends at {end} and makes none that is there longer"))
            .with("ends_at", end.to_string())
            .with_remedy(format!(
                "give the new token an end: --expires-at {end}, or `expiresAt`; a token that has none makes one without"
            ))
            .with_header(WWW_AUTHENTICATE, "Bearer realm=\"bellhop\", error=\"insufficient_scope\"")
    }

    /// The address is there and takes these methods only.
    pub fn method_not_allowed(allowed: &str) -> Self {
        Self::new(METHOD_NOT_ALLOWED, format!("this address takes {allowed}")).with_header(ALLOW, allowed)
    }

    /// A body in a coding that is not undone here; the answer says which one is taken (RFC 9110, section 12.5.3).
    pub fn coding(detail: impl Into<String>) -> Self {
        Self::new(MEDIA_TYPE_UNSUPPORTED, detail).with_header(ACCEPT_ENCODING, "identity")
    }

    /// For now; the same request may succeed after `after`.
    pub fn later(kind: Kind, detail: impl Into<String>, after: Duration) -> Self {
        Self::new(kind, detail).with_header(RETRY_AFTER, &after.as_secs().max(1).to_string())
    }

    /// The process is stopping.
    pub fn draining() -> Self {
        Self::later(DRAINING, "the host is stopping and begins nothing more", Duration::from_secs(5))
    }

    /// Nothing goes on in a restored host before somebody says so; its backup is of `instant`.
    pub fn restored(instant: Timestamp) -> Self {
        let detail = format!(
            "the host was restored from a backup of {instant}: no run goes on and none begins before somebody says so"
        );
        Self::new(RESTORED, detail).with("instant", instant.to_string())
    }

    /// A part of the interface that is there in name only.
    pub fn not_supported(what: &str) -> Self {
        Self::new(NOT_SUPPORTED, format!("{what} is not carried out by this version"))
    }

    /// The response, for the request `id` to `path`, whose sender sees the host at `base`.
    pub(super) fn render(self, id: RequestId, path: &str, base: &Base) -> Response {
        let Self { kind, detail, mut diagnostics, remedy, members, headers } = self;
        for pointer in diagnostics.iter_mut().filter_map(|diagnostic| diagnostic.pointer.as_mut()) {
            *pointer = repeated(pointer).into_owned();
        }
        for http in diagnostics.iter_mut().flat_map(|d| &mut d.remedies).filter_map(|remedy| remedy.http.as_mut()) {
            http.path = base.at(&http.path);
        }
        // Where diagnostics say what helps, that is said once.
        let general = diagnostics.is_empty().then(|| kind.remedy.to_owned());
        let remedies: Vec<Remedy> =
            remedy.or(general).map(|title| Remedy { title, command: None, http: None }).into_iter().collect();
        let mut body = json!({
            "type": format!("{ERROR_BASE}{}", kind.code),
            "title": kind.title,
            "status": kind.status,
            "detail": detail,
            "instance": base.at(&repeated(path)),
            "code": kind.code,
            "request_id": id.to_string(),
            "diagnostics": diagnostics,
            "remedies": remedies,
        });
        if let Value::Object(fields) = &mut body {
            fields.extend(members);
        }
        let status = StatusCode::from_u16(kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Whatever was repeated of the request: a token that was given by mistake is not.
        let mut response = Response::new(Body::from(without_tokens(body.to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(headers);
        response
    }
}

/// So many characters tell which address, name or place of the caller's is meant.
const REPEATED_CHARS_MAX: usize = 200;

/// Of a text of the caller's what is repeated: an answer does not grow with it.
pub(super) fn repeated(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(REPEATED_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// A text in which nothing looks like a token of Slack's or of ours.
pub fn without_tokens(text: String) -> String {
    bellhop_slack::client::masked(&text).unwrap_or(text)
}

/// Until [`Problem::render`] knows the request, the problem travels inside an otherwise empty response.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(self.kind.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self);
        response
    }
}

impl From<journal::Error> for Problem {
    fn from(error: journal::Error) -> Self {
        match &error {
            journal::Error::Store(journal::store::Error::Full { .. }) => Self::later(
                STORE_FULL,
                "nothing was kept: more waits to be written than may wait",
                Duration::from_secs(1),
            ),
            journal::Error::Store(error @ journal::store::Error::NoRoom { .. }) => {
                Self::later(DISK_FULL, format!("nothing was kept: {error}"), Duration::from_secs(30))
            }
            journal::Error::Store(journal::store::Error::Refused { .. }) => Self::later(
                UNAVAILABLE,
                "nothing was kept: others have changed each time what this rests on",
                Duration::from_secs(1),
            ),
            journal::Error::Store(journal::store::Error::TooLarge { what, bytes, bytes_max }) => Self::new(
                BODY_TOO_LARGE,
                format!("nothing was kept: {what} would have {bytes} bytes, at most {bytes_max} can be stored"),
            ),
            journal::Error::Damaged { fact, reason } => {
                tracing::error!(%fact, %reason, "a request needs what is damaged");
                Self::new(STORAGE_DAMAGED, format!("nothing was changed: {fact} cannot be read"))
                    .with("fact", fact.as_str())
            }
            error if error.is_damage() => {
                tracing::error!(%error, "a request needs what is damaged");
                Self::new(STORAGE_DAMAGED, "nothing was changed: a record that this needs cannot be read")
            }
            _ => Self::internal(&error),
        }
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unknown(run) => Self::new(RUN_UNKNOWN, format!("there is no run {run}")),
            LoadError::Damaged(cause) => {
                tracing::error!(%cause, "a run cannot be taken up");
                Self::new(RUN_POISONED, "what the run was recorded with cannot be read; other runs go on")
            }
            LoadError::Journal(error) => error.into(),
            LoadError::Port(error) => Self::internal(&error),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Unknown(what) => Self::new(WORKFLOW_UNKNOWN, format!("there is no workflow `{what}`")),
            Refused::GroupFull(_) => Self::new(GROUP_FULL, refused.to_string()),
            Refused::KeyReused(run) => {
                Self::new(IDEMPOTENCY_KEY_REUSED, format!("with another body, this key started the run {run}"))
                    .with("run", run.to_string())
            }
            Refused::Input(diagnostics) => Self::input("nothing was started: the input does not fit", diagnostics),
            Refused::Preflight(diagnostics) => Self::preflight(diagnostics),
            Refused::TooMany { max } => Self::later(
                TOO_MANY_RUNS,
                format!("nothing was started: {max} runs are open, and no more may be (open_runs_max)"),
                Duration::from_secs(30),
            ),
            Refused::Unavailable(why) => Self::later(UNAVAILABLE, why, Duration::from_secs(5)),
            Refused::Journal(error) => error.into(),
        }
    }
}

impl Problem {
    /// An input that does not fit, or of which that cannot be found out in time.
    pub fn input(detail: &str, diagnostics: Vec<Diagnostic>) -> Self {
        if diagnostics.iter().any(|d| d.code.0 == SCHEMA_TOO_COSTLY.code) {
            let detail = "nothing was started: comparing the input with its schema would take too long";
            return Self::new(SCHEMA_TOO_COSTLY, detail).with_diagnostics(diagnostics);
        }
        Self::new(INPUT_INVALID, detail).with_diagnostics(diagnostics)
    }

    /// What is missing, all of it.
    pub fn preflight(diagnostics: Vec<Diagnostic>) -> Self {
        let errors = diagnostics.iter().filter(|d| d.is_error()).count();
        let what = if errors == 1 { "one thing is".to_owned() } else { format!("{errors} things are") };
        Self::new(PREFLIGHT_REFUSED, format!("nothing was changed: {what} missing")).with_diagnostics(diagnostics)
    }

    /// A definition's faults, all of them.
    pub fn definition(diagnostics: Vec<Diagnostic>) -> Self {
        Self::new(DEFINITION_INVALID, "nothing was kept: the definition has faults").with_diagnostics(diagnostics)
    }
}

impl From<PutError> for Problem {
    fn from(error: PutError) -> Self {
        let detail = error.to_string();
        match error {
            PutError::OtherName { .. } => Self::new(WORKFLOW_NAME_MISMATCH, detail),
            PutError::Immutable { .. } => Self::new(VERSION_IMMUTABLE, detail),
            PutError::TooMany { .. } => {
                Self::new(TOO_MANY_VERSIONS, format!("nothing was kept: {detail} (definition_versions_max)"))
            }
            PutError::Precondition { current } => {
                let problem = Self::new(PRECONDITION_FAILED, detail);
                match current {
                    Some(c) => problem.with("current", json!({ "version": c.version, "digest": c.digest.to_string() })),
                    None => problem.with("current", Value::Null),
                }
            }
            PutError::Journal(error) => error.into(),
        }
    }
}

impl From<connections::Error> for Problem {
    fn from(error: connections::Error) -> Self {
        match error {
            connections::Error::Journal(error) => error.into(),
            connections::Error::Secrets { .. } => Self::internal(&error),
        }
    }
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        use bellhop_slack::client::Failure;
        use bellhop_slack::connect::Error as Detect;
        let detail = error.to_string();
        match error {
            // What no header can carry never will be.
            ConnectError::Detect(Detect::NoAnswer { failure: Failure::NotSent { reason, .. }, .. })
                if !reason.may_succeed_later() =>
            {
                Self::new(CONNECTION_REFUSED, format!("nothing was connected: {detail}"))
            }
            ConnectError::Detect(error @ Detect::NoAnswer { .. }) => {
                let problem = Self::later(SLACK_UNAVAILABLE, detail, Duration::from_secs(10));
                match error.network() {
                    Some(fault) => problem.with_remedy(fault.remedy()),
                    None => problem,
                }
            }
            ConnectError::Detect(
                error @ (Detect::NoToken | Detect::Refused { .. } | Detect::Incomplete { .. } | Detect::Differ { .. }),
            ) => {
                let problem = Self::new(CONNECTION_REFUSED, format!("nothing was connected: {detail}"));
                match error.differing() {
                    Some(diagnostic) => problem.with_diagnostics(vec![diagnostic]),
                    None => problem,
                }
            }
            ConnectError::Mismatch(diagnostics) => {
                Self::new(CONNECTION_REFUSED, format!("nothing was connected: {detail}")).with_diagnostics(diagnostics)
            }
            ConnectError::Lacking(_) => Self::new(CONNECTION_REFUSED, format!("nothing was asked of Slack: {detail}"))
                .with_remedy("give all of its tokens: bellhop connect slack --kind KIND --name NAME --replace"),
            ConnectError::Keep(error) => error.into(),
        }
    }
}
