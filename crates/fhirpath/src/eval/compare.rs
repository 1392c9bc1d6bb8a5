//! Comparison operators: equality, order, membership.

use super::super::Failure;
use super::super::ast::{Expr, Operator};
use super::super::convert;
use super::super::value::{Item, Value};
use super::equal::{collections_equal, collections_equivalent, equal};
use super::memo::{Memo, string};
use super::{Done, Eval, Focus};
use std::cmp::Ordering;
use std::rc::Rc;

impl<'t> Eval<'t> {
    pub(super) fn compared(
        &mut self,
        operator: Operator,
        left: &Expr,
        right: &Expr,
        focus: Focus<'_, 't>,
    ) -> Done<Option<bool>> {
        match operator {
            Operator::Equal => self.equals(left, right, focus),
            Operator::NotEqual => Ok(self.equals(left, right, focus)?.map(|truth| !truth)),
            Operator::Equivalent | Operator::NotEquivalent => {
                let (left, right) = (self.scoped(left, focus)?, self.scoped(right, focus)?);
                self.spend_pairs(&left, &right)?;
                let is_equivalent = collections_equivalent(&left, &right, self.scope.schema);
                Ok(Some(is_equivalent == (operator == Operator::Equivalent)))
            }
            Operator::In { memo } => self.is_in(left, right, memo, focus),
            Operator::Contains => self.is_in(right, left, None, focus),
            _ => self.ordered(operator, left, right, focus),
        }
    }

    fn equals(&mut self, left: &Expr, right: &Expr, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        match (left, right) {
            (_, Expr::Literal(value)) => self.equals_literal(left, value, focus),
            (Expr::Literal(value), _) => self.equals_literal(right, value, focus),
            _ if is_boolean(left) && is_boolean(right) => {
                let (left, right) = (self.truth(left, focus)?, self.truth(right, focus)?);
                Ok(left.zip(right).map(|(left, right)| left == right))
            }
            _ => {
                let (left, right) = (self.scoped(left, focus)?, self.scoped(right, focus)?);
                self.spend_aligned(&left, &right)?;
                Ok(collections_equal(&left, &right, self.scope.schema))
            }
        }
    }

