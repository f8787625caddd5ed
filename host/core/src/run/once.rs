//! The key that a definition itself gives its runs: `idempotencyKey` (semantics, section 3).

use serde_json::Value;

use super::fault as faults;
use super::place::Group;
use crate::definition::{WhenFull, Workflow};
use crate::expression::Evaluator;
use crate::fault::Fault;

/// The longest key, in bytes; as long as a caller's.
const KEY_BYTES_MAX: usize = 255;

/// What `idempotencyKey` gives for an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKey {
    /// Equal for what is to be started once.
    pub key: String,
    /// A higher one supersedes the run that was started by a lower one. None: the key alone is the whole request, and
    /// another input with it is refused.
    pub revision: Option<u64>,
}

/// The key of a run with this input; none when the definition has none, or when it gives `null`.
///
/// It depends on the definition and the input alone, so that whoever asks again gets the same.
///
/// # Errors
/// The expression fails, or gives neither a text or number, nor these as `key` with a whole number as `revision`.
pub fn own_key(workflow: &Workflow, input: &Value, evaluator: &dyn Evaluator) -> Result<Option<OwnKey>, Fault> {
    let Some(template) = &workflow.extras.idempotency_key else { return Ok(None) };
    let value = template.evaluate(evaluator, &[], input).map_err(|error| faults::of_expression(&error))?;
    let invalid = |what: &str| Fault::of_code("input-invalid", format!("`idempotencyKey` {what}"));
    let (key, revision) = match &value {
        Value::Null => return Ok(None),
        Value::Object(fields) => {
            if fields.len() != 2 || !fields.contains_key("key") || !fields.contains_key("revision") {
                return Err(invalid("gives an object without just `key` and `revision` for this input"));
            }
            let revision = value["revision"].as_u64();
            let revision = revision.ok_or_else(|| invalid("gives a `revision` that is no whole number from 0 on"))?;
            (&value["key"], Some(revision))
        }
        other => (other, None),
    };
    let key = match key {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => String::new(),
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(invalid(&format!("does not give a text of 1 to {KEY_BYTES_MAX} bytes for this input")));
    }
    Ok(Some(OwnKey { key, revision }))
}

/// The group in which a run with a revision has the place of the one before, where the definition names no group: the
/// newer begins when the older has ended.
pub(super) fn group_of(workflow: &Workflow, input: &Value, evaluator: &dyn Evaluator) -> Result<Option<Group>, Fault> {
    let key = own_key(workflow, input, evaluator)?.filter(|own| own.revision.is_some());
    Ok(key.map(|own| Group {
        name: format!("key of {}: {}", workflow.document.name, own.key),
        limit: 1,
        when_full: WhenFull::Supersede,
    }))
}
