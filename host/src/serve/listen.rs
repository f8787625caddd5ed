//! How the host listens.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::Path;

use bellhop_api::Listener;
use tokio::net::{TcpListener, TcpSocket};

use super::at::{At, abstract_name};
use super::{Error, handed_over, taken};

impl At {
    /// Listens there, and gives where that is: a port 0 has become another one.
    ///
    /// # Errors
    /// What the system says, and who listens there already; or no socket that can be used was handed over.
    pub(super) fn listen(&self) -> Result<(Listener, Self), Error> {
        let refused = |source: io::Error| {
            let is_taken = source.kind() == io::ErrorKind::AddrInUse;
            let holder = self.port().filter(|_| is_taken).and_then(taken::by);
            Error::Listen { address: self.clone(), holder, source }
        };
        let at_address = |address| -> io::Result<(Listener, Self)> {
            let listener = listen(address)?;
            let at = Self::Address(listener.local_addr()?);
            Ok((Listener::Address(listener.into_std()?), at))
        };
        match self {
            Self::Address(address) => at_address(*address).map_err(refused),
            Self::Path(path) => Ok((Listener::Path(bound(path).map_err(refused)?), self.clone())),
            Self::Systemd(name) => Ok(handed_over::take(name.as_deref())?),
        }
    }

    /// Nobody listens any more where this was asked for: a socket in the file system is removed. One that was handed over
    /// is not ours, and stays.
    pub(super) fn leave(&self) {
        if let Self::Path(path) = self
            && abstract_name(path).is_none()
        {
            // The next start removes what is left.
            let _gone = fs::remove_file(path);
        }
    }
}

/// A socket in the file system. One that a host has left behind, which ended otherwise than in order, is replaced.
fn bound(path: &Path) -> io::Result<UnixListener> {
    if let Some(name) = abstract_name(path) {
        return UnixListener::bind_addr(&UnixAddress::from_abstract_name(name)?);
    }
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else in its place"));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(_) => fs::remove_file(path)?,
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // As at an address of this machine, a token is asked for; who may come as far as that is the folder's to say.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Connections that the system keeps until the host takes them; it keeps no more than its own bound (`somaxconn`).
/// `TcpListener::bind` asks for 128: a client that comes as the 129th of a burst is not refused but left out, and its
/// system tries again a second later.
const BACKLOG: u32 = 4_096;

/// Listens at an address, at once.
///
/// # Errors
/// What the system says: the address is taken, is none of this machine's, or may not be had.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // What an earlier process had open is still on its way out; on Windows the flag means something else.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;
    use crate::serve::socket_path;

    #[tokio::test]
    async fn attack_b10_a_burst_waits_for_the_host_and_not_a_second() {
        let kept = fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
        let burst = kept.unwrap_or(128_usize).min(400);
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody takes them meanwhile.
        let open: Vec<TcpStream> =
            (0..burst).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).ok()).collect();
        assert_eq!(open.len(), burst);
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let first = bound(&path).unwrap();
        assert_eq!(bound(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        let _second = bound(&path).unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        assert_eq!(bound(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&file).unwrap(), "x");
    }

    #[test]
    fn a_name_in_no_file_system_is_listened_on() {
        let name = format!("@bellhop-listen-{}", std::process::id());
        let at = At::Path(socket_path(&name));
        assert_eq!(at.to_string(), format!("unix:{name}"));
        let Ok((Listener::Path(listener), _)) = at.listen() else { panic!("nobody listens") };
        assert_eq!(At::of_unix(&listener.local_addr().unwrap()), at);
        let Err(Error::Listen { source, .. }) = at.listen() else { panic!("it is taken twice") };
        assert_eq!(source.kind(), io::ErrorKind::AddrInUse);
        at.leave();
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_said() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let again = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
