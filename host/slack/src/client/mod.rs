//! Calls Slack, once. This client never retries, follows no redirect, and uses no proxy unless told.
//!
//! One thing below it does send again: when a kept-alive connection turns out to be closed before it has taken up a
//! request, the HTTP library gives that same request to another connection. Of such a request not one byte was
//! written, so Slack sees it at most once; `tests/cuts.rs` counts.

mod answer;
pub mod certificates;
pub mod network;
mod request;
pub mod retry_after;
mod secret;

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue};
use serde_json::Value;

use crate::catalog::{Method, Transport};

pub use answer::{Answer, Failure, NotSent, Unknown};
pub use secret::{REMOVED, Secret, clean, masked, strip};

/// Longest that a connection may take to come about.
const CONNECT_MS_MAX: u64 = 10_000;
/// An idle connection is closed by us before Slack closes it.
const IDLE_CONNECTION_MS: u64 = 20_000;
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Where Slack is and how long it may take.
#[derive(Debug, Clone)]
pub struct Options {
    /// Root of the Web API, without `/api`.
    pub base_url: String,
    /// Root of SCIM and audit, without `/scim`; derived from `base_url` when not given: Slack has them on
    /// `api.slack.com`, everybody else where the Web API is.
    pub provisioning_url: Option<String>,
    /// From the call to the last byte of the answer.
    pub deadline_ms: u64,
    /// Longest body that is read.
    pub response_bytes_max: u64,
    /// A proxy for all requests but those to this machine; the environment is not asked.
    pub proxy: Option<Proxy>,
    /// Certificates that are believed besides the system's.
    pub certificates: certificates::Own,
    /// Allows `http:` to other machines than this one: every token travels in the clear.
    pub clear_text: bool,
}

/// A proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Its address, which may have a password in it.
    pub url: Secret,
    /// Names and networks that are asked without it, as `NO_PROXY` has them.
    pub except: String,
}

impl Proxy {
    /// Its address without what only its users know.
    #[must_use]
    pub fn shown(&self) -> String {
        let Ok(mut url) = Url::parse(self.url.reveal()) else { return "a proxy".to_owned() };
        let _has_none = url.set_username("").and_then(|()| url.set_password(None));
        url.to_string()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            base_url: "https://slack.com".to_owned(),
            provisioning_url: None,
            deadline_ms: 30_000,
            response_bytes_max: 8 << 20,
            proxy: None,
            certificates: certificates::Own::default(),
            clear_text: false,
        }
    }
}

/// Why no client can be made of the options.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("`{0}` is not an http or https address")]
    Address(String),
    /// Tokens would be readable on the way.
    #[error("`{0}` is not encrypted: tokens would travel in the clear")]
    ClearText(String),
    /// The HTTP library refuses.
    #[error("the HTTP client: {0}")]
    Http(#[from] reqwest::Error),
}

/// See the module. Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    web: Url,
    provisioning: Url,
    /// Where the proxy is, for people.
    proxy: Option<String>,
    response_bytes_max: u64,
}

