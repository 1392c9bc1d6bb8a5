//! FHIRPath (N1 with what FHIR adds): expressions compiled once, evaluated over elements of a tree.
//!
//! Pure: the clock and what lies outside the tree come in through `Host`. Bounded: an evaluation that takes more than
//! `STEP_LIMIT` steps fails.

use crate::fhir::element::Element;
use crate::fhir::schema::Schema;

/// What an expression may ask of the world around its document.
pub trait Host<'t> {
    /// `resolve()`: the resource that a reference leads to; `from` is the resource that holds the reference.
    fn resolve(&self, from: Element<'t>, reference: &str) -> Option<Element<'t>>;
    /// `memberOf()`: None when the value set cannot be checked.
    fn member_of(&self, element: Element<'t>, value_set: &str) -> Option<bool>;
    /// `conformsTo()`: None when the profile is unknown.
    fn conforms_to(&self, element: Element<'t>, profile: &str) -> Option<bool>;
    /// For `now()`, `today()`, `timeOfDay()`: microseconds since 1970 UTC.
    fn now_us(&self) -> i64;
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
