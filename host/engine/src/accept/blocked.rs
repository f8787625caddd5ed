//! Runs that were accepted though preflight refuses them: each begins by itself when what is missing is there
//! (semantics 3, "Refused without a caller").

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellhop_core::definition::WorkflowName;
use bellhop_core::diagnostic::Diagnostic;
use bellhop_core::id::RunId;
use bellhop_core::preflight::{Plan, When};
use bellhop_core::requirement::{Connection, Tenant};
use bellhop_core::run::{Cause, State, Status};
use serde_json::Value;

use crate::Engine;
use crate::accept::trigger::{Refused, Trigger};
use crate::drive::evaluating::beside;
use crate::drive::runs::{LoadError, Loaded};
use crate::execution::{Alongside, Decision, Execution as _};
use crate::pins::Granted;
use crate::pins::{PinnedAction, Pins, tenants};
use crate::setup::definitions::Definition;
use bellhop_faults::{Point, pass};
use bellhop_journal::{Entry, Write};

/// Something that preflight looks at and that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It may be anything.
    Any,
    /// Connections, or plugins: of each run any of them may be what it lacks.
    Reach,
    /// The table of that name.
    Table(String),
    /// What a workflow's connections are bound to.
    Bindings(WorkflowName),
}

impl Change {
    /// Whether a run of the definition may be judged otherwise now.
    fn concerns(&self, definition: &Definition) -> bool {
        match self {
            Self::Any | Self::Reach => true,
            Self::Table(name) => definition.workflow.extras.tables.contains(name),
            Self::Bindings(name) => definition.workflow.document.name == *name,
        }
    }
}

/// The runs that wait for a remedy.
#[derive(Default)]
pub struct Blocked {
    book: Mutex<Book>,
    bell: tokio::sync::Notify,
}

#[derive(Default)]
struct Book {
    /// With the definition that each was judged by; none as long as it was not judged in this process.
    runs: BTreeMap<RunId, Option<Arc<Definition>>>,
    /// Those that are to be judged: each stands in it once, however much was changed.
    due: BTreeSet<RunId>,
}

impl Blocked {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more.
    pub(crate) fn add(&self, run: RunId) {
        let mut book = self.book();
        book.runs.insert(run, None);
        book.due.insert(run);
        drop(book);
        self.bell.notify_one();
    }

    fn remove(&self, run: RunId) {
        let mut book = self.book();
        book.runs.remove(&run);
        book.due.remove(&run);
    }

    fn judged_by(&self, run: RunId, definition: &Arc<Definition>) {
        if let Some(known) = self.book().runs.get_mut(&run) {
            *known = Some(definition.clone());
        }
    }

    fn is_empty(&self) -> bool {
        self.book().runs.is_empty()
    }

    /// Has those judged that the change may concern; whether there are any.
    fn changed(&self, change: &Change) -> bool {
        let mut book = self.book();
        let Book { runs, due } = &mut *book;
        let concerned = runs.iter().filter(|(_, by)| by.as_ref().is_none_or(|by| change.concerns(by)));
        due.extend(concerned.map(|(run, _)| *run));
        !due.is_empty()
    }

    /// The next to be judged: the one behind the last, so that each has its turn, else the first.
    fn next(&self, last: Option<RunId>) -> Option<RunId> {
        let mut book = self.book();
        let behind = last.and_then(|last| book.due.range((Bound::Excluded(last), Bound::Unbounded)).next().copied());
        let next = behind.or_else(|| book.due.first().copied())?;
        book.due.remove(&next);
        Some(next)
    }
}

/// What a plan pins.
#[derive(Default)]
pub(crate) struct Pinned {
    /// By alias.
    pub(crate) connections: BTreeMap<String, Connection>,
    /// The aliases chosen for calls.
    pub(crate) chosen: BTreeMap<String, String>,
    pub(crate) actions: Vec<PinnedAction>,
    /// What the actions' plugins were granted.
    pub(crate) granted: Granted,
}

impl Engine {
    /// Something was changed that blocked runs may have waited for: those that it concerns are looked at now.
    pub fn remedied(&self, change: &Change) {
        if self.blocked().changed(change) {
            self.blocked().bell.notify_one();
        }
    }

    /// What is pinned of a plan.
    pub(crate) fn pinned(&self, plan: &Plan) -> Result<Pinned, Refused> {
        let connection = |(alias, name): (&String, &String)| {
            Some((alias.clone(), self.services.gateway.connection(name)?.facts.clone()))
        };
        let connections = plan.connections().iter().filter_map(connection).collect();
        let mut actions = Vec::new();
        let mut granted = Granted::new();
        for (written, resolved) in plan.actions() {
            let Some((installed, action)) = self.services.plugins.action(resolved) else {
                return Err(Refused::Unavailable(format!("the action {resolved} was removed in this moment")));
            };
            let (written, resolved) = (written.clone(), resolved.clone());
            granted.insert(written.clone(), installed.grants.clone());
            actions.push(PinnedAction { written, resolved, plugin: action.plugin, grants: installed.granted });
        }
        Ok(Pinned { connections, chosen: plan.chosen().clone(), actions, granted })
    }

