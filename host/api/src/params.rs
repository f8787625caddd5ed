//! Query parameters, as strict as bodies.

use std::time::Duration;

use axum::extract::Query;
use axum::http::Uri;

use bellhop_core::diagnostic::{Diagnostic, code};

use super::form::{fault, invalid, unknown_name};
use super::problem::{self, Problem};

/// The parameters of one request, being read.
#[derive(Debug)]
pub(super) struct Params {
    pairs: Vec<(String, String)>,
    faults: Vec<Diagnostic>,
}

/// More are not read.
const PAIRS_MAX: usize = 100;

impl Params {
    /// The query of `uri`; parameters other than `known` are faults, each with the nearest known one.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        if let Some(why) = uri.query().and_then(wrongly_encoded) {
            return Err(Problem::new(problem::REQUEST_INVALID, why));
        }
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Problem::new(problem::REQUEST_INVALID, "the query cannot be read"))?;
        if pairs.len() > PAIRS_MAX {
            return Err(Problem::new(
                problem::REQUEST_INVALID,
                format!("the query has more than {PAIRS_MAX} parameters"),
            ));
        }
        let faults = pairs
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|(name, _)| unknown_name("", "parameter", name, known))
            .collect();
        Ok(Self { pairs, faults })
    }

    fn refuse(&mut self, message: String) {
        self.faults.push(fault(code::INVALID_VALUE, "", message));
    }

    /// Every value of a parameter that may be repeated.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.pairs.iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
    }

    /// The value of a parameter that may stand once.
    pub(super) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.all(name).into_iter();
        let first = values.next();
        if values.next().is_some() {
            self.refuse(format!("the parameter `{name}` stands more than once"));
        }
        first
    }

    /// `true` or `false`; false when it is not there.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        match self.one(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => {
                self.refuse(format!("`{name}` is `true` or `false`"));
                false
            }
        }
    }

    /// A number from 1 to `max`; `default` when it is not there.
    pub(super) fn number(&mut self, name: &str, default: u64, max: u64) -> u64 {
        let Some(text) = self.one(name) else { return default.min(max) };
        match text.parse::<u64>() {
            Ok(number) if (1..=max).contains(&number) => number,
            _ => {
                self.refuse(format!("`{name}` is a number from 1 to {max}"));
                default.min(max)
            }
        }
    }

    /// A number from 0.
    pub(super) fn count(&mut self, name: &str) -> Option<u64> {
        let text = self.one(name)?;
        let count = text.parse().ok();
        if count.is_none() {
            self.refuse(format!("`{name}` is a number from 0"));
        }
        count
    }

    /// A span such as `20s`, `500ms` or `1m`, at most `max`.
    pub(super) fn span(&mut self, name: &str, max: Duration) -> Option<Duration> {
        let text = self.one(name)?;
        let span = span(&text).filter(|span| *span <= max);
        if span.is_none() {
            self.refuse(format!("`{name}` is a span such as `20s` or `500ms`, at most `{}s`", max.as_secs()));
        }
        span
    }

    /// A value that is not allowed.
    pub(super) fn refused(&mut self, name: &str, why: &dyn std::fmt::Display) {
        self.refuse(format!("`{name}`: {why}"));
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    /// Faults of values that were read elsewhere.
    pub(super) fn extend(&mut self, faults: Vec<Diagnostic>) {
        self.faults.extend(faults);
    }

    /// Ok when nothing was wrong; else all of it.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.faults.is_empty() { Ok(()) } else { Err(invalid(self.faults)) }
    }
}

/// What is wrong with the encoding of a query, which a reader would pass over or replace.
fn wrongly_encoded(query: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(query.len());
    let mut rest = query.as_bytes();
    while let [first, after @ ..] = rest {
        let byte = (*first == b'%').then(|| after.get(..2).and_then(hex));
        match byte {
            None => decoded.push(*first),
            Some(Some(byte)) => decoded.push(byte),
            Some(None) => {
                return Some(
                    "a `%` in the query stands before two hexadecimal digits; one that is meant is `%25`".to_owned(),
                );
            }
        }
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    std::str::from_utf8(&decoded).is_err().then(|| "the query stands for bytes that are no UTF-8".to_owned())
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A whole number with `ms`, `s` or `m` behind.
fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_s15_a_query_means_what_it_says_or_is_refused() {
        let read = |query: &str| {
            let uri: Uri = format!("/v1/runs?{query}").parse().unwrap();
            Params::read(&uri, &["label"]).map(|params| params.all("label"))
        };
        for (query, value) in [
            ("a:b%20c", "a:b c"),
            ("a:b+c", "a:b c"),
            ("a:b%2Bc", "a:b+c"),
            ("a:%C3%A9", "a:\u{e9}"),
            ("a:100%25", "a:100%"),
        ] {
            assert_eq!(read(&format!("label={query}")).unwrap(), [value], "{query}");
        }
        for wrong in ["label=a:100%", "label=%zz", "label=%+1", "label=%ff", "label=%C3", "%ff=1"] {
            assert_eq!(read(wrong).unwrap_err().kind(), problem::REQUEST_INVALID, "{wrong}");
        }
    }
}
