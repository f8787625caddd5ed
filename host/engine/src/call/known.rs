//! Ids of names that were found lately.
//!
//! A name is one of a place, as a connection sees it. The connection's own name says neither: another one may have it by
//! now, and one to a whole organisation sees many workspaces.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bellhop_core::requirement::{Connection, Tenant};
use bellhop_core::time::Timestamp;

use super::named::Named;

/// How long a name that was found is believed. A renamed channel is found under its new name after that.
const BELIEVED_MS: u64 = 60_000;
/// Names remembered over all connections.
const REMEMBERED_MAX: usize = 100_000;

/// Where a name is looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Within {
    connection: String,
    tenant: Tenant,
    /// The workspace, where the connection sees several.
    workspace: Option<String>,
}

impl Within {
    /// None where nobody knows where the connection leads: then nothing is remembered.
    pub(super) fn of(connection: &Connection, workspace: Option<&str>) -> Option<Self> {
        let (tenant, workspace) = (connection.tenant()?, workspace.map(str::to_owned));
        Some(Self { connection: connection.name.clone(), tenant, workspace })
    }
}

/// A name of a kind of thing in a place.
type Sought = (Within, Named, String);

/// See the module.
#[derive(Default)]
pub(crate) struct Known {
    found: Mutex<HashMap<Sought, (String, Timestamp)>>,
    /// The other way round, for channels: a person has many names, a channel one.
    channels: Mutex<HashMap<(Within, String), (String, Timestamp)>>,
}

impl Known {
    pub(super) fn get(&self, within: Option<&Within>, named: Named, name: &str, now: Timestamp) -> Option<String> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (id, at) = found.get(&(within?.clone(), named, name.to_owned()))?;
        (now.millis_since(*at) < BELIEVED_MS).then(|| id.clone())
    }

    /// The name of a channel.
    pub(super) fn name_of(&self, within: Option<&Within>, id: &str, now: Timestamp) -> Option<String> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, at) = channels.get(&(within?.clone(), id.to_owned()))?;
        (now.millis_since(*at) < BELIEVED_MS).then(|| name.clone())
    }

    pub(super) fn put(&self, within: Option<&Within>, named: Named, name: &str, id: &str, now: Timestamp) {
        let Some(within) = within else { return };
        if named == Named::Channel {
            let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            if channels.len() >= REMEMBERED_MAX {
                channels.clear();
            }
            channels.insert((within.clone(), id.to_owned()), (name.to_owned(), now));
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED_MAX {
            found.clear();
        }
        found.insert((within.clone(), named, name.to_owned()), (id.to_owned(), now));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bellhop_core::requirement::{Kind, Permission};

    use super::*;

    fn connection(name: &str, workspace: Option<&str>, enterprise: Option<&str>) -> Connection {
        Connection {
            name: name.to_owned(),
            kind: Kind::GridOrg,
            permission: Permission::Act,
            plan: None,
            plan_unknown_because: None,
            checked_at: None,
            tokens: BTreeMap::new(),
            assumed: false,
            workspace_id: workspace.map(str::to_owned),
            enterprise_id: enterprise.map(str::to_owned),
        }
    }

    #[test]
    fn attack_d7_what_was_found_in_one_place_answers_for_no_other() {
        let (known, now) = (Known::default(), Timestamp::from_millis(1));
        let places = [
            Within::of(&connection("a", Some("T1"), None), None),
            Within::of(&connection("a", Some("T2"), None), None),
            Within::of(&connection("b", Some("T1"), None), None),
            // Two workspaces of one organisation.
            Within::of(&connection("org", None, Some("E1")), Some("T1")),
            Within::of(&connection("org", None, Some("E1")), Some("T2")),
        ];
        for (number, place) in places.iter().enumerate() {
            let (within, id) = (place.as_ref(), format!("C{number}"));
            assert_eq!(known.get(within, Named::Channel, "it", now), None, "{place:?}");
            known.put(within, Named::Channel, "it", &id, now);
            assert_eq!(known.get(within, Named::Channel, "it", now), Some(id.clone()));
            assert_eq!(known.name_of(within, &id, now).as_deref(), Some("it"));
            assert_eq!(known.name_of(within, "C9", now), None);
        }
        let nowhere = Within::of(&connection("a", None, None), None);
        known.put(nowhere.as_ref(), Named::Channel, "it", "C9", now);
        assert_eq!(known.get(nowhere.as_ref(), Named::Channel, "it", now), None, "nobody knows where that was");
        assert_eq!(known.get(places[0].as_ref(), Named::Channel, "it", now.plus_millis(BELIEVED_MS)), None);
    }
}
