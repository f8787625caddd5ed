//! Durations, and points in local time.

use jiff::civil;
use serde_json::Value;

use crate::definition::duration;
use crate::time::Timestamp;

/// A value that says no span and no point of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

/// When a delay that begins at `at` is over: an ISO 8601 duration, a duration object, or what `until` gives.
pub(super) fn resolve(value: &Value, at: Timestamp) -> Result<Timestamp, Error> {
    if let Some(until) = value.get("until") {
        return Ok(local(until)?.max(at));
    }
    duration::millis_of(value).map(|millis| at.plus_millis(millis)).map_err(|e| Error(e.to_string()))
}

/// The point in time of `until(date; time; zone; days)`.
fn local(until: &Value) -> Result<Timestamp, Error> {
    let text = |name: &str| {
        until[name].as_str().ok_or_else(|| Error(format!("`until`: {name} must be a text, not {}", until[name])))
    };
    let date_text = text("date")?;
    // A date with a time behind it, as HR systems write it, is taken by its date.
    let date: civil::Date = date_text
        .get(..10)
        .unwrap_or(date_text)
        .parse()
        .map_err(|_| Error(format!("`until`: `{date_text}` is not a date such as `2026-11-30`")))?;
    let time_text = text("time")?;
    let time: civil::Time =
        time_text.parse().map_err(|_| Error(format!("`until`: `{time_text}` is not a time such as `09:00`")))?;
    let zone_text = text("zone")?;
    let zone = jiff::tz::TimeZone::get(zone_text)
        .map_err(|_| Error(format!("`until`: `{zone_text}` is not a time zone such as `Europe/Paris`")))?;
    let moved = match &until["days"] {
        Value::Null => Ok(date),
        Value::Object(days) => workdays(date, days.get("workdays").and_then(Value::as_i64)),
        days => days
            .as_i64()
            .ok_or_else(|| Error(format!("`until`: {days} is not a number of days")))
            .and_then(|d| date.checked_add(jiff::Span::new().try_days(d).map_err(too_far)?).map_err(too_far)),
    }?;
    let zoned = moved.to_datetime(time).to_zoned(zone).map_err(too_far)?;
    u64::try_from(zoned.timestamp().as_millisecond()).map(Timestamp::from_millis).or(Ok(Timestamp::from_millis(0)))
}

#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` wants")]
fn too_far(error: jiff::Error) -> Error {
    Error(format!("`until`: {error}"))
}

/// `days` working days (Monday to Friday) from `date`, backwards when negative. At most ten years of them.
fn workdays(date: civil::Date, days: Option<i64>) -> Result<civil::Date, Error> {
    let days = days
        .filter(|d| d.unsigned_abs() <= 2_600)
        .ok_or_else(|| Error("`workdays` takes a whole number from -2600 to 2600".to_owned()))?;
    let step = jiff::Span::new().days(days.signum());
    let mut moved = date;
    let mut left = days.unsigned_abs();
    while left > 0 {
        moved = moved.checked_add(step).map_err(too_far)?;
        if !matches!(moved.weekday(), civil::Weekday::Saturday | civil::Weekday::Sunday) {
            left -= 1;
        }
    }
    Ok(moved)
}
