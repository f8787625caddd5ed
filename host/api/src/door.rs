//! Who may come in: places in all, a share of them for each peer, and places that are kept for probes.
//!
//! One client that opens connections as fast as it can must not keep out the others, and whoever is to notice that the
//! host is busy must not be kept out by anybody. So a peer holds a share at most, and beside all places some are kept for
//! connections whose first request is a probe. A probe says at once what it wants: where all kept places are taken too, the
//! next one gets the place of whoever has come oftenest and has said nothing for longest.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::oneshot;

use bellhop_limits::Limits;

/// Places for probes.
const KEPT: u64 = 64;
/// One peer can have one in so many of them.
const KEPT_PER_PEER_OF: u64 = 4;
/// Of those who had to leave a kept place, so many for each place may still be on their way out.
const LEAVING_OF: u64 = 2;
/// Descriptors of the process that are not for connections: the store, guests, requests to Slack. Half, where there are few.
const OWN_DESCRIPTORS: u64 = 128;
/// A peer that stays at its share is named once in so long.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// A network, or one address: `10.0.0.0/8`, `192.0.2.7`, `fd00::/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net(IpNet);

impl FromStr for Net {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let written: IpAddr = base.parse().map_err(|_| ())?;
        let base = written.to_canonical();
        let Some(bits) = bits else { return Ok(Self(base.into())) };
        let bits: u8 = bits.parse().map_err(|_| ())?;
        // An address of IPv4 that is written as one of IPv6 has 96 bits before its own. With fewer, a network would have
        // others than those of IPv4 in it, and be all of these.
        let bits = if base == written { bits } else { bits.checked_sub(96).ok_or(())? };
        IpNet::new(base, bits).map(Self).map_err(|_| ())
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(net) = self;
        if net.prefix_len() == net.max_prefix_len() { net.addr().fmt(f) } else { net.fmt(f) }
    }
}

