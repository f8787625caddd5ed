//! What failed on the way to another machine: what, where, whom to ask and what would help.
//!
//! Errors of the HTTP library are chains of errors of what it rests on. This is the one place that reads them.

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, ErrorKind};

use reqwest::Url;

/// A fault of the network. Its text names what failed, where, and whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What failed.
    pub cause: Cause,
    /// Who was to be reached: host and port.
    pub server: String,
    /// The proxy through which, if there is one: host and port, and never what only its users know.
    pub proxy: Option<String>,
    /// Whether it failed at the proxy, or on the way to it.
    pub is_of_proxy: bool,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The name has no address; what the system says.
    Name(String),
    /// Nobody listens there.
    Refused,
    /// No way leads there; what the system says.
    Unreachable(String),
    /// There is an answer, and its certificate is not believed.
    Certificate(Certificate),
    /// No TLS for another reason.
    Tls(String),
    /// The proxy wants to know who asks (407).
    NotAuthorised,
    /// The proxy does not let through to there.
    Denied,
    /// Nothing came for too long.
    TimedOut(Phase),
    /// The connection ended before the answer did.
    Cut,
    /// What answers speaks something else than HTTP.
    NotHttp(String),
    /// No connection came about for another reason.
    Other(String),
}

/// Why a certificate is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// Nobody whom this machine believes has signed it.
    UnknownIssuer,
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It is of another name.
    OtherName,
    /// Anything else.
    Other(String),
}

/// What was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The connection.
    Connect,
    /// The answer.
    Answer,
}

/// How the HTTP library begins what it says of a proxy. It does not give the type of these errors; tests of real
/// connections hold the texts.
const TUNNEL: &str = "tunnel error: ";

impl Fault {
    /// The fault behind an error on the way to `server`, through `proxy` where there is one.
    #[must_use]
    pub fn of(error: &reqwest::Error, server: &Url, proxy: Option<&str>) -> Self {
        let (cause, is_of_proxy) = cause(error);
        Self { cause, server: place(server), proxy: proxy.map(str::to_owned), is_of_proxy }
    }

    /// A fault at a server that is asked directly.
    #[must_use]
    pub fn at(server: &str, cause: Cause) -> Self {
        Self { cause, server: server.to_owned(), proxy: None, is_of_proxy: false }
    }

    /// Where it failed.
    fn place(&self) -> String {
        match &self.proxy {
            Some(proxy) if self.is_of_proxy => format!("the proxy {proxy}"),
            Some(proxy) if self.cause == Cause::TimedOut(Phase::Connect) => {
                format!("{} or the proxy {proxy}", self.server)
            }
            _ => self.server.clone(),
        }
    }

    /// Who can say more, or change it.
    #[must_use]
    pub fn who(&self) -> String {
        match &self.cause {
            Cause::Name(_) => "whoever runs the resolver of this machine".to_owned(),
            Cause::Certificate(Certificate::Expired | Certificate::Other(_)) => {
                format!("whoever runs {}", self.place())
            }
            _ if self.is_of_proxy => "whoever runs the proxy".to_owned(),
            Cause::Tls(_) | Cause::NotHttp(_) => format!("whoever runs {}", self.place()),
            _ => "whoever runs the network of this machine".to_owned(),
        }
    }

    /// What would help a host that asks Slack.
    #[must_use]
    pub fn remedy(&self) -> String {
        let server = &self.server;
        match &self.cause {
            Cause::NotAuthorised => {
                "name the proxy with its user and password, as http://USER:PASSWORD@PROXY:3128, by `proxy` in bellhop.toml or by HTTPS_PROXY".to_owned()
            }
            Cause::Denied => format!("have the proxy let through to {server}; what is reached without it is named by NO_PROXY"),
            Cause::Certificate(why) => self.certificate_remedy(why),
            Cause::Name(_) | Cause::Refused | Cause::Unreachable(_) | Cause::Cut if self.is_of_proxy => {
                "see whether `proxy` in bellhop.toml, or HTTPS_PROXY, names the right proxy; what is reached without it is named by NO_PROXY".to_owned()
            }
            Cause::Name(_) => format!(
                "see what the resolver says (getent hosts {}); in a network that only a proxy leads out of, name it by `proxy` in bellhop.toml or by HTTPS_PROXY",
                server.rsplit_once(':').map_or(server.as_str(), |(host, _)| host)
            ),
            Cause::Refused | Cause::Unreachable(_) | Cause::TimedOut(Phase::Connect) => {
                "see whether a firewall is in the way; in a network that only a proxy leads out of, name it by `proxy` in bellhop.toml or by HTTPS_PROXY".to_owned()
            }
            Cause::Tls(_) => format!("see whether {} speaks TLS at that port", self.place()),
            Cause::NotHttp(_) => format!("see whether {} speaks HTTP at that port", self.place()),
            Cause::TimedOut(Phase::Answer) | Cause::Cut | Cause::Other(_) => "try it again later".to_owned(),
        }
    }

