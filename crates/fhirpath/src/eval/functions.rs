//! Functions that need their whole input.

use super::super::Failure;
use super::super::ast::Call;
use super::super::collection::Collection;
use super::super::constant;
use super::super::convert;
use super::super::function::Function;
use super::super::value::{Item, Value};
use super::{Done, Eval, Focus};

impl<'t> Eval<'t> {
    pub(super) fn call(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        match call.function {
            Function::Count => {
                let mut count = 0;
                self.each_input(call, focus, &mut |_, _| {
                    count += 1;
                    Ok(true)
                })?;
                Ok(Some(Value::Integer(count)).into())
            }
            Function::Repeat | Function::RepeatAll => match call.arguments.first() {
                Some(of) => self.repeat(call, of, focus),
                None => Ok(Collection::Empty),
            },
            Function::Iif => self.iif(call, focus),
            Function::Aggregate => self.aggregate(call, focus),
            Function::Sort => self.sort(call, focus),
            Function::DefineVariable => self.define(call, focus),
            Function::Coalesce => {
                for argument in &call.arguments {
                    let found = self.scoped(argument, focus)?;
                    if !found.is_empty() {
                        return Ok(found);
                    }
                }
                Ok(Collection::Empty)
            }
            Function::Now | Function::Today | Function::TimeOfDay => Ok(self.clock(call.function)),
            _ => {
                let input = self.input(call, focus)?;
                self.applied(call, input, focus)
            }
        }
    }

    /// An argument that is evaluated once.
    pub(super) fn argument(&mut self, call: &Call, at: usize, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        match call.arguments.get(at) {
            Some(argument) => self.scoped(argument, focus),
            None => Ok(Collection::Empty),
        }
    }

    fn applied(&mut self, call: &Call, input: Collection<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        use Function as F;
        let name = call.function.name();
        match call.function {
            F::Distinct => self.distinct(input),
            F::IsDistinct => Ok(Some(self.is_distinct(input)?).into()),
            F::SubsetOf | F::SupersetOf => {
                let other = self.argument(call, 0, focus)?;
                let (small, large) = if call.function == F::SubsetOf { (input, other) } else { (other, input) };
                Ok(Some(self.is_subset(small, large)?).into())
            }
            F::Intersect | F::Exclude => {
                let other = self.argument(call, 0, focus)?;
                self.filter_by(input, other, call.function == F::Intersect)
            }
            F::Union => {
                let other = self.argument(call, 0, focus)?;
                Ok(self.seen(input.into_iter().chain(other))?.into_items())
            }
            F::Single => Ok(self.single(input, name)?.map_or(Collection::Empty, Collection::One)),
            F::Last => Ok(input.into_iter().last().map_or(Collection::Empty, Collection::One)),
            F::Type => {
                let mut found = Collection::Empty;
                for item in input {
                    let of_type = Item::Value(self.type_of(&item));
                    self.keep(&mut found, of_type)?;
                }
                Ok(found)
            }
            F::MemberOf | F::ConformsTo => self.host_function(call, input, focus),
            // The structure check checks narrative; expressions do not.
            F::HtmlChecks => {
                self.scope.host.undecided();
                Ok(Collection::Empty)
            }
            F::CheckModifiers => self.check_modifiers(call, input, focus),
            F::Comparable => self.comparable(call, input, focus),
            F::LowBoundary | F::HighBoundary => {
                let digits = self.argument(call, 0, focus)?;
                let digits = self.integer(&digits, name)?;
                let value = self.single(input, name)?.and_then(|item| item.value(self.scope.schema));
                Ok(value.and_then(|value| value.boundary(call.function == F::HighBoundary, digits)).into())
            }
            F::Precision => {
                let value = self.single(input, name)?.and_then(|item| item.value(self.scope.schema));
                Ok(value.and_then(|value| value.precision()).map(Value::Integer).into())
            }
            F::YearOf
            | F::MonthOf
            | F::DayOf
            | F::HourOf
            | F::MinuteOf
            | F::SecondOf
            | F::MillisecondOf
            | F::TimezoneOffsetOf
            | F::DateOf
            | F::TimeOf => self.component(call.function, input),
            F::Abs | F::Ceiling | F::Exp | F::Floor | F::Ln | F::Log | F::Power | F::Round | F::Sqrt | F::Truncate => {
                self.math(call, input, focus)
            }
            _ => match conversion(call.function) {
                Some(convert) => self.converted(call, input, convert),
                None => self.string_function(call, input, focus),
            },
        }
    }

    /// If the input is a single item, it is the focus of all three arguments.
    fn iif(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let input;
        let focus = match &call.input {
            None => focus,
            Some(of) => {
                input = self.eval(of, focus)?;
                if input.len() > 1 {
                    return Err(Failure::Several("iif"));
                }
                focus.with(&input, 0)
            }
        };
        let Some(condition) = call.arguments.first() else { return Ok(Collection::Empty) };
        let condition = self.scoped(condition, focus)?;
        let chosen = if self.boolean(&condition, "iif")? == Some(true) { 1 } else { 2 };
        self.argument(call, chosen, focus)
    }

