//! Slack, as far as the host grants it: one function for each method, in a module for each group of them.
//!
//! A call takes the method's arguments as JSON and answers Slack's body. The host holds the tokens, waits for the rate
//! limit, retries what Slack did not carry out, and records every write; none of that is seen here.

use serde::Serialize;
use serde_json::Value;

pub(crate) mod budget;
pub(crate) mod error;

mod id;
mod pages;

pub use error::{Answer, Error};
pub use id::{ChannelId, UserId, UsergroupId, WorkspaceId};
pub use pages::Pages;

#[cfg(target_arch = "wasm32")]
macro_rules! call {
    ($function:literal, $interface:ident, $name:ident, $args:ident) => {
        super::invoke(&super::arguments($args)?, crate::bindings::bellhop::slack::$interface::$name)
    };
}
#[cfg(not(target_arch = "wasm32"))]
macro_rules! call {
    ($function:literal, $interface:ident, $name:ident, $args:ident) => {
        super::invoke(&super::arguments($args)?, |args| crate::testing::answer($function, args))
    };
}
use call;

include!(concat!(env!("OUT_DIR"), "/slack.rs"));

/// The arguments as text. A field that is null is not sent: methods take an absent argument, few take a null.
fn arguments(args: impl Serialize) -> Result<String, Error> {
    let mut args =
        serde_json::to_value(args).map_err(|e| Error::unreadable(format!("the arguments are not JSON: {e}")))?;
    if let Value::Object(fields) = &mut args {
        fields.retain(|_, value| !value.is_null());
    }
    Ok(args.to_string())
}

fn invoke(args: &str, import: impl FnOnce(&str) -> Result<String, String>) -> Result<Value, Error> {
    let answer = import(args);
    budget::spend(answer.as_ref().map_or_else(String::len, String::len));
    match answer {
        // Methods without a body answer nothing.
        Ok(body) if body.trim().is_empty() => Ok(Value::Null),
        Ok(body) => serde_json::from_str(&body).map_err(|e| Error::unreadable(format!("the answer is not JSON: {e}"))),
        Err(refusal) => Err(Error::read(&refusal)),
    }
}

/// Calls that this slice may still make. One more ends the action, whatever it has done: a loop that makes a call for each
/// of many things looks here, and goes on in the next slice ([`crate::Done::again`]).
#[must_use]
pub fn calls_left() -> u32 {
    budget::calls_left()
}

/// Whether it is time for the next slice: three quarters of the calls are used up, or little room is left for answers.
#[must_use]
pub fn should_pause() -> bool {
    budget::is_short()
}

/// The text at a JSON pointer of an answer; an error if there is none.
pub fn text<'v>(answer: &'v Value, pointer: &str) -> Result<&'v str, Error> {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::unreadable(format!("Slack's answer has no text at `{pointer}`")))
}

/// The list at a JSON pointer of an answer; empty if there is none.
#[must_use]
pub fn list<'v>(answer: &'v Value, pointer: &str) -> &'v [Value] {
    answer.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
