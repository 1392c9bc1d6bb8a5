//! A MessageDefinition, as messages are checked by it.

use super::canonical::{split_canonical, version_numbers};
use emberpost_fhir::Event;
use emberpost_fhir::event::{Category, ResponseRequired};
use emberpost_fhir::version::FhirVersion;
use serde_json::Value;
use std::cmp::Ordering;

/// A MessageDefinition of R4, R4B, or R5.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `MessageDefinition.id`.
    pub id: Option<String>,
    /// `MessageDefinition.url`, without a version.
    pub url: Option<String>,
    /// `MessageDefinition.version`.
    pub version: Option<String>,
    /// The FHIR version it applies to; None: every version. A MessageDefinition has no element for this.
    pub fhir_version: Option<FhirVersion>,
    /// The event that it governs.
    pub event: Event,
    /// How often a message may be processed (MSG-45).
    pub category: Option<Category>,
    /// When the sender wants a response (MSG-48).
    pub response_required: Option<ResponseRequired>,
    /// Rules on the types and numbers of focus resources.
    pub focus: Vec<FocusRule>,
    /// Canonicals as written.
    pub allowed_responses: Vec<String>,
    /// Whether its status is active.
    pub active: bool,
    /// The resource as loaded.
    pub resource: Value,
}

/// A rule of `MessageDefinition.focus`.
#[derive(Clone, Debug, PartialEq)]
pub struct FocusRule {
    /// The resource type.
    pub code: String,
    /// The canonical of a profile for these resources.
    pub profile: Option<String>,
    /// The minimum number of resources.
    pub min: u32,
    /// The maximum number of resources; None: unlimited.
    pub max: Option<u32>,
}

impl Definition {
    /// `url|version`, without the version if it has none. A definition without url is identified by its id.
    pub fn canonical(&self) -> String {
        let name = self.url.as_deref().or(self.id.as_deref()).unwrap_or("(a definition without url)");
        match &self.version {
            Some(version) => format!("{name}|{version}"),
            None => name.to_owned(),
        }
    }

    /// Whether `url` or `url|version` refers to this definition.
    pub fn is_named_by(&self, canonical: &str) -> bool {
        let (url, version) = split_canonical(canonical);
        self.url.as_deref() == Some(url) && version.is_none_or(|version| self.version.as_deref() == Some(version))
    }

    /// Orders definitions by age: by version number if both have one, else by date, else by version text.
    pub(super) fn age(&self, other: &Self) -> Ordering {
        let date = |definition: &Self| definition.resource["date"].as_str().unwrap_or_default().to_owned();
        match (version_numbers(self.version.as_deref()), version_numbers(other.version.as_deref())) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs),
            _ => date(self).cmp(&date(other)).then_with(|| self.version.cmp(&other.version)),
        }
    }
}
