//! Where a connection leads. Its name is the operator's, who can give it to another one.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Connection, Kind};
use crate::fault::Fault;
use crate::text::shell_word;

/// Where a connection leads: a workspace, or an organisation as a whole. What is an id in one of them names nobody, or
/// somebody else, in another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tenant {
    /// The workspace's id (`T…`); none for an organisation as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// The organisation's id (`E…`), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enterprise: Option<String>,
}

impl Tenant {
    /// Whether the other is the same workspace, or the same organisation as a whole. A workspace that came into an
    /// organisation since is the one that it was.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let apart = matches!((&self.enterprise, &other.enterprise), (Some(one), Some(another)) if one != another);
        let whole = self.workspace.is_none() && self.enterprise != other.enterprise;
        self.workspace == other.workspace && !apart && !whole
    }

    /// The id of the organisation, or of a workspace that is in none: everything that is one customer's has the same.
    #[must_use]
    pub fn organisation(&self) -> &str {
        self.enterprise.as_deref().or(self.workspace.as_deref()).unwrap_or_default()
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.workspace, &self.enterprise) {
            (Some(workspace), Some(enterprise)) => write!(f, "workspace {workspace} of organisation {enterprise}"),
            (Some(workspace), None) => write!(f, "workspace {workspace}"),
            (None, Some(enterprise)) => write!(f, "organisation {enterprise}"),
            (None, None) => f.write_str("nobody knows where"),
        }
    }
}

/// A connection that has come to lead elsewhere under the name that it had: nothing is sent over it for whoever pinned it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the connection `{name}` is of {}, and what was begun on it is of {pinned}", in_words(now.as_ref()))]
pub struct Elsewhere {
    /// The connection's name.
    pub name: String,
    /// Where it led.
    pub pinned: Tenant,
    /// Where it leads, if that is known.
    pub now: Option<Tenant>,
}

fn in_words(tenant: Option<&Tenant>) -> String {
    tenant.map_or_else(|| "nobody knows where".to_owned(), Tenant::to_string)
}

impl Elsewhere {
    /// As what a call waits for a person with.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let Self { name, pinned, .. } = self;
        let command = self.command();
        let detail =
            format!("{self}: make the connection of {pinned} again, and have the run tried again; or cancel the run");
        let mut fault = Fault::of_code("connection-differs", detail);
        fault.details = Some(json!({
            "connection": name,
            "needs": pinned.to_string(),
            "has": self.has(),
            "remedies": [
                { "title": format!("make the connection of {pinned} again"), "command": command },
                { "title": "then have the run tried again", "command": "bellhop runs retry RUN" },
                { "title": "or give the run up", "command": "bellhop runs cancel RUN" },
            ],
        }));
        fault
    }

    /// Where it leads now, in words.
    #[must_use]
    pub fn has(&self) -> String {
        in_words(self.now.as_ref())
    }

    /// By what it is made lead again where it led.
    #[must_use]
    pub fn command(&self) -> String {
        let Self { name, pinned, .. } = self;
        let kind = match pinned {
            Tenant { workspace: None, .. } => Kind::GridOrg,
            Tenant { enterprise: None, .. } => Kind::Workspace,
            Tenant { .. } => Kind::GridWorkspace,
        };
        format!("bellhop connect slack --kind {kind} --name {} --replace", shell_word(name))
    }
}

impl Connection {
    /// Where it leads, if that is known.
    #[must_use]
    pub fn tenant(&self) -> Option<Tenant> {
        let (workspace, enterprise) = (self.workspace_id.clone(), self.enterprise_id.clone());
        (workspace.is_some() || enterprise.is_some()).then_some(Tenant { workspace, enterprise })
    }

    /// Ok where it leads to what was `pinned`, or nothing was.
    ///
    /// # Errors
    /// It leads elsewhere, or nobody knows where.
    pub fn leads_to(&self, pinned: Option<&Tenant>) -> Result<(), Elsewhere> {
        let Some(pinned) = pinned else { return Ok(()) };
        let now = self.tenant();
        if now.as_ref().is_some_and(|now| now.is(pinned)) {
            return Ok(());
        }
        Err(Elsewhere { name: self.name.clone(), pinned: pinned.clone(), now })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::requirement::{Kind, Permission};

    #[test]
    fn attack_d1_a_place_is_told_from_every_other() {
        let at = |workspace: &str, enterprise: &str| {
            let id = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            Tenant { workspace: id(workspace), enterprise: id(enterprise) }
        };
        for (one, other, same) in [
            (at("T1", ""), at("T1", ""), true),
            (at("T1", ""), at("T2", ""), false),
            (at("T1", "E1"), at("T1", "E1"), true),
            (at("T1", "E1"), at("T2", "E1"), false),
            (at("T1", "E1"), at("T1", "E2"), false),
            // Its workspace was taken into an organisation.
            (at("T1", ""), at("T1", "E1"), true),
            (at("", "E1"), at("", "E1"), true),
            (at("", "E1"), at("", "E2"), false),
            // One of its workspaces is not the organisation.
            (at("", "E1"), at("T1", "E1"), false),
            (at("", "E1"), at("T1", ""), false),
            (at("", ""), at("", "E1"), false),
        ] {
            assert_eq!((one.is(&other), other.is(&one)), (same, same), "{one}, {other}");
        }
        let organisations = [at("T1", ""), at("T1", "E1"), at("", "E1")].map(|one| one.organisation().to_owned());
        assert_eq!(organisations, ["T1", "E1", "E1"]);
    }

    #[test]
    fn attack_d1_what_leads_elsewhere_says_whence_and_whither() {
        let leading = |workspace: Option<&str>| Connection {
            name: "hq".to_owned(),
            kind: Kind::Workspace,
            permission: Permission::Act,
            plan: None,
            plan_unknown_because: None,
            checked_at: None,
            tokens: std::collections::BTreeMap::new(),
            assumed: false,
            workspace_id: workspace.map(str::to_owned),
            enterprise_id: None,
        };
        let pinned = leading(Some("T1")).tenant();
        assert_eq!(leading(Some("T1")).leads_to(pinned.as_ref()), Ok(()));
        assert_eq!(leading(Some("T2")).leads_to(None), Ok(()), "nothing was known to compare with");
        for (now, has) in [(Some("T2"), "workspace T2"), (None, "nobody knows where")] {
            let fault = leading(now).leads_to(pinned.as_ref()).unwrap_err().fault();
            assert_eq!((fault.code(), fault.status), ("connection-differs", 409));
            let details = fault.details.unwrap();
            assert_eq!((&details["needs"], &details["has"]), (&json!("workspace T1"), &json!(has)));
            let detail = fault.detail.unwrap();
            assert!(detail.contains("`hq`") && detail.contains("workspace T1") && detail.contains(has), "{detail}");
            assert!(details["remedies"].to_string().contains("bellhop connect slack --kind workspace --name hq"));
        }
    }
}
