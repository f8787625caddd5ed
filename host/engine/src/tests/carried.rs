//! One driver carries a run, and whoever asks something of a run hears what became of that, also when a driver stops, drains
//! or panics.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use bellhop_slack::catalog::Method;
use bellhop_slack::client::{Answer, Failure};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::life::{Life, Slack, fresh, trigger};
use super::scripted::{Script, Slice};
use crate::gateway::Way;
use crate::setup::plugins;
use crate::tests::at_once;
use bellhop_sandbox::{Host, Trap};

const HQ: &[(&str, &str)] = &[("team", "hq")];
const ONE: &str = "
  - one: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: one}}";

#[test]
fn house_a10_a_signal_between_the_acceptance_and_the_driver_makes_no_second_driver() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(&format!("\n  - rest: {{wait: {{milliseconds: 1}}}}{ONE}"));
    let (engine, handle) = (life.engine().clone(), life.handle());
    let (tell, told) = mpsc::channel();
    // The run is in lists; whoever sees it there cancels it before its driver has it.
    life.store.meanwhile(move || {
        let (run, _) = at_once(engine.services.journal.runs(None, 1)).unwrap().items.into_iter().next().unwrap();
        handle.spawn(async move {
            let decided = engine.signal(run, Cause::Cancel).await;
            let _gone = tell.send(decided.is_ok());
        });
        // One that has to wait for the driver is not back by then, and one that need not is.
        let _late = told.recv_timeout(Duration::from_millis(300));
    });
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    assert_eq!(life.ended(run).unwrap().status, Status::Cancelled);
    life.until("its driver is gone", || life.engine().runs().live() == 0);
    assert_eq!(life.status(run), Status::Cancelled, "another driver went on");
    // The log is one driver's.
    let life = Life::start(life.die(usize::MAX), &slack);
    assert_eq!(life.view(run).status, Status::Cancelled);
    assert_eq!(slack.messages(), Vec::<String>::new());
}

#[test]
fn house_a11_resolve_says_ok_only_when_it_was_settled() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let workflow = life.apply(
        "
  - both:
      fork:
        branches:
          - doubtful: {call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: doubt}}
          - slow: {call: message.send:1@slack, with: {connection: other, channel: C0HQGENERAL, text: slow}}",
    );
    // The one connection cannot read back what it had sent; the other's request takes its time.
    slack.fault(&json!({ "method": "chat.postMessage", "match": {"text": "doubt"}, "action": "cut_after_accept" }));
    let slow = slack.fault(&json!({
        "method": "chat.postMessage", "match": {"text": "slow"}, "action": "hold_before_accept",
    }));
    let run = life.started(trigger(&workflow, json!({}), &[("team", "poor"), ("other", "hq")], None));
    slack.happened(slow);
    life.until_status(run, Status::Parked);
    let engine = life.engine().clone();
    let drained = life.spawn(async move { engine.drain().await });
    life.until("it drains", || life.engine().is_draining());
    let engine = life.engine().clone();
    let (sent, read) = (life.store.commits(), life.store.scanned());
    let asked = life.spawn(async move { engine.resolve(run, None, false, None, "a test".to_owned()).await });
    life.until("it reads what is in doubt", || life.store.scanned() > read);
    slack.release(slow, "answer");
    assert!(life.wait(drained).unwrap());
    let answered = life.wait(asked).unwrap();
    let settled = life.entries(run).iter().any(|entry| matches!(entry, bellhop_journal::Entry::Resolved { .. }));
    assert_eq!(answered.is_ok(), settled, "{answered:?} after {sent} commits");
    assert!(answered.is_err(), "the process was stopping");
}

/// A way to Slack on which the first request ends with a mistake of ours.
struct Jams {
    sent: AtomicUsize,
}

/// What Slack answers to a message that it takes.
fn posted() -> Answer {
    Answer {
        status: 200,
        ok: true,
        error: None,
        body: json!({"ok": true, "channel": "C0HQGENERAL", "ts": "1790000000.000100"}),
        needed: None,
        provided: None,
        bytes: 64,
        scopes: None,
        request_id: None,
    }
}

impl Way for Jams {
    fn send<'a>(&'a self, method: &'a Method, _: &'a Value) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            assert!(method.name == "chat.postMessage", "{} is not asked for here", method.name);
            assert!(self.sent.fetch_add(1, Ordering::Relaxed) > 0, "planted: a mistake of the host's");
            Ok(posted())
        })
    }
}

