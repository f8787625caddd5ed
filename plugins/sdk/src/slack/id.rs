//! Slack's ids, as types: their schemas tell the host what a field means, so that a file can give a name instead.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$docs:meta])* $name:ident, $what:literal, $description:literal) => {
        $(#[$docs])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub String);

        impl $name {
            /// As text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "minLength": 1, "maxLength": 256, "x-bellhop": $what, "description": $description })
            }
        }
    };
}

id!(
    /// A channel. In a file `#name` does as well: the host resolves it before the action runs.
    ChannelId,
    "channel",
    "A channel's id, or `#name`."
);
id!(
    /// A person. In a file an e-mail does as well: the host resolves it before the action runs.
    UserId,
    "user",
    "A person's id, or an e-mail."
);
id!(
    /// A user group. In a file `@handle` does as well: the host resolves it before the action runs.
    UsergroupId,
    "usergroup",
    "A user group's id, or its handle."
);
id!(
    /// A workspace of an organisation.
    WorkspaceId,
    "workspace",
    "A workspace's id, or its name."
);
