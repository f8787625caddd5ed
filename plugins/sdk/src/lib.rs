//! What the author of a Bellhop plugin needs.
//!
//! An action is a function with an attribute:
//!
//! ```
//! use bellhop_plugin::{Context, Done, Failure, action, input, output, plugin, slack};
//! use serde_json::json;
//!
//! /// A greeting.
//! #[input]
//! struct Greet {
//!     /// Whom to greet.
//!     user: slack::UserId,
//! }
//!
//! /// Where it stands.
//! #[output]
//! struct Greeted {
//!     /// The message's id in its conversation.
//!     ts: String,
//! }
//!
//! /// Says hello to a person.
//! #[action(
//!     name = "greeting.send",
//!     title = "Say hello",
//!     effect = "notify",
//!     calls(on("workspace", "grid-workspace"), always("chat.post-message")),
//! )]
//! fn greet(_: &Context, input: &Greet) -> Result<Done<Greeted>, Failure> {
//!     let answer = slack::chat::post_message(json!({ "channel": input.user, "text": "Hello!" }))?;
//!     Ok(Done::changed(Greeted { ts: slack::text(&answer, "/ts")?.to_owned() }))
//! }
//!
//! plugin! { publisher: "example", name: "greeter", actions: [greet] }
//! # fn main() {}
//! ```
//!
//! An action is a function of its input and of the answers to its calls: it has no clock but [`Context::started_at`], no
//! state of its own, and randomness only where a toolchain insists on WASI: another sequence in each run and each
//! execution of a task, and the same in each attempt and slice of it. The host may run it again from its start and feed it
//! the recorded answers. Nothing needs to be done for that. What an action may call is what it declares; a call that it
//! does not declare for the kind of connection that it runs on is refused.
//!
//! On other targets than WebAssembly the calls go to a script (see [`testing`]), so that actions are tested as any code.

#![cfg_attr(not(target_arch = "wasm32"), forbid(unsafe_code))]
#![cfg_attr(target_arch = "wasm32", deny(unsafe_code))]

#[cfg(target_arch = "wasm32")]
pub mod bindings;

pub mod log;
pub mod slack;

#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

mod action;
mod context;
mod done;
mod failure;
mod plugin;

pub use bellhop_plugin_macros::{action, input, output};

pub use action::{Action, Alternative, Answer, Effect, ErrorCode, Exclusive, Licence, Spec};
pub use context::{Connection, Context, Kind, Limits};
pub use done::Done;
pub use failure::{Class, Failure};
pub use plugin::{Entry, Plugin};

/// What the macros' output names.
#[doc(hidden)]
pub mod export {
    pub use schemars;
    pub use serde;
    pub use serde_json;
}
