//! The StructureDefinitions loaded for one FHIR version: found by canonical, each merged with its bases into a
//! draft.

use super::draft::{Draft, shown};
use super::rules::{Context, ProfileId, ProfileRef};
use super::unused::Unused;
use crate::definition::canonical::{age_of, is_own, serves, split_canonical};
use crate::definition::catalog::Catalog;
use emberpost_fhir::schema::{Schema, TypeId};
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::sync::Arc;

/// The base URL of the base specification's canonicals.
pub(super) const BASE: &str = "http://hl7.org/fhir/StructureDefinition/";
/// The maximum number of profiles between a profile and the base specification.
const CHAIN_LIMIT: usize = 32;
/// The maximum number of profiles of one version.
const PROFILES_LIMIT: usize = 20_000;

/// A profile as loaded.
pub(super) struct Source {
    pub resource: Arc<Value>,
    /// The file it was read from.
    pub file: String,
    pub type_id: TypeId,
    /// Whether it is made for exactly this version; only then are its errors reported.
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
    /// The contexts in which the extension may be used.
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
    /// The versions of each URL, newest first.
    by_url: FxHashMap<String, Vec<ProfileId>>,
    pub unused: Unused,
}

/// A profile merged with its bases.
pub(super) struct Drafted {
    pub draft: Draft,
    pub ancestors: Vec<ProfileId>,
    pub missing_base: Option<Box<str>>,
}

impl Library {
    /// Selects the profiles of a version. The second value lists errors, each beginning with the file.
    pub fn new(schema: &'static Schema, catalog: &Catalog) -> (Library, Vec<String>) {
        let mut library =
            Library { schema, sources: Vec::new(), by_url: FxHashMap::default(), unused: Unused::default() };
        let mut errors = Vec::new();
        for (resource, file) in catalog.resources.iter().zip(&catalog.files) {
            if library.sources.len() >= PROFILES_LIMIT {
                errors.push(format!("{file}: more than {PROFILES_LIMIT} profiles; the rest is not read"));
                break;
            }
            match library.source(resource, file) {
                Ok(Some(source)) => library.add(source),
                Ok(None) => library.unused.add(resource, serves(resource, schema.version)),
                Err(error) => errors.push(format!("{file}: {error}")),
            }
        }
        library.sort();
        (library, errors)
    }

    /// Only profiles that constrain a type of this version; logical models and new types do not apply to messages.
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
                "{} constrains {}, which is not a type of FHIR {}",
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
            // Profiles made for exactly this version come first.
            ids.sort_by(|a, b| {
                let (a, b) = (&sources[a.0 as usize], &sources[b.0 as usize]);
                b.is_own.cmp(&a.is_own).then_with(|| age_of(&b.resource, &a.resource))
            });
        }
    }

    /// The versions of each URL, newest first.
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

    /// Merges the profile's whole chain into one draft. Errors do not name the file.
    pub fn drafted(&self, id: ProfileId) -> (Drafted, Vec<String>) {
        let mut errors = Vec::new();
        let (chain, missing_base) = self.chain(id, &mut errors);
        let Some(own) = self.source_of(id) else {
            return (Drafted { draft: Draft::default(), ancestors: Vec::new(), missing_base }, errors);
        };
        let mut drafted = Drafted { draft: Draft::root(self.schema, own.type_id), ancestors: Vec::new(), missing_base };
        let snapshot = elements(&own.resource, "snapshot");
        if let (Some(_), Some(snapshot)) = (&drafted.missing_base, snapshot) {
            // The snapshot also includes what the missing bases require.
            errors.extend(drafted.draft.overlay(self.schema, snapshot));
            drafted.missing_base = None;
        } else {
            for ancestor in chain.iter().rev().filter_map(|id| self.source_of(*id)) {
                let found = overlay(&mut drafted.draft, self.schema, &ancestor.resource);
                // Errors in an ancestor are reported for the ancestor.
                if std::ptr::eq(ancestor, own) {
                    errors.extend(found);
                }
            }
        }
        drafted.ancestors = chain.get(1..).unwrap_or_default().to_vec();
        (drafted, errors)
    }

    /// The profile and its bases, nearest first, and the first base that is not loaded.
    fn chain(&self, id: ProfileId, errors: &mut Vec<String>) -> (Vec<ProfileId>, Option<Box<str>>) {
        let mut chain = vec![id];
        while let Some(source) = chain.last().and_then(|last| self.source_of(*last)) {
            let Some(base) = source.resource["baseDefinition"].as_str() else { break };
            match self.find(base) {
                ProfileRef::Known(next) if chain.contains(&next) => {
                    errors.push(format!("{} is its own base, through {}", shown(self.url(id)), shown(base)));
                    break;
                }
                ProfileRef::Known(_) if chain.len() >= CHAIN_LIMIT => {
                    errors.push(format!("{} has more than {CHAIN_LIMIT} bases", shown(self.url(id))));
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

/// Resolves a canonical, given a function that finds loaded profiles by url and version.
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
