//! What the connection lacks at first: runs that are refused for it are kept, and begin by themselves once an operator
//! has put it right.

use bellhop_core::id::RunId;
use bellhop_core::requirement::{Connection, Kind, Permission, Plan, TokenKind};
use bellhop_slack::client::Secret;
use serde_json::Value;

use super::dice::Dice;
use super::life::Process;
use super::story::Story;
use super::world::World;
use crate::accept::blocked::Change;
use crate::gateway::{Connected, Gateway};
use bellhop_clock::Clock as _;

/// The only connection.
const NAME: &str = "hq";
/// Before a remedy that nobody tells of is seen, a busy minute included; and one that the host is told of.
const UNTOLD_MS: u64 = 90_000;
const TOLD_MS: u64 = 20_000;
/// For each process that dies meanwhile.
const DEATH_MS: u64 = 5_000;

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Connection,
    Permission,
    Scopes,
    Plan,
}

/// Until when it is not there.
#[derive(Debug, Clone)]
pub(super) struct Lacking {
    pub(super) what: Lack,
    /// Since the beginning of the world.
    pub(super) until_ms: u64,
    /// Whether the host hears of the remedy, or has to look for it.
    pub(super) told: bool,
}

impl Lacking {
    /// In some worlds.
    pub(super) fn of(seed: u64, span_ms: u64) -> Option<Self> {
        let mut dice = Dice::of(seed, "lack");
        let what = [Lack::Connection, Lack::Permission, Lack::Scopes, Lack::Plan];
        dice.chance(20).then(|| Self {
            what: *dice.pick(&what),
            until_ms: dice.between(1_000, span_ms),
            told: dice.chance(60),
        })
    }
}

/// Connects what there is in this world.
pub(super) fn connect(world: &World, gateway: &Gateway) {
    let lack = world.lock().lack;
    if lack == Some(Lack::Connection) {
        return gateway.remove(NAME);
    }
    let facts = Connection {
        name: NAME.to_owned(),
        kind: Kind::Workspace,
        permission: if lack == Some(Lack::Permission) { Permission::Read } else { Permission::Act },
        plan: Some(if lack == Some(Lack::Plan) { Plan::Free } else { Plan::BusinessPlus }),
        plan_unknown_because: None,
        checked_at: Some(world.time.now()),
        tokens: [(TokenKind::Bot, (lack == Some(Lack::Scopes)).then(|| ["users:read".to_owned()].into()))].into(),
        assumed: false,
        workspace_id: Some("T01".to_owned()),
        enterprise_id: None,
    };
    let tokens = [(TokenKind::Bot, Secret::new("xoxb-simulated".to_owned()))].into();
    gateway.put(Connected { facts, actors: std::collections::BTreeMap::new(), tokens });
}

/// An operator puts it right.
pub(super) fn remedy(process: &Process, told: bool) {
    let Process { world, engine, .. } = process;
    world.say(format!("what was lacking is there; told: {told}"));
    let now = world.time.true_ms();
    {
        let mut state = world.lock();
        (state.lack, state.remedied_ms) = (None, Some(now));
    }
    connect(world, &engine.services.gateway);
    if told {
        engine.remedied(&Change::Any);
    }
}

/// Whoever was blocked began when it could, and not before.
pub(super) fn check(world: &World, story: &Story, lost: &mut Vec<String>) {
    let lacking = story.lacking.as_ref();
    // Whether a call that may be made needs the rest is seen only when it is made.
    let mut needing: Vec<RunId> = world.lock().promised.keys().copied().collect();
    needing.retain(|run| lacking.is_some_and(|l| l.what == Lack::Connection) && story.needs_everything(*run));
    let mut state = world.lock();
    let (Some(lacking), Some(remedied), false) = (lacking, state.remedied_ms, state.clock_set) else { return };
    let within = if lacking.told { TOLD_MS } else { UNTOLD_MS } + DEATH_MS * u64::from(state.life);
    let time = |value: &Value| -> Option<u64> {
        let at = value.as_str()?.parse::<jiff::Timestamp>().ok()?;
        u64::try_from(at.as_millisecond()).ok()
    };
    let mut blocked = 0;
    for (run, promised) in &state.promised {
        let at = |kind: &str| promised.events.values().find(|e| e["type"] == kind).and_then(|e| time(&e["at"]));
        blocked += u64::from(at("run.blocked").is_some());
        let early = |at: &u64| *at < remedied && needing.contains(run);
        if let Some(begun) = at("run.started").filter(early) {
            lost.push(format!("{run} started {} ms before what it lacked was there", remedied - begun));
        }
        let (Some(since), Some(begun)) = (at("run.blocked"), at("run.unblocked")) else { continue };
        if begun < remedied {
            lost.push(format!("{run} began {} ms before what it lacked was there", remedied - begun));
        }
        let late = begun.saturating_sub(remedied.max(since));
        if !promised.touched && late > within {
            lost.push(format!("{run} began {late} ms after what it lacked was there"));
        }
    }
    state.counts.blocked += blocked;
}
