//! MessageDefinitions and the other definitions: what is loaded, and the look-ups by canonical, id, and event.
//!
//! `load` reads the files, `choose` selects the definition of a message.

use super::profile::{self, Profiles};
use emberpost_fhir::Event;
use emberpost_fhir::event::{Category, ResponseRequired};
use emberpost_fhir::version::FhirVersion;
use rustc_hash::FxHashSet;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A definition file; the caller reads it. `path` appears in error texts.
#[derive(Clone, Debug)]
pub struct DefinitionFile {
    pub path: String,
    pub bytes: Vec<u8>,
}

/// A MessageDefinition of R4, R4B, or R5.
#[derive(Clone, Debug)]
pub struct Definition {
    pub id: Option<String>,
    pub url: Option<String>,
    pub version: Option<String>,
    /// The FHIR version it applies to; None: every version. A MessageDefinition has no element for this.
    pub fhir_version: Option<FhirVersion>,
    pub event: Event,
    pub category: Option<Category>,
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
    fn age(&self, other: &Self) -> Ordering {
        let date = |definition: &Self| definition.resource["date"].as_str().unwrap_or_default().to_owned();
        match (version_numbers(self.version.as_deref()), version_numbers(other.version.as_deref())) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs),
            _ => date(self).cmp(&date(other)).then_with(|| self.version.cmp(&other.version)),
        }
    }
}

/// All loaded definitions, indexed by type, URL, and event.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// The MessageDefinitions, as loaded.
    pub messages: Vec<Arc<Definition>>,
    /// The loaded resources of all other types.
    pub resources: Vec<Arc<Value>>,
    /// The source file of each of `resources`.
    pub files: Vec<Arc<str>>,
    /// Positions in `messages` by URL, all statuses and versions.
    by_url: HashMap<String, Vec<usize>>,
    /// Positions in `messages` by event: the newest active definition of each URL.
    by_event: HashMap<Event, Vec<usize>>,
    /// Canonical URLs of the other resources by type and URL: the newest of each.
    by_type_and_url: HashMap<(String, String), usize>,
    /// Definitions named in the allowedResponse of another definition.
    answers: HashSet<usize>,
    /// Subset of `answers` with the event of their request; never selected for a request.
    answers_only: HashSet<usize>,
    /// Notices, each beginning with the file: missing packages, and profiles that cannot be enforced.
    pub notices: Vec<String>,
    /// The compiled profiles of each version, if `compile` was called.
    profiles: Option<Arc<[Profiles; 3]>>,
    /// URLs of the loaded extension definitions, for R4, R4B, and R5.
    extensions: [FxHashSet<Box<str>>; 3],
}

const VERSIONS: [FhirVersion; 3] = [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];

impl Definitions {
    /// Reads MessageDefinition, GraphDefinition, StructureDefinition, ValueSet, CodeSystem, and OperationDefinition
    /// resources in JSON or XML: single ones, Bundles of them, and packages (`.tgz`). Other resources and files are
    /// skipped. The second value lists every error, each beginning with the file's path; a definition with an error
    /// is left out.
    pub fn load(files: &[DefinitionFile]) -> (Definitions, Vec<String>) {
        super::load::load(files)
    }

