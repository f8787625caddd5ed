//! Whether the connections that one run acts on belong together: what is an id in one organisation names nobody, or somebody
//! else, in another.

use std::collections::BTreeSet;

use super::flow::Reach;
use super::say::{AUTHOR, Subject};
use crate::diagnostic::{Diagnostic, Has, Needs, Remedy, Retryable, Severity, code};
use crate::requirement::{Connection, Kind};

/// A place where a run acts, and the connections that it may act on there.
pub(super) struct Acts {
    subject: Subject,
    connections: Vec<usize>,
    reach: Reach,
}

impl Acts {
    /// `connections` by their numbers; none where one of them is not known, because that is told as another fault.
    pub(super) fn of(
        subject: Subject,
        connections: impl IntoIterator<Item = Option<usize>>,
        reach: Reach,
    ) -> Option<Self> {
        let connections: Option<Vec<usize>> = connections.into_iter().collect();
        let connections = connections.filter(|found| !found.is_empty())?;
        Some(Self { subject, connections, reach })
    }
}

/// Whether two connections are of one organisation, as far as is known. What is assumed has no ids: then all of a Grid are
/// of one, and each workspace outside of a Grid is one of its own.
fn together(one: &Connection, other: &Connection) -> bool {
    let on_grid = |connection: &Connection| connection.kind != Kind::Workspace;
    let same = |one: &Option<String>, other: &Option<String>| match (one, other) {
        (Some(one), Some(other)) => Some(one == other),
        _ => None,
    };
    // A workspace may have come into an organisation since it was asked.
    let workspace = same(&one.workspace_id, &other.workspace_id);
    match (on_grid(one), on_grid(other)) {
        (true, true) => same(&one.enterprise_id, &other.enterprise_id).unwrap_or(true),
        (false, false) => workspace.unwrap_or(one.name == other.name),
        _ => workspace == Some(true),
    }
}

fn place_of(connection: &Connection) -> String {
    match (connection.tenant(), connection.kind) {
        (Some(tenant), _) => tenant.to_string(),
        (None, Kind::Workspace) => "a workspace that belongs to no organisation".to_owned(),
        (None, Kind::GridWorkspace | Kind::GridOrg) => "an organisation on Enterprise Grid".to_owned(),
    }
}

/// What belongs together with a connection.
fn wanted(one: &Connection) -> String {
    match (&one.enterprise_id, &one.workspace_id, one.kind) {
        (Some(enterprise), ..) => format!("a connection of organisation {enterprise}"),
        (None, Some(workspace), Kind::Workspace) => format!("a connection of workspace {workspace}"),
        (None, _, Kind::Workspace) => format!("a connection of the workspace that `{}` is of", one.name),
        (None, ..) => format!("a connection of the organisation that `{}` is of", one.name),
    }
}

/// Tells of places that act on connections of more than one organisation; `acts` are in the order of the file.
pub(super) fn faults(acts: &[Acts], connections: &[Connection]) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    let distinct: Vec<&Acts> = acts.iter().filter(|act| seen.insert((act.connections.clone(), act.reach))).collect();
    let told = |(number, act): (usize, &&Acts)| {
        let before = &distinct[..number];
        let apart = |surely| before.iter().find_map(|first| apart(connections, (first, act), surely));
        let surely = apart(true);
        let (first, one, other) = surely.or_else(|| apart(false))?;
        Some(differing((first, act), (&connections[one], &connections[other]), surely.is_some()))
    };
    distinct.iter().enumerate().filter_map(told).collect()
}

/// Two connections of two places that do not belong together: `surely`, where no run that comes to both is without such a
/// pair.
fn apart<'s>(
    connections: &[Connection],
    (first, act): (&'s Acts, &Acts),
    surely: bool,
) -> Option<(&'s Acts, usize, usize)> {
    let pairs = || first.connections.iter().flat_map(|one| act.connections.iter().map(move |other| (*one, *other)));
    let apart = |(one, other): &(usize, usize)| !together(&connections[*one], &connections[*other]);
    let certain = first.reach == Reach::All && act.reach == Reach::All && pairs().all(|pair| apart(&pair));
    if surely && !certain {
        return None;
    }
    pairs().find(apart).map(|(one, other)| (first, one, other))
}

fn differing((first, act): (&Acts, &Acts), (one, other): (&Connection, &Connection), surely: bool) -> Diagnostic {
    let acts = |acts: &Acts| acts.subject.what.trim_end_matches(',').to_owned();
    let may = if surely { "acts" } else { "may act" };
    let message = format!(
        "one run {may} on connection `{}` and on connection `{}`, which do not belong together",
        one.name, other.name
    );
    let title = "give it connections of one organisation".to_owned();
    let meant = "where it is meant, as with a partner's Slack, say so in the file: \
                 `metadata: {bellhop: {organisations: several}}` of the document"
        .to_owned();
    Diagnostic {
        connection: Some(other.name.clone()),
        label: Some(format!("{} on `{}`, which is {}", acts(act), other.name, place_of(other))),
        needs: Some(Needs { text: Some(wanted(one)), ..Needs::default() }),
        has: Some(Has {
            text: Some(format!("{} on `{}`, which is {}", acts(first), one.name, place_of(one))),
            ..Has::default()
        }),
        remedies: [title, meant].into_iter().map(|title| Remedy { title, command: None, http: None }).collect(),
        retryable: Retryable::AfterRemedy,
        who: Some(format!("whoever starts the run, or {AUTHOR}")),
        severity: if surely { Severity::Error } else { Severity::Warning },
        ..act.subject.error(code::CONNECTIONS_DIFFER, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::assume;

    #[test]
    fn it_lead_6_connections_of_one_organisation_belong_together() {
        let assumed = |text: &str| assume::parse(text).unwrap();
        let known = |text: &str, workspace: &str, enterprise: &str| {
            let id = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Connection { workspace_id: id(workspace), enterprise_id: id(enterprise), assumed: false, ..assumed(text) }
        };
        let (acme, hq) = (known("acme=grid-org", "", "E1"), known("hq=grid-workspace", "T1", "E1"));
        let (plus, pro) = (known("plus=workspace", "T2", ""), known("pro=workspace", "T3", ""));
        for (one, other, expected) in [
            (&acme, &hq, true),
            (&acme, &known("other=grid-org", "", "E2"), false),
            (&hq, &known("lab=grid-workspace", "T4", "E1"), true),
            (&acme, &plus, false),
            (&plus, &pro, false),
            // Two connections to one workspace, and one that has come into an organisation meanwhile.
            (&plus, &known("again=workspace", "T2", ""), true),
            (&hq, &known("before=workspace", "T1", ""), true),
            // By kind, where nothing more is known.
            (&assumed("org=grid-org"), &assumed("team=grid-workspace"), true),
            (&assumed("org=grid-org"), &hq, true),
            (&assumed("org=workspace"), &assumed("team=grid-workspace"), false),
            (&assumed("org=workspace"), &assumed("team=workspace"), false),
            (&assumed("team=workspace"), &assumed("team=workspace"), true),
        ] {
            assert_eq!(
                (together(one, other), together(other, one)),
                (expected, expected),
                "{} {}",
                one.name,
                other.name
            );
        }
    }
}
