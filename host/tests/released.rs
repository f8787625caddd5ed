//! What is built without the feature `faults` has nothing of it.
#![cfg(not(feature = "faults"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[test]
fn nothing_can_be_made_to_die_in_what_is_released() {
    let program = std::fs::read(env!("CARGO_BIN_EXE_bellhop")).unwrap();
    let program = String::from_utf8_lossy(&program);
    let has = |text: &str| program.contains(text);
    assert!(has("BELLHOP_URL"), "this looks for texts in a wrong way");
    let source = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/faults/src/lib.rs")).unwrap();
    let names: Vec<&str> = source.lines().filter_map(|l| l.trim().strip_suffix(',')).filter(|n| is_name(n)).collect();
    assert!(names.len() >= 2, "{names:?}");
    for name in names.into_iter().chain(["BELLHOP_FAULTS"]) {
        assert!(!has(name), "`{name}` is in the program");
    }
}

/// A variant of at least two words: one word may well stand somewhere else.
fn is_name(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphabetic()) && text.chars().filter(char::is_ascii_uppercase).count() > 1
}
