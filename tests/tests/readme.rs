//! The README says what is so: its limits are those of the program. `UPDATE_EXPECT=1` writes them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fmt::Write as _;

use bellhop_tests::code;
use bellhop_tests::project;
use proc_macro2::TokenTree;

const BEGIN: &str = "<!-- limits: written by the tests of this page -->\n";
const END: &str = "<!-- end of limits -->\n";

/// Lines of the table that nothing reads yet. The README does not promise them.
const NOT_YET: &[&str] = &[];

struct Limit {
    name: String,
    default: u64,
    cap: u64,
    why: String,
}

/// The lines of `limits! { NAME = DEFAULT, CAP, "why"; }`.
fn limits() -> Vec<Limit> {
    let text = std::fs::read_to_string(project::root().join("host/limits/src/lib.rs")).unwrap();
    let mut found = Vec::new();
    for row in code::rows(&text, false).unwrap() {
        for line in row.tokens.split(|token| code::punct(token, ';')) {
            let [TokenTree::Ident(name), equals, rest @ ..] = line else { continue };
            let parts: Vec<&[TokenTree]> = rest.split(|token| code::punct(token, ',')).collect();
            if let ([default, cap, [why]], true) = (&parts[..], code::punct(equals, '='))
                && let (Some(default), Some(cap), Some(why)) = (number(default), number(cap), code::text(why))
            {
                found.push(Limit { name: name.to_string(), default, cap, why });
            }
        }
    }
    found
}

/// `1_000` or `4 << 20`.
fn number(tokens: &[TokenTree]) -> Option<u64> {
    let one = |token: &TokenTree| token.to_string().replace('_', "").parse::<u64>().ok();
    match tokens {
        [only] => one(only),
        [base, first, second, shift] if code::punct(first, '<') && code::punct(second, '<') => {
            Some(one(base)? << one(shift)?)
        }
        _ => None,
    }
}

/// In the unit that the name ends with: `64 MiB`, `30 s`, `10,000`.
fn shown(name: &str, value: u64) -> String {
    let unit = |step: u64, words: &[&str]| {
        let mut value = value;
        let mut word = 0;
        while word + 1 < words.len() && value >= step && value.is_multiple_of(step) {
            value /= step;
            word += 1;
        }
        format!("{} {}", grouped(value), words[word])
    };
    let has = |part: &str| name.split('_').any(|p| p == part);
    if has("bytes") {
        unit(1_024, &["B", "KiB", "MiB", "GiB"])
    } else if has("ms") {
        match value {
            v if v >= 86_400_000 && v.is_multiple_of(86_400_000) => format!("{} d", v / 86_400_000),
            v if v >= 60_000 && v.is_multiple_of(60_000) => format!("{} min", v / 60_000),
            _ => unit(1_000, &["ms", "s"]),
        }
    } else {
        grouped(value)
    }
}

fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_limits_are_those_of_the_program() {
    let limits = limits();
    assert!(limits.len() >= 30, "only {} limits were found", limits.len());
    let mut table = "| limit | default | at most | why |\n|---|---|---|---|\n".to_owned();
    for limit in limits.iter().filter(|limit| !NOT_YET.contains(&limit.name.as_str())) {
        let Limit { name, default, cap, why } = limit;
        writeln!(table, "| `{name}` | {} | {} | {why} |", shown(name, *default), shown(name, *cap)).unwrap();
    }
    let file = project::root().join("README.md");
    let readme = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if written != table {
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&file, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
            return;
        }
        panic!("the README's limits are not those of host/limits/src/lib.rs: UPDATE_EXPECT=1 writes\n{table}");
    }
}

/// A limit that nothing reads is a promise that nothing keeps.
#[test]
fn every_limit_is_read_somewhere() {
    let files = project::files().unwrap();
    let sources: Vec<_> = files
        .iter()
        .filter(|f| f.path.starts_with("host/") && f.path.contains("src/") && f.extension() == "rs")
        .filter(|f| !f.path.contains("/tests/"))
        // The one only passes settings on, the other is the table itself.
        .filter(|f| !["host/limits/src/lib.rs", "host/src/cli/settings.rs"].contains(&f.path.as_str()))
        .collect();
    let is_read = |name: &str| {
        let field = format!(".{name}");
        sources.iter().any(|file| {
            file.text.match_indices(&field).any(|(at, _)| {
                let next = file.text[at + field.len()..].chars().next();
                !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
            })
        })
    };
    let unread: Vec<String> = limits().into_iter().map(|l| l.name).filter(|name| !is_read(name)).collect();
    assert_eq!(unread, NOT_YET, "limits that nothing reads");
}
