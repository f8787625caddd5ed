//! Durations: ISO 8601 (`PT1H30M`) and the language's mapping (`{hours: 1, minutes: 30}`), as milliseconds.

use serde_json::Value;

/// The longest duration: ten years of 366 days.
pub const MILLIS_MAX: u64 = 3660 * DAY;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The fields of the mapping, and their milliseconds.
pub const FIELDS: [(&str, u64); 5] =
    [("days", DAY), ("hours", HOUR), ("minutes", MINUTE), ("seconds", SECOND), ("milliseconds", 1)];

/// Why a value is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Neither text nor a mapping.
    #[error("a duration is ISO 8601 text such as `PT30S`, or a mapping such as `{{seconds: 30}}`")]
    Type,
    /// Text that is not ISO 8601.
    #[error("`{0}` is not an ISO 8601 duration such as `PT30S` or `P1DT12H`")]
    Text(String),
    /// Years or months.
    #[error("years and months have no fixed length: count in days, as in `P30D`")]
    Calendar,
    /// A mapping without any field.
    #[error("the duration is empty")]
    Empty,
    /// A field that durations do not have.
    #[error("a duration has no field `{0}`")]
    Field(String),
    /// A field that is not a whole number.
    #[error("`{0}` must be a whole number that is not negative")]
    Number(String),
    /// More than [`MILLIS_MAX`].
    #[error("the duration is longer than ten years")]
    TooLong,
}

/// The milliseconds of a duration, as literals and expressions give it. Fractions of a millisecond are dropped.
///
/// # Errors
/// When it is none.
pub fn millis_of(value: &Value) -> Result<u64, Error> {
    match value {
        Value::String(text) => of_text(text),
        Value::Object(fields) => {
            if fields.is_empty() {
                return Err(Error::Empty);
            }
            let mut sum = 0_u64;
            for (name, value) in fields {
                let unit = FIELDS.iter().find(|(field, _)| field == name).ok_or_else(|| Error::Field(short(name)))?.1;
                let count = value.as_u64().ok_or_else(|| Error::Number(name.clone()))?;
                sum = count.checked_mul(unit).and_then(|ms| sum.checked_add(ms)).ok_or(Error::TooLong)?;
            }
            bounded(sum)
        }
        _ => Err(Error::Type),
    }
}

fn of_text(text: &str) -> Result<u64, Error> {
    let wrong = || Error::Text(short(text));
    let rest = text.strip_prefix('P').ok_or_else(wrong)?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return Err(wrong()),
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if rest.is_empty() {
        return Err(wrong());
    }
    let date = parts(date, &[('Y', None), ('M', None), ('W', Some(7 * DAY)), ('D', Some(DAY))], &wrong)?;
    let time = parts(time, &[('H', Some(HOUR)), ('M', Some(MINUTE)), ('S', Some(SECOND))], &wrong)?;
    bounded(date.checked_add(time).ok_or(Error::TooLong)?)
}

/// Sums parts such as `1H30M`; `units` in the only order allowed, without milliseconds where there is no fixed length.
fn parts(mut text: &str, units: &[(char, Option<u64>)], wrong: &dyn Fn() -> Error) -> Result<u64, Error> {
    let mut units = units.iter();
    let mut sum = 0_u64;
    while !text.is_empty() {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let designator = text[end..].chars().next().ok_or_else(wrong)?;
        let (_, unit) = units.find(|(letter, _)| *letter == designator).ok_or_else(wrong)?;
        let (whole, fraction) = match text[..end].split_once('.') {
            Some((_, "")) => return Err(wrong()),
            Some((whole, fraction)) => (whole, fraction),
            None => (&text[..end], ""),
        };
        if whole.is_empty() || fraction.contains('.') {
            return Err(wrong());
        }
        let unit = unit.ok_or(Error::Calendar)?;
        let whole: u64 = whole.parse().map_err(|_| Error::TooLong)?;
        // Nine digits are below a millisecond for every unit here.
        let digits = &fraction[..fraction.len().min(9)];
        let fraction = match digits.parse::<u64>() {
            Ok(n) => {
                u64::try_from(u128::from(n) * u128::from(unit) / 10_u128.pow(u32::try_from(digits.len()).unwrap_or(9)))
                    .map_err(|_| Error::TooLong)?
            }
            Err(_) => 0,
        };
        sum = whole
            .checked_mul(unit)
            .and_then(|ms| ms.checked_add(fraction))
            .and_then(|ms| sum.checked_add(ms))
            .ok_or(Error::TooLong)?;
        text = &text[end + designator.len_utf8()..];
    }
    Ok(sum)
}

fn bounded(millis: u64) -> Result<u64, Error> {
    if millis > MILLIS_MAX { Err(Error::TooLong) } else { Ok(millis) }
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}
