//! What is set up in one process is known in every other one that has the same store.

use std::cell::Cell;
use std::collections::BTreeSet;

use bellhop_clock as clock;
use bellhop_core::requirement::Permission;
use bellhop_core::time::Timestamp;
use bellhop_journal::{Write, key};
use bellhop_limits::Limits;

use super::life::{Life, Slack, fresh};
use crate::installation::Facts;
use crate::setup::plugins::Change;
use crate::setup::tokens::Scope;
use crate::tests::at_once;

fn is_known(life: &Life, secret: &str) -> bool {
    let engine = life.engine();
    at_once(engine.tokens.find(secret, engine.services.clock.now())).unwrap().is_some()
}

fn is_connected(life: &Life, name: &str) -> bool {
    life.engine().services.gateway.connection(name).is_some()
}

fn grants(life: &Life) -> Vec<String> {
    let slack = life.engine().services.plugins.named("slack", None).unwrap();
    slack[0].grants.iter().map(ToString::to_string).collect()
}

/// Takes a grant away.
fn take(life: &Life, grant: &str) {
    let services = &life.engine().services;
    let remove = [grant.to_owned()];
    let rules = &services.gateway.rules;
    let change = Change { name: "slack", version: None, add: &[], remove: &remove, rules, connections: &[] };
    life.wait(services.plugins.grant(&change)).unwrap();
}

/// Waits until what was set up elsewhere is known to `life`, whose time `moved` lets pass.
///
/// A look that began before it was set up may end after the time moved; the time from then on is another such span.
fn until_heard(life: &Life, what: &str, moved: &impl Fn(), holds: impl Fn() -> bool) {
    moved();
    let asked = Cell::new(0_u32);
    life.until(what, || {
        asked.set(asked.get() + 1);
        if asked.get().is_multiple_of(5_000) {
            moved();
        }
        holds()
    });
}

/// Everything that is set up `here`, a connection of this name among it, is known `there`, as soon as `moved` has let the time pass that this may take.
fn everything_is_heard(name: &str, here: &Life, there: &Life, moved: impl Fn()) {
    let engine = here.engine();
    let scopes = || BTreeSet::from([Scope::parse("runs:read").unwrap()]);
    let now = engine.services.clock.now();
    let (token, secret) = here.wait(engine.tokens.create("heard", scopes(), None, now, 7)).unwrap();
    assert!(is_known(there, &secret), "whoever looks for it finds it in the store");
    here.wait(engine.tokens.revoke(token.id)).unwrap();
    until_heard(there, "a revoked token opens nothing", &moved, || !is_known(there, &secret));

    here.connect(name, "xoxb-hq", Permission::Act);
    until_heard(there, "a new connection is there", &moved, || is_connected(there, name));
    here.connect(name, "xoxb-lab", Permission::Act);
    let workspace =
        |life: &Life| life.engine().services.gateway.connection(name).and_then(|c| c.facts.workspace_id.clone());
    until_heard(there, "it leads where it was made to lead", &moved, || workspace(there).as_deref() == Some("T0LAB"));
    here.wait(engine.connections.remove(&engine.services.gateway, name)).unwrap();
    until_heard(there, "a removed connection is gone", &moved, || !is_connected(there, name));

    let grant = grants(here).into_iter().next().unwrap();
    assert!(grants(there).contains(&grant));
    take(here, &grant);
    until_heard(there, "what is granted no more is not", &moved, || !grants(there).contains(&grant));
}

#[test]
fn what_one_process_sets_up_every_other_one_hears_of_at_once() {
    let slack = Slack::start();
    let here = Life::start(fresh(), &slack);
    let there = here.beside(None, &slack);
    everything_is_heard("heard-there", &here, &there, || {});
    everything_is_heard("heard-here", &there, &here.beside(None, &slack), || {});
}

/// Messages between machines may be lost: then it is heard when the process looks for itself, every few seconds.
#[test]
fn what_nobody_tells_is_found_within_five_seconds() {
    let slack = Slack::start();
    let here = Life::start(fresh(), &slack);
    let time = clock::Manual::new(Timestamp::from_millis(1_790_000_000_000));
    let there = here.beside(Some(&time), &slack);
    everything_is_heard("heard-late", &here, &there, || {
        time.advance(std::time::Duration::from_secs(crate::setup::revision::HEARD_S_MAX));
    });
}

/// A revision that cannot be read is none: whatever is set up next writes another.
#[test]
fn a_damaged_revision_keeps_nobody_from_hearing() {
    let slack = Slack::start();
    let here = Life::start(fresh(), &slack);
    let there = here.beside(None, &slack);
    let mut write = Write::new();
    write.put_raw(&key::host("setup-revision"), b"\xff\xfe");
    here.journal().commit(write).unwrap();
    here.connect("heard-damaged", "xoxb-hq", Permission::Act);
    there.until("a new connection is there", || is_connected(&there, "heard-damaged"));
}

/// A connection whose tokens cannot be read can do nothing, and keeps nobody from hearing of others.
#[test]
fn tokens_that_cannot_be_read_keep_nobody_from_hearing_of_others() {
    let slack = Slack::start();
    let here = Life::start(fresh(), &slack);
    let there = here.beside(None, &slack);
    here.connect("heard-unread", "xoxb-hq", Permission::Act);
    let tokens = Life::tokens_of("heard-unread");
    std::fs::remove_file(&tokens).unwrap();
    std::fs::create_dir(&tokens).unwrap();
    here.connect("heard-read", "xoxb-hq", Permission::Act);
    there.until("a new connection is there", || is_connected(&there, "heard-read"));
    let unread = there.engine().services.gateway.connection("heard-unread").unwrap();
    assert!(unread.lacks().is_some(), "it is said to be without its tokens");
    std::fs::remove_dir(&tokens).unwrap();
}

/// What holds for an installation is what the process says that was started last.
#[test]
fn limits_of_the_installation_are_those_of_the_last_start() {
    let slack = Slack::start();
    let here = Life::start(fresh(), &slack);
    let known = |life: &Life| life.engine().services.installation.now();
    assert_eq!(known(&here), Facts::default());
    let limits = Limits { runs_kept_ms: 3_600_000, open_runs_max: 7, ..Limits::default() };
    let there = here.beside_with(None, limits.clone(), &slack);
    let wanted = Facts { runs_kept_ms: 3_600_000, open_runs_max: 7, ..Facts::default() };
    assert_eq!(known(&there), wanted);
    here.until("the other one hears of it", || known(&here) == wanted);

    let time = clock::Manual::new(Timestamp::from_millis(1_790_000_000_000));
    let late = here.beside_with(Some(&time), limits, &slack);
    let _last = here.beside(None, &slack);
    there.until("it is as it was", || known(&there) == Facts::default());
    let moved = || time.advance(std::time::Duration::from_secs(crate::setup::revision::HEARD_S_MAX));
    until_heard(&late, "whom nobody tells looks", &moved, || known(&late) == Facts::default());
}

/// A row that cannot be read is none, and the next start writes another.
#[test]
fn damaged_limits_of_the_installation_keep_nobody_from_starting() {
    let slack = Slack::start();
    let here = Life::start(fresh(), &slack);
    let mut write = Write::new();
    write.put_raw(&key::host("installation"), b"\xff\xfe");
    here.journal().commit(write).unwrap();
    let there = here.beside_with(None, Limits { open_runs_max: 7, ..Limits::default() }, &slack);
    assert_eq!(there.engine().services.installation.now().open_runs_max, 7);
    here.until("the other one hears of it", || here.engine().services.installation.now().open_runs_max == 7);
}
