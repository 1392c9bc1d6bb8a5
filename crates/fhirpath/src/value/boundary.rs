//! `lowBoundary`, `highBoundary`, and `precision`: the range of values that a value with its precision may
//! represent.

use super::date_time::days_in_month;
use super::{DateTime, Precision, Quantity, Value};
use rust_decimal::{Decimal, RoundingStrategy};

/// The maximum number of digits after the point of a boundary.
const DIGITS_LIMIT: i64 = 28;
/// The number of digits by default.
const DIGITS: i64 = 8;

impl<'t> Value<'t> {
    /// The lowest (or highest) value that this may represent, with this many digits; None if there is none.
    pub fn boundary(&self, high: bool, digits: Option<i64>) -> Option<Value<'t>> {
        Some(match self {
            Value::Decimal(number) => Value::Decimal(decimal(*number, high, digits.unwrap_or(DIGITS))?),
            Value::Integer(number) | Value::Long(number) => {
                Value::Decimal(decimal(Decimal::from(*number), high, digits.unwrap_or(DIGITS))?)
            }
            Value::Quantity(quantity) => Value::Quantity(Box::new(Quantity {
                value: decimal(quantity.value, high, digits.unwrap_or(DIGITS))?,
                unit: quantity.unit.clone(),
            })),
            Value::Date(date) => Value::Date(date.boundary(high, digits.unwrap_or(8), false)?),
            Value::DateTime(date) => Value::DateTime(date.boundary(high, digits.unwrap_or(17), true)?),
            Value::Time(time) => {
                Value::Time(time.boundary(high, digits.map_or(17, |digits| digits.saturating_add(8)), false)?)
            }
            _ => return None,
        })
    }

    /// The number of digits it is written with.
    pub fn precision(&self) -> Option<i64> {
        Some(match self {
            Value::Decimal(number) => i64::from(number.scale()),
            Value::Integer(_) | Value::Long(_) => 0,
            Value::Date(date) | Value::DateTime(date) => date.digits(),
            Value::Time(time) => time.digits() - 8,
            _ => return None,
        })
    }
}

fn decimal(number: Decimal, high: bool, digits: i64) -> Option<Decimal> {
    if !(0..=DIGITS_LIMIT).contains(&digits) {
        return None;
    }
    let half = Decimal::try_new(5, number.scale() + 1).ok()?;
    let edge = if high { number.checked_add(half)? } else { number.checked_sub(half)? };
    let digits = digits as u32;
    let nearest_to_zero = edge.round_dp_with_strategy(digits, RoundingStrategy::ToZero);
    let mut found = match (high, digits < number.scale() && nearest_to_zero.is_zero()) {
        // Nothing remains of it at this precision.
        (_, true) => nearest_to_zero,
        (true, _) => edge.round_dp_with_strategy(digits, RoundingStrategy::ToPositiveInfinity),
        (false, _) => edge.round_dp_with_strategy(digits, RoundingStrategy::ToNegativeInfinity),
    };
    found.rescale(digits);
    Some(found)
}

impl DateTime {
    /// 4 for a year, 6, 8, 10, 12, 14, and 17 with milliseconds.
    fn digits(&self) -> i64 {
        match self.precision {
            Precision::Year => 4,
            Precision::Month => 6,
            Precision::Day => 8,
            Precision::Hour => 10,
            Precision::Minute => 12,
            Precision::Second if self.digits == 0 => 14,
            Precision::Second => 14 + i64::from(self.digits.min(3)),
        }
    }

    fn boundary(mut self, high: bool, digits: i64, has_zone: bool) -> Option<DateTime> {
        let precision = match digits {
            4 => Precision::Year,
            6 => Precision::Month,
            8 => Precision::Day,
            10 => Precision::Hour,
            12 => Precision::Minute,
            14 | 17 => Precision::Second,
            _ => return None,
        };
        let has = self.precision;
        if high {
            self.month = if has < Precision::Month { 12 } else { self.month };
            self.day = if has < Precision::Day { days_in_month(self.year, self.month) } else { self.day };
            self.hour = if has < Precision::Hour { 23 } else { self.hour };
            self.minute = if has < Precision::Minute { 59 } else { self.minute };
            self.second = if has < Precision::Second { 59 } else { self.second };
            self.micros = if self.digits == 0 { 999_000 } else { self.micros };
        }
        // The zone that makes it earliest, or latest.
        let zone = if high { -12 * 60 } else { 14 * 60 };
        self.offset = if has_zone { self.offset.or(Some(zone)) } else { self.offset };
        (self.precision, self.digits) = (Precision::Second, 3);
        let mut cut = self.cut(precision);
        if digits == 14 {
            (cut.micros, cut.digits) = (0, 0);
        }
        Some(cut)
    }
}
