//! `+ - * / div mod &` and signs.

use super::super::Failure;
use super::super::ast::Operator;
use super::super::collection::Collection;
use super::super::value::{Item, Quantity, Unit, Value};
use super::{Done, Eval};
use rust_decimal::Decimal;

impl<'t> Eval<'t> {
    pub(super) fn sign(&mut self, minus: bool, items: Collection<'t>) -> Done<Collection<'t>> {
        let Some(item) = self.single(items, "a sign")? else { return Ok(Collection::Empty) };
        let value = item.value(self.scope.schema).ok_or(Failure::Type("a sign"))?;
        let signed = match value {
            Value::Integer(number) if minus => Value::Integer(number.saturating_neg()),
            Value::Long(number) if minus => Value::Long(number.saturating_neg()),
            Value::Decimal(number) if minus => Value::Decimal(-number),
            Value::Quantity(mut quantity) if minus => {
                quantity.value = -quantity.value;
                Value::Quantity(quantity)
            }
            Value::Integer(_) | Value::Long(_) | Value::Decimal(_) | Value::Quantity(_) => value,
            _ => return Err(Failure::Type("a sign")),
        };
        Ok(Collection::One(Item::Value(signed)))
    }

    pub(super) fn calculate(
        &mut self,
        operator: Operator,
        left: Collection<'t>,
        right: Collection<'t>,
    ) -> Done<Collection<'t>> {
        let left = self.single(left, "an operator")?;
        let right = self.single(right, "an operator")?;
        for item in left.iter().chain(&right) {
            self.spend_read(item)?;
        }
        if operator == Operator::Concatenate {
            return self.concatenated(left, right);
        }
        let (Some(left), Some(right)) = (left, right) else { return Ok(Collection::Empty) };
        let schema = self.scope.schema;
        let (Some(mine), Some(theirs)) = (left.value(schema), right.value(schema)) else {
            let is_valueless = left.is_valueless(schema) || right.is_valueless(schema);
            return if is_valueless { Ok(Collection::Empty) } else { Err(Failure::Type("an operator")) };
        };
        Ok(match (&mine, &theirs) {
            (Value::String(mine), Value::String(theirs)) if operator == Operator::Plus => {
                return self.joined(mine, theirs);
            }
            (Value::Date(_) | Value::DateTime(_) | Value::Time(_), Value::Quantity(by)) => {
                self.moved(&mine, by, operator)?.into()
            }
            (Value::Quantity(mine), theirs) => match convert_quantity(theirs) {
                Some(theirs) => with_units(operator, mine, &theirs)?.into(),
                None => return Err(Failure::Type("an operator")),
            },
            (mine, Value::Quantity(theirs)) => match convert_quantity(mine) {
                Some(mine) => with_units(operator, &mine, theirs)?.into(),
                None => return Err(Failure::Type("an operator")),
            },
            _ => numbers(operator, &mine, &theirs)?.into(),
        })
    }

    /// `&`: an empty operand counts as an empty text.
    fn concatenated(&mut self, left: Option<Item<'t>>, right: Option<Item<'t>>) -> Done<Collection<'t>> {
        let text = |item: Option<Item<'t>>| -> Done<Option<Value<'t>>> {
            let Some(item) = item else { return Ok(None) };
            match item.text(self.scope.schema) {
                Some(text) => Ok(Some(Value::String(text))),
                None if item.is_valueless(self.scope.schema) => Ok(None),
                None => match item {
                    Item::Value(value) => Ok(Some(Value::text(&value.to_string()))),
                    Item::Element(_) => Err(Failure::Type("&")),
                },
            }
        };
        match (text(left)?, text(right)?) {
            (Some(Value::String(left)), Some(Value::String(right))) => self.joined(&left, &right),
            (Some(only), None) | (None, Some(only)) => Ok(Some(only).into()),
            _ => Ok(Some(Value::text("")).into()),
        }
    }

    fn joined(&mut self, left: &str, right: &str) -> Done<Collection<'t>> {
        self.spend_text(left.len() + right.len())?;
        let mut text = String::with_capacity(left.len() + right.len());
        text.push_str(left);
        text.push_str(right);
        Ok(Some(Value::String(text.into())).into())
    }
}

