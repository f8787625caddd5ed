//! What a host listens on, and who comes by it: an address, or a socket in the file system.

use std::io;
use std::net::IpAddr;
use std::os::unix::net as unix;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// The head of a probe is not longer.
const HEAD_BYTES: usize = 4 << 10;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A listener that belongs to no runtime yet, so that it can be made by one and used by another.
#[derive(Debug)]
pub enum Listener {
    /// At an address.
    Address(std::net::TcpListener),
    /// In the file system: whoever may open it there may connect.
    Path(unix::UnixListener),
}

impl Listener {
    /// The same, of the runtime that it is called in.
    pub(super) fn here(self) -> io::Result<Here> {
        match self {
            Self::Address(listener) => {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Here::Address)
            }
            Self::Path(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener).map(Here::Path)
            }
        }
    }
}

/// A listener of a runtime.
pub(super) enum Here {
    Address(TcpListener),
    Path(UnixListener),
}

impl Here {
    /// Who comes next, and from which address, where there is one.
    pub(super) async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Address(listener) => {
                listener.accept().await.map(|(socket, peer)| (Socket::Address(socket), Some(peer.ip())))
            }
            Self::Path(listener) => listener.accept().await.map(|(socket, _)| (Socket::Path(socket), None)),
        }
    }
}

/// A connection.
pub(super) enum Socket {
    Address(TcpStream),
    Path(UnixStream),
}

impl Socket {
    /// Sends small answers at once. Without it they wait for the client's acknowledgement of the one before.
    pub(super) fn at_once(&self) -> io::Result<()> {
        match self {
            Self::Address(socket) => socket.set_nodelay(true),
            Self::Path(_) => Ok(()),
        }
    }

    /// Ready when there is something to read, or the other side has gone.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Address(socket) => socket.readable().await,
            Self::Path(socket) => socket.readable().await,
        }
    }

    /// Whether the whole head of a request has come. The system is asked itself: what the runtime knows of a connection
    /// that was just taken may be older.
    pub(super) fn has_a_head(&self) -> bool {
        let mut begin = [0; HEAD_BYTES];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let read = match self {
            Self::Address(socket) => recv(socket, &mut begin[..], flags),
            Self::Path(socket) => recv(socket, &mut begin[..], flags),
        };
        let begin = read.ok().and_then(|(_, length)| begin.get(..length)).unwrap_or_default();
        begin.windows(END_OF_HEAD.len()).any(|bytes| bytes == END_OF_HEAD)
    }

    /// Writes what goes without waiting.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Address(socket) => socket.try_write(bytes),
            Self::Path(socket) => socket.try_write(bytes),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Address(socket) => Pin::new(socket).poll_read(context, into),
            Self::Path(socket) => Pin::new(socket).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Address(socket) => Pin::new(socket).poll_write(context, bytes),
            Self::Path(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Address(socket) => Pin::new(socket).poll_write_vectored(context, bytes),
            Self::Path(socket) => Pin::new(socket).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Address(socket) => socket.is_write_vectored(),
            Self::Path(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Address(socket) => Pin::new(socket).poll_flush(context),
            Self::Path(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Address(socket) => Pin::new(socket).poll_shutdown(context),
            Self::Path(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
