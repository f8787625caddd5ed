//! One line of a catalog file, and how it becomes a [`Method`].

use std::collections::BTreeMap;

use bellhop_core::requirement::{Access, Plan, TokenKind};
use serde::Deserialize;

use super::{Bucket, Error, Family, Method, Pages, Reconcile, Repeating, Sharing, Tier, Transport};

/// Slack does not print how large a burst it bears ("short bursts"): a quarter of a minute's tokens.
const BURST_SHARE: u32 = 4;
/// `chat.postMessage` besides its one a second in a channel: "several hundred a minute" in a workspace.
const POSTS_PER_MINUTE: u32 = 300;
/// Short bursts into one channel.
const CHANNEL_BURST: u32 = 4;
/// All SCIM apps of an organisation together.
const SCIM_READS: (u32, u32) = (1000, 1000);
/// All SCIM apps of an organisation together.
const SCIM_WRITES: (u32, u32) = (600, 180);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    name: String,
    function: String,
    #[serde(rename = "use")]
    summary: String,
    http: String,
    path: Option<String>,
    #[serde(default)]
    json: bool,
    tokens: BTreeMap<TokenKind, Vec<String>>,
    #[serde(default)]
    depends: bool,
    tier: Tier,
    per_minute: u32,
    burst: Option<u32>,
    bucket: Option<String>,
    #[serde(default)]
    per_channel: bool,
    plan: Plan,
    unknown: Option<String>,
    #[serde(default)]
    team_id: bool,
    pages: Option<Pages>,
    repeat: Repeating,
    resolve: Reconcile,
    #[serde(default)]
    ask: Vec<String>,
    #[serde(default)]
    never_resend: bool,
    #[serde(default)]
    done: Vec<String>,
    #[serde(default)]
    said: Vec<String>,
    #[serde(default)]
    as_user: Vec<String>,
    #[serde(default)]
    speaks: bool,
    required: Vec<String>,
    optional: Vec<String>,
}

impl Entry {
    pub(super) fn into_method(self) -> Result<Method, Error> {
        let family =
            Family::of(&self.name).map_err(|rows| Error::Rows { method: self.name.clone(), rows: rows.len() })?;
        let transport = match self.name.split('.').next() {
            Some("scim") => Transport::Scim,
            Some("audit") => Transport::Audit,
            _ => Transport::Web,
        };
        let buckets = self.buckets(transport);
        let depends_on_arguments = self.depends;
        // The kinds are ordered bot, user, audit: from the weakest to the strongest.
        let access = self
            .tokens
            .into_iter()
            .map(|(token, scopes)| Access {
                token,
                depends_on_arguments: depends_on_arguments && !scopes.is_empty(),
                scopes,
            })
            .collect();
        Ok(Method {
            path: self.path.unwrap_or_else(|| format!("/api/{}", self.name)),
            name: self.name,
            function: self.function,
            summary: self.summary,
            transport,
            verb: self.http,
            takes_json: self.json || transport == Transport::Scim,
            access,
            tier: self.tier,
            per_minute: self.per_minute,
            buckets,
            plan: self.plan,
            unknown_because: self.unknown,
            family,
            needs_workspace_on_org: self.team_id,
            pages: self.pages,
            writes: self.repeat != Repeating::Read,
            repeating: self.repeat,
            reconcile: self.resolve,
            asks: self.ask,
            never_resend_without_readback: self.never_resend,
            already_done: self.done,
            said_by_slack: self.said,
            as_user: self.as_user,
            speaks: self.speaks,
            required: self.required,
            optional: self.optional,
        })
    }

    fn buckets(&self, transport: Transport) -> Vec<Bucket> {
        let own = |sharing, per_minute: u32, burst: Option<u32>| Bucket {
            name: self.bucket.clone().unwrap_or_else(|| self.name.clone()),
            sharing,
            per_minute,
            burst: burst.or(self.burst).unwrap_or_else(|| (per_minute / BURST_SHARE).max(1)),
        };
        match transport {
            Transport::Web if self.per_channel => vec![
                own(Sharing::Connection, POSTS_PER_MINUTE, None),
                own(Sharing::Channel, self.per_minute, Some(CHANNEL_BURST)),
            ],
            Transport::Web => vec![own(Sharing::Connection, self.per_minute, None)],
            Transport::Audit => vec![own(Sharing::Organisation, self.per_minute, None)],
            Transport::Scim => {
                let (name, (per_minute, burst)) = if self.repeat == Repeating::Read {
                    ("scim-reads", SCIM_READS)
                } else {
                    ("scim-writes", SCIM_WRITES)
                };
                let all = Bucket { name: name.to_owned(), sharing: Sharing::Organisation, per_minute, burst };
                vec![own(Sharing::Organisation, self.per_minute, None), all]
            }
        }
    }
}
