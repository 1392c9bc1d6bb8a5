//! Dates and times: their format, and whether the day and the time exist.

use emberpost_fhir::FhirVersion;

/// `YYYY`, `YYYY-MM` or `YYYY-MM-DD`.
pub(super) fn date(text: &[u8]) -> bool {
    day(text).is_some_and(|(_, rest)| rest.is_empty())
}

/// A date, or a full date with time and zone: the text of every version requires the zone if there is a time.
pub(super) fn date_time(text: &[u8], version: FhirVersion) -> bool {
    match day(text) {
        Some((_, [])) => true,
        Some((true, [b'T', rest @ ..])) => moment(rest, most_digits(version)),
        _ => false,
    }
}

pub(super) fn instant(text: &[u8], version: FhirVersion) -> bool {
    match day(text) {
        Some((true, [b'T', rest @ ..])) => moment(rest, most_digits(version)),
        _ => false,
    }
}

/// The maximum number of digits in a fraction of a second.
fn most_digits(version: FhirVersion) -> usize {
    if version == FhirVersion::R5 { 9 } else { usize::MAX }
}

/// `hh:mm:ss` with any fraction and without a zone.
pub(super) fn time(text: &[u8]) -> bool {
    clock(text, usize::MAX).is_some_and(<[u8]>::is_empty)
}

fn moment(text: &[u8], most_digits: usize) -> bool {
    clock(text, most_digits).is_some_and(zone)
}

/// Parses a date that exists. Returns whether it has a day, and the rest of the text.
fn day(text: &[u8]) -> Option<(bool, &[u8])> {
    let (year, rest) = number(text, 4)?;
    if year == 0 {
        return None;
    }
    let [b'-', rest @ ..] = rest else { return Some((false, rest)) };
    let (month, rest) = number(rest, 2)?;
    let length = days(year, month)?;
    let [b'-', rest @ ..] = rest else { return Some((false, rest)) };
    let (day, rest) = number(rest, 2)?;
    (1..=length).contains(&day).then_some((true, rest))
}

fn days(year: u32, month: u32) -> Option<u32> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap { 29 } else { 28 }),
        _ => None,
    }
}

/// `hh:mm:ss` with a fraction of 1 to so many digits; 60 is a leap second. What follows.
fn clock(text: &[u8], most_digits: usize) -> Option<&[u8]> {
    let (hour, rest) = number(text, 2)?;
    let [b':', rest @ ..] = rest else { return None };
    let (minute, rest) = number(rest, 2)?;
    let [b':', rest @ ..] = rest else { return None };
    let (second, rest) = number(rest, 2)?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let [b'.', rest @ ..] = rest else { return Some(rest) };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (1..=most_digits).contains(&digits).then(|| &rest[digits..])
}

/// `Z`, or hours and minutes up to 14:00.
fn zone(text: &[u8]) -> bool {
    let [sign, rest @ ..] = text else { return false };
    if *sign == b'Z' {
        return rest.is_empty();
    }
    let Some((hour, [b':', rest @ ..])) = number(rest, 2) else { return false };
    let Some((minute, [])) = number(rest, 2) else { return false };
    matches!(sign, b'+' | b'-') && minute <= 59 && (hour < 14 || (hour == 14 && minute == 0))
}

/// So many digits, at most nine, and what follows them.
fn number(text: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let step = |sum: u32, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'));
    number.iter().try_fold(0, step).map(|number| (number, rest))
}
