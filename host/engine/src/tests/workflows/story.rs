//! Onboarding sleeps, the start date moves, the hire is withdrawn: one account, the right date, then gone (semantics 3).

use std::sync::Arc;
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::id::RunId;
use bellhop_core::run::{Cause, Status};
use bellhop_core::time::Timestamp;
use serde_json::{Value, json};

use super::{World, hire};
use crate::setup::connections::Secrets;
use bellhop_clock::Manual;
use bellhop_journal::Summary;
use bellhop_journal::memory::Memory;

/// 2026-01-05T08:00:00Z.
const MONDAY: Timestamp = Timestamp::from_millis(1_767_600_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const GRACE: &str = "grace@plus.example";

struct Story {
    world: World,
    clock: Manual,
    onboard: WorkflowName,
}

impl Story {
    async fn begin() -> Self {
        let options = bellhop_simulator::Options { budget_scale: 1000.0, ..Default::default() };
        let slack = Arc::new(bellhop_simulator::start(options).await.unwrap());
        let clock = Manual::new(MONDAY);
        let store = Arc::new(Memory::new());
        let world = World::over_at(slack, store, Secrets::nowhere(), Arc::new(clock.clone())).await;
        world.business_plus().await;
        let onboard = world.ship("onboarding.yaml").await;
        Self { world, clock, onboard }
    }

    /// HR sends the hire, with this first day.
    async fn hired(&self, start_date: &str) -> RunId {
        let mut hire = hire(GRACE);
        hire["person"]["startDate"] = json!(start_date);
        hire["person"]["timeZone"] = json!("Europe/Paris");
        self.world.engine.trigger(World::trigger(&self.onboard, hire, None)).await.unwrap().run
    }

    /// Until the run stands so; what it waits for meanwhile that is no date passes.
    async fn until(&self, run: RunId, status: Status) {
        self.comes_to(run, status.as_str(), |summary| summary.status == status).await;
    }

    /// Until a run waits for a date. Before that it waits for the one whose place it takes, which is waiting too.
    async fn until_its_date(&self, run: RunId) {
        let waits = |summary: &Summary| summary.waiting.as_ref().is_some_and(|waiting| waiting["until"].is_string());
        self.comes_to(run, "a date", waits).await;
    }

    async fn comes_to(&self, run: RunId, what: &str, holds: impl Fn(&Summary) -> bool) {
        let looks = |summary: &Summary| {
            let is_there = holds(summary);
            if !is_there {
                self.clock.advance(Duration::from_millis(10));
            }
            is_there
        };
        self.world.comes_to(run, what, looks).await;
    }

    fn made(&self) -> usize {
        let ledger = self.world.slack.ledger();
        ledger.iter().filter(|line| line["changed"] == true && line["method"] == "scim.v2.post.Users").count()
    }

    fn account(&self) -> Value {
        self.world.account(GRACE)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_on_the_right_date_then_gone() {
    let story = Story::begin().await;
    let first = story.hired("2026-01-08").await;
    story.until(first, Status::Waiting).await;
    // The start date moves.
    let second = story.hired("2026-01-12").await;
    story.until(first, Status::Cancelled).await;
    story.until_its_date(second).await;
    // The first date comes and goes.
    story.clock.advance(4 * DAY);
    story.clock.advance(DAY);
    story.until(second, Status::Waiting).await;
    assert_eq!(story.account(), Value::Null);
    assert_eq!(story.world.slack.ledger().len(), 0, "nobody was told of anything");
    let waiting = story.world.engine.summary(second).await.unwrap().unwrap().waiting.unwrap();
    assert_eq!(waiting["until"], "2026-01-12T07:00:00.000Z", "eight in the morning in Paris: {waiting}");
    // The right one.
    story.clock.advance(2 * DAY);
    story.until(second, Status::Completed).await;
    assert_eq!(story.account()["active"], true);
    assert_eq!(story.made(), 1);
    // The hire is withdrawn.
    story.world.engine.signal(second, Cause::Undo).await.unwrap();
    story.until(second, Status::Cancelled).await;
    assert_eq!(story.account()["active"], false, "{:#?}", story.world.story(second).await);
    assert_eq!(story.made(), 1);
    story.world.assert_keys_once();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hire_that_is_withdrawn_before_the_first_day_never_was() {
    let story = Story::begin().await;
    let first = story.hired("2026-01-08").await;
    story.until(first, Status::Waiting).await;
    let second = story.hired("2026-01-12").await;
    story.until(second, Status::Waiting).await;
    story.world.engine.signal(second, Cause::CancelAndUndo).await.unwrap();
    story.until(second, Status::Cancelled).await;
    story.world.engine.runs().none().await;
    story.clock.advance(30 * DAY);
    assert_eq!(story.world.engine.runs().live(), 0);
    assert_eq!(story.account(), Value::Null);
    assert_eq!(story.world.slack.ledger().len(), 0);
}
