//! The definition of an extension in the base packages.

use super::{ConstraintId, ElementType, ValueSetId};
use serde::{Deserialize, Serialize};

/// The definition of an extension.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExtensionDef {
    /// The url; for a nested extension the name that its `url` has.
    pub url: Box<str>,
    /// Where it may be used; empty: anywhere. Nested extensions have none.
    pub contexts: Vec<Context>,
    /// Expressions that must be true on the element that has the extension, which is `%extension`.
    pub context_invariants: Vec<Box<str>>,
    /// The types of `value[x]`; empty: no value, only nested extensions.
    pub values: Vec<ElementType>,
    /// Whether a value is required; otherwise extensions may replace it.
    pub is_value_required: bool,
    /// The required binding of its value.
    pub binding: Option<ValueSetId>,
    /// The extensions within a complex extension.
    pub nested: Vec<ExtensionDef>,
    /// Its own constraints, beyond ext-1.
    pub constraints: Vec<ConstraintId>,
    /// The minimum number of occurrences within the extension that contains it.
    pub min: u16,
    /// The maximum number within one parent; `u16::MAX` is `*`.
    pub max: u16,
    /// Whether it is a modifier extension.
    pub is_modifier: bool,
}

/// Where an extension may be used.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Context {
    /// An element or type: `Patient.contact`, `Element`, `Resource`; also any specialization of it.
    Element(Box<str>),
    /// Within the extension with this url.
    Extension(Box<str>),
    /// By an expression.
    Fhirpath(Box<str>),
}
