//! The definitions in force: what is loaded, and what is compiled from it.

use super::catalog::Catalog;
use super::load;
use super::package::DefinitionFile;
use crate::profile::Profiles;
use emberpost_fhir::version::FhirVersion;
use std::collections::HashSet;
use std::sync::Arc;

/// All definitions that messages are checked by.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// What is loaded.
    pub catalog: Catalog,
    /// Notices, each beginning with the file: missing packages, and profiles that cannot be enforced.
    pub notices: Vec<String>,
    /// The compiled profiles of each version, if `compile` was called.
    profiles: Option<Arc<[Profiles; 3]>>,
}

impl Definitions {
    /// Reads MessageDefinition, GraphDefinition, StructureDefinition, ValueSet, CodeSystem, and OperationDefinition
    /// resources in JSON or XML: single ones, Bundles of them, and packages (`.tgz`). Other resources and files are
    /// skipped. The second value lists every error, each beginning with the file's path; a definition with an error
    /// is left out.
    pub fn load(files: &[DefinitionFile]) -> (Definitions, Vec<String>) {
        let loaded = load::load(files);
        (Definitions { catalog: loaded.catalog, notices: loaded.notices, profiles: None }, loaded.errors)
    }

    /// Compiles profiles, graphs, and value sets for every version, so that level `profile` can enforce them. What
    /// cannot be compiled is left out and listed among the notices.
    pub fn compile(&mut self) {
        let compiled = FhirVersion::ALL.map(|version| {
            let (profiles, errors) = Profiles::compile(&self.catalog, version);
            let told: HashSet<String> = self.notices.iter().cloned().collect();
            self.notices.extend(errors.into_iter().filter(|error| !told.contains(error)));
            profiles
        });
        self.profiles = Some(Arc::new(compiled));
    }

    /// The compiled profiles of a version; None before `compile`.
    pub fn profiles(&self, version: FhirVersion) -> Option<&Profiles> {
        let [r4, r4b, r5] = self.profiles.as_deref()?;
        Some(match version {
            FhirVersion::R4 => r4,
            FhirVersion::R4B => r4b,
            FhirVersion::R5 => r5,
        })
    }
}
