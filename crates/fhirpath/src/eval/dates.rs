//! Arithmetic and components of dates and times, and the current time.

use super::super::Failure;
use super::super::ast::Operator;
use super::super::collection::Collection;
use super::super::function::Function;
use super::super::value::{DateTime, Item, Precision, Quantity, Value};
use super::{Done, Eval};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Microseconds per day.
const DAY_US: i64 = 86_400_000_000;

impl<'t> Eval<'t> {
    /// A date or time later or earlier by a duration. Fractions only count for seconds.
    pub(super) fn moved(&self, value: &Value<'t>, by: &Quantity<'t>, operator: Operator) -> Done<Option<Value<'t>>> {
        let sign = match operator {
            Operator::Plus => 1,
            Operator::Minus => -1,
            _ => return Err(Failure::Type("an operator")),
        };
        let whole = || by.value.trunc().to_i64().and_then(|count| count.checked_mul(sign));
        let months = by.unit.calendar_months();
        let micros = by.unit.duration_micros();
        if months.is_none() && micros.is_none() {
            return Err(Failure::Type("an operator"));
        }
        let micros = || match micros? {
            // Fractions of seconds and milliseconds count.
            unit @ ..=1_000_000 => {
                let exact = by.value.checked_mul(Decimal::from(unit))?.trunc().to_i64()?;
                exact.checked_mul(sign)
            }
            unit => whole()?.checked_mul(unit),
        };
        Ok(match value {
            Value::Time(time) => {
                let Some(micros) = micros() else { return Ok(None) };
                let wrapped = (time.wall_micros() + micros.rem_euclid(DAY_US)).rem_euclid(DAY_US);
                time.plus_micros(wrapped - time.wall_micros()).map(Value::Time)
            }
            Value::Date(date) => date_moved(date, months, &whole, &micros).map(Value::Date),
            Value::DateTime(date) => date_moved(date, months, &whole, &micros).map(Value::DateTime),
            _ => None,
        })
    }

    pub(super) fn component(&self, function: Function, input: Collection<'t>) -> Done<Collection<'t>> {
        let Some(item) = self.single(input, function.name())? else { return Ok(Collection::Empty) };
        let value = item.value(self.scope.schema);
        let (date, is_time) = match &value {
            Some(Value::Date(date) | Value::DateTime(date)) => (date, false),
            Some(Value::Time(time)) => (time, true),
            _ => return Ok(Collection::Empty),
        };
        Ok(component(function, date, is_time).into())
    }

    pub(super) fn clock(&self, function: Function) -> Collection<'t> {
        let now = DateTime::from_micros(self.scope.host.now_us());
        let value = match function {
            Function::Now => Value::DateTime(now),
            Function::Today => Value::Date(now.cut(Precision::Day)),
            _ => Value::Time(DateTime { year: 1970, month: 1, day: 1, offset: None, ..now }),
        };
        Collection::One(Item::Value(value))
    }
}

/// A date with the precision of a year or month changes by whole years or months.
fn date_moved(
    date: &DateTime,
    months: Option<i64>,
    whole: &dyn Fn() -> Option<i64>,
    micros: &dyn Fn() -> Option<i64>,
) -> Option<DateTime> {
    if let Some(months) = months {
        return date.plus_months(whole()?.checked_mul(months)?).map(|moved| moved.cut(date.precision));
    }
    let micros = micros()?;
    match date.precision {
        Precision::Year => date.plus_months(micros / (365 * DAY_US) * 12),
        Precision::Month => date.plus_months(micros / (30 * DAY_US)),
        Precision::Day => date.plus_micros(micros / DAY_US * DAY_US),
        _ => date.plus_micros(micros),
    }
}

fn component<'t>(function: Function, date: &DateTime, is_time: bool) -> Option<Value<'t>> {
    let number = |least: Precision, number: i64| (date.precision >= least).then_some(Value::Integer(number));
    let of_date = |value: Option<Value<'t>>| value.filter(|_| !is_time);
    match function {
        Function::YearOf => of_date(number(Precision::Year, date.year.into())),
        Function::MonthOf => of_date(number(Precision::Month, date.month.into())),
        Function::DayOf => of_date(number(Precision::Day, date.day.into())),
        Function::HourOf => number(Precision::Hour, date.hour.into()),
        Function::MinuteOf => number(Precision::Minute, date.minute.into()),
        Function::SecondOf => number(Precision::Second, date.second.into()),
        Function::MillisecondOf => number(Precision::Second, (date.micros / 1000).into()).filter(|_| date.digits > 0),
        Function::TimezoneOffsetOf => {
            let minutes = Decimal::from(date.offset?);
            Some(Value::Decimal(minutes.checked_div(Decimal::from(60))?.normalize()))
        }
        Function::DateOf => of_date(Some(Value::Date(date.cut(Precision::Day)))),
        _ => {
            let time = DateTime { year: 1970, month: 1, day: 1, offset: None, ..*date };
            (date.precision >= Precision::Hour).then_some(Value::Time(time))
        }
    }
}
