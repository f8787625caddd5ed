//! Where the host listens.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the system keeps until the host takes them; it keeps no more than its own bound (`somaxconn`).
/// `TcpListener::bind` asks for 128: a client that comes as the 129th of a burst is not refused but left out, and its
/// system tries again a second later.
const BACKLOG: u32 = 4_096;

/// Listens at an address, at once.
///
/// # Errors
/// What the system says: the address is taken, is none of this machine's, or may not be had.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
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

    #[tokio::test]
    async fn attack_b10_a_burst_waits_for_the_host_and_not_a_second() {
        let kept =
            std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
        let burst = kept.unwrap_or(128_usize).min(400);
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody takes them meanwhile.
        let open: Vec<TcpStream> =
            (0..burst).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(900)).ok()).collect();
        assert_eq!(open.len(), burst);
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_said() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let again = listen(first.local_addr().unwrap()).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AddrInUse);
    }
}
