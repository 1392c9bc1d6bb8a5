//! MessageDefinitions and the resources beside them: what is loaded, and how it is found again.
//!
//! Relies on `load` for reading files and on `choose` for picking a message's definition. Holds no message.

use super::profile::{self, Profiles};
use emberpost_fhir::Event;
use emberpost_fhir::event::{Category, ResponseRequired};
use emberpost_fhir::version::FhirVersion;
use rustc_hash::FxHashSet;
use serde_json::Value;
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
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
    /// None: it applies to every version. The resource itself has no element that says so.
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

impl Definition {
    /// `url|version`, as far as it has them; a definition without url is named by its id.
    pub fn canonical(&self) -> String {
        let name = self.url.as_deref().or(self.id.as_deref()).unwrap_or("(a definition without url)");
        match &self.version {
            Some(version) => format!("{name}|{version}"),
            None => name.to_owned(),
        }
    }

    /// Whether `url` or `url|version` names this definition.
    pub fn is_named_by(&self, canonical: &str) -> bool {
        let (url, version) = split_canonical(canonical);
        self.url.as_deref() == Some(url) && version.is_none_or(|version| self.version.as_deref() == Some(version))
    }

    /// Total order of age: version numbers where both have them, else dates, else the version texts.
    fn age(&self, other: &Self) -> Ordering {
        let date = |definition: &Self| definition.resource["date"].as_str().unwrap_or_default().to_owned();
        match (version_numbers(self.version.as_deref()), version_numbers(other.version.as_deref())) {
            (Some(mine), Some(theirs)) => mine.cmp(&theirs),
            _ => date(self).cmp(&date(other)).then_with(|| self.version.cmp(&other.version)),
        }
    }
}

/// Everything loaded, by type, url and event.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    pub messages: Vec<Arc<Definition>>,
    /// Every other resource, as loaded.
    pub resources: Vec<Arc<Value>>,
    /// Of each of `resources` the file it came from.
    pub files: Vec<Arc<str>>,
    /// Positions in `messages`, every status and version.
    by_url: HashMap<String, Vec<usize>>,
    /// Positions in `messages`: active, of each url the newest.
    by_event: HashMap<Event, Vec<usize>>,
    /// Canonical urls of the other resources by type and url: the newest of each.
    by_type_and_url: HashMap<(String, String), usize>,
    /// Named in the allowedResponse of another definition.
    answers: HashSet<usize>,
    /// As `answers`, and of the same event: never taken for a request.
    answers_only: HashSet<usize>,
    /// What is not as it could be, each beginning with the file: packages that others need, profiles that cannot hold.
    pub notices: Vec<String>,
    /// The profiles of each version, where they were asked for.
    profiles: Option<Arc<[Profiles; 3]>>,
    /// Urls of the extensions that are defined, for R4, R4B and R5.
    extensions: [FxHashSet<Box<str>>; 3],
}

const VERSIONS: [FhirVersion; 3] = [FhirVersion::R4, FhirVersion::R4B, FhirVersion::R5];

impl Definitions {
    /// Reads, in JSON or XML, MessageDefinition, GraphDefinition, StructureDefinition, ValueSet, CodeSystem and OperationDefinition
    /// resources, one by one, in Bundles or in packages (`.tgz`); other resources and files are passed over. The second value lists every
    /// mistake, each beginning with the file's path; what has a mistake is left out.
    pub fn load(files: &[DefinitionFile]) -> (Definitions, Vec<String>) {
        super::load::load(files)
    }

    /// Compiles profiles, graphs and value sets for every version, so that level `profile` holds them; what cannot be
    /// compiled is left out, and among the notices.
    pub fn compile(&mut self) {
        let compiled = VERSIONS.map(|version| {
            let (profiles, mistakes) = Profiles::compile(self, version);
            let told: HashSet<String> = self.notices.iter().cloned().collect();
            self.notices.extend(mistakes.into_iter().filter(|mistake| !told.contains(mistake)));
            profiles
        });
        self.profiles = Some(Arc::new(compiled));
    }

    /// The compiled profiles of a version.
    pub fn profiles(&self, version: FhirVersion) -> Option<&Profiles> {
        let [r4, r4b, r5] = self.profiles.as_deref()?;
        Some(match version {
            FhirVersion::R4 => r4,
            FhirVersion::R4B => r4b,
            FhirVersion::R5 => r5,
        })
    }