    /// What a blocked run pins: only whom to tell, as far as that can be said without a plan.
    pub(crate) async fn pinned_while_blocked(
        &self,
        definition: &Definition,
        asked: &BTreeMap<String, String>,
    ) -> Result<Pinned, Refused> {
        let mut connections = BTreeMap::new();
        if let Some(notify) = &definition.workflow.extras.notify {
            let alias = &notify.connection;
            let bindings = self.services.definitions.bindings(&definition.workflow.document.name).await?;
            let name = asked.get(alias).or_else(|| bindings.get(alias)).unwrap_or(alias);
            if let Some(connection) = self.services.gateway.connection(name) {
                connections.insert(alias.clone(), connection.facts.clone());
            }
        }
        Ok(Pinned { connections, ..Pinned::default() })
    }

    /// The first decision of a blocked run, applied to `state`.
    pub(crate) fn block(
        &self,
        state: &mut State,
        diagnostics: &[Diagnostic],
        write: &mut Write,
    ) -> Result<Entry, Refused> {
        let diagnostics = Arc::new(serde_json::to_value(diagnostics).unwrap_or(Value::Null));
        let cause = Cause::Block { diagnostics };
        let Some(decided) = self.services.deciding.at_once(state, self.services.clock.now(), cause) else {
            return Ok(Entry::Decision { events: Vec::new() });
        };
        let mut kept = Vec::with_capacity(decided.events.len());
        for event in &decided.events {
            kept.push(self.services.journal.content(write, event)?);
        }
        *state = decided.after;
        Ok(Entry::Decision { events: kept })
    }

    /// Looks after blocked runs until the process stops: judges those that are due, one after the other.
    pub(crate) async fn look_for_remedies(self: Arc<Self>) {
        let mut drain = self.services.drain.subscribe();
        loop {
            let began = self.services.clock.monotonic();
            let mut last = None;
            while let Some(run) = self.blocked().next(last) {
                if self.is_draining() {
                    return;
                }
                last = Some(run);
                match Box::pin(self.try_to_begin(run)).await {
                    Ok(true) => self.blocked().remove(run),
                    Ok(false) => {}
                    Err(error) => tracing::error!(%run, %error, "a blocked run cannot be looked at"),
                }
                // Judging waits for nothing: others have their turn here.
                tokio::task::yield_now().await;
            }
            // A remedy that nobody tells of, as a scope that was granted in Slack, is seen no later than this; where there are
            // so many that judging them takes longer, it takes half of a processor and no more.
            let took = self.services.clock.monotonic().saturating_sub(began);
            let again = Duration::from_millis(self.services.limits.blocked_again_ms).max(took);
            let time = async {
                if self.blocked().is_empty() {
                    std::future::pending::<()>().await;
                }
                self.services.clock.sleep(again).await;
                self.blocked().changed(&Change::Any);
            };
            tokio::select! {
                biased;
                () = time => {}
                () = self.blocked().bell.notified() => {}
                _ = drain.wait_for(|drain| *drain) => return,
            }
        }
    }

