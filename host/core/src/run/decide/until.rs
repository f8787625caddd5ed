//! Durations, and points in local time.

use jiff::civil;
use serde_json::Value;

use crate::definition::duration;
use crate::time::Timestamp;
use crate::value::shown;

/// A value that says no span and no point of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Error(String);

/// When a delay that begins at `at` is over: an ISO 8601 duration, a duration object, or what `until` gives.
pub(super) fn resolve(value: &Value, at: Timestamp) -> Result<Timestamp, Error> {
    if let Some(until) = value.get("until") {
        return Ok(local(until)?.max(at));
    }
    duration::millis_of(value).map(|millis| at.plus_millis(millis)).map_err(|error| match error {
        duration::Error::Type => Error(format!("the duration is {}, and it has another form: {error}", shown(value))),
        error => Error(error.to_string()),
    })
}

/// The point in time of `until(date; time; zone; days)`.
fn local(until: &Value) -> Result<Timestamp, Error> {
    let text = |name: &str| {
        let wrong = || Error(format!("`until`: the {name} is {}, and text is needed", shown(&until[name])));
        until[name].as_str().ok_or_else(wrong)
    };
    let wrong = |name: &str, text: &str, such: &str| {
        let there = shown(&Value::String(text.to_owned()));
        Error(format!("`until`: the {name} is {there}, and {such} is needed"))
    };
    let date_text = text("date")?;
    let time_text = text("time")?;
    let time: civil::Time = time_text.parse().map_err(|_| wrong("time", time_text, "a time such as `09:00`"))?;
    let zone_text = text("zone")?;
    let zone = jiff::tz::TimeZone::get(zone_text)
        .map_err(|_| wrong("zone", zone_text, "a time zone such as `Europe/Paris`"))?;
    let date = date_in(date_text, &zone).ok_or_else(|| wrong("date", date_text, "a date such as `2026-11-30`"))?;
    let moved = match &until["days"] {
        Value::Null => Ok(date),
        Value::Object(days) => workdays(date, days.get("workdays").and_then(Value::as_i64)),
        days => {
            let wrong =
                || Error(format!("`until`: the number of days is {}, and a whole number is needed", shown(days)));
            let days = days.as_i64().ok_or_else(wrong)?;
            let span = jiff::Span::new().try_days(days);
            let moved = span.and_then(|span| date.checked_add(span));
            moved.map_err(|_| Error(format!("`until`: {days} days from {date} is no date: {YEARS}")))
        }
    }?;
    let too_far = |_| Error(format!("`until`: {moved} at {time} in `{zone_text}` is no time: {YEARS}"));
    let zoned = moved.to_datetime(time).to_zoned(zone).map_err(too_far)?;
    u64::try_from(zoned.timestamp().as_millisecond()).map(Timestamp::from_millis).or(Ok(Timestamp::from_millis(0)))
}

/// The date that a text means in a zone. HR systems write a time behind the date: with an offset it is an instant, as
/// `2027-02-28T23:00:00Z` is the midnight that begins March in Paris; without one it is of that place already.
fn date_in(text: &str, zone: &jiff::tz::TimeZone) -> Option<civil::Date> {
    if let Ok(date) = text.parse::<jiff::Timestamp>().map(|instant| instant.to_zoned(zone.clone()).date()) {
        return Some(date);
    }
    text.parse::<civil::DateTime>().ok().map(civil::DateTime::date)
}

/// Which dates there are.
const YEARS: &str = "dates go from the year -9999 to the year 9999";

