//! Plugins of one action that makes given calls and gives given answers, slice by slice: in a real sandbox, with nothing
//! between the contract and what it says.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::life::Life;
use bellhop_tests::guest::Plugin;

/// Where a call's answer is put: its kind, where its text is, how long that is.
const AREA: usize = 128;
/// Where the texts begin.
const TEXTS: usize = 40_000;

/// What the action does in one slice.
#[derive(Clone)]
pub(super) struct Slice<'a> {
    /// Functions and arguments. An answer that is an error ends the slice as `refused`.
    pub(super) calls: &'a [(&'a str, &'a str)],
    /// Whether a refused call is passed over instead.
    pub(super) lenient: bool,
    /// Lines that it logs, each before the call of the same position; what is left over at the end.
    pub(super) lines: &'a [(&'a str, &'a str)],
    /// What it answers; the next slice is begun by `{"again":N}` with its number, one digit.
    pub(super) answer: Result<&'a str, &'a str>,
}

impl Default for Slice<'_> {
    fn default() -> Self {
        Self { calls: &[], lenient: false, lines: &[], answer: Ok(DONE) }
    }
}

/// The answer that changed something and can be taken back by nothing.
pub(super) const DONE: &str = r#"{"output":{},"changed":true}"#;
/// What a refused call ends the action with.
pub(super) const REFUSED: &str = r#"{"code":"refused","message":"a call was refused","class":"retry"}"#;

/// An action `NAME.do:1@NAME`.
pub(super) struct Script<'a> {
    pub(super) name: &'a str,
    pub(super) effect: &'a str,
    pub(super) inverse: Option<&'a str>,
    pub(super) slices: &'a [Slice<'a>],
}

impl Script<'_> {
    /// Builds the plugin, and installs it.
    pub(super) fn install(&self, life: &Life) {
        let bytes = self.build();
        let services = &life.engine().services;
        life.wait(services.plugins.install(&bytes, None, &services.gateway.rules, services.clock.now())).unwrap();
    }

    fn imports(&self) -> Vec<&str> {
        let mut imports: Vec<&str> = self.slices.iter().flat_map(|s| s.calls).map(|(function, _)| *function).collect();
        imports.sort_unstable();
        imports.dedup();
        imports
    }

    /// The manifest that fits.
    pub(super) fn manifest(&self) -> Value {
        let methods: Vec<Value> =
            self.imports().into_iter().map(|function| json!({ "function": function, "when": "maybe" })).collect();
        json!({
            "publisher": "nobody", "name": self.name, "version": "1.0.0",
            "actions": [{
                "name": format!("{}.do", self.name), "title": "Do", "description": "Does as it is told.",
                "effect": self.effect, "inverse": self.inverse,
                "input": { "type": "object" }, "output": { "type": "object" },
                "errors": [{ "code": "refused", "status": 409, "description": "A call was refused." }],
                "calls": [{ "on": ["grid-workspace"], "methods": methods }],
            }],
        })
    }

    /// The component.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut texts = Texts::default();
        let mut body = String::from(
            "(local $slice i32) (local $last i32)
            (local.set $last (i32.load8_u (i32.sub (i32.add (local.get $input) (local.get $length)) (i32.const 2))))
            (if (i32.le_u (i32.sub (local.get $last) (i32.const 48)) (i32.const 9))
              (then (local.set $slice (i32.sub (local.get $last) (i32.const 48)))))\n",
        );
        let refused = texts.place(REFUSED);
        for (number, slice) in self.slices.iter().enumerate() {
            writeln!(body, "(if (i32.eq (local.get $slice) (i32.const {number})) (then").unwrap();
            let mut lines = slice.lines.iter();
            for (function, arguments) in slice.calls {
                if let Some(line) = lines.next() {
                    texts.log(&mut body, *line);
                }
                let (at, length) = texts.place(arguments);
                writeln!(body, "(call ${function} (i32.const {at}) (i32.const {length}) (i32.const {AREA}))").unwrap();
                if !slice.lenient {
                    let (at, length) = refused;
                    writeln!(
                        body,
                        "(if (i32.load8_u (i32.const {AREA}))
                          (then (return (call $result (i32.const 1) (i32.const {at}) (i32.const {length})))))"
                    )
                    .unwrap();
                }
            }
            for line in lines {
                texts.log(&mut body, *line);
            }
            let (kind, text) = match slice.answer {
                Ok(text) => (0, text),
                Err(text) => (1, text),
            };
            let (at, length) = texts.place(text);
            writeln!(body, "(return (call $result (i32.const {kind}) (i32.const {at}) (i32.const {length})))))")
                .unwrap();
        }
        body.push_str("(unreachable)");
        let imports = self.imports();
        let manifest = self.manifest().to_string();
        Plugin { imports: &imports, run: &body, description: &manifest, items: &texts.data, ..Plugin::default() }
            .build()
    }
}

/// Texts of the guest's memory.
#[derive(Default)]
struct Texts {
    data: String,
    bytes: usize,
}

impl Texts {
    fn place(&mut self, text: &str) -> (usize, usize) {
        let at = TEXTS + self.bytes;
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(self.data, "(data (i32.const {at}) \"{escaped}\")").unwrap();
        self.bytes += text.len();
        assert!(TEXTS + self.bytes < 65_536, "the texts run into the heap");
        (at, text.len())
    }

    fn log(&mut self, body: &mut String, (level, text): (&str, &str)) {
        let ((level, level_length), (at, length)) = (self.place(level), self.place(text));
        writeln!(
            body,
            "(call $log (i32.const {level}) (i32.const {level_length}) (i32.const {at}) (i32.const {length}))"
        )
        .unwrap();
    }
}
