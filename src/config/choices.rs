//! Values that several sections share: the names of levels, FHIR versions, and other choices, and URLs.

use super::section::Section;
use crate::routing::address;
use fhir::FhirVersion;
use validation::{Level, OnFailure, ProseRules};

pub const LEVELS: &[(&str, Level)] =
    &[("message", Level::Message), ("structure", Level::Structure), ("profile", Level::Profile)];
pub const PROSE_RULES: &[(&str, ProseRules)] = &[("warning", ProseRules::Warning), ("error", ProseRules::Error)];
pub const ON_FAILURE: &[(&str, OnFailure)] = &[("reject", OnFailure::Reject), ("report", OnFailure::Report)];

/// FHIR versions as configuration spells them.
pub const FHIR_VERSIONS: &[(&str, FhirVersion)] =
    &[("4.0", FhirVersion::R4), ("4.3", FhirVersion::R4B), ("5.0", FhirVersion::R5)];

/// An http or https URL with a host and without query or fragment, as written.
pub fn http_url(section: &Section, key: &str, text: String) -> Option<String> {
    let parsed =
        reqwest::Url::parse(&text).ok().filter(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
    match parsed {
        None => section.none(key, "must be an http or https URL such as https://host.example.org/fhir"),
        Some(_) if address::flaw(&text).is_some() => {
            section.none(key, "must be a URL without dot segments, empty segments, percent-encoded slashes, back slashes, and control characters")
        }
        Some(url) if url.query().is_some() || url.fragment().is_some() => {
            section.none(key, "must be a URL without query and fragment")
        }
        Some(_) => Some(text),
    }
}
