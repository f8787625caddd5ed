//! `bellhop explain`: the pages of codes, which are part of the program.

use bellhop_core::diagnostic::{code, nearest};
use clap::Args;
use serde_json::json;

use super::Context;
use super::output::{Exit, Failure};

include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// `bellhop explain CODE`
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// The word in the brackets of an error: `plan-required`
    code: String,
}

/// The page of a code, where there is one.
pub(crate) fn page(code: &str) -> Option<&'static str> {
    PAGES.binary_search_by_key(&code, |(name, _)| name).ok().map(|at| PAGES[at].1)
}

/// The name of a page, for as long as the program lives.
pub(super) fn name(code: &str) -> Option<&'static str> {
    PAGES.binary_search_by_key(&code, |(name, _)| name).ok().map(|at| PAGES[at].0)
}

pub(super) fn run(arguments: &Explain, context: &Context) -> Result<Exit, Failure> {
    // As it stands in `error[plan-required]`, in a URI, or alone.
    let code = arguments.code.trim_start_matches("error").trim_matches(['[', ']']);
    let code = code.rsplit('/').next().unwrap_or(code);
    let summary = code::find(code).map(|entry| entry.summary);
    let Some(page) = page(code).map(str::to_owned).or_else(|| summary.map(|s| format!("# {code}\n\n{s}.\n"))) else {
        let codes = code::ALL.iter().map(|e| e.code.0).chain(PAGES.iter().map(|(name, _)| *name));
        let mut failure = Failure::missing(
            "code-unknown",
            format!("there is no code `{}`", code.chars().take(64).collect::<String>()),
        );
        failure.help = nearest(code, codes).map(|near| format!("did you mean `{near}`? bellhop explain {near}"));
        return Err(failure);
    };
    context.out.answer(|| page.clone(), &json!({ "code": code, "summary": summary, "page": page }));
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_are_those_of_the_book() {
        assert!(PAGES.is_sorted_by_key(|(name, _)| *name));
        for (name, text) in PAGES {
            assert!(text.starts_with(&format!("# {name}\n")), "the page of {name} begins differently");
            assert_eq!(page(name), Some(*text));
        }
        assert!(PAGES.len() >= 28, "{} pages", PAGES.len());
        assert_eq!(page("no-such-code"), None);
    }
}
