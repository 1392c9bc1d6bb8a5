//! Detects the FHIR version from the spelling of the MessageHeader (MSG-20, VER-06), before the tree is built.
//!
//! For JSON, `spelling` does the same on the tree; here the result only decides which definitions shape the tree.

use super::super::version::FhirVersion;
use super::document::Document;

/// The versions that the elements of the header belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// An element occurs that only R4 and R4B have.
    pub is_r4: bool,
    /// An element occurs that only R5 has.
    pub is_r5: bool,
}

impl Hints {
    /// The hints of a Bundle whose first entry is a MessageHeader; none for anything else.
    pub(super) fn of(document: &Document<'_>) -> Hints {
        let below = |index: u32, name: &str| document.child(index, name);
        let entry = below(0, "entry").and_then(|entry| below(entry, "resource"));
        let Some(header) = entry.and_then(|resource| below(resource, "MessageHeader")) else { return Hints::default() };
        let mut hints = Hints {
            is_r4: below(header, "eventUri").or_else(|| below(header, "enterer")).is_some(),
            is_r5: below(header, "eventCanonical").is_some(),
        };
        for child in document.children(header) {
            let Some(element) = document.elements.get(child as usize) else { continue };
            if matches!(document.name(element), b"source" | b"destination") {
                hints.is_r4 |= below(child, "endpoint").is_some();
                hints.is_r5 |= below(child, "endpointUrl").or_else(|| below(child, "endpointReference")).is_some();
            }
        }
        let identifier = below(header, "response").and_then(|response| below(response, "identifier"));
        if let Some(element) = identifier.and_then(|index| document.elements.get(index as usize)) {
            hints.is_r4 |= element.value.is_some();
            hints.is_r5 |=
                identifier.is_some_and(|index| below(index, "value").or_else(|| below(index, "system")).is_some());
        }
        hints
    }

    /// The version to read the document as: the declared one, else the expected one if it fits, else what the header
    /// looks like.
    pub fn version(self, declared: Option<FhirVersion>, expected: Option<FhirVersion>) -> FhirVersion {
        let is_r5 = match (self.is_r4, self.is_r5) {
            (true, false) => false,
            (false, true) => true,
            _ => return declared.or(expected).unwrap_or(FhirVersion::R4),
        };
        let fits = |version: &FhirVersion| (*version == FhirVersion::R5) == is_r5;
        let shape = if is_r5 { FhirVersion::R5 } else { FhirVersion::R4 };
        declared.or(expected.filter(fits)).unwrap_or(shape)
    }
}
