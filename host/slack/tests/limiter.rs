//! The limiter under a clock that only the test moves.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::time::Timestamp;
use bellhop_slack::catalog::{Catalog, Method, Sharing};
use bellhop_slack::limiter::{Clock, Key, Lane, Limiter, Options, Owner, Reservation};
use serde_json::{Value, json};
use tokio::time::Instant;

/// tokio's paused time, from an hour after 1970; `back_ms` sets it back.
#[derive(Clone)]
struct TestClock(Instant, Arc<Mutex<u64>>);

const EPOCH_MS: u64 = 3_600_000;

impl TestClock {
    fn new() -> Self {
        Self(Instant::now(), Arc::default())
    }
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap() + EPOCH_MS - *self.1.lock().unwrap()
    }
    async fn sleep_until(&self, at_ms: u64) {
        tokio::time::sleep(Duration::from_millis(at_ms.saturating_sub(self.now_ms()))).await;
    }
}

const HQ: Owner<'static> = Owner { connection: "hq", organisation: "E1" };

fn method(name: &str) -> &'static Method {
    Catalog::built_in().by_name(name).unwrap()
}

fn run(n: u64) -> RunId {
    RunId::new(Timestamp::from_millis(n), u128::from(n))
}

fn reserve(limiter: &Limiter<TestClock>, name: &str, arguments: &Value, n: u64, lane: Lane) -> Reservation<TestClock> {
    limiter.reserve(method(name), arguments, HQ, run(n), lane).unwrap()
}

/// Reserves, and notes when it was granted.
fn note(reservation: Reservation<TestClock>, clock: &TestClock, label: &str, log: &Log) -> tokio::task::JoinHandle<()> {
    let (clock, label, log) = (clock.clone(), label.to_owned(), Arc::clone(log));
    tokio::spawn(async move {
        let permit = reservation.await;
        log.lock().unwrap().push((clock.now_ms() - EPOCH_MS, label, permit.keys().to_vec()));
    })
}

type Log = Arc<Mutex<Vec<(u64, String, Vec<Key>)>>>;

fn labels(log: &Log) -> Vec<String> {
    log.lock().unwrap().iter().map(|(_, label, _)| label.clone()).collect()
}

/// A pseudo-random walk that is the same every time.
fn dice(seed: &mut u64, sides: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % sides
}

#[tokio::test(start_paused = true)]
async fn no_bucket_gives_more_than_it_has() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let (log, mut seed, mut waiting) = (Log::default(), 7, Vec::new());
    let names = ["chat.postMessage", "usergroups.users.update", "scim.v2.post.Users", "scim.v2.delete.Users.id"];
    for _ in 0..1_500 {
        let name = names[usize::try_from(dice(&mut seed, 4)).unwrap()];
        let arguments = json!({"channel": format!("C{}", dice(&mut seed, 3))});
        let lane = if dice(&mut seed, 10) == 0 { Lane::Fast } else { Lane::Slow };
        let reservation = reserve(&limiter, name, &arguments, dice(&mut seed, 20), lane);
        if dice(&mut seed, 8) == 0 {
            drop(reservation);
        } else {
            waiting.push(note(reservation, &clock, name, &log));
        }
        tokio::time::sleep(Duration::from_millis(dice(&mut seed, 300))).await;
    }
    for task in waiting {
        task.await.unwrap();
    }
    let mut rates = BTreeMap::new();
    for name in names {
        for bucket in &method(name).buckets {
            rates.insert(bucket.name.clone() + &format!("{:?}", bucket.sharing), (bucket.per_minute, bucket.burst));
        }
    }
    let mut times: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    for (at, name, keys) in log.lock().unwrap().iter() {
        for (key, bucket) in keys.iter().zip(&method(name).buckets) {
            let list = times.entry(key.clone()).or_default();
            list.push(*at);
            for (i, earlier) in list.iter().enumerate() {
                let taken = list.len() - i;
                let fair =
                    f64::from(bucket.burst) + (at - earlier + 1) as f64 * f64::from(bucket.per_minute) / 60_000.0;
                assert!(taken as f64 <= fair + 0.001, "{key:?}: {taken} within {} ms", at - earlier);
            }
        }
    }
    assert!(times.len() > 6, "{}", times.len());
    assert_eq!(limiter.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn runs_take_turns_and_the_fast_lane_overtakes() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let log = Log::default();
    let name = "admin.teams.create"; // One a minute.
    let mut waiting = Vec::new();
    for (label, n, lane) in [
        ("first", 0, Lane::Slow),
        ("bulk", 1, Lane::Slow),
        ("bulk", 1, Lane::Slow),
        ("bulk", 1, Lane::Slow),
        ("small", 2, Lane::Slow),
        ("leaver", 3, Lane::Fast),
        ("leaver", 3, Lane::Fast),
    ] {
        waiting.push(note(reserve(&limiter, name, &json!({}), n, lane), &clock, label, &log));
    }
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(labels(&log), ["first", "leaver", "leaver", "bulk", "small", "bulk", "bulk"]);
    let times: Vec<u64> = log.lock().unwrap().iter().map(|(at, ..)| *at).collect();
    assert_eq!(times, [0, 60_000, 120_000, 180_000, 240_000, 300_000, 360_000]);
}

