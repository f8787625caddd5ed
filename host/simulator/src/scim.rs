//! SCIM 2.0 and 1.1: provisioning of people and groups.

mod filter;
mod groups;
mod patch;
mod users;

use hyper::{Method, body::Bytes};
use serde_json::{Map, Value, json};

use crate::{
    answer::Answer,
    arguments::Arguments,
    call::{Call, Refusal},
};

const PAGE_DEFAULT: usize = 10;
const PAGE_MAX: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    One,
    Two,
}

impl Version {
    /// The name of a schema in this version.
    fn schema(self, which: &str) -> String {
        match (self, which) {
            (Self::One, "enterprise") => "urn:scim:schemas:extension:enterprise:1.0".to_owned(),
            (Self::One, "guest") => "urn:scim:schemas:extension:slack:guest:1.0".to_owned(),
            (Self::One, _) => "urn:scim:schemas:core:1.0".to_owned(),
            (Self::Two, "enterprise") => "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User".to_owned(),
            (Self::Two, "guest") => "urn:ietf:params:scim:schemas:extension:slack:guest:2.0:User".to_owned(),
            (Self::Two, "list") => "urn:ietf:params:scim:api:messages:2.0:ListResponse".to_owned(),
            (Self::Two, "group") => "urn:ietf:params:scim:schemas:core:2.0:Group".to_owned(),
            (Self::Two, _) => "urn:ietf:params:scim:schemas:core:2.0:User".to_owned(),
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::One => "v1",
            Self::Two => "v2",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Users,
    Groups,
    Configuration,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) version: Version,
    pub(crate) http: Method,
    pub(crate) resource: Resource,
    pub(crate) id: Option<String>,
    pub(crate) query: Arguments,
    /// The body, or that it is no JSON object.
    pub(crate) body: Result<Map<String, Value>, ()>,
}

impl Request {
    /// A SCIM request and the name of its method, if the path is one of SCIM's.
    pub(crate) fn read(http: &Method, path: &str, query: Option<&str>, body: &Bytes) -> Option<(Self, String)> {
        let mut parts = path.strip_prefix("/scim/")?.trim_end_matches('/').split('/');
        let version = match parts.next()? {
            "v1" => Version::One,
            "v2" => Version::Two,
            _ => return None,
        };
        let name = parts.next().unwrap_or_default();
        let resource = match name {
            "Users" => Resource::Users,
            "Groups" => Resource::Groups,
            _ => Resource::Configuration,
        };
        let id = parts.next().map(|id| crate::arguments::percent_decode(id.as_bytes()));
        let body = match serde_json::from_slice(body) {
            Ok(Value::Object(body)) => Ok(body),
            _ if body.is_empty() => Ok(Map::new()),
            _ => Err(()),
        };
        let verb = http.as_str().to_lowercase();
        let method = format!("scim.{}.{verb}.{name}{}", version.path(), if id.is_some() { ".id" } else { "" });
        let query = Arguments::parse(query, None, b"").unwrap_or_default();
        Some((Self { version, http: http.clone(), resource, id, query, body }, method))
    }

