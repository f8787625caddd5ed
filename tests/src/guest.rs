//! Plugins written by hand, so that each does one thing that no toolchain would make of honest code.

#![allow(clippy::unwrap_used, reason = "what is written here is written for tests, which fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A plugin in WebAssembly text.
#[derive(Clone)]
pub struct Plugin<'a> {
    /// Capability functions that it imports; called as `$chat.post-message (args, length, answer area)`.
    pub imports: &'a [&'a str],
    /// Their package.
    pub package: &'a str,
    /// The body of `run`: `$input` and `$length` are there, the result is the address of a result (`$ok` makes one).
    pub run: &'a str,
    /// The text that `describe` answers.
    pub description: &'a str,
    /// More items of the core module.
    pub items: &'a str,
    /// Imports of the core module.
    pub core: &'a str,
    /// Imports, instances and aliases in the component, before the core module.
    pub outer: &'a str,
    /// More arguments of the core module's instantiation: `(export "name" (func $f))`.
    pub given: &'a str,
    /// Pages of memory at the start.
    pub pages: u32,
    /// And at most, if that is said.
    pub pages_max: Option<u32>,
}

impl Default for Plugin<'_> {
    fn default() -> Self {
        Self {
            imports: &[],
            package: "bellhop:slack@1.0.0",
            run: "(call $ok (local.get $input) (local.get $length))",
            description: r#"{"name":"wat"}"#,
            items: "",
            core: "",
            outer: "",
            given: "",
            pages: 2,
            pages_max: None,
        }
    }
}

impl Plugin<'_> {
    /// The component's bytes.
    pub fn build(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    /// The description as the text of a data segment: what is not ASCII stands there as its bytes.
    fn described(&self) -> String {
        let mut text = String::new();
        for byte in self.description.bytes() {
            match byte {
                b'"' | b'\\' => write!(text, "\\{byte:02x}").unwrap(),
                b' '..=b'~' => text.push(char::from(byte)),
                _ => write!(text, "\\{byte:02x}").unwrap(),
            }
        }
        text
    }

    fn text(&self) -> String {
        let mut interfaces: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for import in self.imports {
            let (interface, function) = import.split_once('.').unwrap();
            interfaces.entry(interface).or_default().push(function);
        }
        let (package, version) = self.package.split_once('@').unwrap();
        let (mut imports, mut lowered, mut given, mut core) =
            (String::new(), String::new(), self.given.to_owned(), self.core.to_owned());
        for (interface, functions) in &interfaces {
            write!(imports, r#"(import "{package}/{interface}@{version}" (instance ${interface}"#).unwrap();
            for function in functions {
                write!(
                    imports,
                    r#" (export "{function}" (func (param "args" string) (result (result string (error string)))))"#
                )
                .unwrap();
                let name = format!("{interface}.{function}");
                writeln!(
                    lowered,
                    r#"(core func $lowered.{name} (canon lower (func ${interface} "{function}") (memory $memory) (realloc $realloc)))"#
                )
                .unwrap();
                write!(given, r#"(export "{name}" (func $lowered.{name}))"#).unwrap();
                writeln!(core, r#"(import "host" "{name}" (func ${name} (param i32 i32 i32)))"#).unwrap();
            }
            imports.push_str("))\n");
        }
        format!(
            r#"(component
  {imports}
  (import "bellhop:action/log@1.0.0" (instance $log (export "log" (func (param "level" string) (param "text" string)))))
  (core module $libc
    (memory (export "memory") {pages} {pages_max})
    (global $heap (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
      (global.set $heap (i32.add (local.get $at) (local.get $size)))
      (block $enough (loop $more
        (br_if $enough (i32.ge_u (i32.mul (memory.size) (i32.const 65536)) (global.get $heap)))
        (br_if $enough (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (br $more)))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  {lowered}
  (core func $lowered.log (canon lower (func $log "log") (memory $memory)))
  {outer}
  (core module $main
    (import "libc" "memory" (memory {pages} {pages_max}))
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "log" (func $log (param i32 i32 i32 i32)))
    {core}
    (data (i32.const 1024) "{description}")
    (data (i32.const 512) "info")
    (func $result (param $kind i32) (param $at i32) (param $length i32) (result i32)
      (i32.store8 (i32.const 64) (local.get $kind))
      (i32.store (i32.const 68) (local.get $at))
      (i32.store (i32.const 72) (local.get $length))
      (i32.const 64))
    (func $ok (param i32 i32) (result i32) (call $result (i32.const 0) (local.get 0) (local.get 1)))
    (func (export "describe") (result i32)
      (i32.store (i32.const 80) (i32.const 1024))
      (i32.store (i32.const 84) (i32.const {described}))
      (i32.const 80))
    {items}
    (func (export "run") (param $action i32) (param $named i32) (param $input i32) (param $length i32) (result i32)
      {run}))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance (export "log" (func $lowered.log)) {given}))))
  (func $describe (result string) (canon lift (core func $main "describe") (memory $memory) (realloc $realloc)))
  (func $run (param "action" string) (param "input" string) (result (result string (error string)))
    (canon lift (core func $main "run") (memory $memory) (realloc $realloc)))
  (instance $actions (export "describe" (func $describe)) (export "run" (func $run)))
  (export "bellhop:action/actions@1.0.0" (instance $actions)))"#,
            pages = self.pages,
            pages_max = self.pages_max.map(|most| most.to_string()).unwrap_or_default(),
            outer = self.outer,
            items = self.items,
            run = self.run,
            description = self.described(),
            described = self.description.len(),
        )
    }
}
