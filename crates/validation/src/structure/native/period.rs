//! per-1: a period does not end before it starts.
//!
//! Compares in UTC. With lower precision, the start counts as the earliest and the end as the latest possible
//! moment: R5's expression says so, and R4's has no result then, which is not an error. A date without a zone may be
//! in any zone (-12:00 to +14:00) in R5, and in R4 if the other date has a zone; two dates of R4 are compared as
//! written.

use emberpost_fhir::FhirVersion;

const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;

/// Also true if either is not a valid moment, which the check of its format reports.
pub(super) fn in_order(start: &str, end: &str, version: FhirVersion) -> bool {
    let Some((start, end)) = span(start).zip(span(end)) else { return true };
    let written = version != FhirVersion::R5 && start.zone.is_none() && end.zone.is_none();
    let early = start.zone.unwrap_or(if written { 0 } else { 14 * HOUR });
    let late = end.zone.unwrap_or(if written { 0 } else { -12 * HOUR });
    match (start.first - early).cmp(&(end.last - late)) {
        // Within the same second, the fractions decide; a missing fraction means the whole second.
        std::cmp::Ordering::Equal if start.is_second && end.is_second => fraction(start.rest) <= fraction(end.rest),
        order => order.is_le(),
    }
}

/// The range of seconds that a text may mean, counted from a fixed day in its own zone.
struct Span<'t> {
    first: i64,
    last: i64,
    /// Seconds east of Greenwich.
    zone: Option<i64>,
    is_second: bool,
    /// What follows the seconds in the text.
    rest: &'t str,
}

fn span(text: &str) -> Option<Span<'_>> {
    let year = number(text, 0, 4)?;
    let month = number(text, 5, 7);
    let day = number(text, 8, 10);
    let first = days(year, month.unwrap_or(1), day.unwrap_or(1)) * DAY;
    let next = match (month, day) {
        (None, _) => days(year + 1, 1, 1),
        (Some(month), None) => days(year, month + 1, 1),
        (Some(month), Some(day)) => days(year, month, day + 1),
    };
    let Some(time) = text.get(10..).and_then(|rest| rest.strip_prefix('T')) else {
        return Some(Span { first, last: next * DAY - 1, zone: None, is_second: false, rest: "" });
    };
    let (hour, minute, second) = (number(time, 0, 2)?, number(time, 3, 5)?, number(time, 6, 8)?);
    let at = first + hour * HOUR + minute * 60 + second;
    Some(Span { first: at, last: at, zone: zone(time), is_second: true, rest: time.get(8..)? })
}

fn number(text: &str, from: usize, to: usize) -> Option<i64> {
    text.get(from..to)?.parse().ok()
}

fn zone(time: &str) -> Option<i64> {
    if time.ends_with('Z') {
        return Some(0);
    }
    let at = time.rfind(['+', '-'])?;
    let seconds = number(time, at + 1, at + 3)? * HOUR + number(time, at + 4, at + 6)? * 60;
    Some(if time[at..].starts_with('-') { -seconds } else { seconds })
}

/// The digits of the fraction without trailing zeros; these sort correctly as text.
fn fraction(rest: &str) -> &str {
    let digits = rest.strip_prefix('.').unwrap_or_default();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].trim_end_matches('0')
}

/// Days since March 1 of year 0. Accepts month 13 and a day one past the end of the month.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use FhirVersion::{R4, R5};

    #[test]
    fn a_period_that_ends_before_it_starts_is_not_in_order() {
        let reversed = [
            ("2023-05-04", "2021-05-04"),
            ("2023", "2021"),
            ("2023-05-04", "2023-03"),
            ("2023-05-04T10:00:00+01:00", "2023-05-04T09:30:00+02:00"),
            ("2023-05-04T10:00:00.5Z", "2023-05-04T10:00:00.25Z"),
        ];
        for (start, end) in reversed {
            assert!(!in_order(start, end, R4), "{start} to {end} in R4");
            assert!(!in_order(start, end, R5), "{start} to {end} in R5");
            assert!(in_order(end, start, R4), "{end} to {start} in R4");
        }
    }

    #[test]
    fn the_same_moment_and_mixed_precision_are_in_order() {
        let good = [
            ("2023-05-04T10:00:00+02:00", "2023-05-04T08:00:00Z"),
            ("2023-05-04T10:00:00+02:00", "2023-05"),
            ("2023-05-04T10:00:00Z", "2023-05-04"),
            ("2023-05-04", "2023-05-04T00:00:00Z"),
            ("2023-12", "2023"),
            ("2024-02-29", "2024-02"),
            ("2023-05-04T10:00:00.50Z", "2023-05-04T10:00:00.5Z"),
        ];
        for (start, end) in good {
            assert!(in_order(start, end, R4), "{start} to {end} in R4");
            assert!(in_order(start, end, R5), "{start} to {end} in R5");
        }
    }

    #[test]
    fn one_day_decides_in_r4_and_up_to_two_may_be_the_zone_in_r5() {
        assert!(!in_order("2023-05-04", "2023-05-03", R4));
        assert!(in_order("2023-05-04", "2023-05-03", R5));
        assert!(!in_order("2023-05-04", "2023-05-01", R5));
    }
}
