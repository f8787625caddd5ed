//! About how many bytes an event takes where it is kept.

use super::event::{Effect, Ending, Event};
use crate::fault::Fault;
use crate::value;

/// Names, numbers and braces of an event without its values.
const BARE_BYTES: u64 = 160;

impl Event {
    /// About how many bytes of JSON it is: exact for what people, plugins and Slack can make long.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let inner = match self {
            Self::Started { input, .. } | Self::TaskEntered { input, .. } => of_value(input.as_deref()),
            Self::LoopEntered { items, .. } => items.iter().map(|item| value::size(item).bytes + 1).sum(),
            Self::ContextMerged { context, .. } => of_value(Some(context)),
            Self::CallScheduled { arguments, .. } | Self::UndoScheduled { arguments, .. } => of_value(Some(arguments)),
            Self::TaskCompleted { output, context, effect, .. } => {
                of_value(Some(output)) + of_value(context.as_deref()) + of_effect(effect.as_ref())
            }
            Self::TaskFaulted { fault, effect, .. } => of_fault(Some(fault)) + of_effect(effect.as_ref()),
            Self::IterationEnded { fault, .. } => of_fault(fault.as_ref()),
            Self::Caught { fault, .. }
            | Self::RetryScheduled { fault, .. }
            | Self::Tolerated { fault, .. }
            | Self::Halted { fault, .. }
            | Self::UndoRetryScheduled { fault, .. } => of_fault(Some(fault)),
            Self::Parked { reason, .. } | Self::RollbackIncomplete { reason, .. } => of_fault(Some(reason)),
            Self::Blocked { diagnostics, .. } => of_value(Some(diagnostics)),
            Self::Ending { ending, .. } | Self::Ended { ending, .. } => of_ending(ending),
            Self::NoticeDue { notice } => [&notice.reason, &notice.connection, &notice.channel, &notice.text]
                .map(|t| value::text_bytes(t))
                .iter()
                .sum(),
            Self::CallStopped { effect, .. } => of_effect(effect.as_ref()),
            Self::Queued { group, .. } => value::text_bytes(&group.name),
            Self::Redefined { .. }
            | Self::Unblocked { .. }
            | Self::TaskSkipped { .. }
            | Self::BlockEntered { .. }
            | Self::IterationEntered { .. }
            | Self::ForkEntered { .. }
            | Self::WaitScheduled { .. }
            | Self::Retried { .. }
            | Self::Unparked { .. }
            | Self::Suspended { .. }
            | Self::Resumed { .. }
            | Self::CallRetried { .. }
            | Self::TimedOut { .. }
            | Self::Reopened { .. }
            | Self::RollbackBegun { .. }
            | Self::Settled { .. }
            | Self::Admitted { .. }
            | Self::Displaced { .. }
            | Self::Noticed { .. }
            | Self::Killed { .. }
            | Self::Unfinished { .. }
            | Self::Rested { .. } => 0,
        };
        inner.saturating_add(BARE_BYTES)
    }
}

fn of_value(value: Option<&serde_json::Value>) -> u64 {
    value.map_or(0, |value| value::size(value).bytes)
}

fn of_fault(fault: Option<&Fault>) -> u64 {
    fault.map_or(0, Fault::weight)
}

fn of_effect(effect: Option<&Effect>) -> u64 {
    effect.and_then(|effect| effect.undo.as_ref()).map_or(0, |undo| value::size(&undo.input).bytes)
}

fn of_ending(ending: &Ending) -> u64 {
    match ending {
        Ending::Completed { output } => of_value(Some(output)),
        Ending::Faulted { fault } => of_fault(Some(fault)),
        Ending::Cancelled => 0,
    }
}
