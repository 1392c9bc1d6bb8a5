//! Dates, date times, and times with the precision they are written in.
//!
//! A value is the span of time that it may represent. Two values are compared by their spans, so the result is
//! unknown if the precision leaves it open. If only one has a zone, the other may be in any zone within 14 hours.

use std::cmp::Ordering;
use std::fmt;

/// The smallest component that a date or time is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// A year only.
    Year,
    /// Year and month.
    Month,
    /// A whole date.
    Day,
    /// A time in hours.
    Hour,
    /// Hours and minutes.
    Minute,
    /// Seconds or finer.
    Second,
}

/// A date, date time, or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DateTime {
    /// 1 to 9999.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 60 for a leap second.
    pub second: u8,
    /// Microseconds within the second.
    pub micros: u32,
    /// The digits of the fraction as written.
    pub digits: u8,
    /// Components below it have their lowest value.
    pub precision: Precision,
    /// Minutes east of UTC.
    pub offset: Option<i16>,
}

pub(super) const SECOND_US: i64 = 1_000_000;
pub(super) const DAY_US: i64 = 86_400 * SECOND_US;
const ZONES_US: i64 = 14 * 3_600 * SECOND_US;

/// Parses groups of a fixed number of digits from the left.
struct Digits<'b>(&'b [u8]);

impl Digits<'_> {
    fn take(&mut self, count: usize) -> Option<u32> {
        let (group, rest) = self.0.split_at_checked(count)?;
        let mut number = 0;
        for digit in group {
            number = number * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        }
        self.0 = rest;
        Some(number)
    }

    fn after(&mut self, mark: u8) -> bool {
        let found = self.0.first() == Some(&mark);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn bounded(&mut self, least: u32, most: u32) -> Option<u8> {
        let number = self.take(2)?;
        (least..=most).contains(&number).then_some(number as u8)
    }
}

impl DateTime {
    const EPOCH: DateTime = DateTime {
        year: 1970,
        month: 1,
        day: 1,
        hour: 0,
        minute: 0,
        second: 0,
        micros: 0,
        digits: 0,
        precision: Precision::Year,
        offset: None,
    };

    /// `2024`, `2024-05`, `2024-05-01`, and with a time: `2024-05-01T10`, `…T10:30`, `…T10:30:00.5+02:00`.
    pub fn parse(text: &str) -> Option<DateTime> {
        let mut digits = Digits(text.as_bytes());
        let mut found = DateTime { year: digits.take(4)? as i32, ..DateTime::EPOCH };
        if found.year == 0 {
            return None;
        }
        if digits.after(b'-') {
            found.month = digits.bounded(1, 12)?;
            found.precision = Precision::Month;
            if digits.after(b'-') {
                found.day = digits.bounded(1, u32::from(days_in_month(found.year, found.month)))?;
                found.precision = Precision::Day;
                if digits.after(b'T') {
                    found.time(&mut digits)?;
                    found.zone(&mut digits)?;
                }
            }
        }
        digits.0.is_empty().then_some(found)
    }

    /// `10`, `10:30`, `10:30:00`, `10:30:00.5`.
    pub fn parse_time(text: &str) -> Option<DateTime> {
        let mut digits = Digits(text.as_bytes());
        let mut found = DateTime::EPOCH;
        found.time(&mut digits)?;
        digits.0.is_empty().then_some(found)
    }

    fn time(&mut self, digits: &mut Digits) -> Option<()> {
        self.hour = digits.bounded(0, 23)?;
        self.precision = Precision::Hour;
        if !digits.after(b':') {
            return Some(());
        }
        self.minute = digits.bounded(0, 59)?;
        self.precision = Precision::Minute;
        if !digits.after(b':') {
            return Some(());
        }
        self.second = digits.bounded(0, 60)?;
        self.precision = Precision::Second;
        if digits.after(b'.') {
            let mut unit = 100_000;
            while let Some(digit) = digits.take(1) {
                self.micros += digit * unit;
                unit /= 10;
                self.digits = self.digits.saturating_add(1);
            }
            return (self.digits > 0).then_some(());
        }
        Some(())
    }

    fn zone(&mut self, digits: &mut Digits) -> Option<()> {
        if digits.after(b'Z') {
            self.offset = Some(0);
            return Some(());
        }
        let sign = if digits.after(b'+') {
            1
        } else if digits.after(b'-') {
            -1
        } else {
            return Some(());
        };
        let hours = i16::from(digits.bounded(0, 14)?);
        let minutes = if digits.after(b':') { i16::from(digits.bounded(0, 59)?) } else { return None };
        self.offset = Some(sign * (hours * 60 + minutes));
        Some(())
    }

