//! By which way a request came: the address that it was sent to, as its sender knows it, and who sent it.
//!
//! A proxy in front of a host takes away a part of the path, and is the peer of everybody's connections. What it says of
//! both in headers is believed of the peers in `trusted_proxies` alone, because anybody can write a header. What is not in
//! the expected form counts as not said.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, Uri};

use super::door::Net;

/// The path that a proxy has taken away.
const PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// Through whom a request came, the nearest last.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The same in the form of RFC 7239.
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
/// A longer path is no prefix.
const PREFIX_BYTES_MAX: usize = 200;
/// A longer address is none to begin links with.
const URL_BYTES_MAX: usize = 1_000;
/// Further away nobody is looked for: each costs a comparison with every trusted network.
const HOPS_MAX: usize = 32;

/// The address of a host, as those who ask it know it: `https://hosts.example/bellhop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// What such an address is, for whoever wrote something else.
pub const PUBLIC_URL_FORMS: &str =
    "an address such as https://bellhop.example or https://hosts.example/bellhop, without a query";

impl FromStr for PublicUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shown: String = text.chars().take(64).collect();
        let wrong = || format!("`{shown}` is not {PUBLIC_URL_FORMS}");
        // A fragment is not part of an address to this parser.
        let uri: Uri = text.parse().ok().filter(|_| !text.contains('#')).ok_or_else(wrong)?;
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let path = uri.path().trim_end_matches('/');
        if !is_http || authority.is_empty() || authority.contains('@') || uri.query().is_some() || !is_prefix(path) {
            return Err(wrong());
        }
        let url = text.trim_end_matches('/');
        if url.len() > URL_BYTES_MAX { Err(wrong()) } else { Ok(Self(url.to_owned())) }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a path is one of ordinary characters, which means the same to everybody. Nothing is one, too.
fn is_prefix(path: &str) -> bool {
    let is_part = |part: &str| {
        let is_plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        is_plain && !matches!(part, "" | "." | "..")
    };
    let mut parts = path.split('/');
    path.len() <= PREFIX_BYTES_MAX && (path.is_empty() || (parts.next() == Some("") && parts.all(is_part)))
}

/// What the addresses of a host begin with, as whoever asks it has to write them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Base(String);

impl Base {
    /// The address of what has this path here.
    pub(super) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

/// The other end of a connection; no address where it came by a socket in the file system.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Peer(pub(super) Option<IpAddr>);

/// By which ways requests come.
#[derive(Debug, Clone, Default)]
pub(super) struct Ways {
    /// Where the host is, whatever proxies say.
    pub(super) public: Option<PublicUrl>,
    /// Whose headers are believed.
    pub(super) trusted: Vec<Net>,
}

/// By which way one request came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// What its links begin with.
    pub(super) base: Base,
    /// Who sent it.
    pub(super) sender: Option<IpAddr>,
    /// Whether that is somebody behind a trusted proxy, who has no connection of their own here.
    pub(super) is_behind: bool,
}

impl Ways {
    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.has(address))
    }

    /// By which way a request with these headers came over a connection of `peer`.
    pub(super) fn of(&self, Peer(peer): Peer, headers: &HeaderMap) -> Way {
        let believed = peer.filter(|peer| self.trusts(*peer));
        let base = match (&self.public, believed) {
            (Some(public), _) => public.0.clone(),
            (None, Some(_)) => prefix(headers).unwrap_or_default(),
            (None, None) => String::new(),
        };
        let sender = believed.map(|proxy| self.sender(proxy, headers)).or(peer);
        Way { base: Base(base), sender, is_behind: sender != peer }
    }

    /// The nearest that is no trusted proxy, by what each one says of the one before it.
    fn sender(&self, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = proxy;
        for hop in hops(headers).iter().rev().take(HOPS_MAX) {
            // What is no address hides whoever stands behind it.
            let Some(address) = hop else { break };
            nearest = *address;
            if !self.trusts(nearest) {
                break;
            }
        }
        nearest
    }
}

/// The path that the nearest proxy has taken away. A header that came with the request stands before its own.
fn prefix(headers: &HeaderMap) -> Option<String> {
    let said = headers.get_all(PREFIX).iter().next_back()?.to_str().ok()?.trim();
    let path = said.strip_suffix('/').unwrap_or(said);
    is_prefix(path).then(|| path.to_owned())
}

/// Through whom a request came, the nearest last; none in place of what is no address. The older header goes before,
/// because proxies add to it and let the other one pass.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let items = |name: &HeaderName| -> Vec<String> {
        let values = headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
        values.flat_map(|value| value.split(',')).map(|item| item.trim().to_owned()).collect()
    };
    let older = items(&FORWARDED_FOR);
    if !older.is_empty() {
        return older.iter().map(|item| address(item)).collect();
    }
    let of = |item: &String| {
        let pair = item.split(';').filter_map(|pair| pair.split_once('='));
        let mut named = pair.filter(|(name, _)| name.trim().eq_ignore_ascii_case("for"));
        named.next().and_then(|(_, value)| address(value.trim().trim_matches('"')))
    };
    items(&FORWARDED).iter().map(of).collect()
}

