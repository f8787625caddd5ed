//! Where a host is found, as people write it.

use std::fmt;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::SocketAddr as UnixAddress;
use std::path::{Path, PathBuf};

/// How the address of a socket in the file system begins.
pub(crate) const PATH: &str = "unix:";
/// What stands for a socket that the supervisor hands over; behind a colon its name may follow.
pub(crate) const HANDED_OVER: &str = "systemd";
/// Where the verbs look for a host unless they are told.
pub(crate) const USUAL: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7420));

/// Where a host is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum At {
    /// An address and its port.
    Address(SocketAddr),
    /// A socket in the file system; where the path begins with a zero byte, a name that is in none.
    Path(PathBuf),
    /// The socket that the supervisor hands over, by its name where there are several.
    Systemd(Option<String>),
}

/// The path of a socket, as people write it: behind `@` is a name that is in no file system.
pub(crate) fn socket_path(text: &str) -> PathBuf {
    text.strip_prefix('@').map_or_else(|| PathBuf::from(text), abstract_path)
}

fn abstract_path(name: impl AsRef<[u8]>) -> PathBuf {
    PathBuf::from(std::ffi::OsString::from_vec([&b"\0"[..], name.as_ref()].concat()))
}

/// The name of a socket that is in no file system.
pub(super) fn abstract_name(path: &Path) -> Option<&[u8]> {
    path.as_os_str().as_bytes().strip_prefix(b"\0")
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Path(path) => match abstract_name(path) {
                Some(name) => write!(f, "{PATH}@{}", String::from_utf8_lossy(name)),
                None => write!(f, "{PATH}{}", path.display()),
            },
            Self::Systemd(None) => f.write_str(HANDED_OVER),
            Self::Systemd(Some(name)) => write!(f, "{HANDED_OVER}:{name}"),
        }
    }
}

impl At {
    /// As the verbs ask it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Address(address) => format!("http://{address}"),
            Self::Path(_) => self.to_string(),
            // Who opened the socket knows where it is.
            Self::Systemd(_) => format!("http://{USUAL}"),
        }
    }

    /// Where a socket of Unix is.
    pub(super) fn of_unix(address: &UnixAddress) -> Self {
        let path = address.as_pathname().map(Path::to_owned);
        Self::Path(path.or_else(|| address.as_abstract_name().map(abstract_path)).unwrap_or_default())
    }

    /// Its port, where it has one.
    pub(crate) fn port(&self) -> Option<u16> {
        match self {
            Self::Address(address) => Some(address.port()),
            Self::Path(_) | Self::Systemd(_) => None,
        }
    }
}
