//! Times on the command line: an RFC 3339 time, a date, or how long ago.

use crate::clock::Clock;
use jiff::civil::Date;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// Length of a date such as 2026-03-01.
const DATE_LENGTH: usize = 10;

/// The value of `--since` and `--until` as the admin API takes it. A time with offset is returned as given, a date is
/// midnight UTC (the lists show UTC), and a duration counts back from now.
pub fn parse(text: &str) -> Result<String, String> {
    parse_at(text, Clock::default().now_us())
}

fn parse_at(text: &str, now_us: i64) -> Result<String, String> {
    if text.parse::<Timestamp>().is_ok() {
        return Ok(text.into());
    }
    // The parser would also read a time without offset, and drop the time.
    if let Ok(date) = text.parse::<Date>()
        && text.len() == DATE_LENGTH
    {
        return Ok(format!("{date}T00:00:00Z"));
    }
    let time = duration(text).and_then(|ago| Timestamp::from_microsecond(now_us).ok()?.checked_sub(ago).ok());
    time.map(|time| time.to_string()).ok_or_else(|| {
        "give a time such as 2026-03-01T08:00:00Z or 2026-03-01T08:00:00+01:00, a date (2026-03-01, from midnight UTC), \
         or a duration before now (30m, 2h, 3d, 1w)"
            .into()
    })
}

/// Days have 24 hours and weeks 7 days; months and years differ in length and are refused.
fn duration(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (!duration.is_negative()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_durations_are_understood() {
        let now_us = "2026-03-10T12:00:00Z".parse::<Timestamp>().expect("a time").as_microsecond();
        for (text, expected) in [
            ("2026-03-01T08:00:00+01:00", "2026-03-01T08:00:00+01:00"),
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2h", "2026-03-10T10:00:00Z"),
            ("1h30m", "2026-03-10T10:30:00Z"),
            ("90m", "2026-03-10T10:30:00Z"),
            ("45s", "2026-03-10T11:59:15Z"),
            ("3d", "2026-03-07T12:00:00Z"),
            ("2w", "2026-02-24T12:00:00Z"),
        ] {
            assert_eq!(parse_at(text, now_us).as_deref(), Ok(expected), "{text}");
        }
        for text in ["yesterday", "", "5", "-2h", "1mo", "2026-13-01", "2026-03-01T08:00:00", "99999999999d"] {
            assert!(parse_at(text, now_us).is_err(), "{text}");
        }
    }
}
