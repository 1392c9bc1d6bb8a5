//! The StructureDefinitions at hand for one version of FHIR: found by canonical, and each laid over its chain as a draft.

use super::super::definition::{Definitions, age_of, split_canonical};
use super::draft::{Draft, shown};
use super::rules::{Context, ProfileId, ProfileRef};
use super::unused::Unused;
use emberpost_fhir::schema::{Schema, TypeId};
use emberpost_fhir::version::FhirVersion;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::sync::Arc;

/// Where the canonicals of the base specification begin.
pub(super) const BASE: &str = "http://hl7.org/fhir/StructureDefinition/";
/// How many profiles may stand between a profile and the base.
const CHAIN_LIMIT: usize = 32;
/// Most profiles of one version.
const PROFILES_LIMIT: usize = 20_000;

/// A profile as it was loaded.
pub(super) struct Source {
    pub resource: Arc<Value>,
    /// The file it came from.
    pub file: String,
    pub type_id: TypeId,
    /// Whether it was made for this very version, so that its mistakes are told.
    pub is_own: bool,
}

impl Source {
    pub fn url(&self) -> &str {
        self.resource["url"].as_str().unwrap_or_default()
    }

    pub fn canonical(&self) -> String {
        match self.resource["version"].as_str() {
            Some(version) => format!("{}|{version}", self.url()),
            None => self.url().to_owned(),
        }
    }
}

impl Source {
    /// Where the extension may stand.
    pub fn contexts(&self) -> Vec<Context> {
        let listed = self.resource["context"].as_array().into_iter().flatten();
        let context = |one: &Value| {
            let name = shown(one["expression"].as_str()?).into();
            Some(match one["type"].as_str()? {
                "element" => Context::Element(name),
                "extension" => Context::Extension(name),
                _ => Context::Expression,
            })
        };
        listed.filter_map(context).collect()
    }
}

pub(super) struct Library {
    pub schema: &'static Schema,
    pub sources: Vec<Source>,
    /// Of each url the newest first.
    by_url: FxHashMap<String, Vec<ProfileId>>,
    pub unused: Unused,
}

/// A profile laid over its chain.
pub(super) struct Drafted {
    pub draft: Draft,
    pub ancestors: Vec<ProfileId>,
    pub missing_base: Option<Box<str>>,
}

impl Library {
    /// The profiles of a version. The second value lists mistakes, each beginning with the file.
    pub fn new(schema: &'static Schema, definitions: &Definitions) -> (Library, Vec<String>) {
        let mut library =
            Library { schema, sources: Vec::new(), by_url: FxHashMap::default(), unused: Unused::default() };
        let mut mistakes = Vec::new();
        for (resource, file) in definitions.resources.iter().zip(&definitions.files) {
            if library.sources.len() >= PROFILES_LIMIT {
                mistakes.push(format!("{file}: more than {PROFILES_LIMIT} profiles; the rest is not read"));
                break;
            }
            match library.source(resource, file) {
                Ok(Some(source)) => library.add(source),
                Ok(None) => library.unused.add(resource, serves(resource, schema.version)),
                Err(mistake) => mistakes.push(format!("{file}: {mistake}")),
            }
        }
        library.sort();
        (library, mistakes)
    }

    /// Only what constrains a type of this version; logical models and new types govern no message.
    fn source(&self, resource: &Arc<Value>, file: &str) -> Result<Option<Source>, String> {
        let is_profile = resource["resourceType"] == "StructureDefinition" && resource["derivation"] == "constraint";
        if !is_profile || !serves(resource, self.schema.version) {
            return Ok(None);
        }
        let Some(url) = resource["url"].as_str() else { return Err("a StructureDefinition has no url".into()) };
        let name = resource["type"].as_str().unwrap_or_default();
        let name = name.strip_prefix(BASE).unwrap_or(name);
        match self.schema.named(name) {
            Some(type_id) => {
                let is_own = is_own(resource, self.schema.version);
                Ok(Some(Source { resource: resource.clone(), file: file.to_owned(), type_id, is_own }))
            }
            None if resource["kind"] == "logical" || !is_own(resource, self.schema.version) => Ok(None),
            None => Err(format!(
                "{} constrains {}, which is no type of FHIR {}",
                shown(url),
                shown(name),
                self.schema.version.full()
            )),
        }
    }

    fn add(&mut self, source: Source) {
        let id = ProfileId(u32::try_from(self.sources.len()).unwrap_or(u32::MAX));
        self.by_url.entry(source.url().to_owned()).or_default().push(id);
        self.sources.push(source);
    }

    fn sort(&mut self) {
        let sources = &self.sources;
        for ids in self.by_url.values_mut() {
            // What was made for this very version goes first.
            ids.sort_by(|a, b| {
                let (a, b) = (&sources[a.0 as usize], &sources[b.0 as usize]);
                b.is_own.cmp(&a.is_own).then_with(|| age_of(&b.resource, &a.resource))
            });
        }
    }

    /// Of each url its versions, the newest first.
    pub fn by_url(&self) -> &FxHashMap<String, Vec<ProfileId>> {
        &self.by_url
    }