#[tokio::test(start_paused = true)]
async fn the_slow_lane_never_starves() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let log = Log::default();
    let mut waiting = Vec::new();
    for n in 0..12 {
        let (label, lane) = if n == 11 { ("slow", Lane::Slow) } else { ("fast", Lane::Fast) };
        waiting.push(note(reserve(&limiter, "admin.teams.create", &json!({}), n, lane), &clock, label, &log));
    }
    for task in waiting {
        task.await.unwrap();
    }
    assert_eq!(labels(&log).iter().position(|l| l == "slow"), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_full_channel_does_not_hold_up_another() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let log = Log::default();
    let mut waiting = Vec::new();
    for n in 0..6 {
        let reservation = reserve(&limiter, "chat.postMessage", &json!({"channel": "C1"}), n, Lane::Slow);
        waiting.push(note(reservation, &clock, "C1", &log));
    }
    let other = reserve(&limiter, "chat.postMessage", &json!({"channel": "C2"}), 9, Lane::Slow);
    waiting.push(note(other, &clock, "C2", &log));
    for task in waiting {
        task.await.unwrap();
    }
    let at: Vec<_> = log.lock().unwrap().iter().map(|(at, label, _)| (*at, label.clone())).collect();
    assert!(at.contains(&(0, "C2".to_owned())), "{at:?}");
    assert_eq!(at.last(), Some(&(2_000, "C1".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn who_drops_a_reservation_loses_nobody_a_token() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let name = "admin.teams.create";
    // Granted and dropped: the token is back.
    drop(reserve(&limiter, name, &json!({}), 1, Lane::Slow));
    let first = reserve(&limiter, name, &json!({}), 1, Lane::Slow);
    assert_eq!(first.wait_ms(), 0);
    let permit = first.await;
    // Waiting and dropped: the next goes at that minute.
    let second = reserve(&limiter, name, &json!({}), 1, Lane::Slow);
    let third = reserve(&limiter, name, &json!({}), 1, Lane::Slow);
    assert_eq!((second.wait_ms(), third.wait_ms(), limiter.waiting()), (60_000, 120_000, 2));
    let begun = tokio::time::timeout(Duration::from_secs(30), second).await;
    assert!(begun.is_err(), "it waited, and was dropped by the timeout");
    assert_eq!(limiter.waiting(), 1);
    let third = third.await;
    assert_eq!(clock.now_ms() - EPOCH_MS, 60_000);
    // Given back: at once for the next.
    third.give_back();
    assert_eq!(reserve(&limiter, name, &json!({}), 1, Lane::Slow).wait_ms(), 0);
    drop(permit);
    // Granted while nobody looked, then dropped: not lost either.
    let spent = reserve(&limiter, name, &json!({}), 1, Lane::Slow).await;
    let unseen = reserve(&limiter, name, &json!({}), 1, Lane::Slow);
    tokio::time::sleep(Duration::from_secs(61)).await;
    drop(unseen);
    assert_eq!(reserve(&limiter, name, &json!({}), 1, Lane::Slow).wait_ms(), 0);
    drop(spent);
}

#[tokio::test(start_paused = true)]
async fn retry_after_closes_and_outlives_a_restart() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let permit = reserve(&limiter, "users.list", &json!({}), 1, Lane::Slow).await;
    limiter.close(permit.keys(), 90_000);
    assert_eq!(reserve(&limiter, "users.list", &json!({}), 1, Lane::Fast).wait_ms(), 90_000);
    assert_eq!(reserve(&limiter, "users.info", &json!({}), 1, Lane::Slow).wait_ms(), 0, "another method goes on");

    let stored = limiter.snapshot();
    assert_eq!(stored.len(), 1);
    let text = serde_json::to_string(&stored).unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let limiter = Limiter::restarted(Options::default(), clock.clone(), serde_json::from_str(&text).unwrap());
    assert_eq!(reserve(&limiter, "users.list", &json!({}), 1, Lane::Slow).wait_ms(), 60_000);
    // Tier 4 is 100 a minute: no burst, so the first token comes after 600 ms.
    assert_eq!(reserve(&limiter, "users.info", &json!({}), 1, Lane::Slow).wait_ms(), 600);
    assert_eq!(limiter.snapshot(), stored);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert_eq!(limiter.snapshot(), []);
    assert_eq!(reserve(&limiter, "users.list", &json!({}), 1, Lane::Slow).wait_ms(), 0);
}

#[tokio::test(start_paused = true)]
async fn organisations_share_and_connections_do_not() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock);
    let elsewhere = Owner { connection: "labs", organisation: "E1" };
    for (name, shared) in [("admin.teams.create", false), ("scim.v2.post.Users", true)] {
        let keys = Limiter::<TestClock>::keys(method(name), &json!({}), HQ);
        let others = Limiter::<TestClock>::keys(method(name), &json!({}), elsewhere);
        assert_eq!(keys == others, shared, "{name}");
    }
    // Creating and deleting accounts is one budget.
    for _ in 0..20 {
        let _spent = reserve(&limiter, "scim.v2.post.Users", &json!({}), 1, Lane::Slow).await;
    }
    assert!(reserve(&limiter, "scim.v2.delete.Users.id", &json!({"id": "U1"}), 1, Lane::Slow).wait_ms() > 0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options { queue_max: 2, ..Options::default() }, clock);
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(reserve(&limiter, "admin.teams.create", &json!({}), 1, Lane::Slow));
    }
    let full = limiter.reserve(method("admin.teams.create"), &json!({}), HQ, run(2), Lane::Fast).unwrap_err();
    assert_eq!(full.waiting, 2);
    drop(held);
    assert_eq!(limiter.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_shuts_no_bucket() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let _spent = reserve(&limiter, "admin.teams.create", &json!({}), 1, Lane::Slow).await;
    *clock.1.lock().unwrap() = 3_000_000;
    assert!(reserve(&limiter, "admin.teams.create", &json!({}), 1, Lane::Slow).wait_ms() <= 60_000);
}

