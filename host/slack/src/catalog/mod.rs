//! The methods that guests can be given, and those that they are not given, with a reason each.
//!
//! The facts are data: `host/slack/catalog/*.json`, one method a line. Plans and kinds of connection are not on
//! those lines but in one table, [`family`].

mod entry;
pub mod family;
mod naming;
pub mod outcome;
pub mod own;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bellhop_core::requirement::{Access, Plan};
use serde::{Deserialize, Serialize};

pub use family::Family;
pub use own::Own;

/// Which of Slack's three services answers a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// `/api/NAME`, an envelope with `ok`.
    Web,
    /// `/scim/v2/…`, real verbs and statuses.
    Scim,
    /// `/audit/v1/…`.
    Audit,
}

/// The rate class that Slack prints for a method; where Slack's documentation and its Java SDK differ, the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Tier {
    /// From 1 a minute.
    #[serde(rename = "1")]
    One,
    /// From 20 a minute.
    #[serde(rename = "2")]
    Two,
    /// From 50 a minute.
    #[serde(rename = "3")]
    Three,
    /// From 100 a minute.
    #[serde(rename = "4")]
    Four,
    /// A rate of its own.
    #[serde(rename = "special")]
    Special,
}

impl Tier {
    /// For people: `tier 2`.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::One => "tier 1",
            Self::Two => "tier 2",
            Self::Three => "tier 3",
            Self::Four => "tier 4",
            Self::Special => "special",
        }
    }
}

/// How a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pages {
    /// `cursor` and `limit`; an empty `response_metadata.next_cursor` is the end.
    #[serde(rename = "cursor")]
    Cursor,
    /// `page` and `count`.
    #[serde(rename = "page")]
    Number,
    /// `startIndex`, from 1, and `count`.
    #[serde(rename = "startIndex")]
    StartIndex,
}

/// What a second identical request does when the first was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeating {
    /// The method changes nothing.
    Read,
    /// Leaves the same state.
    SameState,
    /// Finds nothing more to remove.
    StaysGone,
    /// May make a second object.
    SecondObject,
    /// Posts a second time.
    Appends,
    /// Starts a second job.
    NewJob,
    /// Overwrites what others changed in between.
    Replaces,
    /// Makes an account active again that was deactivated in between.
    Reactivates,
    /// Ends sessions that were opened in between, too.
    EndsNewer,
}

impl Repeating {
    /// For people, as the end of "repeating it …".
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Read => "changes nothing",
            Self::SameState => "leaves the same state",
            Self::StaysGone => "changes nothing more",
            Self::SecondObject => "may make a second one",
            Self::Appends => "posts a second time",
            Self::NewJob => "starts a second job",
            Self::Replaces => "overwrites what was changed in between",
            Self::Reactivates => "makes an account active again that was deactivated in between",
            Self::EndsNewer => "also ends the sessions opened in between",
        }
    }
}

/// How an unknown outcome is resolved (semantics, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reconcile {
    /// The method only reads: asked again.
    Read,
    /// Repeating leaves what the first request left: sent again under a new intent.
    Repeat,
    /// A message, found by the key in its metadata.
    Message,
    /// A message for later, found in the list of those that wait, or by the key in its metadata once it was posted.
    Scheduled,
    /// An account, found by e-mail.
    Person,
    /// A membership, read back.
    Members,
    /// Something new with a name, found by the name, its maker and the time when it was made.
    Named,
    /// Assignments of a role, read back.
    Role,
    /// An object that was replaced, read back and compared.
    Resource,
    /// Sessions, read back.
    Session,
    /// Nothing can be read back: the run parks.
    Park,
}

/// Who shares a bucket of the limiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sharing {
    /// The calls through one connection.
    Connection,
    /// All connections of one organisation (or of one workspace outside of any).
    Organisation,
    /// The calls through one connection that name the same channel.
    Channel,
}