    pub fn find(&self, canonical: &str) -> ProfileRef {
        find(self.schema, canonical, |url, version| {
            let same = |id: &&ProfileId| {
                self.source_of(**id).is_some_and(|one| fits(one.resource["version"].as_str(), version))
            };
            self.by_url.get(url)?.iter().find(same).copied()
        })
    }

    pub fn source_of(&self, id: ProfileId) -> Option<&Source> {
        self.sources.get(id.0 as usize)
    }

    /// The profile's whole chain in one draft. Mistakes without the file.
    pub fn drafted(&self, id: ProfileId) -> (Drafted, Vec<String>) {
        let mut mistakes = Vec::new();
        let (chain, missing_base) = self.chain(id, &mut mistakes);
        let Some(own) = self.source_of(id) else {
            return (Drafted { draft: Draft::default(), ancestors: Vec::new(), missing_base }, mistakes);
        };
        let mut drafted = Drafted { draft: Draft::root(self.schema, own.type_id), ancestors: Vec::new(), missing_base };
        let snapshot = elements(&own.resource, "snapshot");
        if let (Some(_), Some(snapshot)) = (&drafted.missing_base, snapshot) {
            // It holds what the missing bases ask, too.
            mistakes.extend(drafted.draft.overlay(self.schema, snapshot));
            drafted.missing_base = None;
        } else {
            for ancestor in chain.iter().rev().filter_map(|id| self.source_of(*id)) {
                let found = overlay(&mut drafted.draft, self.schema, &ancestor.resource);
                // The ancestor's own mistakes are told of it.
                if std::ptr::eq(ancestor, own) {
                    mistakes.extend(found);
                }
            }
        }
        drafted.ancestors = chain.get(1..).unwrap_or_default().to_vec();
        (drafted, mistakes)
    }

    /// The profile and those it constrains, nearest first, and the base that is not loaded.
    fn chain(&self, id: ProfileId, mistakes: &mut Vec<String>) -> (Vec<ProfileId>, Option<Box<str>>) {
        let mut chain = vec![id];
        while let Some(source) = chain.last().and_then(|last| self.source_of(*last)) {
            let Some(base) = source.resource["baseDefinition"].as_str() else { break };
            match self.find(base) {
                ProfileRef::Known(next) if chain.contains(&next) => {
                    mistakes.push(format!("{} is its own base, by way of {}", shown(self.url(id)), shown(base)));
                    break;
                }
                ProfileRef::Known(_) if chain.len() >= CHAIN_LIMIT => {
                    mistakes.push(format!("{} has more than {CHAIN_LIMIT} bases", shown(self.url(id))));
                    break;
                }
                ProfileRef::Known(next) => chain.push(next),
                ProfileRef::Base(_) | ProfileRef::BuiltIn => break,
                ProfileRef::Missing(canonical) => return (chain, Some(canonical)),
            }
        }
        (chain, None)
    }

    fn url(&self, id: ProfileId) -> &str {
        self.source_of(id).map_or("", Source::url)
    }
}

fn overlay(draft: &mut Draft, schema: &'static Schema, resource: &Value) -> Vec<String> {
    match elements(resource, "differential").or_else(|| elements(resource, "snapshot")) {
        Some(elements) => draft.overlay(schema, elements),
        None => vec!["the StructureDefinition has neither differential nor snapshot".to_owned()],
    }
}

fn elements<'v>(resource: &'v Value, view: &str) -> Option<&'v [Value]> {
    resource[view]["element"].as_array().map(Vec::as_slice).filter(|elements| !elements.is_empty())
}

/// What a canonical leads to, given how loaded ones are found by url and version.
pub(super) fn find(
    schema: &Schema,
    canonical: &str,
    loaded: impl Fn(&str, Option<&str>) -> Option<ProfileId>,
) -> ProfileRef {
    let (url, version) = split_canonical(canonical);
    if let Some(id) = loaded(url, version) {
        return ProfileRef::Known(id);
    }
    let base = url.strip_prefix(BASE).and_then(|name| schema.named(name)).map(|id| schema.def(id));
    if let Some(id) = base.and_then(|base| schema.named(&base.code)) {
        return ProfileRef::Base(id);
    }
    match schema.extension(url) {
        Some(_) => ProfileRef::BuiltIn,
        None => ProfileRef::Missing(shown(canonical).into()),
    }
}

pub(super) fn fits(has: Option<&str>, wanted: Option<&str>) -> bool {
    wanted.is_none() || has == wanted
}

/// Whether a definition applies to messages of a version; definitions for R4 serve R4B, too.
pub fn serves(resource: &Value, version: FhirVersion) -> bool {
    is_own(resource, version)
        || (version == FhirVersion::R4B && resource["fhirVersion"].as_str().is_some_and(|of| of.starts_with("4.0")))
}

fn is_own(resource: &Value, version: FhirVersion) -> bool {
    let begins = match version {
        FhirVersion::R4 => "4.0",
        FhirVersion::R4B => "4.3",
        FhirVersion::R5 => "5.0",
    };
    resource["fhirVersion"].as_str().is_none_or(|of| of.starts_with(begins))
}