/// An address, perhaps with a port: `192.0.2.7`, `192.0.2.7:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let found = text.parse().ok().or_else(|| bare?.parse().ok());
    let found = found.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|with_port| with_port.ip()));
    found.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn ways(public: Option<&str>) -> Ways {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
        Ways { public: public.map(|url| url.parse().unwrap()), trusted }
    }

    fn way(ways: &Ways, peer: &str, headers: &[(&'static str, &str)]) -> (String, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let way = ways.of(Peer(Some(peer.parse().unwrap())), &map);
        assert_eq!(way.is_behind, way.sender != Some(peer.parse().unwrap()));
        (way.base.at("/v1"), way.sender.unwrap().to_string())
    }

    #[test]
    fn surroundings_s15_a_prefix_is_believed_of_trusted_proxies_and_is_an_ordinary_path() {
        let ways = ways(None);
        let base = |peer: &str, prefix: &str| way(&ways, peer, &[("x-forwarded-prefix", prefix)]).0;
        assert_eq!(base("10.0.0.1", "/bellhop"), "/bellhop/v1");
        assert_eq!(base("10.0.0.1", "/a-b/c_d.e~f/"), "/a-b/c_d.e~f/v1");
        assert_eq!(base("192.0.2.1", "/bellhop"), "/v1", "anybody can write a header");
        let long = format!("/{}", "x".repeat(PREFIX_BYTES_MAX));
        for wrong in [
            "bellhop",
            "//evil.example",
            "/a//b",
            "/..",
            "/a/./b",
            "/a?b",
            "/a%2fb",
            "https://evil.example",
            "/ü",
            "/",
            long.as_str(),
        ] {
            assert_eq!(base("10.0.0.1", wrong), "/v1", "{wrong}");
        }
        // What came with the request stands before what the proxy has added.
        let twice = [("x-forwarded-prefix", "/forged"), ("x-forwarded-prefix", "/bellhop")];
        assert_eq!(way(&ways, "10.0.0.1", &twice).0, "/bellhop/v1");
    }

    #[test]
    fn surroundings_s15_a_public_address_goes_before_what_proxies_say() {
        let ways = ways(Some("https://hosts.example/bellhop/"));
        for peer in ["10.0.0.1", "192.0.2.1"] {
            let (base, _) = way(&ways, peer, &[("x-forwarded-prefix", "/other")]);
            assert_eq!(base, "https://hosts.example/bellhop/v1");
        }
        for right in ["http://h", "https://h:8443/a/b", "https://[::1]:80/"] {
            assert!(right.parse::<PublicUrl>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            "h",
            "/a",
            "ftp://h",
            "https://",
            "https://u:p@h",
            "https://h/?a",
            "https://h/a#b",
            "https://h//a",
            "https://h/../a",
        ] {
            assert!(wrong.parse::<PublicUrl>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn surroundings_s15_the_sender_is_the_nearest_that_is_no_trusted_proxy() {
        let ways = ways(None);
        let sender = |peer: &str, headers: &[(&'static str, &str)]| way(&ways, peer, headers).1;
        let older = "x-forwarded-for";
        assert_eq!(sender("10.0.0.1", &[(older, "192.0.2.7")]), "192.0.2.7");
        assert_eq!(sender("10.0.0.1", &[(older, "203.0.113.9, 192.0.2.7, 10.1.1.1")]), "192.0.2.7", "what it forged");
        assert_eq!(sender("10.0.0.1", &[(older, "203.0.113.9"), (older, "192.0.2.7")]), "192.0.2.7");
        assert_eq!(sender("10.0.0.1", &[(older, "[2001:db8::1]:4711")]), "2001:db8::1");
        assert_eq!(sender("10.0.0.1", &[(older, "192.0.2.7:80")]), "192.0.2.7");
        assert_eq!(sender("10.0.0.1", &[(older, "203.0.113.9, unknown, 10.2.2.2")]), "10.2.2.2");
        assert_eq!(sender("192.0.2.1", &[(older, "203.0.113.9")]), "192.0.2.1", "anybody can write a header");
        let newer = "for=203.0.113.9;proto=http, For=\"[2001:db8::1]:4711\";by=10.0.0.1";
        assert_eq!(sender("fd00::1", &[("forwarded", newer)]), "2001:db8::1");
        assert_eq!(sender("10.0.0.1", &[("forwarded", "for=203.0.113.9"), (older, "192.0.2.7")]), "192.0.2.7");
        assert_eq!(sender("10.0.0.1", &[]), "10.0.0.1");
    }
}
