//! For tests: a host that only knows its document, and documents from text.

use super::Host;
use emberpost_fhir::element::Element;
use emberpost_fhir::json;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::Tree;

/// Resolves within the document, knows the base profiles by their names, no value sets; its clock is fixed.
pub struct Alone<'t> {
    pub schema: &'static Schema,
    pub root: Element<'t>,
}

impl<'t> Host<'t> for Alone<'t> {
    fn resolve(&self, _from: Element<'t>, reference: &str) -> Option<Element<'t>> {
        let id = reference.strip_prefix('#')?;
        if id.is_empty() {
            return Some(self.root);
        }
        self.root.step(self.schema, "contained").find(|contained| {
            let found = contained.value.and_then(|node| node.get("id")).and_then(|node| node.text());
            found.as_deref() == Some(id)
        })
    }

    fn conforms_to(&self, element: Element<'t>, profile: &str) -> Option<bool> {
        let name = profile.strip_prefix("http://hl7.org/fhir/StructureDefinition/")?;
        Some(self.schema.is_a(element.type_id, self.schema.named(name)?))
    }

    fn now_us(&self) -> i64 {
        // 2024-05-01T10:00:00Z
        1_714_557_600_000_000
    }
}

/// A document that must be JSON.
pub fn tree(text: &str) -> Tree {
    json::parse(bytes::Bytes::copy_from_slice(text.as_bytes())).expect("the sample is JSON")
}
