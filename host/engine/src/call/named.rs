//! The kinds of things that a name can name, and what tells a name from an id.

use bellhop_slack::catalog::Own;
use serde_json::{Value, json};

/// Slack gives out no shorter id.
const ID_BYTES_MIN: usize = 9;
/// Items of a page. Slack takes no 1,000 for channels ("must be an integer under 1000", its page of `conversations.list`),
/// and a large page is what costs least: each is a call of twenty a minute.
const CHANNELS_PAGE: u32 = 999;
pub(super) const PEOPLE_PAGE: u32 = 999;

const PUBLIC_CHANNELS: &str = "public_channel";
const EVERY_CHANNEL: &str = "public_channel,private_channel";

/// What kind of thing a name names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Named {
    /// A conversation.
    Channel,
    /// A person.
    User,
    /// A user group.
    Usergroup,
    /// A workspace.
    Workspace,
}

impl Named {
    pub(super) fn of(text: &str) -> Option<Self> {
        Some(match text {
            "channel" => Self::Channel,
            "user" => Self::User,
            "usergroup" => Self::Usergroup,
            "workspace" => Self::Workspace,
            _ => return None,
        })
    }

    /// Whether the text can only be an id. A message's `channel` may be a person.
    ///
    /// Slack's ids are a letter for the kind and at least eight capitals and digits behind it. Those that are given out now
    /// have a digit in front there; none is shorter but in a workspace that is played, and there they begin with a zero.
    pub(crate) fn is_id(self, text: &str) -> bool {
        let second = text.as_bytes().get(1).copied().unwrap_or_default();
        match self {
            _ if !self.has_form_of_id(text) => false,
            _ if second == b'0' => text.len() >= 3,
            _ if text.len() < ID_BYTES_MIN => false,
            // What a channel is called has no capitals, and a person is named by an e-mail.
            Self::Channel | Self::User => true,
            Self::Usergroup | Self::Workspace => second.is_ascii_digit(),
        }
    }

    /// Whether the text may be an id as well as a name: `SALESTEAM` is a good name for a group, and ids that Slack gave
    /// out some years ago look like it.
    pub(super) fn may_be_id(self, text: &str) -> bool {
        text.len() >= ID_BYTES_MIN && self.has_form_of_id(text)
    }

    fn has_form_of_id(self, text: &str) -> bool {
        let prefixes: &[char] = match self {
            Self::Channel => &['C', 'G', 'D', 'U', 'W'],
            Self::User => &['U', 'W'],
            Self::Usergroup => &['S'],
            Self::Workspace => &['T', 'E'],
        };
        text.starts_with(prefixes) && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
    }

    /// The field of an item by which people call on it, and no two have the same: before what it is called besides.
    pub(super) fn handle(self) -> Option<&'static str> {
        match self {
            Self::Usergroup => Some("handle"),
            Self::Workspace => Some("domain"),
            Self::Channel | Self::User => None,
        }
    }

    /// The method that lists such things, where in its answer, and its arguments. People are found by their e-mail.
    pub(crate) fn listing(self) -> Option<(Own, &'static str, Value)> {
        Some(match self {
            Self::Channel => (
                Own::Channel,
                "channels",
                // One that is archived has its name still.
                json!({ "types": EVERY_CHANNEL, "exclude_archived": false, "limit": CHANNELS_PAGE }),
            ),
            Self::Usergroup => (Own::Usergroup, "usergroups", json!({ "include_disabled": true })),
            Self::Workspace => (Own::Workspace, "teams", json!({ "limit": 100 })),
            Self::User => return None,
        })
    }

    /// The kinds of channels that are asked for next where a scope is missing for these.
    pub(super) fn narrower(types: &str) -> Option<&'static str> {
        match types {
            EVERY_CHANNEL => Some(PUBLIC_CHANNELS),
            PUBLIC_CHANNELS => Some("private_channel"),
            _ => None,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::User => "person",
            Self::Usergroup => "user group",
            Self::Workspace => "workspace",
        }
    }
}
