//! What methods have to do with names: which change what things are called, and which take a name in place of an id. The
//! lines stand in `names.json`, under the words of `x-bellhop`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use super::Method;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// After one of these, what was known of such names may be wrong.
    changed_by: Vec<String>,
    /// Slack itself finds the channel whose name these are given (Slack's pages of them, argument `channel`).
    #[serde(default)]
    taken_by: Vec<String>,
}

static LINES: LazyLock<BTreeMap<String, Line>> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../catalog/names.json"))
        .expect("the file is part of the program and a test reads it")
});

impl Method {
    /// The word of the kind of things whose names it changes.
    #[must_use]
    pub fn changes_names_of(&self) -> Option<&'static str> {
        LINES.iter().find(|(_, line)| line.changed_by.contains(&self.name)).map(|(word, _)| word.as_str())
    }

    /// Whether it takes a `#name` where it takes the id of a channel.
    #[must_use]
    pub fn takes_channel_names(&self) -> bool {
        LINES.get("channel").is_some_and(|line| line.taken_by.contains(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, Own};

    #[test]
    fn each_is_in_the_catalog() {
        for (word, line) in &*LINES {
            assert!(Own::ALL.iter().any(|own| own.word() == word), "{word}");
            for name in line.changed_by.iter().chain(&line.taken_by) {
                let method = Catalog::built_in().by_name(name).unwrap_or_else(|| panic!("{name} is in no file"));
                assert!(method.writes, "{name} changes nothing");
            }
        }
        let method = |name: &str| Catalog::built_in().by_name(name).unwrap();
        assert_eq!(method("conversations.rename").changes_names_of(), Some("channel"));
        assert_eq!(method("conversations.invite").changes_names_of(), None);
        assert!(method("chat.postMessage").takes_channel_names());
        assert!(!method("chat.update").takes_channel_names());
    }
}
