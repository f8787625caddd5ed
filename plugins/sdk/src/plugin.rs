//! A plugin: its actions, and the two functions that the host calls.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::action::{self, ALREADY_DONE, Action, Spec};
use crate::context::Context;
use crate::done::{Done, State, Undo};
use crate::failure::Failure;
use crate::slack;

/// A plugin. The macro [`crate::plugin!`] makes one and exports it.
#[derive(Debug)]
pub struct Plugin {
    /// Who publishes it.
    pub publisher: &'static str,
    /// The name by which workflows call its actions.
    pub name: &'static str,
    /// Its semantic version.
    pub version: &'static str,
    /// Its actions.
    pub actions: &'static [Entry],
}

/// One action of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    spec: Spec,
    describe: fn() -> Value,
    run: fn(&Context, Value) -> Result<Value, Failure>,
}

impl Entry {
    /// The entry of an action.
    #[must_use]
    pub const fn of<A: Action>() -> Self {
        Self { spec: A::SPEC, describe: describe::<A>, run: run::<A> }
    }

    /// What the action says of itself.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }
}

fn describe<A: Action>() -> Value {
    A::SPEC.describe(&action::input_schema::<A::Input>(), &action::output_schema::<A::Output>(&A::SPEC))
}

#[derive(Serialize)]
struct Finished {
    output: Value,
    changed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<Undo>,
}

fn run<A: Action>(context: &Context, input: Value) -> Result<Value, Failure> {
    let input = A::Input::deserialize(input)
        .map_err(|error| Failure::new("input-invalid", format!("the input of `{}`: {error}", A::SPEC.name)))?;
    let unwritable =
        |error| Failure::new("plugin-output-invalid", format!("the output of `{}`: {error}", A::SPEC.name));
    let Done(state) = A::run(context, input)?;
    match state {
        State::Again(state) => Ok(json!({ "again": state })),
        State::Finished { output, changed, undo } => {
            let mut output = serde_json::to_value(output).map_err(unwritable)?;
            if let (true, Value::Object(fields)) = (A::SPEC.writes(), &mut output) {
                fields.insert(ALREADY_DONE.to_owned(), (!changed).into());
            }
            serde_json::to_value(Finished { output, changed, undo }).map_err(unwritable)
        }
    }
}

#[derive(Deserialize)]
struct Request {
    input: Value,
    context: Context,
    #[serde(default)]
    state: Option<Value>,
}

impl Plugin {
    /// The manifest. The same on every call.
    #[must_use]
    pub fn describe(&self) -> String {
        let actions: Vec<Value> = self.actions.iter().map(|entry| (entry.describe)()).collect();
        json!({ "publisher": self.publisher, "name": self.name, "version": self.version, "actions": actions })
            .to_string()
    }

    /// Runs one action: JSON in, JSON out, as the WIT package `bellhop:action` says.
    pub fn run(&self, action: &str, request: &str) -> Result<String, String> {
        self.answer(action, request)
            .map(|answer| answer.to_string())
            .map_err(|failure| serde_json::to_string(&failure).unwrap_or_else(|_| failure.to_string()))
    }

    fn answer(&self, action: &str, request: &str) -> Result<Value, Failure> {
        let entry = self
            .actions
            .iter()
            .find(|entry| entry.spec.name == action)
            .ok_or_else(|| Failure::new("action-unknown", format!("the plugin has no action `{action}`")))?;
        let Request { input, mut context, state } = serde_json::from_str(request)
            .map_err(|error| Failure::new("input-invalid", format!("the request cannot be read: {error}")))?;
        slack::budget::start(&context.limits);
        context.state = state;
        (entry.run)(&context, input)
    }
}

/// Makes the crate's plugin, as the static `PLUGIN`, and exports it.
///
/// ```text
/// plugin! { publisher: "example", name: "greeter", actions: [greet, other::wave] }
/// ```
///
/// The version is that of the crate. An action is named by its function's path.
#[macro_export]
macro_rules! plugin {
    (publisher: $publisher:literal, name: $name:literal, actions: [$($action:ty),+ $(,)?] $(,)?) => {
        /// The plugin.
        pub static PLUGIN: $crate::Plugin = $crate::Plugin {
            publisher: $publisher,
            name: $name,
            version: ::core::env!("CARGO_PKG_VERSION"),
            actions: &[$($crate::Entry::of::<$action>()),+],
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: the component's exports")]
        mod bellhop_export {
            struct Component;

            impl $crate::bindings::exports::bellhop::action::actions::Guest for Component {
                fn describe() -> ::std::string::String {
                    super::PLUGIN.describe()
                }

                fn run(
                    action: ::std::string::String,
                    input: ::std::string::String,
                ) -> ::core::result::Result<::std::string::String, ::std::string::String> {
                    super::PLUGIN.run(&action, &input)
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
        }
    };
}
