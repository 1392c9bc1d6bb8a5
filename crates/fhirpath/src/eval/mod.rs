//! Evaluation of expressions in three ways, of which each function uses the cheapest.
//!
//! `each` passes the items on one by one and stops when the receiver has enough; `truth` evaluates to a boolean
//! without building a collection; `eval` collects. Expressions with `defineVariable` are always collected, because
//! what follows a definition must not run before its scope is known.

mod account;
mod arithmetic;
mod compare;
mod dates;
mod descend;
mod encode;
mod equal;
mod functions;
mod lists;
mod math;
mod memo;
mod seen;
mod steps;
mod strings;
mod truth;
mod types;

use super::ast::{Expr, Operator};
use super::collection::Collection;
use super::value::{Item, Value};
use super::{Expression, Failure, STEP_LIMIT, Scope};
use emberpost_fhir::element::Element;
use memo::Memo;
use std::rc::Rc;

type Done<T> = Result<T, Failure>;

/// The values of `$this`, `$index`, and `$total`.
#[derive(Clone, Copy)]
struct Focus<'a, 't> {
    this: &'a Collection<'t>,
    index: i64,
    total: Option<&'a Collection<'t>>,
}

impl<'a, 't> Focus<'a, 't> {
    fn with(self, this: &'a Collection<'t>, index: i64) -> Focus<'a, 't> {
        Focus { this, index, total: self.total }
    }
}

struct Eval<'t> {
    scope: Scope<'t>,
    context: Element<'t>,
    steps: u32,
    /// The maximum number of steps.
    step_limit: u32,
    variables: Vec<(Box<str>, Collection<'t>)>,
    collects: bool,
    /// Whether this is within a function that evaluates an argument for each item.
    loops: u32,
    memos: Vec<Option<Rc<Memo<'t>>>>,
    memo_count: u16,
    /// The descendants of `%resource`, once they were needed; empty if there are too many to store.
    descendants: Option<Rc<Vec<Element<'t>>>>,
}

/// Takes an item; returns false if it needs no more.
type Sink<'s, 't> = &'s mut dyn FnMut(&mut Eval<'t>, Item<'t>) -> Done<bool>;

