//! FHIRPath as profiles use it: parsed once; failures are returned as sentences.

use emberpost_fhir::element::Element;
use emberpost_fhirpath::{self, Item, Scope};

#[derive(Debug)]
pub(super) struct Expression(emberpost_fhirpath::Expression);

impl Expression {
    pub fn parse(text: &str) -> Result<Expression, String> {
        emberpost_fhirpath::Expression::parse(text).map(Expression).map_err(|error| error.to_string())
    }

    /// The nesting depth of the expression.
    pub fn levels(&self) -> u32 {
        self.0.levels()
    }

    /// Whether a constraint is satisfied; None if it has no result. Errs with the reason why it cannot be evaluated.
    pub fn holds<'t>(&self, focus: Element<'t>, scope: &Scope<'t>) -> Result<Option<bool>, String> {
        self.0.holds(scope, focus).map_err(|failure| failure.to_string())
    }

    /// The elements that a path leads to.
    pub fn elements<'t>(&self, focus: Element<'t>, scope: &Scope<'t>) -> Result<Vec<Element<'t>>, String> {
        let found = self.0.evaluate(scope, focus).map_err(|failure| failure.to_string())?;
        let element = |item: &Item<'t>| match item {
            Item::Element(element) => Some(*element),
            Item::Value(_) => None,
        };
        Ok(found.items().iter().filter_map(element).collect())
    }
}