/// Reserving is bookkeeping: with the rates out of the way, many thousands go through without a wait.
#[tokio::test]
async fn reserving_costs_little() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options { scale: 1_000_000.0, ..Options::default() }, clock);
    for n in 0..50_000_u64 {
        let arguments = json!({"channel": format!("C{}", n % 5_000)});
        let reservation = reserve(&limiter, "chat.postMessage", &arguments, n % 64, Lane::Slow);
        assert_eq!(reservation.wait_ms(), 0);
        let _spent = reservation.await;
    }
}

/// Whoever waits by it panics.
struct Broken;

impl Clock for Broken {
    fn now_ms(&self) -> u64 {
        EPOCH_MS
    }
    async fn sleep_until(&self, _: u64) {
        panic!("as the test says")
    }
}

#[tokio::test]
async fn that_nobody_serves_a_queue_any_more_is_seen() {
    let limiter = Limiter::new(Options::default(), Broken);
    let unattended = limiter.unattended();
    let arguments = json!({"channel": "C1"});
    // More than the bucket has, so that somebody waits.
    let reserve = |n| limiter.reserve(method("chat.postMessage"), &arguments, HQ, run(n), Lane::Slow).unwrap();
    let waiting: Vec<Reservation<Broken>> = (0..100).map(reserve).collect();
    unattended.await;
    drop(waiting);
}

