//! Addresses to listen on, as people write them.

use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _};

use crate::serve::{At, HANDED_OVER, PATH, socket_path};

/// What an address is, for whoever wrote something else.
pub(super) const FORMS: &str = "an address with its port, such as 127.0.0.1:7420, [::1]:7420 or localhost:7420; a port alone, as 7420, is on this machine only, and one behind a colon, as :7420, on all of its addresses";
/// What else a host listens on.
pub(super) const PATH_FORM: &str = "`unix:PATH` is a socket in the file system, `unix:@NAME` one that is in none, and `systemd` or `systemd:NAME` the one that a supervisor hands over";

/// Reads where a host listens: an [address](parse), `unix:PATH`, `unix:@NAME`, `systemd` or `systemd:NAME`.
///
/// # Errors
/// It is none of these: a text for people.
pub(super) fn at(text: &str) -> Result<At, String> {
    if let Some(name) = text.strip_prefix(HANDED_OVER) {
        match name.strip_prefix(':') {
            None if name.is_empty() => return Ok(At::Systemd(None)),
            Some("") => return Err(format!("`{text}` names no socket")),
            Some(name) => return Ok(At::Systemd(Some(name.to_owned()))),
            // A machine's name that begins so.
            None => {}
        }
    }
    match text.strip_prefix(PATH) {
        Some("" | "@") => Err(format!("`{text}` names no file")),
        Some(path) => Ok(At::Path(socket_path(path))),
        None => parse(text).map(At::Address).map_err(|said| format!("{said}; {PATH_FORM}")),
    }
}

/// Reads an address: `127.0.0.1:7420`, `[::1]:7420`, `localhost:7420`, `7420` (on this machine only), `:7420` (everywhere).
///
/// # Errors
/// It is none, or it has a name that the system does not know: a text for people.
pub(super) fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = || format!("`{text}` is no address to listen on; write {FORMS}");
    let (name, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    // Without brackets the last part of an address of IPv6 would be taken for the port.
    if name.contains([':', '/', '[', ']']) {
        return Err(wrong());
    }
    match name {
        "" | "*" => Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))),
        "localhost" => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        name => {
            let found = (name, port).to_socket_addrs().map_err(|error| format!("`{name}` has no address: {error}"))?;
            let all: Vec<SocketAddr> = found.collect();
            let first = all.iter().find(|address| address.is_ipv4()).or_else(|| all.first());
            first.copied().ok_or_else(|| format!("`{name}` has no address"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_s7_addresses_are_taken_as_people_write_them() {
        for (text, meant) in [
            ("127.0.0.1:7420", "127.0.0.1:7420"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:7420", "[::1]:7420"),
            ("localhost:7420", "127.0.0.1:7420"),
            ("7420", "127.0.0.1:7420"),
            (":7420", "0.0.0.0:7420"),
            ("*:7420", "0.0.0.0:7420"),
        ] {
            assert_eq!(parse(text), Ok(meant.parse().unwrap()), "{text}");
        }
        for text in ["", "localhost", "::1:7420", "127.0.0.1", "127.0.0.1:70000", "http://localhost:7420", "[::1]", ":"]
        {
            let said = parse(text).unwrap_err();
            assert!(said.contains("such as 127.0.0.1:7420"), "{text}: {said}");
        }
        assert_eq!(at("unix:/run/bellhop.sock"), Ok(At::Path("/run/bellhop.sock".into())));
        assert_eq!(at("7420"), Ok(At::Address("127.0.0.1:7420".parse().unwrap())));
        assert_eq!(at("unix:@bellhop").map(|at| at.to_string()), Ok("unix:@bellhop".to_owned()));
        assert_eq!(at("systemd"), Ok(At::Systemd(None)));
        assert_eq!(at("systemd:web").map(|at| at.to_string()), Ok("systemd:web".to_owned()));
        assert!(at("unix:").is_err() && at("unix:@").is_err() && at("systemd:").is_err());
        assert!(parse("no-such-host.invalid:7420").unwrap_err().starts_with("`no-such-host.invalid` has no address"));
    }
}