    /// The most frequent case: a path and a literal.
    fn equals_literal(&mut self, path: &Expr, value: &Value<'static>, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        if let (true, Value::Boolean(value)) = (is_boolean(path), value) {
            return Ok(self.operand_truth(path, focus)?.map(|truth| truth == *value));
        }
        let mut count = 0;
        let mut result = None;
        self.each_argument(path, focus, &mut |eval, item| {
            count += 1;
            if count == 1 {
                eval.spend_read(&item)?;
                result = literal_equal(&item, value, eval);
            }
            Ok(count < 2)
        })?;
        Ok(if count > 1 { Some(false) } else { result })
    }

    fn operand_truth(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let known = self.variables.len();
        let truth = self.truth(expr, focus);
        self.variables.truncate(known);
        truth
    }

    /// Whether the single item of `left` is among those of `right`.
    fn is_in(&mut self, left: &Expr, right: &Expr, memo: Option<u16>, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let left = self.scoped(left, focus)?;
        let Some(item) = self.single(left, "in")? else { return Ok(None) };
        if let Some(slot) = memo.filter(|_| self.loops > 0 && !self.collects) {
            let memo = self.memo(slot, right, focus)?;
            self.spend_read(&item)?;
            memo.others.iter().try_for_each(|other| {
                self.spend(1)?;
                self.spend_compared(&item, other)
            })?;
            return Ok(Some(memo.has(&item, self.scope.schema)));
        }
        self.among(&item, right, focus).map(Some)
    }

    fn among(&mut self, item: &Item<'t>, right: &Expr, focus: Focus<'_, 't>) -> Done<bool> {
        match right {
            Expr::Union(all) => {
                for one in all {
                    if self.among(item, one, focus)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Expr::Literal(value) => {
                self.spend(1)?;
                self.spend_read(item)?;
                Ok(literal_equal(item, value, self) == Some(true))
            }
            _ => {
                let mut found = false;
                self.each_argument(right, focus, &mut |eval, other| {
                    eval.spend(1)?;
                    eval.spend_compared(item, &other)?;
                    found = equal(item, &other, eval.scope.schema) == Some(true);
                    Ok(!found)
                })?;
                Ok(found)
            }
        }
    }

    /// The items on the right side of an `in`, cached because they are the same for all items of the loops around
    /// it.
    fn memo(&mut self, slot: u16, right: &Expr, focus: Focus<'_, 't>) -> Done<Rc<Memo<'t>>> {
        let slot = usize::from(slot);
        if self.memos.is_empty() {
            self.memos = vec![None; usize::from(self.memo_count)];
        }
        if let Some(Some(known)) = self.memos.get(slot) {
            return Ok(known.clone());
        }
        let mut memo = Memo::default();
        self.each_loose(right, focus, &mut |eval, item| {
            eval.spend(1)?;
            eval.spend_bytes(string(&item, eval.scope.schema).map_or(0, |text| text.len()))?;
            memo.add(item, eval.scope.schema);
            Ok(true)
        })?;
        let memo = Rc::new(memo);
        if let Some(kept) = self.memos.get_mut(slot) {
            *kept = Some(memo.clone());
        }
        Ok(memo)
    }

    /// Items for a query in which duplicates do not matter.
    fn each_loose(&mut self, expr: &Expr, focus: Focus<'_, 't>, sink: super::Sink<'_, 't>) -> Done<bool> {
        let Expr::Union(all) = expr else { return self.each_argument(expr, focus, sink) };
        for one in all {
            if !self.each_loose(one, focus, sink)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn ordered(&mut self, operator: Operator, left: &Expr, right: &Expr, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let left = self.scoped(left, focus)?;
        let Some(left) = self.single(left, "a comparison")? else { return Ok(None) };
        let right = self.scoped(right, focus)?;
        let Some(right) = self.single(right, "a comparison")? else { return Ok(None) };
        let order = self.order(&left, &right)?;
        Ok(order.map(|order| match operator {
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Greater => order == Ordering::Greater,
            _ => order != Ordering::Less,
        }))
    }

    /// None if precision or units leave the order open, or a value is missing or malformed.
    pub(super) fn order(&mut self, left: &Item<'t>, right: &Item<'t>) -> Done<Option<Ordering>> {
        self.spend_compared(left, right)?;
        self.spend_read(left)?;
        self.spend_read(right)?;
        let schema = self.scope.schema;
        let values = (left.value(schema), right.value(schema));
        let (Some(left), Some(right)) = values else {
            let is_primitive = |item: &Item<'t>| match item {
                Item::Element(element) => element.value.is_none_or(|node| !node.is_object() && !node.is_array()),
                Item::Value(_) => true,
            };
            // A quantity without a value has no order either.
            let has_none = |item: &Item<'t>| is_primitive(item) || self.is_quantity(item);
            return if has_none(left) && has_none(right) { Ok(None) } else { Err(Failure::Type("a comparison")) };
        };
        order_values(&left, &right)
    }

    fn is_quantity(&self, item: &Item<'t>) -> bool {
        let schema = self.scope.schema;
        match item {
            Item::Element(element) => schema.named("Quantity").is_some_and(|of| schema.is_a(element.type_id, of)),
            Item::Value(_) => false,
        }
    }
}

/// Whether the syntax alone makes the result a boolean.
fn is_boolean(expr: &Expr) -> bool {
    match expr {
        Expr::And(_) | Expr::Or(_) | Expr::Is(..) => true,
        Expr::Call(call) => super::truth::is_boolean_function(call.function),
        Expr::Binary(operator, _) => !operator.calculates(),
        _ => false,
    }
}

fn literal_equal<'t>(item: &Item<'t>, value: &Value<'static>, eval: &Eval<'t>) -> Option<bool> {
    match (item, value) {
        (Item::Element(element), Value::String(text)) => match element.value?.plain() {
            Some(bytes) => Some(bytes == text.as_bytes()),
            None => Some(element.text().is_some_and(|found| *found == **text)),
        },
        (Item::Value(Value::String(mine)), Value::String(text)) => Some(**mine == **text),
        _ => equal(item, &Item::Value(value.clone()), eval.scope.schema),
    }
}

fn order_values(left: &Value<'_>, right: &Value<'_>) -> Done<Option<Ordering>> {
    Ok(match (left, right) {
        (Value::String(left), Value::String(right)) => Some((**left).cmp(&**right)),
        (Value::Date(left) | Value::DateTime(left), Value::Date(right) | Value::DateTime(right))
        | (Value::Time(left), Value::Time(right)) => left.compare(right),
        (Value::Quantity(left), Value::Quantity(right)) => left.compare(right),
        (Value::Quantity(left), number) if number.number().is_some() => {
            let Some(Value::Quantity(right)) = convert::to_quantity(number) else { return Ok(None) };
            left.compare(&right)
        }
        (number, Value::Quantity(right)) if number.number().is_some() => {
            let Some(Value::Quantity(left)) = convert::to_quantity(number) else { return Ok(None) };
            left.compare(right)
        }
        _ => match (left.number(), right.number()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => return Err(Failure::Type("a comparison")),
        },
    })
}
