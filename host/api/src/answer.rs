//! Answers that are no problems.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;

use bellhop_core::digest::Digest;

use super::problem::Problem;

/// JSON with a status.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Response, Problem> {
    let text = serde_json::to_vec(value).map_err(|error| Problem::internal(&error))?;
    Ok(bytes(status, "application/json", text))
}

/// Any bytes.
pub(super) fn bytes(status: StatusCode, kind: &'static str, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // What a run or a connection looks like now is not for a cache to keep.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A status and nothing else.
pub(super) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// The same with a header made of our own words.
pub(super) fn with_header(mut response: Response, name: HeaderName, value: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The same with `Location`.
pub(super) fn with_location(response: Response, path: &str) -> Response {
    with_header(response, LOCATION, path)
}

/// The same with a strong `ETag`.
pub(super) fn with_etag(response: Response, digest: Digest) -> Response {
    with_header(response, ETAG, &etag(digest))
}

/// Whether a list of entity tags names this one, `*` each that is there.
pub(super) fn names(tags: &str, digest: Digest) -> bool {
    let own = etag(digest);
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag == own)
}

/// A digest as an entity tag.
fn etag(digest: Digest) -> String {
    format!("\"{digest}\"")
}
