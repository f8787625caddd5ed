//! The component's exports.

#![allow(unsafe_code, reason = "generated bindings: strings cross the component boundary by pointer and length")]
#![allow(missing_docs, reason = "generated bindings; the WIT file documents them")]
#![allow(clippy::all, reason = "generated bindings")]

use std::cell::RefCell;

use crate::Programs;

wit_bindgen::generate!({ world: "expression", path: "wit" });

thread_local! {
    static PROGRAMS: RefCell<Programs> = RefCell::new(Programs::new());
}

struct Component;

impl Guest for Component {
    fn evaluate(program: String, arguments: String, input: String) -> Result<String, String> {
        PROGRAMS.with_borrow_mut(|p| p.evaluate(&program, &arguments, &input)).map_err(|e| e.to_json())
    }

    fn inspect(program: String) -> Result<String, String> {
        PROGRAMS.with_borrow_mut(|p| p.inspect(&program)).map_err(|e| e.to_json())
    }
}

export!(Component);
