//! The header `Retry-After`, which may be seconds, a date, rubbish or absent.

/// Waited when Slack says "later" and not how much later.
pub const DEFAULT_MS: u64 = 30_000;
/// The longest wait believed; who says more is asked again after this.
pub const MAX_MS: u64 = 3_600_000;

/// The wait in milliseconds. `date` is the answer's own `Date`, by which a date is counted: our clock may differ.
#[must_use]
pub fn parse(header: Option<&str>, date: Option<&str>) -> u64 {
    let Some(header) = header.map(str::trim) else { return DEFAULT_MS };
    if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number holds is a long wait, not rubbish.
        return header.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1000).min(MAX_MS);
    }
    match (date_ms(header), date.and_then(date_ms)) {
        (Some(until), Some(now)) => u64::try_from(until.saturating_sub(now)).unwrap_or(0).min(MAX_MS),
        _ => DEFAULT_MS,
    }
}

/// A date as headers have it, in milliseconds since 1970.
pub(super) fn date_ms(text: &str) -> Option<i64> {
    jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok().map(|time| time.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form() {
        let date = Some("Wed, 21 Oct 2026 07:28:00 GMT");
        for (header, date, wait) in [
            (Some("7"), None, 7_000),
            (Some(" 0 "), None, 0),
            (Some("99999"), None, MAX_MS),
            (Some("99999999999999999999999"), None, MAX_MS),
            (None, None, DEFAULT_MS),
            (Some(""), None, DEFAULT_MS),
            (Some("-5"), None, DEFAULT_MS),
            (Some("1.5"), None, DEFAULT_MS),
            (Some("soon"), date, DEFAULT_MS),
            (Some("Wed, 21 Oct 2026 07:28:30 GMT"), date, 30_000),
            (Some("Wed, 21 Oct 2026 07:27:00 GMT"), date, 0),
            (Some("Fri, 21 Oct 2033 07:28:00 GMT"), date, MAX_MS),
            (Some("Wed, 21 Oct 2026 07:28:30 GMT"), None, DEFAULT_MS),
        ] {
            assert_eq!(parse(header, date), wait, "{header:?}");
        }
    }
}
