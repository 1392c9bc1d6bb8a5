#![doc = include_str!("../README.md")]
//!
//! Reading order: `lexer`, `parser`, `ast`, `value`, then `eval`, which streams items from
//! step to step so that invariants, which mostly ask whether something is there, collect nothing.

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

/// Most steps of one evaluation: items looked at, copied or kept, functions called, every 16 bytes of text that is made,
/// decoded or compared.
pub const STEP_LIMIT: u32 = 2_000_000;
/// Most items of one collection. As each item that is kept takes a step, all that an evaluation holds at a time are
/// `STEP_LIMIT` at most.
pub const COLLECTION_LIMIT_ITEMS: usize = 200_000;
/// Longest text that a function or operator makes; texts of the document may be longer.
pub const TEXT_LIMIT_BYTES: usize = 4 * 1024 * 1024;
/// Longest expression, in bytes.
pub const LENGTH_LIMIT_BYTES: usize = 32 * 1024;
/// Deepest nesting of an expression; `and`, `or` and `|` in a row are one level.
pub const DEPTH_LIMIT_LEVELS: usize = 96;
/// Largest regular expression, compiled.
pub const REGEX_LIMIT_BYTES: usize = 1024 * 1024;

/// What an expression may ask of the world around its document. Who says nothing else knows nothing of it.
pub trait Host<'t> {
    /// `resolve()`: the resource that a reference leads to; `from` is the resource that holds the reference.
    fn resolve(&self, _from: Element<'t>, _reference: &str) -> Option<Element<'t>> {
        None
    }
    /// Called when a question has no answer here: `resolve()` of a reference that leads to nothing at hand, one without
    /// a literal included; `memberOf()` of a value set that cannot be checked; `htmlChecks()`.
    fn undecided(&self) {}
    /// `memberOf()`: None when the value set cannot be checked.
    fn member_of(&self, _element: Element<'t>, _value_set: &str) -> Option<bool> {
        None
    }
    /// `conformsTo()`: None when the profile is unknown.
    fn conforms_to(&self, _element: Element<'t>, _profile: &str) -> Option<bool> {
        None
    }
    /// For `now()`, `today()`, `timeOfDay()`: microseconds since 1970 UTC.
    fn now_us(&self) -> i64;
    /// Asked before each evaluation: how many steps it may take, if fewer than `STEP_LIMIT`.
    fn steps_left(&self) -> u32 {
        STEP_LIMIT
    }
    /// Told after each evaluation how many steps it took, for who bounds all evaluations of a document together.
    fn spent(&self, _steps: u32) {}
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub struct Scope<'t> {
    pub schema: &'static Schema,
    /// `%resource`: the resource that holds the focus; a contained one is its own.
    pub resource: Element<'t>,
    /// `%rootResource`: what contains a contained resource, else as `resource`.
    pub root: Element<'t>,
    pub host: &'t dyn Host<'t>,
}

/// An expression that was read; to be kept and evaluated many times, by any thread.
#[derive(Clone, Debug)]
pub struct Expression {
    expr: Expr,
    defines_variables: bool,
    memos: u16,
    levels: u32,
}

impl Expression {
    /// Reads an expression of at most `LENGTH_LIMIT_BYTES` and `DEPTH_LIMIT_LEVELS`. Unknown functions, wrong numbers
    /// of arguments and regular expressions that cannot be read are errors, too.
    pub fn parse(text: &str) -> Result<Expression, SyntaxError> {
        let parsed = parser::parse(text)?;
        let parser::Parsed { expr, defines_variables, memos, levels } = parsed;
        Ok(Expression { expr, defines_variables, memos, levels })
    }

    /// How deep it is nested, at most `DEPTH_LIMIT_LEVELS`.
    pub fn levels(&self) -> u32 {
        self.levels
    }

    /// Everything that the expression leads to from `focus`, in order. Items of the document stay elements.
    pub fn evaluate<'t>(&self, scope: &Scope<'t>, focus: Element<'t>) -> Result<Collection<'t>, Failure> {
        eval::evaluate(self, scope, focus)
    }

    /// Whether an invariant holds: None when the expression has no result; a single item that is no boolean is true.
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