    /// A moment in UTC, to the millisecond.
    pub fn from_micros(micros: i64) -> DateTime {
        let (days, rest) = (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US));
        let (year, month, day) = civil(days);
        let seconds = rest / SECOND_US;
        DateTime {
            year,
            month,
            day,
            hour: (seconds / 3600) as u8,
            minute: (seconds / 60 % 60) as u8,
            second: (seconds % 60) as u8,
            micros: (rest % SECOND_US) as u32 / 1000 * 1000,
            digits: 3,
            precision: Precision::Second,
            offset: Some(0),
        }
    }

    /// Microseconds from 1970 to its first moment, in its own local time.
    pub fn wall_micros(&self) -> i64 {
        let seconds = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60 + i64::from(self.second);
        days(self.year, self.month, self.day) * DAY_US + seconds * SECOND_US + i64::from(self.micros)
    }

    /// The first and last moment that it may represent, in UTC if it has a zone.
    fn span(&self) -> (i64, i64) {
        let first = self.wall_micros() - i64::from(self.offset.unwrap_or(0)) * 60 * SECOND_US;
        let length = match self.precision {
            Precision::Year => days(self.year + 1, 1, 1) * DAY_US - first,
            Precision::Month => i64::from(days_in_month(self.year, self.month)) * DAY_US,
            Precision::Day => DAY_US,
            Precision::Hour => 3_600 * SECOND_US,
            Precision::Minute => 60 * SECOND_US,
            // Seconds and their fractions are one precision.
            Precision::Second => 1,
        };
        (first, first + length - 1)
    }

    /// None if the precision or a missing zone leaves the order open.
    pub fn compare(&self, other: &DateTime) -> Option<Ordering> {
        let (mut mine, mut theirs) = (self.span(), other.span());
        match (self.offset, other.offset) {
            (None, Some(_)) => mine = (mine.0 - ZONES_US, mine.1 + ZONES_US),
            (Some(_), None) => theirs = (theirs.0 - ZONES_US, theirs.1 + ZONES_US),
            _ if self.precision == other.precision && mine == theirs => return Some(Ordering::Equal),
            _ => {}
        }
        if mine.1 < theirs.0 {
            Some(Ordering::Less)
        } else if mine.0 > theirs.1 {
            Some(Ordering::Greater)
        } else {
            None
        }
    }

    /// Truncated to days, months, or another precision.
    pub fn cut(mut self, precision: Precision) -> DateTime {
        if precision < Precision::Second {
            (self.second, self.micros, self.digits) = (0, 0, 0);
        }
        if precision < Precision::Minute {
            self.minute = 0;
        }
        if precision < Precision::Hour {
            (self.hour, self.offset) = (0, None);
        }
        if precision < Precision::Day {
            self.day = 1;
        }
        if precision < Precision::Month {
            self.month = 1;
        }
        self.precision = self.precision.min(precision);
        self
    }

    /// Later by whole months; the day is limited to the last of the month. None outside the years 1 to 9999.
    pub fn plus_months(mut self, months: i64) -> Option<DateTime> {
        let count = i64::from(self.year).checked_mul(12)? + i64::from(self.month) - 1;
        let count = count.checked_add(months)?;
        self.year = i32::try_from(count.div_euclid(12)).ok().filter(|year| (1..=9999).contains(year))?;
        self.month = count.rem_euclid(12) as u8 + 1;
        self.day = self.day.min(days_in_month(self.year, self.month));
        Some(self)
    }

    /// Later by a duration, at most to the precision of the second. None outside the years 1 to 9999.
    pub fn plus_micros(mut self, micros: i64) -> Option<DateTime> {
        let moved = DateTime::from_wall(self.wall_micros().checked_add(micros)?)?;
        (self.year, self.month, self.day) = (moved.year, moved.month, moved.day);
        (self.hour, self.minute, self.second, self.micros) = (moved.hour, moved.minute, moved.second, moved.micros);
        if !self.micros.is_multiple_of(1_000_000) && self.digits < 3 {
            self.digits = if self.micros.is_multiple_of(1000) { 3 } else { 6 };
        }
        Some(self.cut(self.precision))
    }

    fn from_wall(micros: i64) -> Option<DateTime> {
        let mut found = DateTime::from_micros(micros);
        found.micros = micros.rem_euclid(SECOND_US) as u32;
        (1..=9999).contains(&found.year).then_some(found)
    }

    /// `10:30:00.000`
    pub fn fmt_time(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:02}", self.hour)?;
        if self.precision >= Precision::Minute {
            write!(to, ":{:02}", self.minute)?;
        }
        if self.precision >= Precision::Second {
            write!(to, ":{:02}", self.second)?;
            if self.digits > 0 {
                let digits = format!("{:06}", self.micros);
                write!(to, ".{}", digits.get(..usize::from(self.digits.min(6))).unwrap_or_default())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:04}", self.year)?;
        if self.precision >= Precision::Month {
            write!(to, "-{:02}", self.month)?;
        }
        if self.precision >= Precision::Day {
            write!(to, "-{:02}", self.day)?;
        }
        if self.precision >= Precision::Hour {
            to.write_str("T")?;
            self.fmt_time(to)?;
        }
        match self.offset {
            None => Ok(()),
            Some(0) => to.write_str("Z"),
            Some(offset) => {
                let sign = if offset < 0 { '-' } else { '+' };
                write!(to, "{sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
            }
        }
    }
}

pub(super) fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar.
fn days(year: i32, month: u8, day: u8) -> i64 {
    let (month, day) = (i64::from(month), i64::from(day));
    // Years that begin in March put the leap day last.
    let year = i64::from(year) - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of `days`.
fn civil(days: i64) -> (i32, u8, u8) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).unwrap_or(0), month as u8, day as u8)
}