#[test]
fn house_a14_a_panic_while_a_write_is_under_way_is_a_doubt_and_no_success() {
    let slack = Slack::start();
    let way = Arc::new(Jams { sent: AtomicUsize::new(0) });
    let mut life = Life::open(fresh(), &slack);
    life.equip(|services| services.gateway.way = Some(way.clone()));
    life.begin();
    let post = ("chat.post-message", r#"{"channel":"C0HQGENERAL","text":"once"}"#);
    let slices = [Slice { calls: &[post], ..Slice::default() }];
    let script = Script { name: "jammed", effect: "create", inverse: None, slices: &slices };
    script.install(&life);
    let workflow = life.apply("\n  - act: {call: 'jammed.do:1@jammed', with: {connection: team}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until("it has an end", || life.status(run) != Status::Running);
    assert_eq!(life.status(run), Status::Parked);
    let waiting = life.view(run).waiting.unwrap();
    assert!(waiting["reason"]["type"].as_str().unwrap().ends_with("/outcome-unknown"), "{waiting}");
    // A person has looked, and it was not carried out.
    life.wait(life.engine().resolve(run, None, false, None, "a test".to_owned())).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!(way.sent.load(Ordering::Relaxed), 2);
}

/// An action that takes its driver with it.
struct Panics;

impl plugins::Script for Panics {
    fn run(&self, _: &str, _: &str, _: Box<dyn Host>) -> BoxFuture<'static, Result<Result<String, String>, Trap>> {
        Box::pin(async { panic!("planted: a mistake of the host's") })
    }
}

#[test]
fn house_a14_a_run_whose_driver_panics_is_set_aside_and_others_go_on() {
    let slack = Slack::start();
    let life = Life::start(fresh(), &slack);
    let script = Script { name: "boom", effect: "read", inverse: None, slices: &[Slice::default()] };
    let services = &life.engine().services;
    let manifest = serde_json::from_value(script.manifest()).unwrap();
    services.plugins.put_script(manifest, Arc::new(Panics), &services.gateway.rules);
    let workflow = life.apply("\n  - act: {call: 'boom.do:1@boom', with: {connection: team}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    life.until("it is set aside, and is none of the live", || {
        life.engine().is_aside(run) && life.engine().runs().live() == 0
    });
    // It is shown so once nobody else has its turn.
    life.until_status(run, Status::Parked);
    assert!(at_once(life.engine().summary(run)).unwrap().unwrap().poisoned);
    let other = life.apply(ONE);
    let other = life.started(trigger(&other, json!({}), HQ, None));
    assert_eq!(life.ended(other).unwrap().status, Status::Completed);
    // A person can end it.
    life.wait(life.engine().signal(run, Cause::Kill)).unwrap();
    assert_eq!(life.status(run), Status::Cancelled);
}

/// A way to Slack on which a request takes as long as a test says.
struct Slow {
    sent: AtomicUsize,
    began: tokio::sync::Notify,
    answers: tokio::sync::Notify,
}

impl Way for Slow {
    fn send<'a>(&'a self, _: &'a Method, _: &'a Value) -> BoxFuture<'a, Result<Answer, Failure>> {
        Box::pin(async move {
            self.sent.fetch_add(1, Ordering::Relaxed);
            self.began.notify_one();
            self.answers.notified().await;
            Ok(posted())
        })
    }
}

/// Opens the engine with requests that take as long as a test says.
fn on_a_slow_way(slack: &Slack) -> (Life, Arc<Slow>) {
    let way = Arc::new(Slow { sent: AtomicUsize::new(0), began: Default::default(), answers: Default::default() });
    let mut life = Life::open(fresh(), slack);
    life.equip(|services| services.gateway.way = Some(way.clone()));
    life.begin();
    (life, way)
}

/// A run whose driver has panicked is carried until what it sent is answered, and set aside then.
fn waits_for_its_write(life: &Life, way: &Slow, run: RunId) {
    life.until("it is on its way", || way.sent.load(Ordering::Relaxed) == 1);
    // Time passes in which a run that was let go would be set aside.
    for n in 0..3 {
        let other = life.apply_named(&format!("other-{n}"), "\n  - say: {set: {said: true}}");
        let other = life.started(trigger(&other, json!({}), &[], None));
        assert_eq!(life.ended(other).unwrap().status, Status::Completed);
    }
    assert!(!life.engine().is_aside(run), "a write of it is under way");
    assert_eq!(life.engine().runs().live(), 1);
    way.answers.notify_one();
    life.until("it is set aside", || life.engine().is_aside(run));
    assert_eq!(super::life::open_intents(&life.entries(run)), 0, "the outcome is on record");
}

