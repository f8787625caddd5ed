//! The catalog as preflight wants it.

use bellhop_core::requirement::{Kind, Method, Rules};

use crate::catalog::{Catalog, Own};

/// What preflight is given: every method that guests can import, without anything that only Slack's room needs.
#[must_use]
pub fn rules(catalog: &Catalog) -> Rules {
    let methods = catalog
        .methods()
        .map(|m| {
            let row = m.family.row();
            let rule = Method {
                name: m.name.clone(),
                function: m.function.clone(),
                writes: m.writes,
                access: m.access.clone(),
                availability: Kind::ALL.into_iter().map(|kind| (kind, row.on(kind))).collect(),
                needs_workspace_on_org: m.needs_workspace_on_org,
                rate_per_minute: m.per_minute,
                reconcile_scopes: m.reconcile_scopes(),
                acts: row.acts.to_owned(),
                who: row.who.to_owned(),
                unknown_because: m.unknown_because.clone(),
                speaks: m.speaks,
                arguments: m.required.iter().chain(&m.optional).cloned().collect(),
            };
            (m.name.clone(), rule)
        })
        .collect();
    let own = Own::ALL.into_iter().filter_map(|own| Some((own.word().to_owned(), catalog.own(own)?.function.clone())));
    let take_names = catalog.methods().filter(|method| method.takes_channel_names()).map(|m| m.function.clone());
    Rules { methods, own: own.collect(), take_channel_names: take_names.collect() }
}
