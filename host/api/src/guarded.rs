//! A socket whose writes may not stand still: who takes nothing for too long is cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;
use bellhop_clock::{Clock, Sleep};

/// See the module.
pub(super) struct Guarded {
    socket: Socket,
    clock: Arc<dyn Clock>,
    stalled_max: Duration,
    /// Runs while a write waits for the other side.
    stalled: Option<Sleep>,
    /// It waited for too long: no write moves again.
    cut: bool,
}

impl Guarded {
    /// Ends with an error any write that does not move for `stalled_max`.
    pub(super) fn new(socket: Socket, clock: Arc<dyn Clock>, stalled_max: Duration) -> Self {
        Self { socket, clock, stalled_max, stalled: None, cut: false }
    }

    /// What a write came to, unless it has been waiting for too long.
    fn watched<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if !self.cut {
            if written.is_ready() {
                self.stalled = None;
                return written;
            }
            let (clock, span) = (&self.clock, self.stalled_max);
            ready!(self.stalled.get_or_insert_with(|| clock.sleep(span)).as_mut().poll(context));
            self.cut = true;
            self.stalled = None;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing")))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, bytes);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.watched(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