    /// Has a blocked run begin if preflight lets it; true when there is nothing left to look after.
    pub(crate) async fn try_to_begin(self: &Arc<Self>, run: RunId) -> Result<bool, LoadError> {
        if let Some(by) = self.superseded_by(run).await? {
            // It is told; should that come later than this look, it does nothing before.
            return self.signal(run, Cause::Displaced { by, rollback: false }).await;
        }
        // Nobody else takes the run up meanwhile.
        let _turn = self.loading().lock(run.to_string()).await;
        if self.runs().is_live(run) {
            return Ok(false);
        }
        let Some(summary) = self.summary(run).await? else { return Ok(true) };
        if summary.status != Status::Blocked {
            return Ok(summary.status.is_final() || summary.status != Status::Suspended);
        }
        let (pins, definition) = self.pins_of(run).await?;
        self.blocked().judged_by(run, &definition);
        let input = Arc::new(self.services.journal.read::<Value>(&pins.input).await?);
        let trigger = Trigger {
            workflow: pins.workflow.clone(),
            version: Some(pins.version.clone()),
            body: bellhop_core::digest::Digest::of_json(&input),
            input: input.clone(),
            connections: pins.asked.clone(),
            labels: BTreeMap::new(),
            idempotency_key: None,
            by: None,
            traceparent: None,
            inline: Some(definition.clone()),
        };
        let refused = |refused: Refused| LoadError::Damaged(refused.to_string());
        let (tables, bindings) = self.judged_by(&definition).await?;
        let report = beside(|| self.judge_with(&definition, &trigger, When::Trigger, &tables, &bindings));
        let Some(plan) = report.plan else { return Ok(false) };
        let Pinned { connections, chosen, actions, granted } = self.pinned(&plan).map_err(refused)?;
        let led = tenants(connections.values());
        // Nothing of it is done, so that another workspace of the organisation will do; what is somebody else's never will.
        let strange = |(name, now): &(&String, &Tenant)| {
            pins.tenants.get(*name).is_some_and(|then| then.organisation() != now.organisation() && !then.is(now))
        };
        if let Some((connection, now)) = led.iter().find(strange) {
            tracing::warn!(%run, connection, %now, "the connection was another organisation's when the run was accepted: it does not begin");
            return Ok(false);
        }
        let table_digests = tables.iter().map(|(name, (digest, _))| (name.clone(), *digest)).collect();
        let new = Pins { connections, tenants: led, chosen, actions, tables: table_digests, blocked: false, ..pins };
        let tables = tables.into_iter().map(|(name, (_, table))| (name, table)).collect();
        let facts = self.facts(&new, &definition, input, &tables)?;

        let (opening, live) = self.opening(run, summary);
        let Loaded { port, state, decisions, trace, .. } = Box::pin(self.load(run, opening)).await?;
        port.pins_next(&new)?;
        let state = state.with_facts(facts);
        let decided = self.services.deciding.decide(&state, port.now(), port.entropy(), Cause::Unblock).await;
        let Some(decided) = decided else { return Ok(true) };
        pass(Point::Unblocked);
        let state = decided.after;
        let alongside = Alongside::default();
        port.keep(decisions, Decision { events: decided.events, after: Arc::new(state.clone()), alongside }).await?;
        let guests = new.guests;
        self.take(run, live, Loaded { port, state, decisions: decisions + 1, granted, guests, trace });
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use bellhop_core::time::Timestamp;

    use super::*;
    use crate::setup::definitions;

    fn run(n: u64) -> RunId {
        RunId::new(Timestamp::from_millis(n), 1)
    }

    fn definition(name: &str, tables: &str) -> Arc<Definition> {
        let text = format!(
            "document: {{dsl: 1.0.3, namespace: test, name: {name}, version: 1.0.0, metadata: {{bellhop: {{tables: [{tables}]}}}}}}\ndo:\n  - one: {{set: {{x: 1}}}}\n"
        );
        let (definition, _, diagnostics) = definitions::read("workflow.yaml", &text);
        Arc::new(definition.unwrap_or_else(|| panic!("{diagnostics:?}")))
    }

    fn due(blocked: &Blocked) -> Vec<RunId> {
        std::iter::from_fn(|| blocked.next(None)).collect()
    }

    #[test]
    fn house_a14_a_change_has_only_those_judged_that_it_may_concern() {
        let blocked = Blocked::default();
        for n in 0..4 {
            blocked.add(run(n));
        }
        assert_eq!(due(&blocked), [run(0), run(1), run(2), run(3)]);
        blocked.judged_by(run(0), &definition("a", "people"));
        blocked.judged_by(run(1), &definition("a", ""));
        blocked.judged_by(run(2), &definition("b", "people, places"));
        let bound = |name: &str| {
            let name = WorkflowName { namespace: "test".to_owned(), name: name.to_owned() };
            Change::Bindings(name)
        };
        // Of the last nothing is known yet.
        for (change, concerned) in [
            (Change::Any, vec![0, 1, 2, 3]),
            (Change::Reach, vec![0, 1, 2, 3]),
            (Change::Table("people".to_owned()), vec![0, 2, 3]),
            (Change::Table("places".to_owned()), vec![2, 3]),
            (Change::Table("other".to_owned()), vec![3]),
            (bound("a"), vec![0, 1, 3]),
            (bound("c"), vec![3]),
        ] {
            blocked.changed(&change);
            assert_eq!(due(&blocked), concerned.into_iter().map(run).collect::<Vec<_>>(), "{change:?}");
        }
        blocked.remove(run(3));
        assert!(!blocked.changed(&bound("c")));
    }

    #[test]
    fn house_a14_a_burst_of_changes_has_each_judged_once_more_in_turn() {
        let blocked = Blocked::default();
        for n in 0..100 {
            blocked.add(run(n));
        }
        let mut last = None;
        for _ in 0..50 {
            last = blocked.next(last);
        }
        assert_eq!(last, Some(run(49)));
        for _ in 0..1_000 {
            blocked.changed(&Change::Any);
        }
        let mut order = Vec::new();
        while let Some(next) = blocked.next(last) {
            last = Some(next);
            order.push(next);
        }
        // Those that have waited longest come first.
        assert_eq!(order, (50..100).chain(0..50).map(run).collect::<Vec<_>>());
    }
}