    /// Urls of the extensions that are defined for a version, which take the place of those of the base packages.
    pub fn extensions(&self, version: FhirVersion) -> &FxHashSet<Box<str>> {
        let [r4, r4b, r5] = &self.extensions;
        match version {
            FhirVersion::R4 => r4,
            FhirVersion::R4B => r4b,
            FhirVersion::R5 => r5,
        }
    }

    /// The definition of this canonical: of `url|version` that one whatever its status, of `url` the newest active,
    /// else the newest (MSG-51).
    pub fn by_canonical(&self, canonical: &str) -> Option<&Arc<Definition>> {
        let (url, version) = split_canonical(canonical);
        let all = self.by_url.get(url)?.iter().map(|&index| &self.messages[index]);
        match version {
            Some(version) => all.filter(|one| one.version.as_deref() == Some(version)).max_by_key(|one| one.active),
            None => all.max_by(|a, b| a.active.cmp(&b.active).then_with(|| a.age(b))),
        }
    }

    /// The definition with this resource id, as `GET [base]/MessageDefinition/{id}` asks for it.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Definition>> {
        self.messages.iter().find(|one| one.id.as_deref() == Some(id))
    }

    /// The resource of this type and canonical; without `|version` the newest.
    pub fn resource(&self, resource_type: &str, canonical: &str) -> Option<&Arc<Value>> {
        let (url, version) = split_canonical(canonical);
        let newest = &self.resources[*self.by_type_and_url.get(&(resource_type.to_owned(), url.to_owned()))?];
        let is = |one: &Value| version.is_none_or(|version| one["version"] == version);
        if is(newest) {
            return Some(newest);
        }
        self.resources.iter().find(|one| one["resourceType"] == resource_type && one["url"] == url && is(one))
    }

    /// The events that an active definition names, in no order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.by_event.keys()
    }

    /// The definition of the single response that this request allows; None where it allows several, or an unknown one.
    pub fn allowed_response_definition(&self, request: &Definition) -> Option<&Arc<Definition>> {
        match request.allowed_responses.as_slice() {
            [only] => self.by_canonical(only),
            _ => None,
        }
    }

    /// The event of the single allowed response (MSG-38).
    pub fn allowed_response_event(&self, request: &Definition) -> Option<Event> {
        self.allowed_response_definition(request).map(|response| response.event.clone())
    }

    /// Active definitions of an event that a request, or a response, may be governed by; None where no definition
    /// names the event. R5 canonicals are compared with their version stripped as well (MSG-31, MSG-32).
    pub(super) fn candidates(&self, event: &Event, response: bool) -> Option<Vec<&Arc<Definition>>> {
        let found = self.by_event.get(event).or_else(|| match event {
            Event::Uri(uri) => self.by_event.get(&Event::Uri(uri.rsplit_once('|')?.0.to_owned())),
            Event::Coding { .. } => None,
        })?;
        let wanted =
            |index: &&usize| if response { self.answers.contains(index) } else { !self.answers_only.contains(index) };
        Some(found.iter().filter(wanted).map(|&index| &self.messages[index]).collect())
    }

    /// Builds the look-ups once everything is read.
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
                    // A definition that allows itself as its answer stays a request.
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

/// `url|version` in its two parts; a `#fragment` belongs to neither.
pub(super) fn split_canonical(canonical: &str) -> (&str, Option<&str>) {
    let whole = canonical.split_once('#').map_or(canonical, |(whole, _)| whole);
    whole.split_once('|').map_or((whole, None), |(url, version)| (url, Some(version)))
}

/// `1.10.2` as numbers; None for any other form.
fn version_numbers(version: Option<&str>) -> Option<Vec<u64>> {
    version?.split('.').map(|part| part.parse().ok()).collect()
}

/// Order of age of two versions of a resource: by version numbers where both have them, else by date.
pub(super) fn age_of(one: &Value, other: &Value) -> Ordering {
    let text = |resource: &Value, name: &str| resource[name].as_str().unwrap_or_default().to_owned();
    match (version_numbers(one["version"].as_str()), version_numbers(other["version"].as_str())) {
        (Some(mine), Some(theirs)) => mine.cmp(&theirs),
        _ => text(one, "date").cmp(&text(other, "date")),
    }
}
