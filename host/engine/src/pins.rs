//! What a run depends on, fixed when it is accepted: it goes on with this whatever is changed meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellhop_core::definition::{ActionReference, WorkflowName};
use bellhop_core::digest::Digest;
use bellhop_core::id::RunId;
use bellhop_core::requirement::{Connection, Grant, Tenant};
use bellhop_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::traces::Traceparent;
use bellhop_journal::Content;
use bellhop_limits::Limits;
use bellhop_sandbox::Budget;

/// What a guest of the run may use and is told: the limits by which an action may come to another end. A run keeps those of
/// its acceptance, because an action that is replayed has to make the same requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GuestLimits {
    /// Linear memory.
    pub(crate) memory_bytes_max: u64,
    /// Processor time between two calls.
    pub(crate) cpu_ms_max: u64,
    /// Its output, as JSON.
    pub(crate) output_bytes_max: u64,
    /// Calls of one slice.
    pub(crate) calls_max: u64,
    /// Answers of one slice together, as JSON.
    pub(crate) answers_bytes_max: u64,
    /// One answer, as JSON.
    pub(crate) answer_bytes_max: u64,
    /// Slices in a row that get nowhere.
    pub(crate) idle_slices_max: u64,
}

impl GuestLimits {
    /// Those in force.
    pub(crate) fn of(limits: &Limits) -> Self {
        Self {
            memory_bytes_max: limits.guest_memory_bytes_max,
            cpu_ms_max: limits.guest_cpu_ms_max,
            output_bytes_max: limits.guest_output_bytes_max,
            calls_max: limits.guest_calls_max,
            answers_bytes_max: limits.guest_answers_bytes_max,
            answer_bytes_max: limits.guest_answer_bytes_max,
            idle_slices_max: limits.guest_idle_slices_max,
        }
    }

    /// What the sandbox holds one guest to. What a guest logs changes nothing, and has the limits of today.
    pub(crate) fn budget(&self, limits: &Limits) -> Budget {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Budget {
            memory_bytes_max: size(self.memory_bytes_max),
            cpu_ms_max: self.cpu_ms_max,
            output_bytes_max: size(self.output_bytes_max),
            calls_max: number(self.calls_max),
            log_lines_max: number(limits.guest_log_lines_max),
            log_bytes_max: size(limits.guest_log_bytes_max),
            ..Budget::default()
        }
    }
}

/// What the plugins of a run's actions were granted when it was accepted.
pub(crate) type Granted = BTreeMap<ActionReference, Arc<[Grant]>>;

/// An action as pinned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PinnedAction {
    pub(crate) written: ActionReference,
    pub(crate) resolved: ActionReference,
    pub(crate) plugin: Digest,
    pub(crate) grants: Digest,
}

/// What `Accepted` holds: everything that the run depends on, by digest where it is large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pins {
    pub(crate) run: RunId,
    pub(crate) workflow: WorkflowName,
    pub(crate) version: String,
    pub(crate) definition: Digest,
    pub(crate) file: String,
    pub(crate) input: Content,
    pub(crate) connections: BTreeMap<String, Connection>,
    /// Where connections led, by name: those of `connections`, and those of before the run went on on another definition.
    /// Of a run that cannot begin, all that there were.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tenants: BTreeMap<String, Tenant>,
    pub(crate) chosen: BTreeMap<String, String>,
    pub(crate) actions: Vec<PinnedAction>,
    pub(crate) tables: BTreeMap<String, Digest>,
    pub(crate) guests: GuestLimits,
    pub(crate) host: String,
    pub(crate) evaluator: Digest,
    pub(crate) accepted_at: Timestamp,
    /// Preflight refused the run: what else is pinned stands in the decision that lets it begin.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) blocked: bool,
    /// The trigger's labels and idempotency key, from which lists can be made again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
    /// The trigger's connections, while the run is blocked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) asked: BTreeMap<String, String>,
    /// Who asked for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<String>,
    /// The caller's own trace, which the run is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) traceparent: Option<Traceparent>,
}

impl Pins {
    /// Where each connection led that the run may use, by name. Records of before that was kept have it in `connections`.
    pub(crate) fn led(&self) -> BTreeMap<String, Tenant> {
        let mut led = self.tenants.clone();
        for (name, tenant) in tenants(self.connections.values()) {
            led.entry(name).or_insert(tenant);
        }
        led
    }
}

/// Where connections lead, by name, as far as that is known.
pub(crate) fn tenants<'c>(connections: impl Iterator<Item = &'c Connection>) -> BTreeMap<String, Tenant> {
    connections.filter_map(|connection| Some((connection.name.clone(), connection.tenant()?))).collect()
}
