//! The mistakes that `make mutants` plants can be planted; whether each is caught, `make mutants` says.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use bellhop_tests::{mutants, project};

#[test]
fn every_mistake_still_applies_and_none_is_in_the_program() {
    let all = mutants::all().unwrap();
    assert!(all.len() >= 36, "only {} mistakes", all.len());
    let dir = tempfile::tempdir().unwrap();
    if let Err(error) = mutants::plant(dir.path(), &all) {
        panic!("{error}");
    }
    let asks = |text: &str, name: &str| text.contains(&format!("planted(\"{name}\")"));
    for file in project::files().unwrap().iter().filter(|file| file.path.starts_with("host/")) {
        let found: Vec<&str> = all.iter().map(|one| one.name.as_str()).filter(|name| asks(&file.text, name)).collect();
        assert!(found.is_empty(), "{} makes {found:?}", file.path);
    }
}
