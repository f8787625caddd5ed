//! Connections whose writing can be cut at a byte, and bodies that drip.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Interval, MissedTickBehavior, interval},
};

/// How many more bytes a connection may write; negative is no limit.
#[derive(Debug)]
pub(crate) struct Allowance(AtomicI64);

impl Allowance {
    pub(crate) fn unlimited() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(-1)))
    }

    pub(crate) fn lift(&self) {
        self.0.store(-1, Ordering::Release);
    }

    /// From here on the connection writes this many bytes and breaks.
    pub(crate) fn limit(&self, bytes: usize) {
        self.0.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Release);
    }
}

#[derive(Debug)]
pub(crate) struct Line {
    stream: TcpStream,
    allowance: Arc<Allowance>,
}

impl Line {
    pub(crate) fn new(stream: TcpStream, allowance: Arc<Allowance>) -> Self {
        Self { stream, allowance }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.allowance.0.load(Ordering::Acquire);
        let allowed = match usize::try_from(left) {
            Err(_) => return Pin::new(&mut self.stream).poll_write(cx, buf),
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            Ok(left) => left.min(buf.len()),
        };
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..allowed]))?;
        self.allowance.0.fetch_sub(i64::try_from(written).unwrap_or(i64::MAX), Ordering::AcqRel);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an answer: at once, or piece by piece.
#[derive(Debug)]
pub(crate) enum Payload {
    Whole(Bytes),
    Drip { left: Bytes, piece: usize, clock: Interval },
}

impl Payload {
    /// The same bytes, piece by piece.
    pub(crate) fn drip(self, piece: usize, every: Duration) -> Self {
        let (Self::Whole(left) | Self::Drip { left, .. }) = self;
        let mut clock = interval(every.max(Duration::from_millis(1)));
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self::Drip { left, piece: piece.max(1), clock }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Drip { left, .. } if left.is_empty() => Poll::Ready(None),
            Self::Drip { left, piece, clock } => {
                ready!(clock.poll_tick(cx));
                let size = left.len().min(*piece);
                Poll::Ready(Some(Ok(Frame::data(left.split_to(size)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) | Self::Drip { left: bytes, .. } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) | Self::Drip { left: bytes, .. } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}
