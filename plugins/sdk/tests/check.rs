//! The checks of `testing::check` bite: a plugin with a fault of each sort.

use std::path::Path;

use bellhop_plugin::{Class, Context, Done, Failure, action, input, output, plugin, slack, testing};
use serde_json::{Value, json};

/// Where to write.
#[input]
struct Write {
    /// The channel.
    channel: slack::ChannelId,
    /// What goes wrong.
    #[serde(default)]
    fault: Option<String>,
}

/// Where it stands.
#[output]
struct Written {
    /// The message.
    ts: String,
}

/// Writes.
///
/// And goes wrong when told.
#[action(
    name = "test.write",
    title = "Write",
    effect = "notify",
    purposes("other"),
    inverse = "test.erase",
    exclusive("channel", "/channel"),
    error("told-so", 409, "It was told to."),
    calls(on("workspace"), always("chat.post-message"), maybe("chat.update")),
    calls(on("grid-org"), always("chat.no-such-function"))
)]
fn write(context: &Context, input: &Write) -> Result<Done<Written>, Failure> {
    let done = |ts: &str| Written { ts: ts.to_owned() };
    let post = || slack::chat::post_message(json!({ "channel": input.channel, "thread_ts": null }));
    match input.fault.as_deref() {
        Some("undeclared call") => drop(slack::chat::delete(json!({ "channel": input.channel }))?),
        Some("undeclared code") => return Err(Failure::new("unheard-of", "never declared")),
        Some("told so") => return Err(Failure::new("told-so", "told").retry_after_ms(5).class(Class::Retry)),
        Some("idle") => return Ok(Done::unchanged(done("0"))),
        Some("other inverse") => {
            let answer = post()?;
            return Ok(Done::changed(done(slack::text(&answer, "/ts")?)).undo("test.other", json!({})));
        }
        Some("again") => {
            let times: u32 = context.state().unwrap_or_default();
            return if times < 2 { Done::again(times + 1) } else { Ok(Done::unchanged(done("9"))) };
        }
        _ => {}
    }
    let answer = post()?;
    Ok(Done::changed(done(slack::text(&answer, "/ts")?)))
}

plugin! { publisher: "tests", name: "faulty", actions: [write] }

#[test]
fn every_sort_of_fault_is_found() {
    let faults = testing::check(&PLUGIN, &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faulty"));
    for expected in [
        "the inverse of `test.write` is `test.erase`, which is no action of the plugin",
        "`test.write` declares `chat.no-such-function`, which does not exist",
        "(test.write on workspace: undeclared call): calls `chat.delete`, which it does not declare",
        "(test.write on workspace: undeclared code): fails with `unheard-of`, which it does not declare",
        "(test.write on workspace: idle): succeeds without calling `chat.post-message`",
        "(test.write on workspace: other inverse): is undone by `test.other`, which is not the declared inverse",
        "(test.write on workspace: wrong argument): `chat.post-message` is called with {\"channel\":\"C1\"}: `channel`: \
         \"C1\" is not \"C2\"",
        "(test.write on workspace: null is not sent): `chat.post-message` is called with {\"channel\":\"C1\"}: \
         `thread_ts` is missing",
        "(test.write on workspace: too few calls): never calls `chat.update`",
        "(test.write on workspace: too many calls): calls `chat.post-message` with {\"channel\":\"C1\"}, after the last",
        "(test.write on workspace: wrong output): `output`: `ts`: \"1.2\" is not \"1.3\"",
        "(test.write on workspace: wrong change): `changed` is Some(true)",
        "(test.no on workspace): there is no such action",
        "no case in which `test.write` succeeds on grid-org",
        "no case in which `test.write` on grid-org calls `chat.no-such-function`",
        "no case in which `test.write` on workspace calls `chat.update`",
        "broken.json",
    ] {
        let all = faults.join("\n");
        assert!(faults.iter().any(|fault| fault.contains(expected)), "not found: {expected}\nin:\n{all}");
    }
    for right in ["told so)", "again)", "as it should be)", "the last slice)"] {
        assert!(!faults.iter().any(|fault| fault.contains(right)), "{right}: {}", faults.join("\n"));
    }
}

#[test]
fn requests_that_cannot_be_read_are_failures() {
    let code = |action: &str, request: &str| {
        let failure: Value = serde_json::from_str(&PLUGIN.run(action, request).unwrap_err()).unwrap();
        failure["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(code("test.write", "no JSON"), "input-invalid");
    assert_eq!(code("test.write", "{}"), "input-invalid");
    assert_eq!(code("test.nothing", "{}"), "action-unknown");
}

#[test]
fn the_manifest_says_what_the_attribute_says() {
    let manifest: Value = serde_json::from_str(&PLUGIN.describe()).unwrap();
    let action = &manifest["actions"][0];
    assert_eq!(action["description"], "Writes.\n\nAnd goes wrong when told.");
    assert_eq!(action["exclusive"], json!([{ "name": "channel", "fields": ["/channel"] }]));
    assert_eq!(action["purposes"], json!(["other"]));
    assert_eq!(action["errors"][0], json!({ "code": "told-so", "status": 409, "description": "It was told to." }));
    assert_eq!(action["input"]["additionalProperties"], json!(false));
    assert_eq!(action["output"]["properties"]["alreadyDone"]["type"], "boolean");
    assert_eq!(
        action["calls"][0],
        json!({ "on": ["workspace"], "methods": [
            { "function": "chat.post-message", "when": "always" },
            { "function": "chat.update", "when": "maybe" },
        ]})
    );
}