    fn define(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let input = self.input(call, focus)?;
        let focus = focus.with(&input, 0);
        let name = self.argument(call, 0, focus)?;
        let name = self.text(name, "defineVariable")?.ok_or(Failure::Argument("defineVariable"))?;
        let value = match call.arguments.get(1) {
            Some(value) => self.scoped(value, focus)?,
            None => self.copied(&input)?,
        };
        let is_known = self.variables.iter().any(|known| *known.0 == *name);
        if is_known || constant::RESERVED.contains(&&*name) {
            return Err(Failure::Variable);
        }
        self.variables.push(((&*name).into(), value));
        Ok(input)
    }

    /// Functions whose result only the host knows.
    fn host_function(&mut self, call: &Call, input: Collection<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let name = call.function.name();
        let url = self.argument(call, 0, focus)?;
        let (Some(url), Some(item)) = (self.text(url, name)?, self.single(input, name)?) else {
            return Ok(Collection::Empty);
        };
        let Item::Element(element) = item else { return Ok(Collection::Empty) };
        if call.function == Function::MemberOf {
            self.spend_read(&Item::Element(element))?;
            let is_member = self.scope.host.member_of(element, &url);
            if is_member.is_none() {
                self.scope.host.undecided();
            }
            return Ok(is_member.into());
        }
        match self.scope.host.conforms_to(element, &url) {
            Some(truth) => Ok(Some(truth).into()),
            None => Err(Failure::Unanswered("conformsTo")),
        }
    }

    /// Returns the input if it has no modifier extensions other than those named.
    fn check_modifiers(&mut self, call: &Call, input: Collection<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let mut known = Vec::new();
        for at in 0..call.arguments.len() {
            let url = self.argument(call, at, focus)?;
            known.extend(self.text(url, "checkModifiers")?);
        }
        for item in input.items() {
            let Item::Element(element) = item else { continue };
            for extension in element.step(self.scope.schema, "modifierExtension") {
                self.spend(1)?;
                let url = extension.value.and_then(|node| node.get("url")).and_then(|node| node.text());
                if !known.iter().any(|known| url.as_deref() == Some(&**known)) {
                    return Err(Failure::Unanswered("checkModifiers"));
                }
            }
        }
        Ok(input)
    }

    fn comparable(&mut self, call: &Call, input: Collection<'t>, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let other = self.argument(call, 0, focus)?;
        let quantity = |eval: &Eval<'t>, items| -> Done<Option<Value<'t>>> {
            Ok(eval.single(items, "comparable")?.and_then(|item| item.value(eval.scope.schema)))
        };
        match (quantity(self, input)?, quantity(self, other)?) {
            (Some(Value::Quantity(mine)), Some(Value::Quantity(theirs))) => {
                Ok(Some(mine.is_comparable(&theirs)).into())
            }
            _ => Ok(Collection::Empty),
        }
    }

    fn converted(&mut self, call: &Call, input: Collection<'t>, (is_test, to): Conversion) -> Done<Collection<'t>> {
        let Some(item) = self.single(input, call.function.name())? else { return Ok(Collection::Empty) };
        self.spend_read(&item)?;
        let schema = self.scope.schema;
        let value = match call.function {
            // FHIR primitives as they are written.
            Function::ToStringOf | Function::ConvertsToString => match item.text(schema) {
                Some(text) => Some(Value::String(text)),
                None => match item.value(schema).map(|value| value.to_string()) {
                    Some(text) if !is_test => return self.made(text),
                    text => text.map(|_| Value::Boolean(true)),
                },
            },
            _ => item.value(schema).and_then(|value| to(&value)),
        };
        Ok(if is_test { Some(value.is_some()).into() } else { value.into() })
    }
}

/// Whether it only tests convertibility, and the conversion.
type Conversion = (bool, for<'a, 't> fn(&'a Value<'t>) -> Option<Value<'t>>);

fn conversion(function: Function) -> Option<Conversion> {
    use Function as F;
    Some(match function {
        F::ToBoolean => (false, convert::to_boolean),
        F::ConvertsToBoolean => (true, convert::to_boolean),
        F::ToInteger => (false, convert::to_integer),
        F::ConvertsToInteger => (true, convert::to_integer),
        F::ToLong => (false, convert::to_long),
        F::ConvertsToLong => (true, convert::to_long),
        F::ToDecimal => (false, convert::to_decimal),
        F::ConvertsToDecimal => (true, convert::to_decimal),
        F::ToDate => (false, convert::to_date),
        F::ConvertsToDate => (true, convert::to_date),
        F::ToDateTime => (false, convert::to_date_time),
        F::ConvertsToDateTime => (true, convert::to_date_time),
        F::ToTime => (false, convert::to_time),
        F::ConvertsToTime => (true, convert::to_time),
        F::ToQuantity => (false, convert::to_quantity),
        F::ConvertsToQuantity => (true, convert::to_quantity),
        F::ToStringOf => (false, convert::to_boolean),
        F::ConvertsToString => (true, convert::to_boolean),
        _ => return None,
    })
}
