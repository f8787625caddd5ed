//! Scalars by YAML 1.2's core schema: `on`, `yes` and `12:30` are text.

use serde_json::{Number, Value};

/// How a scalar is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Its type follows from its text.
    Plain,
    /// It is text.
    Text,
}

/// A core tag that a scalar carries (`!!str`, …).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Core {
    Text,
    Integer,
    Float,
    Boolean,
    Null,
}

/// The value of a scalar, or why JSON has none for it.
pub(super) fn resolve(text: &str, style: Style, core: Option<Core>) -> Result<Value, String> {
    let Some(core) = core else {
        return if style == Style::Text { Ok(text.into()) } else { plain(text) };
    };
    if core == Core::Text {
        return Ok(text.into());
    }
    let value = plain(text)?;
    let fits = match core {
        Core::Text => true,
        Core::Integer => value.is_i64() || value.is_u64(),
        Core::Float => value.is_number(),
        Core::Boolean => value.is_boolean(),
        Core::Null => value.is_null(),
    };
    if fits { Ok(value) } else { Err("this value does not have the type that its tag names".to_owned()) }
}

fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Err("a definition cannot hold `.nan`, which JSON does not have".to_owned()),
        _ => {}
    }
    let (negative, digits) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Err("a definition cannot hold an infinite number, which JSON does not have".to_owned());
    }
    let too_large =
        || format!("the number `{}` is too large to be kept exactly", text.chars().take(40).collect::<String>());
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|c| c.is_digit(radix))
        {
            return u64::from_str_radix(digits, radix).map(Value::from).map_err(|_| too_large());
        }
    }
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if (is_number || is_float(digits))
        && digits.starts_with('0')
        && digits[1..].starts_with(|c: char| c.is_ascii_digit())
    {
        return Err(format!(
            "the zeros before the number `{}` would be lost, and some readers take it for another number: write it in quotes where it is text, else without them",
            text.chars().take(40).collect::<String>()
        ));
    }
    if is_number {
        return if negative {
            format!("-{digits}").parse::<i64>().map(Value::from).map_err(|_| too_large())
        } else {
            digits.parse::<u64>().map(Value::from).map_err(|_| too_large())
        };
    }
    if is_float(digits) {
        let value: f64 = text.parse().map_err(|_| too_large())?;
        return Number::from_f64(value).map(Value::Number).ok_or_else(too_large);
    }
    Ok(text.into())
}

/// `[0-9]+(\.[0-9]*)?` or `\.[0-9]+`, then perhaps an exponent.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['+', '-']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty()) && exponent_fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surroundings_s12_a_scalar_is_what_it_looks_like_or_is_refused() {
        let read = |text: &str| resolve(text, Style::Plain, None);
        for text in [
            "no",
            "on",
            "yes",
            "NO",
            "2026-11-30",
            "2027-02-28T23:00:00.000Z",
            "12:30",
            "190:20:30",
            "1_000",
            "1.2.3",
            "+",
        ] {
            assert_eq!(read(text), Ok(text.into()), "{text}");
        }
        assert_eq!(read("0x1F"), Ok(31.into()));
        assert_eq!(read("0o17"), Ok(15.into()));
        for text in ["0", "-0", "+0", "0.5", "0e3", "10", "100.5"] {
            assert!(read(text).unwrap().is_number(), "{text}");
        }
        // YAML 1.1 reads the first one as 83, YAML 1.2 as 123, and a person as the number of somebody's badge.
        for text in ["0123", "00123", "-007", "08", "00", "01.5", "007e2"] {
            let why = read(text).unwrap_err();
            assert!(why.contains(text) && why.contains("in quotes"), "{text}: {why}");
            assert_eq!(resolve(text, Style::Text, None), Ok(text.into()));
            assert_eq!(resolve(text, Style::Plain, Some(Core::Text)), Ok(text.into()));
        }
    }
}