/// A channel has one budget, by whatever it is called: a name has a bucket of its own only until Slack has said whose it is.
#[tokio::test(start_paused = true)]
async fn slack_23_a_channel_posted_to_by_name_has_its_own_bucket_until_the_answer_gives_the_id() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let post = method("chat.postMessage");
    let (by_name, by_id) = (json!({"channel": "#it"}), json!({"channel": "C0000000IT"}));
    let channel_burst = post.buckets.iter().find(|bucket| bucket.sharing == Sharing::Channel).unwrap().burst;
    let waits = |arguments: &Value| {
        let reservation = limiter.reserve(post, arguments, HQ, run(1), Lane::Slow).unwrap();
        reservation.wait_ms()
    };
    let spends = |arguments: Value| {
        let reservation = limiter.reserve(post, &arguments, HQ, run(1), Lane::Slow).unwrap();
        assert_eq!(reservation.wait_ms(), 0, "{arguments}");
        reservation
    };
    for written in ["#it", "it", "#IT", "#it"].into_iter().take(usize::try_from(channel_burst).unwrap()) {
        drop(spends(json!({ "channel": written })).await);
    }
    assert!(waits(&by_name) > 0, "however it is written, it is one channel");
    assert_eq!(waits(&by_id), 0, "nobody knows yet that this is the same channel");
    limiter.went_to(post, &by_name, HQ, "C0000000IT");
    assert!(waits(&by_id) > 0, "what was taken by the name was taken from the channel");
    // Half of it is taken by the name and half by the id, and both know of each other's.
    tokio::time::sleep(Duration::from_secs(60)).await;
    for turn in 0..channel_burst {
        drop(spends(if turn % 2 == 0 { by_name.clone() } else { by_id.clone() }).await);
    }
    assert!(waits(&by_name) > 0 && waits(&by_id) > 0);
    let other = Owner { connection: "lab", organisation: "E1" };
    assert_eq!(
        limiter.reserve(post, &by_name, other, run(1), Lane::Slow).unwrap().wait_ms(),
        0,
        "another place's `#it`"
    );
}

/// Who waits by a name when it becomes known whose it is waits in that channel's bucket.
#[tokio::test(start_paused = true)]
async fn slack_23_who_waits_by_a_name_waits_for_the_channel() {
    let clock = TestClock::new();
    let limiter = Limiter::new(Options::default(), clock.clone());
    let post = method("chat.postMessage");
    let (by_name, by_id) = (json!({"channel": "#it"}), json!({"channel": "C0000000IT"}));
    let (log, mut tasks) = (Log::default(), Vec::new());
    for turn in 0..12_u64 {
        let arguments = if turn % 2 == 0 { &by_name } else { &by_id };
        tasks.push(note(reserve(&limiter, "chat.postMessage", arguments, turn, Lane::Slow), &clock, "post", &log));
        if turn == 6 {
            limiter.went_to(post, &by_name, HQ, "C0000000IT");
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    // Seven were gone before it was known, of the four that the channel has; each that came after took a second.
    let last = log.lock().unwrap().iter().map(|(at, _, _)| *at).max().unwrap();
    assert_eq!(last, 8_000);
}
