#![warn(missing_docs)]
#![doc = include_str!("../README.md")]
//!
//! Reading order: `lexer`, `parser`, `ast`, `value`, then `eval`, which streams items from step to step, so that
//! invariants that only test whether something is present collect nothing.

mod ast;
mod collection;
mod constant;
mod convert;
mod eval;
mod failure;
mod function;
mod lexer;
mod parser;
mod value;

pub use collection::Collection;
pub use failure::{Failure, SyntaxError};
pub use value::{DateTime, Item, Precision, Quantity, Text, Unit, Value};

use ast::Expr;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::Schema;

/// The maximum number of steps of one evaluation: items read, copied, or stored, functions called, and every 16
/// bytes of text created, decoded, or compared.
pub const STEP_LIMIT: u32 = 2_000_000;
/// The maximum number of items in one collection. Because each stored item takes a step, an evaluation never stores
/// more than `STEP_LIMIT` items in total.
pub const COLLECTION_LIMIT_ITEMS: usize = 200_000;
/// The maximum length of a text that a function or operator creates; texts of the document may be longer.
pub const TEXT_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// The maximum length of an expression, in bytes.
pub const LENGTH_LIMIT_BYTES: usize = 32 * 1024;
/// The maximum nesting of an expression; a chain of `and`, `or`, or `|` is one level.
pub const DEPTH_LIMIT_LEVELS: usize = 96;
/// The maximum size of a compiled regular expression, in bytes.
pub const REGEX_LIMIT_BYTES: usize = 1024 * 1024;

/// What an expression may query outside of its document. The default methods know nothing.
pub trait Host<'t> {
    /// `resolve()`: the resource that a reference refers to; `from` is the resource that has the reference.
    fn resolve(&self, _from: Element<'t>, _reference: &str) -> Option<Element<'t>> {
        None
    }
    /// Called if the result of a function is unknown: `resolve()` of a reference whose target is not available, or
    /// that has no literal; `memberOf()` of a value set that cannot be checked; `htmlChecks()`.
    fn undecided(&self) {}
    /// `memberOf()`: None if the value set cannot be checked.
    fn member_of(&self, _element: Element<'t>, _value_set: &str) -> Option<bool> {
        None
    }
    /// `conformsTo()`: None if the profile is unknown.
    fn conforms_to(&self, _element: Element<'t>, _profile: &str) -> Option<bool> {
        None
    }
    /// The time for `now()`, `today()`, and `timeOfDay()`, in microseconds since 1970 UTC.
    fn now_us(&self) -> i64;
    /// Called before each evaluation: the number of steps it may take, if fewer than `STEP_LIMIT`.
    fn steps_left(&self) -> u32 {
        STEP_LIMIT
    }
    /// Called after each evaluation with the number of steps it took, for hosts that limit all evaluations of a
    /// document together.
    fn spent(&self, _steps: u32) {}
}

/// The context of an evaluation.
#[derive(Clone, Copy)]
pub struct Scope<'t> {
    /// The definitions of the FHIR version.
    pub schema: &'static Schema,
    /// `%resource`: the resource that contains the focus; for a contained resource, itself.
    pub resource: Element<'t>,
    /// `%rootResource`: the container of a contained resource, else the same as `resource`.
    pub root: Element<'t>,
    /// Provides what is outside of the document.
    pub host: &'t dyn Host<'t>,
}

/// A parsed expression, to be evaluated many times by any thread.
#[derive(Clone, Debug)]
pub struct Expression {
    expr: Expr,
    defines_variables: bool,
    memos: u16,
    levels: u32,
}

impl Expression {
    /// Parses an expression of at most `LENGTH_LIMIT_BYTES` and `DEPTH_LIMIT_LEVELS`. Unknown functions, wrong
    /// numbers of arguments, and invalid regular expressions are errors, too.
    pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
        let parsed = parser::parse(text)?;
        let parser::Parsed { expr, defines_variables, memos, levels } = parsed;
        Ok(Expression { expr, defines_variables, memos, levels })
    }

    /// The nesting depth, at most `DEPTH_LIMIT_LEVELS`.
    pub fn levels(&self) -> u32 {
        self.levels
    }

    /// Evaluates the expression on `focus`; items in order. Items of the document stay elements.
    pub fn evaluate<'t>(&self, scope: &Scope<'t>, focus: Element<'t>) -> Result<Collection<'t>, Failure> {
        eval::evaluate(self, scope, focus)
    }

    /// Evaluates an invariant: None if the expression has no result; a single item that is not a boolean counts as
    /// true.
    pub fn holds<'t>(&self, scope: &Scope<'t>, focus: Element<'t>) -> Result<Option<bool>, Failure> {
        eval::holds(self, scope, focus)
    }
}

#[cfg(test)]
mod constraint_tests;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;