/// An action that takes its driver with it the first time, while what it sent is on its way.
struct PanicsPartway {
    way: Arc<Slow>,
    runs: AtomicUsize,
}

impl plugins::Script for PanicsPartway {
    fn run(
        &self,
        _: &str,
        _: &str,
        mut host: Box<dyn Host>,
    ) -> BoxFuture<'static, Result<Result<String, String>, Trap>> {
        let (way, is_first) = (self.way.clone(), self.runs.fetch_add(1, Ordering::Relaxed) == 0);
        Box::pin(async move {
            let call = host.call("chat.post-message", r#"{"channel":"C0HQGENERAL","text":"once"}"#.to_owned());
            if is_first {
                tokio::select! {
                    _ = call => {}
                    () = way.began.notified() => {}
                }
                panic!("planted: a mistake of the host's");
            }
            let _answer = call.await.map_err(Trap::Halted)?;
            Ok(Ok(super::scripted::DONE.to_owned()))
        })
    }
}

#[test]
fn house_d3_a_run_whose_driver_panics_is_let_go_when_what_it_sent_has_come() {
    let slack = Slack::start();
    let (life, way) = on_a_slow_way(&slack);
    let post = ("chat.post-message", r#"{"channel":"C0HQGENERAL","text":"once"}"#);
    let slices = [Slice { calls: &[post], ..Slice::default() }];
    let script = Script { name: "partway", effect: "create", inverse: None, slices: &slices };
    let services = &life.engine().services;
    let manifest = serde_json::from_value(script.manifest()).unwrap();
    let panics = Arc::new(PanicsPartway { way: way.clone(), runs: AtomicUsize::new(0) });
    services.plugins.put_script(manifest, panics.clone(), &services.gateway.rules);
    let workflow = life.apply("\n  - act: {call: 'partway.do:1@partway', with: {connection: team}}");
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    waits_for_its_write(&life, &way, run);
    life.wait(life.engine().signal(run, Cause::Resume)).unwrap();
    assert_eq!(life.ended(run).unwrap().status, Status::Completed);
    assert_eq!((way.sent.load(Ordering::Relaxed), panics.runs.load(Ordering::Relaxed)), (1, 2));
    // One writer wrote the log.
    let outcomes =
        life.entries(run).into_iter().filter(|entry| matches!(entry, bellhop_journal::Entry::Outcome { .. }));
    assert_eq!(outcomes.count(), 1);
}

/// An action that takes its driver with it while another call of the run is on its way.
struct PanicsBeside(Arc<Slow>);

impl plugins::Script for PanicsBeside {
    fn run(&self, _: &str, _: &str, _: Box<dyn Host>) -> BoxFuture<'static, Result<Result<String, String>, Trap>> {
        let way = self.0.clone();
        Box::pin(async move {
            way.began.notified().await;
            panic!("planted: a mistake of the host's");
        })
    }
}

#[test]
fn house_d3_a_run_whose_driver_panics_waits_for_what_another_of_its_calls_sent() {
    let slack = Slack::start();
    let (life, way) = on_a_slow_way(&slack);
    let script = Script { name: "beside", effect: "read", inverse: None, slices: &[Slice::default()] };
    let services = &life.engine().services;
    let manifest = serde_json::from_value(script.manifest()).unwrap();
    services.plugins.put_script(manifest, Arc::new(PanicsBeside(way.clone())), &services.gateway.rules);
    let say = "{call: message.send:1@slack, with: {connection: team, channel: C0HQGENERAL, text: once}}";
    let act = "{call: 'beside.do:1@beside', with: {connection: team}}";
    let workflow = life.apply(&format!("\n  - both: {{fork: {{branches: [{{say: {say}}}, {{act: {act}}}]}}}}"));
    let run = life.started(trigger(&workflow, json!({}), HQ, None));
    waits_for_its_write(&life, &way, run);
    assert_eq!(way.sent.load(Ordering::Relaxed), 1);
}
