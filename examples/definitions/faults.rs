//! Published expressions that are known to be wrong, and what is used in their place.

use emberpost::fhir::FhirVersion;

struct Fault {
    version: FhirVersion,
    key: &'static str,
    published: &'static str,
    used: &'static str,
}

const FAULTS: [Fault; 0] = [];

/// The expression to use.
pub fn mended<'e>(version: FhirVersion, key: &str, published: &'e str) -> &'e str {
    let known = FAULTS.iter().find(|fault| fault.version == version && fault.key == key && fault.published == published);
    known.map_or(published, |fault| fault.used)
}
