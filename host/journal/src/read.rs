//! What a read of a store gives, at once or when it has come from another machine.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::store::Error;

/// What a read came to, as soon as it is there; see [`Store::get`](super::Store::get).
///
/// A store that has its values beside it gives what it has read already: then nothing is allocated, and whoever awaits it
/// goes on at once. A store on another machine gives what will have come, and holds no thread until then. Dropping it
/// changes nothing in the store.
#[must_use = "nothing is known of a read before it was awaited"]
pub struct Read<T>(Inner<T>);

enum Inner<T> {
    Ready(std::future::Ready<Result<T, Error>>),
    Later(Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>),
}

impl<T> Read<T> {
    /// What has been read.
    pub fn ready(read: Result<T, Error>) -> Self {
        Self(Inner::Ready(std::future::ready(read)))
    }

    /// What will have been read when `read` ends.
    pub fn later(read: impl Future<Output = Result<T, Error>> + Send + 'static) -> Self {
        Self(Inner::Later(Box::pin(read)))
    }
}

impl<T: Unpin> Future for Read<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Inner::Ready(read) => Pin::new(read).poll(context),
            Inner::Later(read) => read.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for Read<T> {
    /// Not what was read: values hold what people wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            Inner::Ready(_) => "Read(ready)",
            Inner::Later(_) => "Read(later)",
        })
    }
}
