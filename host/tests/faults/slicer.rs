//! A plugin that writes in slices: a message in each, and what it has done so far as its state.

use serde_json::json;

use bellhop_tests::guest::Plugin;

/// Slices, and messages.
const SLICES: u32 = 3;

/// What the guest sends, with the number of its slice; what it answers, with that of the next; and its output.
const TEXTS: &str = r#"
    (data (i32.const 50000) "{\"channel\":\"C0PLUSIT\",\"text\":\"slice 0\"}")
    (data (i32.const 50100) "{\"again\":0}")
    (data (i32.const 50200) "{\"output\":{},\"changed\":true}")"#;

/// The component. Its state is one digit, which stands last in what it is called with.
pub(crate) fn plugin() -> Vec<u8> {
    let run = format!(
        r"(local $slice i32)
        (local.set $slice (i32.sub
          (i32.load8_u (i32.add (local.get $input) (i32.sub (local.get $length) (i32.const 2)))) (i32.const 48)))
        (if (i32.gt_u (local.get $slice) (i32.const 9)) (then (local.set $slice (i32.const 0))))
        (local.set $slice (i32.add (local.get $slice) (i32.const 1)))
        (i32.store8 (i32.const 50036) (i32.add (i32.const 48) (local.get $slice)))
        (call $chat.post-message (i32.const 50000) (i32.const 39) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then (return (call $result
          (i32.const 1) (i32.load (i32.const 132)) (i32.load (i32.const 136))))))
        (if (i32.ge_u (local.get $slice) (i32.const {SLICES}))
          (then (return (call $ok (i32.const 50200) (i32.const 28)))))
        (i32.store8 (i32.const 50109) (i32.add (i32.const 48) (local.get $slice)))
        (call $ok (i32.const 50100) (i32.const 11))"
    );
    let manifest = json!({
        "publisher": "nobody", "name": "slicer", "version": "1.0.0",
        "actions": [{
            "name": "slices.write", "title": "Write in slices", "description": "Sends a message in each slice.",
            "effect": "create", "input": { "type": "object" }, "output": { "type": "object" },
            "calls": [{ "on": ["workspace"], "methods": [{ "function": "chat.post-message", "when": "always" }] }],
        }],
    });
    let (imports, description) = (&["chat.post-message"], manifest.to_string());
    Plugin { imports, run: &run, description: &description, items: TEXTS, ..Plugin::default() }.build()
}
