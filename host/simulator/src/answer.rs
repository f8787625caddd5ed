//! The answer to a call, before it becomes bytes.

use hyper::{
    Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};

use crate::{
    call::{Outcome, Refusal},
    scim::Version,
    wire::Payload,
};

/// The schema of an error of SCIM 2.0 (RFC 7644, 3.12).
const ERROR: &str = "urn:ietf:params:scim:api:messages:2.0:Error";

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// For the request log: Slack's error, if it is one.
    pub(crate) error: Option<String>,
    /// Whether a write was accepted.
    pub(crate) accepted: bool,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), body: body.to_string().into_bytes(), error: None, accepted: false }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), error: None, accepted: false }
    }

    /// Slack's envelope around what a Web API method came to.
    pub(crate) fn web(outcome: Outcome, warnings: &[&'static str]) -> Self {
        let (mut body, error, retry_after_s) = match outcome {
            Ok(Value::Object(mut body)) => {
                body.insert("ok".to_owned(), Value::Bool(true));
                (body, None, None)
            }
            Ok(_) => (Map::from_iter([("ok".to_owned(), Value::Bool(true))]), None, None),
            Err(Refusal { error, mut extra, retry_after_s }) => {
                extra.insert("ok".to_owned(), Value::Bool(false));
                extra.insert("error".to_owned(), json!(error));
                (extra, Some(error.into_owned()), retry_after_s)
            }
        };
        if !warnings.is_empty() {
            body.insert("warning".to_owned(), json!(warnings.join(",")));
            let metadata = body.entry("response_metadata").or_insert_with(|| json!({}));
            metadata["warnings"] = json!(warnings);
        }
        let status = if retry_after_s.is_some() { 429 } else { 200 };
        let mut answer = Self::json(status, &Value::Object(body));
        answer.error = error;
        if let Some(seconds) = retry_after_s {
            answer.headers.push(("retry-after", seconds.to_string()));
        }
        answer
    }

    /// The error body of SCIM in its version: the standard's in 2.0, Slack's own in 1.1.
    pub(crate) fn scim_error(version: Version, status: u16, description: &str) -> Self {
        let mut body = json!({"Errors": {"description": description, "code": status}});
        if version == Version::Two {
            body = json!({"schemas": [ERROR], "detail": description, "status": status.to_string()});
        }
        let mut answer = Self::json(status, &body);
        answer.error = Some(description.to_owned());
        answer
    }

    pub(crate) fn into_response(self) -> Response<Payload> {
        let mut response = Response::new(Payload::Whole(Bytes::from(self.body)));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
