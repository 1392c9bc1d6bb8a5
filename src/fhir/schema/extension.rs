//! An extension that the base packages define.

use super::{ElementType, ValueSetId};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub struct ExtensionDef {
    /// Of a nested extension the name that its `url` has.
    pub url: Box<str>,
    /// Where it may stand; empty: anywhere. Nested ones have none.
    pub contexts: Vec<Context>,
    /// The types of `value[x]`; empty: it has none, but nested extensions.
    pub values: Vec<ElementType>,
    /// Required binding of its value.
    pub binding: Option<ValueSetId>,
    pub nested: Vec<ExtensionDef>,
    pub min: u16,
    /// Most of them in one place; `u16::MAX` is `*`.
    pub max: u16,
    pub is_modifier: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Context {
    /// An element or type: `Patient.contact`, `Element`, `Resource`; any of what specialises it, too.
    Element(Box<str>),
    /// Within the extension of this url.
    Extension(Box<str>),
    /// By an expression.
    Fhirpath(Box<str>),
}
