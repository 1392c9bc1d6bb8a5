//! Boolean evaluation without building collections, and only as far as needed.

use super::super::Failure;
use super::super::ast::{Call, Expr, Operator};
use super::super::collection::Collection;
use super::super::function::Function;
use super::super::value::Item;
use super::{Done, Eval, Focus};
use emberpost_fhir::schema::TypeKind;

/// Functions that are evaluated here.
pub(super) fn is_boolean_function(function: Function) -> bool {
    matches!(
        function,
        Function::Exists
            | Function::Empty
            | Function::Not
            | Function::All
            | Function::AllTrue
            | Function::AnyTrue
            | Function::AllFalse
            | Function::AnyFalse
            | Function::Is
            | Function::HasValue
            | Function::StartsWith
            | Function::EndsWith
            | Function::Contains
            | Function::Matches
            | Function::MatchesFull
    )
}

impl<'t> Eval<'t> {
    /// The expression as a boolean: None if it has no result.
    pub(super) fn truth(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        match expr {
            Expr::And(all) => self.chain(all, false, focus),
            Expr::Or(all) => self.chain(all, true, focus),
            Expr::Binary(Operator::Xor, pair) => {
                let left = self.operand(&pair.0, focus)?;
                let right = self.operand(&pair.1, focus)?;
                Ok(left.zip(right).map(|(left, right)| left != right))
            }
            Expr::Binary(Operator::Implies, pair) => match self.operand(&pair.0, focus)? {
                Some(false) => Ok(Some(true)),
                Some(true) => self.operand(&pair.1, focus),
                None => Ok(self.operand(&pair.1, focus)?.filter(|right| *right)),
            },
            Expr::Binary(operator, pair) if !operator.calculates() => self.compared(*operator, &pair.0, &pair.1, focus),
            Expr::Is(of, name) => {
                let items = self.scoped(of, focus)?;
                let item = self.single(items, "is")?;
                Ok(item.map(|item| self.is_operator(&item, name)))
            }
            Expr::Call(call) if is_boolean_function(call.function) => self.answer(call, focus),
            _ => {
                let items = self.eval(expr, focus)?;
                self.boolean(&items, "a boolean operator")
            }
        }
    }

    fn operand(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let known = self.variables.len();
        let truth = self.truth(expr, focus);
        self.variables.truncate(known);
        truth
    }

    /// `and` ends at the first false, `or` at the first true.
    fn chain(&mut self, all: &[Expr], ends: bool, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let mut result = Some(!ends);
        for expr in all {
            match self.operand(expr, focus)? {
                Some(truth) if truth == ends => return Ok(Some(ends)),
                Some(_) => {}
                None => result = None,
            }
        }
        Ok(result)
    }

    fn answer(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        match (call.function, call.arguments.as_slice()) {
            (Function::Exists, [criteria]) => self.any_where(call, criteria, true, focus).map(Some),
            (Function::Exists, _) => self.any(call, focus).map(Some),
            (Function::Empty, _) => Ok(Some(!self.any(call, focus)?)),
            (Function::All, [criteria]) => Ok(Some(!self.any_where(call, criteria, false, focus)?)),
            (Function::Not, _) => self.not(call, focus),
            (Function::AllTrue, _) => Ok(Some(!self.any_boolean(call, false, focus)?)),
            (Function::AnyTrue, _) => Ok(Some(self.any_boolean(call, true, focus)?)),
            (Function::AllFalse, _) => Ok(Some(!self.any_boolean(call, true, focus)?)),
            (Function::AnyFalse, _) => Ok(Some(self.any_boolean(call, false, focus)?)),
            (Function::Is, _) => {
                let items = self.input(call, focus)?;
                let item = self.single(items, "is")?;
                Ok(item.zip(call.type_name.as_ref()).map(|(item, name)| self.is_type(&item, name)))
            }
            (Function::HasValue, _) => self.has_value(call, focus).map(Some),
            _ => self.text_test(call, focus),
        }
    }

    /// Whether there is an item.
    fn any(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<bool> {
        match &call.input {
            Some(input) => self.any_item(input, focus),
            None => Ok(!focus.this.is_empty()),
        }
    }

    fn any_item(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<bool> {
        if let Expr::Union(all) = expr {
            // Duplicates do not matter here.
            for one in all {
                if self.any_item(one, focus)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let mut found = false;
        self.each_of(expr, focus, &mut |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    /// Whether the criteria are true (for `all`: not true) for an item.
    fn any_where(&mut self, call: &Call, criteria: &Expr, wanted: bool, focus: Focus<'_, 't>) -> Done<bool> {
        let mut found = false;
        let mut index = -1;
        self.each_input(call, focus, &mut |eval, item| {
            index += 1;
            let this = Collection::One(item);
            found = (eval.criteria(criteria, focus.with(&this, index))? == Some(true)) == wanted;
            Ok(!found)
        })?;
        Ok(found)
    }

    fn any_boolean(&mut self, call: &Call, wanted: bool, focus: Focus<'_, 't>) -> Done<bool> {
        let mut found = false;
        let name = call.function.name();
        self.each_input(call, focus, &mut |_, item| {
            found |= item.boolean().ok_or(Failure::Type(name))? == wanted;
            Ok(true)
        })?;
        Ok(found)
    }

    fn not(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Option<bool>> {
        let truth = match &call.input {
            Some(input) => self.truth(input, focus)?,
            None => self.boolean(focus.this, "not")?,
        };
        Ok(truth.map(|truth| !truth))
    }

    /// Whether there is a single item, a primitive with a value.
    fn has_value(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<bool> {
        let (mut count, mut has) = (0, false);
        self.each_input(call, focus, &mut |eval, item| {
            count += 1;
            has = match item {
                Item::Element(element) => {
                    let def = element.def(eval.scope.schema);
                    element.value.is_some() && matches!(def.kind, TypeKind::Primitive(_))
                }
                Item::Value(_) => true,
            };
            Ok(count < 2)
        })?;
        Ok(count == 1 && has)
    }
}
