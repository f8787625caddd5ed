//! Those who come through trusted proxies: their connections are the proxy's, so each has a share of the requests that are
//! under way at once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use super::door::{Counted, sharer};
use bellhop_limits::Limits;

/// See the module.
pub(super) struct Behind {
    /// Requests of one sender, at most.
    share: u64,
    senders: Mutex<HashMap<IpAddr, Held>>,
}

/// What one sender has under way.
#[derive(Default)]
struct Held {
    requests: u64,
    refused: Counted,
}

/// A request that is under way for as long as this is there.
pub(super) struct UnderWay {
    behind: Arc<Behind>,
    sender: IpAddr,
}

impl Behind {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        let share = limits.peer_connections_max.min(limits.connections_max / 2).max(1);
        Arc::new(Self { share, senders: Mutex::default() })
    }

    fn senders(&self) -> MutexGuard<'_, HashMap<IpAddr, Held>> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more request of `address`; none where it has its share under way.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, now: Duration) -> Option<UnderWay> {
        let sender = sharer(address);
        let mut senders = self.senders();
        let held = senders.entry(sender).or_default();
        if held.requests >= self.share {
            if let Some(times) = held.refused.count(now) {
                tracing::warn!(%sender, share = self.share, times, "a sender behind a proxy has its share of the requests");
            }
            return None;
        }
        held.requests += 1;
        Some(UnderWay { behind: self.clone(), sender })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut senders = self.behind.senders();
        let Some(held) = senders.get_mut(&self.sender) else { return };
        held.requests = held.requests.saturating_sub(1);
        if held.requests == 0 {
            senders.remove(&self.sender);
        }
    }
}

/// The answer, whose request is under way until its last byte has gone out or nobody wants it any more.
pub(super) fn until_gone(answer: Response, under_way: UnderWay) -> Response {
    answer.map(|body| Body::new(Answer { body, _under_way: under_way }))
}

struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_s15_a_sender_behind_a_proxy_has_a_share_of_the_requests() {
        let limits = Limits { connections_max: 20, peer_connections_max: 3, ..Limits::default() };
        let behind = Behind::new(&limits);
        let enter = |address: &str| behind.enter(address.parse().unwrap(), Duration::ZERO);
        let held: Vec<_> = (0..5).filter_map(|_| enter("192.0.2.7")).collect();
        assert_eq!(held.len(), 3);
        let answer = until_gone(Response::new(Body::from("x")), enter("192.0.2.8").unwrap());
        assert_eq!(answer.body().size_hint().exact(), Some(1));
        assert_eq!(behind.senders().len(), 2);
        drop((held, answer));
        assert!(behind.senders().is_empty(), "nobody is remembered who has gone");
    }
}
