//! Profiles that are loaded but cannot be used, with the reason: made for another FHIR version, not a constraint, or
//! loaded in another version than the one requested.

use super::Profiles;
use super::draft::shown;
use super::rules::ProfileRef;
use crate::definition::canonical::split_canonical;
use crate::definition::catalog::Catalog;
use crate::definition::message_definition::Definition;
use emberpost_fhir::version::FhirVersion;
use rustc_hash::FxHashMap;
use serde_json::Value;

/// The maximum number of profiles that one notice names.
const NAMES_LIMIT: usize = 5;

/// For each URL, why its profiles cannot be used for messages of one version.
#[derive(Debug, Default)]
pub(super) struct Unused {
    by_url: FxHashMap<Box<str>, Reason>,
}

#[derive(Clone, Debug)]
enum Reason {
    /// The FHIR version that it is made for, as written.
    OtherVersion(Box<str>),
    /// It defines a type of its own, or a model that does not apply to messages.
    NoConstraint,
}

impl Unused {
    /// Records a StructureDefinition that is skipped.
    pub fn add(&mut self, resource: &Value, serves: bool) {
        let Some(url) = resource["url"].as_str().filter(|_| resource["resourceType"] == "StructureDefinition") else {
            return;
        };
        let reason = match (serves, resource["fhirVersion"].as_str()) {
            (false, Some(version)) => Reason::OtherVersion(shown(version).into()),
            _ => Reason::NoConstraint,
        };
        self.by_url.insert(url.into(), reason);
    }
}

impl Profiles {
    /// Why a profile is not found, as a sentence without its subject; None: nothing with this url is loaded.
    pub(super) fn why_missing(&self, canonical: &str) -> Option<String> {
        let (url, wanted) = split_canonical(canonical);
        if let (Some(loaded), Some(wanted)) = (self.by_url.get(url), wanted) {
            let versions = loaded.iter().map(|(version, _)| version.as_deref().unwrap_or("without a version"));
            let versions = versions.take(NAMES_LIMIT).collect::<Vec<_>>().join(", ");
            return Some(format!("is loaded in the version {versions}, not in {}", shown(wanted)));
        }
        Some(match self.unused.by_url.get(url)? {
            Reason::OtherVersion(of) => {
                format!("is loaded, but for FHIR {of}, and the message is FHIR {}", self.schema.version.full())
            }
            Reason::NoConstraint => "is loaded, but it is not a constraint (derivation) on a type of FHIR".to_owned(),
        })
    }

    /// The profiles that message definitions require but that cannot be used although they are loaded. Profiles made
    /// for another FHIR version share one notice, since definitions often apply to several versions and their
    /// profiles to one.
    pub(super) fn unused_notices(&self, catalog: &Catalog) -> Vec<String> {
        let mut notices = Vec::new();
        let mut of_other_version: Vec<&str> = Vec::new();
        for definition in catalog.messages.iter().filter(|one| serves(one, self.schema.version)) {
            for canonical in definition.focus.iter().filter_map(|rule| rule.profile.as_deref()) {
                if !matches!(self.find(canonical), ProfileRef::Missing(_)) {
                    continue;
                }
                let reason = self.unused.by_url.get(split_canonical(canonical).0);
                match (reason, self.why_missing(canonical)) {
                    (Some(Reason::OtherVersion(_)), _) if of_other_version.contains(&canonical) => {}
                    (Some(Reason::OtherVersion(_)), _) => of_other_version.push(canonical),
                    (_, Some(why)) => notices.push(format!(
                        "{}: the focus profile {} {why}; its rules are not checked",
                        shown(&definition.canonical()),
                        shown(canonical)
                    )),
                    (_, None) => {}
                }
            }
        }
        if !of_other_version.is_empty() {
            let more = of_other_version.len().saturating_sub(NAMES_LIMIT);
            let names = of_other_version.iter().take(NAMES_LIMIT).map(|one| shown(one)).collect::<Vec<_>>().join(", ");
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notices.push(format!(
                "messages of FHIR {} are not checked against focus profiles that are loaded for another version: {names}{more}",
                self.schema.version.full()
            ));
        }
        notices
    }
}

fn serves(definition: &Definition, version: FhirVersion) -> bool {
    match definition.fhir_version {
        None => true,
        Some(FhirVersion::R4) => version != FhirVersion::R5,
        Some(of) => of == version,
    }
}
