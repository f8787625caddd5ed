//! The methods that the host calls for itself, by what it wants: no plugin asks for these, and no grant covers them. Their
//! names stand in the catalog (`own.json`) and nowhere else.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::{Catalog, Method};

/// What the host wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// To tell people of a run.
    Notify,
    /// The channels, to find the id of a name.
    Channel,
    /// A person by an e-mail.
    User,
    /// The user groups, to find the id of a handle or a name.
    Usergroup,
    /// The workspaces of an organisation, to find the id of a name.
    Workspace,
    /// A person by an e-mail, also one that was deactivated.
    ProvisionedUser,
    /// The name of a channel.
    ChannelName,
    /// The people of a workspace, also those who were deactivated.
    Members,
}

impl Own {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Notify,
        Self::Channel,
        Self::User,
        Self::Usergroup,
        Self::Workspace,
        Self::ProvisionedUser,
        Self::ChannelName,
        Self::Members,
    ];

    /// As the catalog and preflight write it. Those for names are the words of `x-bellhop` in an input's schema.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Channel => "channel",
            Self::User => "user",
            Self::Usergroup => "usergroup",
            Self::Workspace => "workspace",
            Self::ProvisionedUser => "provisioned-user",
            Self::ChannelName => "channel-name",
            Self::Members => "members",
        }
    }
}

/// By the words.
static METHODS: LazyLock<BTreeMap<String, String>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../catalog/own.json"))
        .expect("the file is part of the program and a test reads it")
});

impl Catalog {
    /// The method by which the host gets what it wants for itself. None only in a catalog that was cut for a test.
    #[must_use]
    pub fn own(&self, own: Own) -> Option<&Method> {
        self.by_name(METHODS.get(own.word())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_catalog_under_its_word() {
        assert_eq!(METHODS.len(), Own::ALL.len(), "a word that nothing asks for");
        for own in Own::ALL {
            assert!(Catalog::built_in().own(own).is_some(), "{own:?}");
        }
    }
}
