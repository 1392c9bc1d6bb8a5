//! Mathematical functions. The result is empty if there is none or if it is out of range.

use super::super::Failure;
use super::super::ast::Call;
use super::super::collection::Collection;
use super::super::function::Function;
use super::super::value::{Quantity, Value};
use super::arithmetic::whole_number;
use super::{Done, Eval, Focus};
use rust_decimal::{Decimal, MathematicalOps, RoundingStrategy};

/// The maximum number of digits for `round`.
const DIGITS_LIMIT: i64 = 28;

impl<'t> Eval<'t> {
    pub(super) fn math(&mut self, call: &Call, input: Collection<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let name = call.function.name();
        let Some(value) = self.value_of(input, name)? else { return Ok(Collection::Empty) };
        let argument = self.argument(call, 0, focus)?;
        let argument = self.value_of(argument, name)?;
        if let Value::Quantity(quantity) = &value {
            let number = Value::Decimal(quantity.value);
            let result = of_number(call.function, &number, argument)?.and_then(|value| value.number());
            let unit = quantity.unit.clone();
            return Ok(result.map(|value| Value::Quantity(Box::new(Quantity { value, unit }))).into());
        }
        Ok(of_number(call.function, &value, argument)?.into())
    }

    /// The System value of at most one item.
    pub(super) fn value_of(&mut self, items: Collection<'t>, operation: &'static str) -> Done<Option<Value<'t>>> {
        let Some(item) = self.single(items, operation)? else { return Ok(None) };
        self.spend_read(&item)?;
        match item.value(self.scope.schema) {
            Some(value) => Ok(Some(value)),
            None if item.is_valueless(self.scope.schema) => Ok(None),
            None => Err(Failure::Type(operation)),
        }
    }
}

fn of_number<'t>(function: Function, value: &Value<'t>, argument: Option<Value<'t>>) -> Done<Option<Value<'t>>> {
    let number = value.number().ok_or(Failure::Type(function.name()))?;
    let argument = match argument {
        Some(argument) => Some(argument.number().ok_or(Failure::Argument(function.name()))?),
        None => None,
    };
    let is_long = matches!(value, Value::Long(_));
    let whole = |number: Decimal| whole_number(number, is_long);
    Ok(match function {
        Function::Abs => match value {
            Value::Decimal(number) => Some(Value::Decimal(number.abs())),
            _ => whole(number.abs()),
        },
        Function::Ceiling => whole(number.ceil()),
        Function::Floor => whole(number.floor()),
        Function::Truncate => whole(number.trunc()),
        Function::Round => {
            let digits = argument.map_or(Ok(0), i64::try_from).unwrap_or(-1);
            if !(0..=DIGITS_LIMIT).contains(&digits) {
                return Err(Failure::Argument("round"));
            }
            let strategy = RoundingStrategy::MidpointAwayFromZero;
            Some(Value::Decimal(number.round_dp_with_strategy(digits as u32, strategy)))
        }
        Function::Sqrt => number.sqrt().map(Value::Decimal),
        Function::Exp => number.checked_exp().map(|found| Value::Decimal(found.round_dp(DIGITS_KEPT))),
        Function::Ln => number.checked_ln().map(Value::Decimal),
        Function::Log => {
            let base = argument.and_then(|base| base.checked_ln());
            let quotient = number.checked_ln().zip(base).and_then(|(number, base)| number.checked_div(base));
            // The series have an error far behind the decimal point.
            quotient.map(|found| Value::Decimal(found.round_dp(DIGITS_KEPT)))
        }
        _ => argument.and_then(|exponent| power(value, number, exponent)),
    })
}

/// The number of digits after the point to which logarithms and exponentials are accurate.
const DIGITS_KEPT: u32 = 16;

fn power<'t>(value: &Value<'t>, number: Decimal, exponent: Decimal) -> Option<Value<'t>> {
    let is_whole = exponent.fract().is_zero();
    if !is_whole && number.is_sign_negative() {
        return None;
    }
    if is_whole && exponent.abs() > Decimal::from(1024) && number.abs() != Decimal::ONE {
        return None;
    }
    let result = number.checked_powd(exponent)?;
    match value {
        Value::Integer(_) | Value::Long(_) if is_whole && !exponent.is_sign_negative() => {
            whole_number(result, matches!(value, Value::Long(_)))
        }
        _ => Some(Value::Decimal(result)),
    }
}