    fn certificate_remedy(&self, why: &Certificate) -> String {
        match why {
            Certificate::UnknownIssuer => {
                "where your network has certificates of its own, name the file of whoever signs them (PEM) by `ca_file` in bellhop.toml or by SSL_CERT_FILE".to_owned()
            }
            Certificate::Expired | Certificate::NotYetValid => {
                format!("see whether this machine's clock is right (date); else {} needs a new certificate", self.place())
            }
            Certificate::OtherName => {
                "see whether the address is right, and whether something else answers in its place, as a network's page to log in does".to_owned()
            }
            Certificate::Other(_) => format!("{} needs another certificate", self.place()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place();
        match &self.cause {
            Cause::Name(said) => write!(f, "the name of {place} has no address ({said})"),
            Cause::Refused => write!(f, "nobody listens at {place}: the connection was refused"),
            Cause::Unreachable(said) => write!(f, "no way leads to {place} ({said})"),
            Cause::Certificate(why) => {
                write!(f, "the certificate of {place} is not believed: ")?;
                match why {
                    Certificate::UnknownIssuer => f.write_str("nobody whom this machine knows has signed it"),
                    Certificate::Expired => f.write_str("it has ended"),
                    Certificate::NotYetValid => f.write_str("it has not begun"),
                    Certificate::OtherName => f.write_str("it is of another name"),
                    Certificate::Other(said) => f.write_str(said),
                }
            }
            Cause::Tls(said) => write!(f, "no TLS with {place}: {said}"),
            Cause::NotAuthorised => write!(f, "{place} wants a user and a password (407)"),
            Cause::Denied => write!(f, "{place} does not let through to {}", self.server),
            Cause::TimedOut(Phase::Connect) => write!(f, "no connection to {place} in time"),
            Cause::TimedOut(Phase::Answer) => write!(f, "no whole answer of {place} in time"),
            Cause::Cut => write!(f, "the connection to {place} was cut before the answer was whole"),
            Cause::NotHttp(said) => write!(f, "what answers at {place} does not speak HTTP ({said})"),
            Cause::Other(said) => write!(f, "no connection to {place}: {said}"),
        }?;
        write!(f, "; ask {}", self.who())
    }
}

/// Host and port of an address.
pub(super) fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// What an error says by itself, without what is around it.
#[must_use]
pub fn innermost(error: &(dyn StdError + 'static)) -> String {
    chain(error).last().map(ToString::to_string).unwrap_or_default()
}

/// An error and all that it rests on, outermost first.
fn chain<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&inner: &&'e (dyn StdError + 'static)| {
        match inner.downcast_ref::<io::Error>() {
            // What an `io::Error` wraps is not its source: that is one further on.
            Some(io) => io.get_ref().map(|inside| inside as &(dyn StdError + 'static)),
            None => inner.source(),
        }
    })
}

/// What failed, and whether at the proxy or on the way to it.
fn cause(error: &reqwest::Error) -> (Cause, bool) {
    if error.is_timeout() {
        let phase = if error.is_connect() { Phase::Connect } else { Phase::Answer };
        return (Cause::TimedOut(phase), false);
    }
    let (mut is_of_proxy, mut last) = (false, String::new());
    for inner in chain(error) {
        last = inner.to_string();
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return (of_tls(tls), is_of_proxy);
        }
        match last.strip_prefix(TUNNEL) {
            None => {}
            Some("proxy authorization required") => return (Cause::NotAuthorised, true),
            Some("unsuccessful" | "proxy response headers too long") => return (Cause::Denied, true),
            Some("unexpected end of file") => return (Cause::Cut, true),
            // What it rests on comes behind it.
            Some(_) => is_of_proxy = true,
        }
        if let Some(cause) = inner.downcast_ref::<io::Error>().and_then(of_io) {
            return (cause, is_of_proxy);
        }
    }
    let cause = match error.is_connect() {
        true if error.is_dns() => Cause::Name(last),
        true => Cause::Other(last),
        false if last.starts_with("invalid HTTP") => Cause::NotHttp(last),
        false => Cause::Cut,
    };
    (cause, is_of_proxy)
}

fn of_io(error: &io::Error) -> Option<Cause> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => Cause::Refused,
        ErrorKind::HostUnreachable
        | ErrorKind::NetworkUnreachable
        | ErrorKind::NetworkDown
        | ErrorKind::NotConnected
        | ErrorKind::AddrNotAvailable
        | ErrorKind::PermissionDenied => Cause::Unreachable(error.to_string()),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Cause::Cut,
        _ => return None,
    })
}

fn of_tls(error: &rustls::Error) -> Cause {
    use rustls::CertificateError as Wrong;
    let rustls::Error::InvalidCertificate(wrong) = error else { return Cause::Tls(error.to_string()) };
    Cause::Certificate(match wrong {
        Wrong::UnknownIssuer => Certificate::UnknownIssuer,
        Wrong::Expired | Wrong::ExpiredContext { .. } => Certificate::Expired,
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => Certificate::NotYetValid,
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => Certificate::OtherName,
        _ => Certificate::Other(error.to_string()),
    })
}