impl Net {
    /// Whether an address is in it.
    pub fn has(self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// Whose share it is. Who has one address of IPv6 has the 2^64 beside it, too.
pub(super) fn sharer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Places for probes, where a process may have so many descriptors.
fn kept_of(descriptors: u64) -> u64 {
    KEPT.min(descriptors / 4).max(1)
}

/// Connections that fit, where `connections_max` may be open and a process may have so many descriptors.
pub fn places_of(connections_max: u64, descriptors: u64) -> u64 {
    let own = OWN_DESCRIPTORS.min(descriptors / 2);
    connections_max.min(descriptors.saturating_sub(kept_of(descriptors) + own)).max(1)
}

/// The descriptors that a process needs for so many connections.
pub fn descriptors_for(connections_max: u64) -> u64 {
    connections_max + KEPT + OWN_DESCRIPTORS
}

/// See the module.
pub(super) struct Door {
    /// For everybody.
    places: u64,
    /// For probes, beside them.
    kept: u64,
    /// Of one peer, at most.
    share: u64,
    /// Those without a share: many clients stand behind each.
    trusted: Vec<Net>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    places: u64,
    kept: u64,
    peers: HashMap<IpAddr, Held>,
    /// Those who came when all places were taken.
    late: Counted,
    /// Those in kept places who have not said yet what they want, in their order.
    silent: VecDeque<Silent>,
    /// Kept places that were given so far.
    given: u64,
}

/// Somebody in a kept place, who can be told to leave it.
struct Silent {
    number: u64,
    peer: IpAddr,
    leave: oneshot::Sender<()>,
}

/// What one peer holds.
#[derive(Default)]
struct Held {
    places: u64,
    kept: u64,
    refused: Counted,
}

/// Something that happens again and again: counted, and said now and then.
#[derive(Default)]
pub(super) struct Counted {
    said_at: Option<Duration>,
    unsaid: u64,
}

impl Counted {
    /// One more; how many there were since they were last told, when it is time to tell.
    pub(super) fn count(&mut self, now: Duration) -> Option<u64> {
        self.unsaid += 1;
        if self.said_at.is_some_and(|at| now.saturating_sub(at) < SAID_AGAIN) {
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// It is over; how many there were since they were last told, if there were any.
    pub(super) fn rest(&mut self) -> Option<u64> {
        self.said_at.take()?;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// What a connection gets.
pub(super) enum Entry {
    /// A place like any other.
    Whole(Place),
    /// A place for one probe.
    Probe(Place),
    /// None.
    Nothing,
    /// As soon as some have gone who were told to.
    Later,
}

/// A place that is taken for as long as this is there.
pub(super) struct Place {
    door: Arc<Door>,
    peer: IpAddr,
    kept: Option<Kept>,
}

/// What a kept place has besides.
struct Kept {
    number: u64,
    leave: oneshot::Receiver<()>,
    has_asked: Arc<AtomicBool>,
}

/// Says of a connection in a kept place that its request has come.
#[derive(Clone)]
pub(super) struct Asking(Option<(Arc<Door>, u64, Arc<AtomicBool>)>);

impl Asking {
    /// Nobody else gets the place any more, not even who was promised it: it is answered, and gone.
    pub(super) fn has_asked(&self) {
        if let Some((door, number, has_asked)) = &self.0 {
            has_asked.store(true, Ordering::Relaxed);
            door.inside().silent.retain(|one| one.number != *number);
        }
    }
}

impl Place {
    /// Ready when the connection has to leave, because somebody else wants its place. Never for a place like any other.
    pub(super) async fn is_wanted(&mut self) {
        let is_told = match &mut self.kept {
            Some(kept) if !kept.has_asked.load(Ordering::Relaxed) => {
                (&mut kept.leave).await.is_ok() && !kept.has_asked.load(Ordering::Relaxed)
            }
            _ => false,
        };
        if !is_told {
            std::future::pending::<()>().await;
        }
    }

    /// For whoever hears the request.
    pub(super) fn asking(&self) -> Asking {
        Asking(self.kept.as_ref().map(|kept| (self.door.clone(), kept.number, kept.has_asked.clone())))
    }
}

impl Door {
    pub(super) fn new(limits: &Limits, trusted: Vec<Net>) -> Arc<Self> {
        let door = Self::of(limits, trusted, raised_descriptors());
        if door.places < limits.connections_max {
            tracing::warn!(
                places = door.places,
                wanted = limits.connections_max,
                "there are fewer places for connections than `connections_max`, because this process may have few descriptors: LimitNOFILE= in its unit, or `ulimit -n` in the shell that starts it"
            );
        }
        Arc::new(door)
    }

    fn of(limits: &Limits, trusted: Vec<Net>, descriptors: u64) -> Self {
        let kept = kept_of(descriptors);
        let places = places_of(limits.connections_max, descriptors);
        let share = limits.peer_connections_max.min(places / 2).max(1);
        Self { places, kept, share, trusted, inside: Mutex::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has connected, by a socket in the file system where there is no address. Whom its folder lets in has no
    /// share: a proxy is there, with all of its clients, or an operator.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>, now: Duration) -> Entry {
        let peer = sharer(address.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)));
        let trusted = address.is_none_or(|address| self.trusted.iter().any(|net| net.has(address)));
        let mut inside = self.inside();
        let Inside { places, kept, peers, late, silent, given } = &mut *inside;
        let held = peers.entry(peer).or_default();
        let at_share = !trusted && held.places >= self.share;
        if !at_share && *places < self.places {
            (*places, held.places) = (*places + 1, held.places + 1);
            return Entry::Whole(Place { door: self.clone(), peer, kept: None });
        }
        let kept_share = (self.kept / KEPT_PER_PEER_OF).max(1);
        let has_its_kept = held.kept >= kept_share;
        let takes = *kept >= self.kept || has_its_kept;
        let leaves = if takes { leaving(silent, has_its_kept.then_some(peer)) } else { None };
        // Whoever has to leave is counted until it has gone.
        let is_full = *kept >= self.kept * LEAVING_OF || held.kept >= kept_share * LEAVING_OF;
        if leaves.is_some() && is_full {
            return Entry::Later;
        }
        if at_share {
            if let Some(times) = held.refused.count(now) {
                tracing::warn!(%peer, share = self.share, times, "a peer has its share of the connections");
            }
        } else if let Some(times) = late.count(now) {
            tracing::warn!(places = self.places, times, "all connections are taken");
        }
        if takes {
            let Some(silent) = leaves.and_then(|at| silent.remove(at)) else {
                if held.places + held.kept == 0 {
                    peers.remove(&peer);
                }
                return Entry::Nothing;
            };
            // One that has gone by itself hears nothing.
            let _gone = silent.leave.send(());
        }
        (*kept, held.kept, *given) = (*kept + 1, held.kept + 1, *given + 1);
        let (leave, told) = oneshot::channel();
        silent.push_back(Silent { number: *given, peer, leave });
        let kept = Kept { number: *given, leave: told, has_asked: Arc::default() };
        Entry::Probe(Place { door: self.clone(), peer, kept: Some(kept) })
    }
}

/// Who leaves for somebody who comes: the one of `peer` who has been silent for longest, else of the peer of whom there are
/// most.
fn leaving(silent: &VecDeque<Silent>, peer: Option<IpAddr>) -> Option<usize> {
    let of = |peer: &IpAddr| silent.iter().filter(|one| one.peer == *peer).count();
    // Of peers of whom there are as many, the last of these is the one that came first.
    let peer = peer.or_else(|| silent.iter().rev().map(|one| one.peer).max_by_key(of))?;
    silent.iter().position(|one| one.peer == peer)
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside();
        let Inside { places, kept, peers, silent, .. } = &mut *inside;
        if let Some(own) = &self.kept {
            silent.retain(|one| one.number != own.number);
        }
        let Some(held) = peers.get_mut(&self.peer) else { return };
        let (all, own) = if self.kept.is_some() { (kept, &mut held.kept) } else { (places, &mut held.places) };
        (*all, *own) = (all.saturating_sub(1), own.saturating_sub(1));
        if held.places + held.kept == 0 {
            let unsaid = held.refused.unsaid;
            peers.remove(&self.peer);
            drop(inside);
            if unsaid > 0 {
                tracing::warn!(peer = %self.peer, times = unsaid, "a peer had its share of the connections, and has gone");
            }
        }
    }
}

/// Raises how many descriptors this process may have to what the machine lets it take, and gives that: the limit that a
/// process begins with is one for programs which cannot count further than 1,024.
fn raised_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where it may not be raised, it is as it was.
    let _as_it_was = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn door(connections_max: u64, descriptors: u64, trusted: &[&str]) -> Arc<Door> {
        let limits = Limits { connections_max, ..Limits::default() };
        Arc::new(Door::of(&limits, trusted.iter().map(|net| net.parse().unwrap()).collect(), descriptors))
    }

    fn all(door: &Arc<Door>, address: &str, tries: usize) -> (usize, usize, Vec<Entry>) {
        let entries: Vec<Entry> = (0..tries).map(|_| door.enter(Some(address.parse().unwrap()), NOW)).collect();
        let whole = entries.iter().filter(|entry| matches!(entry, Entry::Whole(_))).count();
        let probes = entries.iter().filter(|entry| matches!(entry, Entry::Probe(_))).count();
        (whole, probes, entries)
    }

    #[test]
    fn attack_b10_a_peer_has_a_share_and_leaves_room_for_probes() {
        let door = door(5_000, 1 << 20, &[]);
        let (whole, probes, held) = all(&door, "127.0.0.2", 6_000);
        // Sixteen, and as many who have to leave for others and are still there.
        assert_eq!((whole, probes), (1_250, 32));
        let (whole, probes, others) = all(&door, "::ffff:127.0.0.3", 10);
        assert_eq!((whole, probes), (10, 0), "another peer comes in");
        drop(held);
        assert_eq!(door.inside().peers.len(), 1, "nobody is remembered who has gone");
        drop(others);
        let inside = door.inside();
        assert_eq!((inside.places, inside.kept, inside.peers.len()), (0, 0, 0));
    }

    #[test]
    fn attack_b10_who_has_many_addresses_of_ipv6_has_one_share() {
        let door = door(100, 1 << 20, &[]);
        let held: Vec<Entry> =
            (0..100).map(|n| door.enter(Some(format!("2001:db8::{n:x}").parse().unwrap()), NOW)).collect();
        assert_eq!(held.iter().filter(|entry| matches!(entry, Entry::Whole(_))).count(), 50);
        assert_eq!(all(&door, "2001:db8:0:1::1", 1).0, 1, "the network beside it is somebody else's");
    }

    #[test]
    fn attack_b10_all_places_are_taken_and_a_probe_comes_in() {
        let door = door(8, 1 << 20, &["127.0.0.0/8"]);
        let (whole, _, _held) = all(&door, "127.0.0.1", 8);
        assert_eq!(whole, 8, "a trusted proxy has no share");
        let (whole, probes, _) = all(&door, "192.0.2.1", 3);
        assert_eq!((whole, probes), (0, 3));
        // However many come, so many probes at once and no more, with those who have to leave and are still there.
        let _many: Vec<_> = (0..100).map(|n| all(&door, &format!("198.51.100.{n}"), 20)).collect();
        assert_eq!(door.inside().kept, 128);
        assert!(door.inside().silent.len() <= 64);
    }

    #[test]
    fn attack_b10_descriptors_bound_the_places() {
        for (descriptors, places, kept) in
            [(1 << 20, 5_000, 64), (1_024, 832, 64), (200, 50, 50), (128, 32, 32), (64, 16, 16), (0, 1, 1)]
        {
            let door = Door::of(&Limits::default(), Vec::new(), descriptors);
            assert_eq!((door.places, door.kept), (places, kept), "{descriptors}");
        }
        let all = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert_eq!(raised_descriptors(), all);
    }

    fn in_a_kept_place(door: &Arc<Door>, address: &str) -> Place {
        match door.enter(Some(address.parse().unwrap()), NOW) {
            Entry::Probe(place) => place,
            Entry::Whole(_) => panic!("{address} has a place like any other"),
            Entry::Nothing | Entry::Later => panic!("{address} does not come in"),
        }
    }

    fn has_to_leave(place: &mut Place) -> bool {
        place.is_wanted().now_or_never().is_some()
    }

    #[test]
    fn surroundings_a_probe_comes_in_whoever_holds_the_places_of_probes() {
        let door = door(1, 1 << 20, &[]);
        let _only = door.enter(Some("192.0.2.9".parse().unwrap()), NOW);
        let attackers = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"];
        let mut held = Vec::new();
        let come = |held: &mut Vec<Place>, times: usize| {
            for attacker in attackers.iter().cycle().take(times) {
                held.push(in_a_kept_place(&door, attacker));
                held.retain_mut(|place| !has_to_leave(place));
                assert!(held.len() <= 64);
            }
        };
        come(&mut held, 400);
        assert_eq!(held.len(), 64);
        let mut probe = in_a_kept_place(&door, "198.51.100.1");
        held.retain_mut(|place| !has_to_leave(place));
        come(&mut held, 400);
        assert!(!has_to_leave(&mut probe), "who came once stays");
        // Whoever has asked is answered, however often it comes.
        let mut asked = held.remove(0);
        asked.asking().has_asked();
        come(&mut held, 400);
        assert!(!has_to_leave(&mut asked));
        drop((probe, asked, held));
        let inside = door.inside();
        assert_eq!((inside.kept, inside.silent.len(), inside.peers.len()), (0, 0, 1));
    }

    #[test]
    fn surroundings_one_who_comes_again_and_again_has_its_own_places_taken() {
        let door = door(1, 1 << 20, &[]);
        let _only = door.enter(Some("192.0.2.1".parse().unwrap()), NOW);
        let mut other = in_a_kept_place(&door, "198.51.100.1");
        let mut held: Vec<Place> = (0..17).map(|_| in_a_kept_place(&door, "192.0.2.1")).collect();
        assert!(has_to_leave(&mut held[0]), "the first has to leave");
        assert!(!held[1..].iter_mut().any(has_to_leave) && !has_to_leave(&mut other), "and nobody else");
    }

    #[test]
    fn attack_b10_a_refusal_is_counted_and_not_repeated() {
        let mut refused = Counted::default();
        let said: Vec<u64> = (0..200).filter_map(|n| refused.count(Duration::from_secs(n))).collect();
        assert_eq!(said, [1, 60, 60, 60]);
    }

    #[test]
    fn networks_are_read() {
        let has = |net: &str, address: &str| net.parse::<Net>().unwrap().has(address.parse().unwrap());
        assert!(has("10.0.0.0/8", "10.9.8.7") && has("10.0.0.0/8", "::ffff:10.9.8.7") && has("0.0.0.0/0", "192.0.2.1"));
        assert!(has("fd00::/8", "fd12::1") && has("::/0", "::1") && has("192.0.2.7", "192.0.2.7"));
        assert!(!has("10.0.0.0/8", "11.0.0.1") && !has("192.0.2.7", "192.0.2.8") && !has("::/0", "192.0.2.8"));
        // As many bits as are said count, whatever stands behind them.
        assert!(has("10.1.2.3/8", "10.9.8.7") && has("fd00::1/8", "fd12::1") && !has("10.1.2.3/8", "11.1.2.3"));
        let many = ["10.0.0.0/33", "10.0.0.0/256", "::/129", "::ffff:10.0.0.0/129", "10.0.0.0/-1"];
        for wrong in ["", "10", "host", "10.0.0.0/", "/8", "010.0.0.0/8", "10.0.0.0/8/8"].iter().chain(&many) {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_of_ipv4_in_the_form_of_ipv6_is_that_network() {
        let net = |text: &str| text.parse::<Net>().unwrap();
        assert_eq!(net("::ffff:10.0.0.0/104"), net("10.0.0.0/8"));
        assert_eq!(net("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        assert_eq!(net("::ffff:192.0.2.7"), net("192.0.2.7"));
        assert_eq!(net("::ffff:0.0.0.0/96"), net("0.0.0.0/0"));
        let has = |address: &str| net("::ffff:10.0.0.0/104").has(address.parse().unwrap());
        assert!(has("10.9.8.7") && has("::ffff:10.9.8.7"));
        assert!(!has("192.0.2.1") && !has("::ffff:192.0.2.1") && !has("2001:db8::1"), "nobody else is trusted");
        for wrong in ["::ffff:10.0.0.0/95", "::ffff:10.0.0.0/32", "::ffff:10.0.0.0/0"] {
            assert!(wrong.parse::<Net>().is_err(), "{wrong}");
        }
    }
}
