//! Accounts, by SCIM.

use bellhop_plugin::slack;
use serde_json::{Value, json};

/// The account whose attribute has this value, if there is one.
pub(crate) fn find(attribute: &str, value: &str) -> Result<Option<Value>, slack::Error> {
    // A JSON string is what a filter takes as its value; written so, no value can become a part of the filter.
    let filter = format!("{attribute} eq {}", Value::from(value));
    let answer = slack::scim_users::list(json!({ "filter": filter, "count": 2 }))?;
    Ok(slack::list(&answer, "/Resources").first().cloned())
}