/// `days` working days (Monday to Friday) from `date`, backwards when negative. At most ten years of them.
fn workdays(date: civil::Date, days: Option<i64>) -> Result<civil::Date, Error> {
    let days = days
        .filter(|d| d.unsigned_abs() <= 2_600)
        .ok_or_else(|| Error("`until`: `workdays` takes a whole number from -2600 to 2600".to_owned()))?;
    let step = jiff::Span::new().days(days.signum());
    let mut moved = date;
    let mut left = days.unsigned_abs();
    while left > 0 {
        let too_far = |_| Error(format!("`until`: {days} working days from {date} is no date: {YEARS}"));
        moved = moved.checked_add(step).map_err(too_far)?;
        if !matches!(moved.weekday(), civil::Weekday::Saturday | civil::Weekday::Sunday) {
            left -= 1;
        }
    }
    Ok(moved)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn surroundings_s12_an_instant_means_its_date_in_the_zone() {
        let at = |date: &str, zone: &str| {
            let until = json!({ "until": { "date": date, "time": "08:00", "zone": zone, "days": 0 } });
            resolve(&until, Timestamp::from_millis(0)).unwrap().to_string()
        };
        for (date, zone, meant) in [
            ("2027-03-01", "Europe/Paris", "2027-03-01T07:00:00.000Z"),
            // Midnight there, as systems write it that think in UTC.
            ("2027-02-28T23:00:00.000Z", "Europe/Paris", "2027-03-01T07:00:00.000Z"),
            ("2027-03-01T00:00:00+01:00", "Europe/Paris", "2027-03-01T07:00:00.000Z"),
            ("2027-03-01T05:00:00Z", "America/New_York", "2027-03-01T13:00:00.000Z"),
            ("2027-02-28T15:00:00Z", "Asia/Tokyo", "2027-02-28T23:00:00.000Z"),
            // Without an offset it is of that place.
            ("2027-03-01T00:00:00", "Europe/Paris", "2027-03-01T07:00:00.000Z"),
            ("2027-03-01 00:00", "America/New_York", "2027-03-01T13:00:00.000Z"),
        ] {
            assert_eq!(at(date, zone), meant, "{date} in {zone}");
        }
    }

    #[test]
    fn house_d4_a_time_that_is_none_is_told_in_our_words() {
        let until = |date: Value, time: Value, zone: Value, days: Value| {
            let until = json!({ "until": { "date": date, "time": time, "zone": zone, "days": days } });
            resolve(&until, Timestamp::from_millis(0)).map_err(|error| error.to_string())
        };
        let (date, time, zone) = (json!("2026-11-30"), json!("09:00"), json!("Europe/Paris"));
        for (asked, why) in [
            (
                until(json!("soon"), time.clone(), zone.clone(), json!(0)),
                "the date is the text `soon`, and a date such as",
            ),
            (
                until(json!(20_261_130), time.clone(), zone.clone(), json!(0)),
                "the date is `20261130`, and text is needed",
            ),
            (until(Value::Null, time.clone(), zone.clone(), json!(0)), "the date is null, and text is needed"),
            (
                until(date.clone(), json!("9am"), zone.clone(), json!(0)),
                "the time is the text `9am`, and a time such as",
            ),
            (
                until(date.clone(), time.clone(), json!("Paris"), json!(0)),
                "the zone is the text `Paris`, and a time zone",
            ),
            (
                until(date.clone(), time.clone(), zone.clone(), json!("1")),
                "the number of days is the text `1`, and a whole",
            ),
            (until(date.clone(), time.clone(), zone.clone(), json!(1.5)), "the number of days is `1.5`, and a whole"),
            (
                until(date.clone(), time.clone(), zone.clone(), json!(9_000_000)),
                "9000000 days from 2026-11-30 is no date: ",
            ),
            (until(date.clone(), time.clone(), zone.clone(), json!(i64::MAX)), "days from 2026-11-30 is no date: "),
            (
                until(json!("9999-12-31"), time.clone(), zone.clone(), json!({ "workdays": 5 })),
                "5 working days from 9999",
            ),
            (until(date.clone(), time.clone(), zone.clone(), json!({ "workdays": "x" })), "a whole number from -2600"),
        ] {
            let error = asked.unwrap_err();
            assert!(error.starts_with("`until`: ") && error.contains(why), "{error}");
            for theirs in ["jiff", "parameter", "overflow", "range", "failed", "invalid", "expected"] {
                assert!(!error.contains(theirs), "the words of a library: {error}");
            }
        }
        assert!(until(date, time, zone, json!(-1)).is_ok());
        for trailing in ["2026-11-30x", "2026-11-30T", "2026-11-30T25:00:00Z"] {
            assert!(until(json!(trailing), json!("09:00"), json!("Europe/Paris"), json!(0)).is_err(), "{trailing}");
        }
        let duration = |value: Value| resolve(&value, Timestamp::from_millis(0)).map_err(|error| error.to_string());
        assert!(duration(json!(5)).unwrap_err().contains("the duration is `5`"));
        assert!(duration(json!("x".repeat(10_000))).unwrap_err().len() < 200);
    }
}