    /// Compiles profiles, graphs, and value sets for every version, so that level `profile` can enforce them. What
    /// cannot be compiled is left out and listed among the notices.
    pub fn compile(&mut self) {
        let compiled = VERSIONS.map(|version| {
            let (profiles, errors) = Profiles::compile(self, version);
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

    /// URLs of the extensions that loaded definitions define for a version; these override the base packages'
    /// definitions.
    pub fn extensions(&self, version: FhirVersion) -> &FxHashSet<Box<str>> {
        let [r4, r4b, r5] = &self.extensions;
        match version {
            FhirVersion::R4 => r4,
            FhirVersion::R4B => r4b,
            FhirVersion::R5 => r5,
        }
    }

    /// The definition with this canonical. `url|version` selects that version whatever its status; `url` selects the
    /// newest active version, else the newest (MSG-51).
    pub fn by_canonical(&self, canonical: &str) -> Option<&Arc<Definition>> {
        let (url, version) = split_canonical(canonical);
        let all = self.by_url.get(url)?.iter().map(|&index| &self.messages[index]);
        match version {
            Some(version) => all.filter(|one| one.version.as_deref() == Some(version)).max_by_key(|one| one.active),
            None => all.max_by(|a, b| a.active.cmp(&b.active).then_with(|| a.age(b))),
        }
    }

    /// The definition with this resource id, for `GET [base]/MessageDefinition/{id}`.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Definition>> {
        self.messages.iter().find(|one| one.id.as_deref() == Some(id))
    }

    /// The resource of this type and canonical; without `|version`, the newest.
    pub fn resource(&self, resource_type: &str, canonical: &str) -> Option<&Arc<Value>> {
        let (url, version) = split_canonical(canonical);
        let newest = &self.resources[*self.by_type_and_url.get(&(resource_type.to_owned(), url.to_owned()))?];
        let is = |one: &Value| version.is_none_or(|version| one["version"] == version);
        if is(newest) {
            return Some(newest);
        }
        self.resources.iter().find(|one| one["resourceType"] == resource_type && one["url"] == url && is(one))
    }

    /// The events of all active definitions, in no particular order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.by_event.keys()
    }

    /// The definition of the only response that this request allows; None if it allows several, or one that is not
    /// loaded.
    pub fn allowed_response_definition(&self, request: &Definition) -> Option<&Arc<Definition>> {
        match request.allowed_responses.as_slice() {
            [only] => self.by_canonical(only),
            _ => None,
        }
    }

    /// The event of the only allowed response (MSG-38).
    pub fn allowed_response_event(&self, request: &Definition) -> Option<Event> {
        self.allowed_response_definition(request).map(|response| response.event.clone())
    }

    /// The active definitions of an event that may govern a request, or a response; None if no definition names the
    /// event. R5 canonicals are also compared without their version (MSG-31, MSG-32).
    pub(super) fn candidates(&self, event: &Event, response: bool) -> Option<Vec<&Arc<Definition>>> {
        let found = self.by_event.get(event).or_else(|| match event {
            Event::Uri(uri) => self.by_event.get(&Event::Uri(uri.rsplit_once('|')?.0.to_owned())),
            Event::Coding { .. } => None,
        })?;
        let wanted =
            |index: &&usize| if response { self.answers.contains(index) } else { !self.answers_only.contains(index) };
        Some(found.iter().filter(wanted).map(|&index| &self.messages[index]).collect())
    }

    /// Builds the look-ups after all files are read.
    pub(super) fn index(messages: Vec<Arc<Definition>>, resources: Vec<(Arc<Value>, Arc<str>)>) -> Self {
        let (resources, files) = resources.into_iter().unzip();
        let mut definitions = Definitions { messages, resources, files, ..Definitions::default() };
        definitions.index_messages();
        definitions.index_answers();
        let is_extension = |resource: &&Arc<Value>| {
            resource["resourceType"] == "StructureDefinition"
                && resource["type"] == "Extension"
                && resource["derivation"] == "constraint"
        };
        for resource in definitions.resources.iter().filter(is_extension) {
            let Some(url) = resource["url"].as_str() else { continue };
            for (version, urls) in VERSIONS.into_iter().zip(&mut definitions.extensions) {
                if profile::serves(resource, version) {
                    urls.insert(url.into());
                }
            }
        }
        for (index, resource) in definitions.resources.iter().enumerate() {
            let (Some(kind), Some(url)) = (resource["resourceType"].as_str(), resource["url"].as_str()) else {
                continue;
            };
            let newest = definitions.by_type_and_url.entry((kind.to_owned(), url.to_owned())).or_insert(index);
            if age_of(resource, &definitions.resources[*newest]).is_gt() {
                *newest = index;
            }
        }
        definitions
    }

    fn index_messages(&mut self) {
        for (index, one) in self.messages.iter().enumerate() {
            if let Some(url) = &one.url {
                self.by_url.entry(url.clone()).or_default().push(index);
            }
        }
        for (index, one) in self.messages.iter().enumerate().filter(|(_, one)| one.active) {
            let newest = one.url.as_deref().and_then(|url| self.by_canonical(url));
            if newest.is_none_or(|newest| Arc::ptr_eq(newest, one)) {
                self.by_event.entry(one.event.clone()).or_default().push(index);
            }
        }
    }

    fn index_answers(&mut self) {
        for request in &self.messages {
            for canonical in &request.allowed_responses {
                let (url, _) = split_canonical(canonical);
                for &index in self.by_url.get(url).into_iter().flatten() {
                    let answer = &self.messages[index];
                    // A definition that allows itself as its response remains a request.
                    if answer.url == request.url || !answer.is_named_by(canonical) {
                        continue;
                    }
                    self.answers.insert(index);
                    if answer.event == request.event {
                        self.answers_only.insert(index);
                    }
                }
            }
        }
    }
}

/// Splits `url|version`; a `#fragment` belongs to neither part.
pub(super) fn split_canonical(canonical: &str) -> (&str, Option<&str>) {
    let whole = canonical.split_once('#').map_or(canonical, |(whole, _)| whole);
    whole.split_once('|').map_or((whole, None), |(url, version)| (url, Some(version)))
}

/// Parses `1.10.2` into numbers; None for any other format.
fn version_numbers(version: Option<&str>) -> Option<Vec<u64>> {
    version?.split('.').map(|part| part.parse().ok()).collect()
}

/// Orders two versions of a resource by age: by version number if both have one, else by date.
pub(super) fn age_of(one: &Value, other: &Value) -> Ordering {
    let text = |resource: &Value, name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    match (version_numbers(one["version"].as_str()), version_numbers(other["version"].as_str())) {
        (Some(mine), Some(theirs)) => mine.cmp(&theirs),
        _ => text(one, "date").cmp(&text(other, "date")),
    }
}
