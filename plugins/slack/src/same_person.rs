//! One person, two ids: on Enterprise Grid somebody may have an id of the workspace and another one of the organisation, and
//! lists have either (Slack's page of `migration.exchange`). `enterprise_user.id` ties them.

use bellhop_plugin::slack;
use serde_json::{Value, json};

/// Every id of the person whom a `user` of the Web API describes, its own first.
pub(crate) fn ids(user: &Value) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for pointer in ["/id", "/enterprise_user/id"] {
        if let Some(id) = user.pointer(pointer).and_then(Value::as_str).filter(|id| !id.is_empty())
            && !ids.iter().any(|known| known == id)
        {
            ids.push(id.to_owned());
        }
    }
    ids
}

/// The other ids of a person, as far as the connection tells: mostly there are none.
pub(crate) fn others(user: &slack::UserId) -> Result<Vec<String>, slack::Error> {
    let answer = match slack::users::info(json!({ "user": user })) {
        Ok(answer) => answer,
        // Who is not shown has no other id that could be known, and who may not ask goes by the id that is there.
        Err(refusal)
            if matches!(
                refusal.code.as_str(),
                "not-found" | "not-visible" | "scope-missing" | "capability-not-granted" | "token-kind-missing"
            ) =>
        {
            return Ok(Vec::new());
        }
        Err(refusal) => return Err(refusal),
    };
    let mut ids = ids(&answer["user"]);
    ids.retain(|id| *user != **id);
    Ok(ids)
}
