//! MessageDefinitions and the resources beside them.

use crate::fhir::Event;
use crate::fhir::event::{Category, ResponseRequired};
use crate::fhir::version::FhirVersion;
use serde_json::Value;
use std::sync::Arc;

/// A file of `message-definitions/`, read by the caller.
#[derive(Clone, Debug)]
pub struct DefinitionFile {
    pub path: String,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Definition {
    pub id: Option<String>,
    pub url: Option<String>,
    pub version: Option<String>,
    pub fhir_version: Option<FhirVersion>,
    pub event: Event,
    pub category: Option<Category>,
    pub response_required: Option<ResponseRequired>,
    pub focus: Vec<FocusRule>,
    /// Canonicals, as written.
    pub allowed_responses: Vec<String>,
    pub active: bool,
    pub resource: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FocusRule {
    pub code: String,
    pub profile: Option<String>,
    pub min: u32,
    /// None: any number.
    pub max: Option<u32>,
}

/// Everything loaded, by type, url and event.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    pub messages: Vec<Arc<Definition>>,
    /// Every other resource, as loaded.
    pub resources: Vec<Arc<Value>>,
}

impl Definitions {
    /// Reads the files; the second value lists every mistake with its path.
    pub fn load(_files: &[DefinitionFile]) -> (Definitions, Vec<String>) {
        (Definitions::default(), Vec::new())
    }

    /// The definition of this canonical (`url` or `url|version`).
    pub fn by_canonical(&self, _canonical: &str) -> Option<&Arc<Definition>> {
        None
    }
}
