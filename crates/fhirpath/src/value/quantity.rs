//! Quantities: a number with a unit, comparable across units of the same dimension.

use super::{Text, Unit};
use rust_decimal::Decimal;
use std::cmp::Ordering;
use std::fmt;

/// A number with a unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantity<'t> {
    /// The number.
    pub value: Decimal,
    /// Its unit.
    pub unit: Unit<'t>,
}

impl<'t> Quantity<'t> {
    /// `4`, `4 days`, `4 'mg'`.
    pub fn parse(text: &str) -> Option<Quantity<'t>> {
        let text = text.trim();
        let end = text.find(|letter: char| !matches!(letter, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
        let (number, rest) = text.split_at_checked(end)?;
        let value = super::super::convert::decimal(number)?;
        let unit = rest.trim_start();
        if unit.is_empty() {
            return Some(Quantity { value, unit: Unit::One });
        }
        if let Some(code) = unit.strip_prefix('\'').and_then(|unit| unit.strip_suffix('\'')) {
            return Some(Quantity { value, unit: Unit::code(code) });
        }
        Some(Quantity { value, unit: Unit::calendar(unit)? })
    }

    /// Both numbers in one unit; None if the units are not comparable.
    fn aligned(&self, other: &Quantity<'_>) -> Option<(Decimal, Decimal)> {
        let same = match (&self.unit, &other.unit) {
            (Unit::One, Unit::One) => true,
            (Unit::Calendar(mine), Unit::Calendar(theirs)) => mine == theirs,
            (Unit::Code(mine), Unit::Code(theirs)) => mine == theirs,
            _ => false,
        };
        if same {
            return Some((self.value, other.value));
        }
        let (mine, theirs) = (self.unit.measure()?, other.unit.measure()?);
        if mine.powers != theirs.powers {
            return None;
        }
        Some((self.value.checked_mul(mine.factor)?, other.value.checked_mul(theirs.factor)?))
    }

    /// None if the units are not comparable.
    pub fn compare(&self, other: &Quantity<'_>) -> Option<Ordering> {
        self.aligned(other).map(|(mine, theirs)| mine.cmp(&theirs))
    }

    /// Whether both have the same dimension.
    pub fn is_comparable(&self, other: &Quantity<'_>) -> bool {
        self.aligned(other).is_some()
    }

    /// Equal to the precision of the less precise one; calendar units count as their UCUM equivalents.
    pub fn is_equivalent(&self, other: &Quantity<'_>) -> bool {
        let Some((mine, theirs)) = self.loose().aligned(&other.loose()) else { return false };
        // The digits of the conversion factors do not count: only the numbers as written have a precision.
        let digits = significant(self.value).min(significant(other.value));
        let round = |number: Decimal| number.round_sf(digits).unwrap_or(number);
        round(mine) == round(theirs)
    }

    fn loose(&self) -> Quantity<'_> {
        let unit = match &self.unit {
            Unit::Calendar("year") => Unit::Code(Text::Borrowed("a")),
            Unit::Calendar("month") => Unit::Code(Text::Borrowed("mo")),
            other => other.clone(),
        };
        Quantity { value: self.value, unit }
    }

    /// The product or quotient, in base units unless both are plain numbers.
    pub fn times(&self, other: &Quantity<'_>, divides: bool) -> Option<Quantity<'t>> {
        let (mine, theirs) = (self.unit.measure()?, other.unit.measure()?);
        let (left, right) = (self.value.checked_mul(mine.factor)?, other.value.checked_mul(theirs.factor)?);
        let value = if divides { left.checked_div(right)? } else { left.checked_mul(right)? };
        let mut powers = mine.powers;
        for (mine, theirs) in powers.iter_mut().zip(theirs.powers) {
            *mine = if divides { mine.checked_sub(theirs)? } else { mine.checked_add(theirs)? };
        }
        let term = super::unit::Measure { factor: Decimal::ONE, powers }.term();
        Some(Quantity { value, unit: Unit::code(&term) })
    }
}

/// The number of digits without leading and trailing zeros.
fn significant(number: Decimal) -> u32 {
    let mut mantissa = number.normalize().mantissa().unsigned_abs();
    while mantissa != 0 && mantissa.is_multiple_of(10) {
        mantissa /= 10;
    }
    let mut count = 0;
    while mantissa != 0 {
        mantissa /= 10;
        count += 1;
    }
    count.max(1)
}

impl fmt::Display for Quantity<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.unit {
            Unit::Calendar(word) if self.value != Decimal::ONE => write!(to, "{} {word}s", self.value),
            unit => write!(to, "{} {unit}", self.value),
        }
    }
}