fn convert_quantity<'t>(value: &Value<'t>) -> Option<Quantity<'t>> {
    match value {
        Value::Quantity(quantity) => Some((**quantity).clone()),
        other => other.number().map(|value| Quantity { value, unit: Unit::One }),
    }
}

/// None if the result is out of range, or the divisor is zero.
fn numbers<'t>(operator: Operator, left: &Value<'t>, right: &Value<'t>) -> Done<Option<Value<'t>>> {
    let (Some(a), Some(b)) = (left.number(), right.number()) else { return Err(Failure::Type("an operator")) };
    let is_decimal = matches!(left, Value::Decimal(_)) || matches!(right, Value::Decimal(_));
    let is_long = matches!(left, Value::Long(_)) || matches!(right, Value::Long(_));
    let result = match operator {
        Operator::Plus => a.checked_add(b),
        Operator::Minus => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide => return Ok(a.checked_div(b).map(|number| Value::Decimal(to_eight(number)))),
        Operator::Div => {
            let whole = a.checked_div(b).map(|number| number.trunc());
            return Ok(whole.and_then(|number| whole_number(number, is_long)));
        }
        _ => a.checked_rem(b),
    };
    Ok(result.and_then(|number| if is_decimal { Some(Value::Decimal(number)) } else { whole_number(number, is_long) }))
}

/// Rounds a quotient to eight digits after the point.
fn to_eight(number: Decimal) -> Decimal {
    number.round_dp_with_strategy(8, rust_decimal::RoundingStrategy::MidpointAwayFromZero)
}

/// An Integer or Long, if it is in range.
pub(super) fn whole_number<'t>(number: Decimal, is_long: bool) -> Option<Value<'t>> {
    let number = i64::try_from(number).ok()?;
    match is_long {
        true => Some(Value::Long(number)),
        false => i32::try_from(number).ok().map(|number| Value::Integer(number.into())),
    }
}

fn with_units<'t>(operator: Operator, left: &Quantity<'t>, right: &Quantity<'t>) -> Done<Option<Value<'t>>> {
    let quantity = |value| Value::Quantity(Box::new(Quantity { value, unit: left.unit.clone() }));
    match operator {
        Operator::Plus | Operator::Minus => {
            let Some(right) = in_unit_of(right, left) else { return Ok(None) };
            let sum =
                if operator == Operator::Plus { left.value.checked_add(right) } else { left.value.checked_sub(right) };
            Ok(sum.map(quantity))
        }
        // A plain number leaves the unit unchanged.
        Operator::Multiply | Operator::Divide => {
            let divides = operator == Operator::Divide;
            let scaled = match (&left.unit, &right.unit) {
                (_, Unit::One) if divides => left.value.checked_div(right.value).map(quantity),
                (_, Unit::One) => left.value.checked_mul(right.value).map(quantity),
                (Unit::One, _) if !divides => left
                    .value
                    .checked_mul(right.value)
                    .map(|value| Value::Quantity(Box::new(Quantity { value, unit: right.unit.clone() }))),
                _ => left.times(right, divides).map(|product| Value::Quantity(Box::new(product))),
            };
            Ok(scaled)
        }
        _ => Err(Failure::Type("an operator")),
    }
}

fn in_unit_of(quantity: &Quantity<'_>, of: &Quantity<'_>) -> Option<Decimal> {
    if quantity.unit == of.unit {
        return Some(quantity.value);
    }
    let (mine, theirs) = (quantity.unit.measure()?, of.unit.measure()?);
    if mine.powers != theirs.powers {
        return None;
    }
    quantity.value.checked_mul(mine.factor)?.checked_div(theirs.factor)
}