impl<'t> Eval<'t> {
    fn new(expression: &Expression, scope: &Scope<'t>, context: Element<'t>) -> Eval<'t> {
        Eval {
            scope: *scope,
            context,
            steps: 0,
            step_limit: STEP_LIMIT.min(scope.host.steps_left()),
            variables: Vec::new(),
            collects: expression.defines_variables,
            loops: 0,
            memos: Vec::new(),
            memo_count: expression.memos,
            descendants: None,
        }
    }

    /// All items.
    fn eval(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        self.spend(1)?;
        Ok(match expr {
            Expr::Empty => Collection::Empty,
            Expr::Literal(value) => Collection::One(Item::Value(value.clone())),
            Expr::This => self.copied(focus.this)?,
            Expr::Index => Collection::One(Item::Value(Value::Integer(focus.index))),
            Expr::Total => match focus.total {
                Some(total) => self.copied(total)?,
                None => Collection::Empty,
            },
            Expr::Resource => Collection::One(Item::Element(self.scope.resource)),
            Expr::RootResource => Collection::One(Item::Element(self.scope.root)),
            Expr::Context => Collection::One(Item::Element(self.context)),
            Expr::Variable(name) => self.variable(name)?,
            Expr::Start(_) | Expr::Member(..) | Expr::As(..) => self.collect(expr, focus)?,
            Expr::Call(call) if steps::streams(call.function) => self.collect(expr, focus)?,
            Expr::Call(call) if truth::is_boolean_function(call.function) => self.truth(expr, focus)?.into(),
            Expr::Call(call) => self.call(call, focus)?,
            Expr::At(pair) => self.at(&pair.0, &pair.1, focus)?,
            Expr::Sign(minus, of) => {
                let value = self.scoped(of, focus)?;
                self.sign(*minus, value)?
            }
            Expr::Union(all) => self.union(all, focus)?,
            Expr::Binary(operator, pair) if operator.calculates() => {
                let (left, right) = (self.scoped(&pair.0, focus)?, self.scoped(&pair.1, focus)?);
                self.calculate(*operator, left, right)?
            }
            Expr::And(_) | Expr::Or(_) | Expr::Is(..) | Expr::Binary(..) => self.truth(expr, focus)?.into(),
        })
    }

    fn collect(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let mut found = Collection::Empty;
        self.each(expr, focus, &mut |eval, item| {
            eval.keep(&mut found, item)?;
            Ok(true)
        })?;
        Ok(found)
    }

    /// The same for an operand or argument: variables that it defines end with it.
    fn scoped(&mut self, expr: &Expr, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let known = self.variables.len();
        let found = self.eval(expr, focus);
        self.variables.truncate(known);
        found
    }

    fn variable(&mut self, name: &str) -> Done<Collection<'t>> {
        let at = self.variables.iter().position(|known| *known.0 == *name).ok_or(Failure::Variable)?;
        let count = self.variables.get(at).map_or(0, |known| known.1.len());
        self.spend(count)?;
        Ok(self.variables.get(at).map(|known| known.1.clone()).unwrap_or_default())
    }

    fn at(&mut self, of: &Expr, index: &Expr, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let index = match index {
            Expr::Literal(Value::Integer(index)) => Some(*index),
            _ => {
                let index = self.scoped(index, focus)?;
                self.integer(&index, "[]")?
            }
        };
        let Some(index) = index.and_then(|index| usize::try_from(index).ok()) else { return Ok(Collection::Empty) };
        let mut passed = 0;
        let mut found = Collection::Empty;
        self.each_of(of, focus, &mut |_, item| {
            if passed == index {
                found = Collection::One(item);
                return Ok(false);
            }
            passed += 1;
            Ok(true)
        })?;
        Ok(found)
    }

    /// Errs if there is more than one item.
    fn single(&self, items: Collection<'t>, operation: &'static str) -> Done<Option<Item<'t>>> {
        match items {
            Collection::Empty => Ok(None),
            Collection::One(item) => Ok(Some(item)),
            Collection::Many(items) if items.len() < 2 => Ok(items.into_iter().next()),
            Collection::Many(_) => Err(Failure::Several(operation)),
        }
    }

    /// Errs if there is more than one item, or one that is not an integer.
    fn integer(&self, items: &Collection<'t>, operation: &'static str) -> Done<Option<i64>> {
        match items.items() {
            [] => Ok(None),
            [item] => match item.value(self.scope.schema) {
                Some(Value::Integer(number) | Value::Long(number)) => Ok(Some(number)),
                _ => Err(Failure::Argument(operation)),
            },
            _ => Err(Failure::Several(operation)),
        }
    }

    /// Singleton evaluation to a boolean: a single item that is not a boolean counts as true.
    fn boolean(&self, items: &Collection<'t>, operation: &'static str) -> Done<Option<bool>> {
        match items.items() {
            [] => Ok(None),
            [item] => Ok(Some(item.boolean().unwrap_or(true))),
            _ => Err(Failure::Several(operation)),
        }
    }
}

impl Operator {
    fn calculates(self) -> bool {
        matches!(
            self,
            Operator::Multiply
                | Operator::Divide
                | Operator::Div
                | Operator::Mod
                | Operator::Plus
                | Operator::Minus
                | Operator::Concatenate
        )
    }
}

pub(super) fn evaluate<'t>(
    expression: &Expression,
    scope: &Scope<'t>,
    focus: Element<'t>,
) -> Result<Collection<'t>, Failure> {
    let this = Collection::One(Item::Element(focus));
    let focus_of = Focus { this: &this, index: 0, total: None };
    let mut eval = Eval::new(expression, scope, focus);
    let found = eval.eval(&expression.expr, focus_of);
    scope.host.spent(eval.steps);
    found
}

pub(super) fn holds<'t>(
    expression: &Expression,
    scope: &Scope<'t>,
    focus: Element<'t>,
) -> Result<Option<bool>, Failure> {
    let this = Collection::One(Item::Element(focus));
    let focus_of = Focus { this: &this, index: 0, total: None };
    let mut eval = Eval::new(expression, scope, focus);
    let truth = eval.truth(&expression.expr, focus_of);
    scope.host.spent(eval.steps);
    truth
}
