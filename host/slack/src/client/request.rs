//! Makes the HTTP request of a call from its arguments.

use reqwest::{Method as Verb, Url};
use serde_json::{Map, Value};

use super::Failure;
use crate::catalog::{Method, Transport};

/// A request without its token.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) verb: Verb,
    pub(super) url: Url,
    pub(super) body: Option<(&'static str, Vec<u8>)>,
}

const JSON: &str = "application/json; charset=utf-8";
pub(super) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
/// Arguments that are the host's to give: a guest that named a token would act as somebody else.
const THE_HOSTS: [&str; 3] = ["token", "client_id", "client_secret"];

pub(super) fn prepare(
    method: &Method,
    arguments: &Value,
    workspace: Option<&str>,
    root: &Url,
) -> Result<Prepared, Failure> {
    let mut arguments = match arguments {
        Value::Object(fields) => fields.clone(),
        Value::Null => Map::new(),
        _ => return Err(Failure::arguments("the arguments are not a JSON object")),
    };
    if let Some(name) = THE_HOSTS.iter().find(|name| arguments.contains_key(**name)) {
        return Err(Failure::arguments(format!("`{name}` is given by the host, not by the caller")));
    }
    match method.transport {
        Transport::Web => {
            if let Some(workspace) = workspace.filter(|_| method.takes("team_id")) {
                arguments.entry("team_id").or_insert_with(|| workspace.into());
            }
            let body = if method.takes_json {
                (JSON, Value::Object(arguments).to_string().into_bytes())
            } else {
                (FORM, form(&arguments).into_bytes())
            };
            // Every Web method takes POST, and a POST's arguments stand in no access log.
            Ok(Prepared { verb: Verb::POST, url: at(root, &method.path, None)?, body: Some(body) })
        }
        Transport::Scim | Transport::Audit => {
            let id = if method.path.contains("{id}") { Some(take_id(&mut arguments)?) } else { None };
            let mut url = at(root, &method.path, id.as_deref())?;
            let verb = Verb::from_bytes(method.verb.as_bytes())
                .map_err(|_| Failure::arguments(format!("`{}` is no verb", method.verb)))?;
            if verb == Verb::GET || verb == Verb::DELETE {
                let query = form(&arguments);
                url.set_query((!query.is_empty()).then_some(&query));
                return Ok(Prepared { verb, url, body: None });
            }
            Ok(Prepared { verb, url, body: Some((JSON, Value::Object(arguments).to_string().into_bytes())) })
        }
    }
}

fn take_id(arguments: &mut Map<String, Value>) -> Result<String, Failure> {
    match arguments.remove("id") {
        // A dot segment would lead to another path.
        Some(Value::String(id)) if !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric()) => Ok(id),
        _ => Err(Failure::arguments("`id` must be the id of the object, letters and digits")),
    }
}

pub(super) fn at(root: &Url, path: &str, id: Option<&str>) -> Result<Url, Failure> {
    let mut url = root.clone();
    {
        let mut segments =
            url.path_segments_mut().map_err(|()| Failure::arguments("the address of Slack has no path"))?;
        segments.pop_if_empty();
        for segment in path.split('/').filter(|s| !s.is_empty()) {
            segments.push(if segment == "{id}" { id.unwrap_or_default() } else { segment });
        }
    }
    Ok(url)
}

/// Arguments as a form: what is nested goes as JSON, what is null is left out.
fn form(arguments: &Map<String, Value>) -> String {
    let mut url = Url::parse("form://arguments").expect("a constant that parses");
    {
        let mut pairs = url.query_pairs_mut();
        for (name, value) in arguments {
            match value {
                Value::Null => {}
                Value::String(text) => {
                    pairs.append_pair(name, text);
                }
                other => {
                    pairs.append_pair(name, &other.to_string());
                }
            }
        }
    }
    url.query().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::Catalog;

    fn made(name: &str, arguments: &Value, workspace: Option<&str>) -> Result<(String, String), Failure> {
        let method = Catalog::built_in().by_name(name).unwrap();
        let root = Url::parse("http://127.0.0.1:1/under/").unwrap();
        prepare(method, arguments, workspace, &root).map(|p| {
            let body = p.body.map_or_else(String::new, |(_, b)| String::from_utf8(b).unwrap());
            (format!("{} {}", p.verb, p.url), body)
        })
    }

    #[test]
    fn each_transport_has_its_form() {
        for (name, arguments, workspace, line, body) in [
            (
                "chat.postMessage",
                json!({"channel": "C1", "blocks": [{"type": "divider"}]}),
                Some("T1"),
                "POST http://127.0.0.1:1/under/api/chat.postMessage",
                r#"{"blocks":[{"type":"divider"}],"channel":"C1"}"#,
            ),
            (
                "users.list",
                json!({"limit": 200, "include_locale": true, "cursor": null}),
                Some("T1"),
                "POST http://127.0.0.1:1/under/api/users.list",
                "include_locale=true&limit=200&team_id=T1",
            ),
            (
                "usergroups.list",
                json!({"team_id": "T2"}),
                Some("T1"),
                "POST http://127.0.0.1:1/under/api/usergroups.list",
                "team_id=T2",
            ),
            (
                "scim.v2.get.Users",
                json!({"filter": "email eq \"a b@x\""}),
                None,
                "GET http://127.0.0.1:1/under/scim/v2/Users?filter=email+eq+%22a+b%40x%22",
                "",
            ),
            (
                "scim.v2.patch.Users.id",
                json!({"id": "U1", "active": false}),
                None,
                "PATCH http://127.0.0.1:1/under/scim/v2/Users/U1",
                r#"{"active":false}"#,
            ),
            (
                "scim.v2.delete.Users.id",
                json!({"id": "U1"}),
                None,
                "DELETE http://127.0.0.1:1/under/scim/v2/Users/U1",
                "",
            ),
        ] {
            assert_eq!(made(name, &arguments, workspace), Ok((line.to_owned(), body.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        for (name, arguments) in [
            ("chat.postMessage", json!([1])),
            ("chat.postMessage", json!({"channel": "C1", "token": "xoxb-other"})),
            ("scim.v2.get.Users.id", json!({})),
            ("scim.v2.get.Users.id", json!({"id": "../Groups"})),
            ("scim.v2.get.Users.id", json!({"id": ".."})),
        ] {
            assert!(matches!(made(name, &arguments, None), Err(Failure::NotSent { .. })), "{arguments}");
        }
    }
}
