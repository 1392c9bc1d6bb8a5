//! Canonicals, and which of several definitions is newer or applies to a version.

use emberpost_fhir::version::FhirVersion;
use serde_json::Value;
use std::cmp::Ordering;

/// Splits `url|version`; a `#fragment` belongs to neither part.
pub(crate) fn split_canonical(canonical: &str) -> (&str, Option<&str>) {
    let whole = canonical.split_once('#').map_or(canonical, |(whole, _)| whole);
    whole.split_once('|').map_or((whole, None), |(url, version)| (url, Some(version)))
}

/// Parses `1.10.2` into numbers; None for any other format.
pub(super) fn version_numbers(version: Option<&str>) -> Option<Vec<u64>> {
    version?.split('.').map(|part| part.parse().ok()).collect()
}

/// Orders two versions of a resource by age: by version number if both have one, else by date.
pub(crate) fn age_of(one: &Value, other: &Value) -> Ordering {
    let text = |resource: &Value, name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    match (version_numbers(one["version"].as_str()), version_numbers(other["version"].as_str())) {
        (Some(mine), Some(theirs)) => mine.cmp(&theirs),
        _ => text(one, "date").cmp(&text(other, "date")),
    }
}

/// Whether a definition applies to messages of a version; definitions for R4 also apply to R4B.
pub(crate) fn serves(resource: &Value, version: FhirVersion) -> bool {
    is_own(resource, version)
        || (version == FhirVersion::R4B && resource["fhirVersion"].as_str().is_some_and(|of| of.starts_with("4.0")))
}

/// Whether a definition is made for this version, or for none in particular.
pub(crate) fn is_own(resource: &Value, version: FhirVersion) -> bool {
    let begins = match version {
        FhirVersion::R4 => "4.0",
        FhirVersion::R4B => "4.3",
        FhirVersion::R5 => "5.0",
    };
    resource["fhirVersion"].as_str().is_none_or(|of| of.starts_with(begins))
}