/// One of the buckets that a call takes a token from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Methods with the same name here share the bucket.
    pub name: String,
    /// Which calls share it.
    pub sharing: Sharing,
    /// Tokens that come back per minute.
    pub per_minute: u32,
    /// Tokens that it can hold.
    pub burst: u32,
}

/// One method that guests can be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    /// As Slack writes it: `chat.postMessage`; for SCIM `scim.v2.VERB.PATH`.
    pub name: String,
    /// As guests import it: `chat.post-message`.
    pub function: String,
    /// What it is for, in a few words.
    pub summary: String,
    /// Which service answers.
    pub transport: Transport,
    /// The verb that is documented. Web methods all take POST, which is what the client sends.
    pub verb: String,
    /// The path under the service's root.
    pub path: String,
    /// Whether it takes its arguments as a JSON body; the others take a form.
    pub takes_json: bool,
    /// Accepted tokens, the preferred one first.
    pub access: Vec<Access>,
    /// Rate class.
    pub tier: Tier,
    /// Requests per minute: of its own bucket, or of one channel where channels have their own.
    pub per_minute: u32,
    /// The buckets that a call takes from; `Retry-After` closes the first.
    pub buckets: Vec<Bucket>,
    /// The least plan on which Slack documents it. What counts is the row of [`family`].
    pub plan: Plan,
    /// Why nobody can say beforehand whether the plan suffices.
    pub unknown_because: Option<String>,
    /// Its row of the plan table.
    pub family: Family,
    /// Whether a connection to a whole organisation must name the workspace (`team_id`).
    pub needs_workspace_on_org: bool,
    /// How its list goes on.
    pub pages: Option<Pages>,
    /// Whether it changes anything.
    pub writes: bool,
    /// What a second identical request does.
    pub repeating: Repeating,
    /// How an unknown outcome is resolved.
    pub reconcile: Reconcile,
    /// The methods that resolving asks.
    pub asks: Vec<String>,
    /// True where sending again without having read back could do harm: not even `onUnknown: resend` does it.
    pub never_resend_without_readback: bool,
    /// Answers that say that what was asked for already holds: error codes, or statuses of SCIM.
    pub already_done: Vec<String>,
    /// What the answer of a call that was carried out has and nobody knows but Slack: JSON pointers. From Slack's
    /// documentation of each method whose repetition is not harmless.
    pub said_by_slack: Vec<String>,
    /// Slack's refusals of a bot's token that are a matter of policy, as when a workspace lets only its administrators edit
    /// user groups: after one of these the call goes out once more with the user token of the connection.
    pub as_user: Vec<String>,
    /// Whether it speaks in the name of whoever the token is of: a person's token is used for it only where the file says so,
    /// or where the connection holds no bot's.
    pub speaks: bool,
    /// Arguments without which Slack refuses.
    pub required: Vec<String>,
    /// The other arguments.
    pub optional: Vec<String>,
}

impl Method {
    /// Interface and function of [`Self::function`]: `("chat", "post-message")`.
    #[must_use]
    pub fn import(&self) -> (&str, &str) {
        self.function.rsplit_once('.').unwrap_or((&self.function, ""))
    }

    /// Whether it has an argument of this name.
    #[must_use]
    pub fn takes(&self, argument: &str) -> bool {
        self.required.iter().chain(&self.optional).any(|a| a == argument)
    }

    /// Scopes that only resolving an unknown outcome needs.
    #[must_use]
    pub fn reconcile_scopes(&self) -> Vec<String> {
        let scopes: &[&str] = match self.reconcile {
            Reconcile::Message => &["channels:history", "groups:history", "im:history", "mpim:history", "im:write"],
            Reconcile::Scheduled => &["channels:history", "groups:history", "im:history", "mpim:history"],
            Reconcile::Members if self.transport == Transport::Web => match self.function.split('.').next() {
                Some("conversations") => &["channels:read", "groups:read"],
                Some("usergroups-users") => &["usergroups:read"],
                _ => &["admin.users:read"],
            },
            Reconcile::Named if self.name == "conversations.create" => &["channels:read", "groups:read"],
            Reconcile::Named if self.name == "usergroups.create" => &["usergroups:read"],
            Reconcile::Role => &["admin.roles:read"],
            Reconcile::Session => &["admin.users:read"],
            _ => &[],
        };
        scopes.iter().map(|s| (*s).to_owned()).collect()
    }
}

