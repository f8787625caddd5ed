//! Names in the cells of an operator's table: where the connections that are there know exactly one thing of a name, its
//! id is kept in place of it. What no connection knows, or several know differently, stays a name and is looked up when
//! an action is called with it, on that action's connection.

use std::collections::{BTreeMap, BTreeSet};

use bellhop_core::id::RunId;
use bellhop_core::preflight::{Column, Table};
use bellhop_core::requirement::{Kind, Tenant};
use serde_json::{Value, json};

use crate::Engine;
use crate::call::{Named, key, pairs, plain};
use crate::gateway::Connected;

/// Connections that are asked about one table.
const CONNECTIONS_MAX: usize = 32;
/// Pages of one list that are read.
const PAGES_MAX: usize = 100;

/// What became of a table's names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// How many cells, or items of cells, have an id now.
    pub ids: usize,
    /// The names that stayed.
    pub names: BTreeSet<String>,
}

/// What a connection tells of one kind of thing.
enum Listed {
    /// It lists no such things.
    Never,
    /// Slack refused, or the list has more than is read: there may be any names in it.
    KeptBack,
    /// All names, with their ids.
    Whole(Vec<(String, String)>),
}

fn named(column: Column) -> Option<Named> {
    match column {
        Column::Channel => Some(Named::Channel),
        Column::Usergroup => Some(Named::Usergroup),
        Column::Workspace => Some(Named::Workspace),
        Column::Text | Column::Role | Column::Connection => None,
    }
}

/// Every text of the columns whose cells name something, by what it names.
fn texts(table: &mut Table) -> impl Iterator<Item = (Named, &mut String)> {
    let columns = &table.columns;
    table.rows.values_mut().flatten().filter_map(|(column, cell)| Some((named(*columns.get(column)?)?, cell))).flat_map(
        |(named, cell)| {
            let (one, several) = match cell {
                Value::String(text) => (Some(text), None),
                Value::Array(items) => (None, Some(items)),
                _ => (None, None),
            };
            let several = several.into_iter().flatten().filter_map(|item| match item {
                Value::String(text) => Some(text),
                _ => None,
            });
            one.into_iter().chain(several).map(move |text| (named, text))
        },
    )
}

impl Engine {
    /// Puts ids in place of names, as far as the connections tell. Reads only, and nothing of it is needed: a list that
    /// cannot be read leaves names as they are.
    pub async fn resolve_table(&self, table: &mut Table) -> Resolved {
        let wanted: BTreeSet<Named> =
            texts(table).filter(|(named, text)| !named.is_id(text)).map(|(named, _)| named).collect();
        let mut resolved = Resolved::default();
        if wanted.is_empty() {
            return resolved;
        }
        let mut ids: BTreeMap<(Named, String), BTreeSet<String>> = BTreeMap::new();
        let connections = self.services.gateway.connections();
        // What was not read could make a name look as if there were only one of it.
        let mut untold: BTreeSet<Named> = BTreeSet::new();
        if connections.len() > CONNECTIONS_MAX {
            untold.clone_from(&wanted);
        }
        for named in &wanted {
            let (mut told, mut kept_back) = (Vec::new(), Vec::new());
            for connection in connections.iter().take(CONNECTIONS_MAX) {
                let tenant = connection.facts.tenant();
                match self.listed(connection, *named).await {
                    Listed::Never => {}
                    Listed::KeptBack => kept_back.push(tenant),
                    Listed::Whole(listed) => {
                        told.extend(tenant);
                        for (name, id) in listed {
                            ids.entry((*named, name)).or_default().insert(id);
                        }
                    }
                }
            }
            // Another connection to the same place has told what this one did not.
            let is_told = |kept: &Option<Tenant>| kept.as_ref().is_some_and(|kept| told.iter().any(|one| one.is(kept)));
            if !kept_back.iter().all(is_told) {
                untold.insert(*named);
            }
        }
        ids.retain(|(named, _), _| !untold.contains(named));
        for (named, text) in texts(table) {
            if named.is_id(text) {
                continue;
            }
            match ids.get(&(named, key(plain(text)))).map(|found| found.iter().collect::<Vec<_>>()).as_deref() {
                Some([only]) => {
                    *text = (*only).clone();
                    resolved.ids += 1;
                }
                _ => {
                    resolved.names.insert(text.clone());
                }
            }
        }
        resolved
    }

    /// The names and ids that a connection lists.
    async fn listed(&self, connection: &Connected, named: Named) -> Listed {
        let Some((own, list, mut arguments)) = named.listing() else { return Listed::Never };
        let services = &self.services;
        let Some(asked) = services.gateway.catalog.own(own) else { return Listed::Never };
        let method = &asked.name;
        let org = connection.facts.kind == Kind::GridOrg;
        if connection.token(asked).is_none() || (asked.needs_workspace_on_org && org) {
            return Listed::Never;
        }
        let asking = RunId::new(services.clock.now(), services.entropy.next_wide());
        let mut found = Vec::new();
        for _ in 0..PAGES_MAX {
            let answer = match services.gateway.read(connection, asked, &arguments, asking).await {
                Ok(answer) if answer.ok => answer.body,
                Ok(answer) => {
                    tracing::info!(connection = %connection.facts.name, method, error = ?answer.error,
                        "a table's names cannot be looked up");
                    return Listed::KeptBack;
                }
                Err(error) => {
                    tracing::info!(connection = %connection.facts.name, method, %error,
                        "a table's names cannot be looked up");
                    return Listed::KeptBack;
                }
            };
            found.extend(pairs(answer[list].as_array().map_or(&[], Vec::as_slice)));
            match answer["response_metadata"]["next_cursor"].as_str() {
                Some(cursor) if !cursor.is_empty() => arguments["cursor"] = json!(cursor),
                _ => return Listed::Whole(found),
            }
        }
        tracing::info!(connection = %connection.facts.name, method, "a table's names are not looked up in so long a list");
        Listed::KeptBack
    }
}
