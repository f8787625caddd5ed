//! JSON pointers (RFC 6901): nothing else here escapes a part of one, joins two, or takes one apart.

use std::borrow::Cow;

/// A key as a part of a pointer: `a/b` becomes `a~1b`.
#[must_use]
pub fn escape(key: &str) -> Cow<'_, str> {
    if key.contains(['~', '/']) { key.replace('~', "~0").replace('/', "~1").into() } else { key.into() }
}

/// The key that a part of a pointer stands for: `a~1b` is `a/b`.
#[must_use]
pub fn unescape(part: &str) -> Cow<'_, str> {
    if part.contains('~') { part.replace("~1", "/").replace("~0", "~").into() } else { part.into() }
}

/// The pointer of the value under `key` in the object at `pointer`.
#[must_use]
pub fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", escape(key))
}

/// The pointer of the item with that index in the list at `pointer`.
#[must_use]
pub fn item(pointer: &str, index: usize) -> String {
    format!("{pointer}/{index}")
}

/// The keys and indices on the way from the root; none for the pointer of the root.
pub fn keys(pointer: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pointer.split('/').skip(1).map(unescape)
}

/// The key or index of the value itself; none for the pointer of the root.
#[must_use]
pub fn last(pointer: &str) -> Option<Cow<'_, str>> {
    pointer.rsplit_once('/').map(|(_, part)| unescape(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_key_comes_back_from_its_pointer(first: String, second: String) {
            let pointer = child(&child("", &first), &second);
            let found: Vec<Cow<'_, str>> = keys(&pointer).collect();
            proptest::prop_assert_eq!(found, [first.as_str(), second.as_str()]);
            proptest::prop_assert_eq!(last(&pointer).unwrap(), second.as_str());
            let value = serde_json::json!({ first: { second: 1 } });
            proptest::prop_assert_eq!(value.pointer(&pointer), Some(&serde_json::json!(1)));
        }
    }

    #[test]
    fn the_root_has_no_keys() {
        assert_eq!((keys("").count(), last("")), (0, None));
        assert_eq!(item(&child("", "a"), 3), "/a/3");
        assert_eq!(last("/").as_deref(), Some(""));
    }
}
