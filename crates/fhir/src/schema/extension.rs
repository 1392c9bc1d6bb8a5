//! An extension that the base packages define.

use super::{ConstraintId, ElementType, ValueSetId};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub struct ExtensionDef {
    /// Of a nested extension the name that its `url` has.
    pub url: Box<str>,
    /// Where it may stand; empty: anywhere. Nested ones have none.
    pub contexts: Vec<Context>,
    /// Expressions that must hold where it stands, over the element that has it; `%extension` is the extension.
    pub context_invariants: Vec<Box<str>>,
    /// The types of `value[x]`; empty: it has none, but nested extensions.
    pub values: Vec<ElementType>,
    /// Else extensions may take the place of the value.
    pub is_value_required: bool,
    /// Required binding of its value.
    pub binding: Option<ValueSetId>,
    pub nested: Vec<ExtensionDef>,
    /// Its own, beyond ext-1.
    pub constraints: Vec<ConstraintId>,
    pub min: u16,
    /// Most of them in one place; `u16::MAX` is `*`.
    pub max: u16,
    pub is_modifier: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Context {
    /// An element or type: `Patient.contact`, `Element`, `Resource`; any of what specialises it, too.
    Element(Box<str>),
    /// Within the extension of this url.
    Extension(Box<str>),
    /// By an expression.
    Fhirpath(Box<str>),
}