impl Client {
    /// Makes a client; no connection is opened yet. Makes `ring` the process's provider of cryptography if it has
    /// none.
    ///
    /// # Errors
    /// When an address is none, or would carry tokens in the clear.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let web = address(&options.base_url, options.clear_text)?;
        let provisioning = match &options.provisioning_url {
            Some(url) => address(url, options.clear_text)?,
            None if web.host_str() == Some("slack.com") => address("https://api.slack.com", false)?,
            None => web.clone(),
        };
        // An error says that there is one already, which then is the process's choice.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let (mut proxies, mut shown) = (Vec::new(), None);
        if let Some(Proxy { url, except }) = options.proxy.as_ref().filter(|_| !is_here(&web)) {
            let proxy = reqwest::Proxy::all(url.reveal())?.no_proxy(reqwest::NoProxy::from_string(except));
            proxies.push(proxy);
            shown = Url::parse(url.reveal()).ok().map(|url| network::place(&url));
        }
        let make = || {
            let builder = reqwest::Client::builder()
                .user_agent(concat!("bellhop/", env!("CARGO_PKG_VERSION")))
                .http1_only()
                .tcp_nodelay(true)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .timeout(Duration::from_millis(options.deadline_ms))
                .connect_timeout(Duration::from_millis(CONNECT_MS_MAX.min(options.deadline_ms / 2 + 1)))
                .pool_idle_timeout(Duration::from_millis(IDLE_CONNECTION_MS))
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .no_proxy();
            proxies.iter().cloned().fold(builder, reqwest::ClientBuilder::proxy)
        };
        let is_encrypted = [&web, &provisioning].iter().any(|root| root.scheme() == "https");
        let http = certificates::build(make, is_encrypted, &options.certificates)?;
        Ok(Self { http, web, provisioning, proxy: shown, response_bytes_max: options.response_bytes_max })
    }

    /// Sends one call. `workspace` is put into `team_id` where the method has that argument and the caller gave none.
    ///
    /// After `Ok` Slack has answered: it was carried out (`ok`) or refused. The intent of a write must be durable
    /// before this is called; dropping the future ends the connection, and then the outcome is unknown.
    ///
    /// # Errors
    /// [`Failure`] says whether Slack may have carried it out.
    pub async fn send(
        &self,
        method: &Method,
        arguments: &Value,
        token: &Secret,
        workspace: Option<&str>,
    ) -> Result<Answer, Failure> {
        let root = if method.transport == Transport::Web { &self.web } else { &self.provisioning };
        let prepared = request::prepare(method, arguments, workspace, root)?;
        let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()))
            .map_err(|_| Failure::arguments("the token has characters that no header can carry"))?;
        bearer.set_sensitive(true);
        let mut request = self.http.request(prepared.verb, prepared.url).header(AUTHORIZATION, bearer);
        if let Some((kind, body)) = prepared.body {
            request = request.header(CONTENT_TYPE, kind).body(body);
        }
        let fault = |error: &reqwest::Error| network::Fault::of(error, root, self.proxy.as_deref());
        let mut response = request.send().await.map_err(|e| Failure::of_transport(&e, fault(&e)))?;
        let status = response.status().as_u16();
        let too_large = || Failure::unknown(Unknown::TooLarge { bytes_max: self.response_bytes_max });
        if response.content_length().is_some_and(|n| n > self.response_bytes_max) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        // Bytes were sent: whatever goes wrong from here on, the outcome is unknown.
        while let Some(chunk) =
            response.chunk().await.map_err(|e| Failure::unknown(Unknown::Network(Box::new(fault(&e)))))?
        {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > self.response_bytes_max {
                return Err(too_large());
            }
        }
        answer::judge(method, status, response.headers(), &bytes, token)
    }

    /// What Slack's clock shows, in milliseconds since 1970: the `Date` of its answer to `api.test`, which takes no token.
    /// None where the answer has no date.
    ///
    /// # Errors
    /// No answer came.
    pub async fn date_ms(&self) -> Result<Option<u64>, Failure> {
        let url = request::at(&self.web, "/api/api.test", None)?;
        let request = self.http.post(url).header(CONTENT_TYPE, request::FORM).body("");
        let fault = |error: &reqwest::Error| network::Fault::of(error, &self.web, self.proxy.as_deref());
        let response = request.send().await.map_err(|error| Failure::of_transport(&error, fault(&error)))?;
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        Ok(date.and_then(retry_after::date_ms).and_then(|ms| u64::try_from(ms).ok()))
    }
}

/// Whether an address leads to this machine. A connection to the address that stands for all of a machine's, as `0.0.0.0`,
/// goes to the machine itself.
pub fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().map(|address| address.to_canonical());
    host == "localhost" || address.is_ok_and(|address| address.is_loopback() || address.is_unspecified())
}

fn address(text: &str, clear_text: bool) -> Result<Url, Error> {
    let wrong = || Error::Address(text.chars().take(200).collect());
    let url = Url::parse(text).map_err(|_| wrong())?;
    if url.host_str().is_none() {
        return Err(wrong());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_here(&url) || clear_text => Ok(url),
        "http" => Err(Error::ClearText(text.chars().take(200).collect())),
        _ => Err(wrong()),
    }
}