    /// What the logs show and faults match: query, body and id in one.
    pub(crate) fn facts(&self) -> Map<String, Value> {
        let mut facts = self.query.values().clone();
        if let Ok(body) = &self.body {
            facts.extend(body.clone());
        }
        if let Some(id) = &self.id {
            facts.insert("id".to_owned(), json!(id));
        }
        facts
    }
}

/// An error answer: the HTTP status and what is wrong.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) u16, pub(crate) String);

impl Failure {
    fn new(status: u16, description: &str) -> Self {
        Self(status, description.to_owned())
    }
}

type Done = Result<Value, Failure>;

pub(crate) fn carry_out(call: &mut Call<'_>, request: &Request) -> Answer {
    let known = request.id.is_some();
    let done = match (&request.body, request.resource, request.http.as_str(), known) {
        (Err(()), ..) => Err(Failure::new(400, "invalid_json")),
        (Ok(_), Resource::Configuration, "GET", false) => Ok(configuration(request.version)),
        (Ok(_), Resource::Users, "GET", false) => users::list(call, request),
        (Ok(_), Resource::Users, "GET", true) => users::read(call, request),
        (Ok(body), Resource::Users, "POST", false) => users::create(call, request, body),
        (Ok(body), Resource::Users, "PUT", true) => users::replace(call, request, body),
        (Ok(body), Resource::Users, "PATCH", true) => users::patch(call, request, body),
        (Ok(_), Resource::Users, "DELETE", true) => users::delete(call, request),
        (Ok(_), Resource::Groups, "GET", false) => groups::list(call, request),
        (Ok(_), Resource::Groups, "GET", true) => groups::read(call, request),
        (Ok(body), Resource::Groups, "POST", false) => groups::create(call, request, body),
        (Ok(body), Resource::Groups, "PUT", true) => groups::replace(call, request, body),
        (Ok(body), Resource::Groups, "PATCH", true) => groups::patch(call, request, body),
        (Ok(_), Resource::Groups, "DELETE", true) => groups::delete(call, request),
        _ => Err(Failure::new(404, "not_found")),
    };
    match done {
        Ok(Value::Null) => Answer::empty(200),
        Ok(body) => Answer::json(if request.http == Method::POST { 201 } else { 200 }, &body),
        Err(Failure(status, description)) => {
            call.change = None;
            Answer::scim_error(request.version, status, &description)
        }
    }
}

/// A refusal of admission in SCIM's words.
pub(crate) fn refused(version: Version, refusal: Refusal) -> Answer {
    if refusal.retry_after_s.is_some() {
        return Answer::web(Err(refusal), &[]);
    }
    let status = match refusal.error.as_ref() {
        "not_authed" | "invalid_auth" | "token_revoked" | "token_expired" | "account_inactive" => 401,
        _ => 403,
    };
    let description = if status == 401 { "invalid_authentication" } else { refusal.error.as_ref() };
    Answer::scim_error(version, status, description)
}

fn configuration(version: Version) -> Value {
    let mut configuration = json!({
        "authenticationSchemes": [{
            "type": "oauthbearertoken",
            "name": "OAuth Bearer Token",
            "description": "Authentication scheme using the OAuth Bearer Token standard",
            "specUrl": "https://www.rfc-editor.org/info/rfc6750",
            "primary": true,
        }],
        "patch": {"supported": true},
        "bulk": {"supported": false, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": true, "maxResults": PAGE_MAX},
        "changePassword": {"supported": false},
        "sort": {"supported": false},
        "etag": {"supported": false},
    });
    if version == Version::One {
        configuration["xmlDataFormat"] = json!({"supported": false});
    }
    configuration
}

/// One page of resources, from `startIndex`, which begins at 1.
fn page(request: &Request, all: Vec<Value>) -> Done {
    let number = |name, default: i64| {
        request
            .query
            .number(name)
            .map(|number| number.unwrap_or(default))
            .map_err(|()| Failure::new(400, "invalid_pagination"))
    };
    let start = usize::try_from(number("startIndex", 1)?).unwrap_or(1).max(1);
    let default = i64::try_from(PAGE_DEFAULT).unwrap_or(10);
    let count = usize::try_from(number("count", default)?).unwrap_or(0).min(PAGE_MAX);
    let total = all.len();
    let resources: Vec<Value> = all.into_iter().skip(start - 1).take(count).collect();
    Ok(json!({
        "schemas": [request.version.schema("list")],
        "totalResults": total,
        "itemsPerPage": resources.len(),
        "startIndex": start,
        "Resources": resources,
    }))
}

/// Seconds since 1970 as SCIM writes a time.
fn instant(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date by the civil calendar, counted from the first of March of the year 0.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_civil_dates() {
        assert_eq!(instant(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(instant(951_827_696), "2000-02-29T12:34:56+00:00");
        assert_eq!(instant(1_735_689_600), "2025-01-01T00:00:00+00:00");
    }
}