/// A reviewed method that no guest is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostOnly {
    /// As Slack writes it.
    pub name: String,
    /// Why not.
    pub because: String,
}

/// All reviewed methods.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    methods: BTreeMap<String, Method>,
    functions: BTreeMap<String, String>,
    host_only: Vec<HostOnly>,
}

/// What is wrong with a catalog's text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the JSON of a catalog file.
    #[error("{file}: {source}")]
    Json {
        /// The file.
        file: &'static str,
        /// The fault.
        source: serde_json::Error,
    },
    /// A method is in no row of the plan table, or in more than one.
    #[error("`{method}` is in {rows} rows of the plan table")]
    Rows {
        /// The method.
        method: String,
        /// How many.
        rows: usize,
    },
    /// Two methods with one name or one function.
    #[error("`{0}` is there twice")]
    Twice(String),
}

const FILES: [(&str, &str); 4] = [
    ("admin.json", include_str!("../../catalog/admin.json")),
    ("conversations.json", include_str!("../../catalog/conversations.json")),
    ("provisioning.json", include_str!("../../catalog/provisioning.json")),
    ("workspace.json", include_str!("../../catalog/workspace.json")),
];
const HOST_ONLY: (&str, &str) = ("host-only.json", include_str!("../../catalog/host-only.json"));

static BUILT_IN: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::parse(&FILES, HOST_ONLY).expect("the files are part of the program and tests read them"));

impl Catalog {
    /// The catalog of this program.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    fn parse(
        files: &[(&'static str, &'static str)],
        (host_file, host_text): (&'static str, &'static str),
    ) -> Result<Self, Error> {
        let mut catalog = Self {
            host_only: serde_json::from_str(host_text).map_err(|source| Error::Json { file: host_file, source })?,
            ..Self::default()
        };
        for (file, text) in files {
            let entries: Vec<entry::Entry> =
                serde_json::from_str(text).map_err(|source| Error::Json { file, source })?;
            for entry in entries {
                catalog.add(entry.into_method()?)?;
            }
        }
        Ok(catalog)
    }

    fn add(&mut self, method: Method) -> Result<(), Error> {
        if self.host_only.iter().any(|h| h.name == method.name) {
            return Err(Error::Twice(method.name));
        }
        if let Some(_other) = self.functions.insert(method.function.clone(), method.name.clone()) {
            return Err(Error::Twice(method.function));
        }
        match self.methods.insert(method.name.clone(), method) {
            Some(other) => Err(Error::Twice(other.name)),
            None => Ok(()),
        }
    }

    /// The method that Slack calls so.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Method> {
        self.methods.get(name)
    }

    /// The method that guests import so (`chat.post-message`).
    #[must_use]
    pub fn by_function(&self, function: &str) -> Option<&Method> {
        self.functions.get(function).and_then(|name| self.methods.get(name))
    }

    /// All methods that guests can be given, in the order of their names.
    pub fn methods(&self) -> impl Iterator<Item = &Method> {
        self.methods.values()
    }

    /// What guests can import, in the order of interface and function: `chat.post-message`, …
    #[must_use]
    pub fn functions(&self) -> Vec<&str> {
        self.functions.keys().map(String::as_str).collect()
    }

    /// The reviewed methods that guests are not given.
    #[must_use]
    pub fn host_only(&self) -> &[HostOnly] {
        &self.host_only
    }
}

/// [`Catalog::functions`] of this program: the plain list that the sandbox links by.
#[must_use]
pub fn function_names() -> Vec<&'static str> {
    Catalog::built_in().functions()
}
