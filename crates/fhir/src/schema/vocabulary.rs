//! Every name that the base specification defines, in any version: what an expression may show to readers who may
//! not see the message.

use super::{FhirVersion, Schema};
use rustc_hash::FxHashSet;
use std::sync::OnceLock;

/// Functions and literals of FHIRPath in the expressions of issues, and an element of STU3's header.
const OTHERS: [&str; 5] = ["ofType", "resolve", "this", "where", "acknowledgement"];

/// Whether a name is that of an element, of a member in JSON, or of a type, in any version.
pub fn has(name: &str) -> bool {
    static NAMES: OnceLock<FxHashSet<Box<str>>> = OnceLock::new();
    let names = NAMES.get_or_init(names);
    names.contains(name.strip_prefix('_').unwrap_or(name)) || OTHERS.contains(&name)
}

fn names() -> FxHashSet<Box<str>> {
    let mut names = FxHashSet::default();
    for schema in [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5].map(Schema::of) {
        for found in &schema.types {
            names.extend(found.name.split('.').map(Box::from));
            names.insert(found.code.clone());
            for element in &found.elements {
                names.insert(element.name.clone());
                names.extend(element.types.iter().map(|of| element.member_name(schema, of).into_boxed_str()));
            }
        }
    }
    names.insert("resourceType".into());
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_versions_are_known_and_a_patients_is_not() {
        for name in
            ["Patient", "birthDate", "_birthDate", "valueQuantity", "value", "endpointUrl", "contact", "resourceType"]
        {
            assert!(has(name), "{name}");
        }
        for name in ["ZZPATIENTZZ", "Jane", "male", "", "_"] {
            assert!(!has(name), "{name}");
        }
    }
}
