//! The loaded definitions with their look-ups: by canonical, id, and event.

use super::canonical::{age_of, serves, split_canonical};
use super::message_definition::Definition;
use emberpost_fhir::Event;
use emberpost_fhir::version::FhirVersion;
use rustc_hash::FxHashSet;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The loaded definitions, indexed by type, URL, and event.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The MessageCatalog, as loaded.
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
    /// Catalog named in the allowedResponse of another definition.
    answers: HashSet<usize>,
    /// Subset of `answers` with the event of their request; never selected for a request.
    answers_only: HashSet<usize>,
    /// URLs of the loaded extension definitions, for R4, R4B, and R5.
    extensions: [FxHashSet<Box<str>>; 3],
}

impl Catalog {
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
    pub(crate) fn candidates(&self, event: &Event, response: bool) -> Option<Vec<&Arc<Definition>>> {
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
        let mut catalog = Catalog { messages, resources, files, ..Catalog::default() };
        catalog.index_messages();
        catalog.index_answers();
        let is_extension = |resource: &&Arc<Value>| {
            resource["resourceType"] == "StructureDefinition"
                && resource["type"] == "Extension"
                && resource["derivation"] == "constraint"
        };
        for resource in catalog.resources.iter().filter(is_extension) {
            let Some(url) = resource["url"].as_str() else { continue };
            for (version, urls) in FhirVersion::ALL.into_iter().zip(&mut catalog.extensions) {
                if serves(resource, version) {
                    urls.insert(url.into());
                }
            }
        }
        for (index, resource) in catalog.resources.iter().enumerate() {
            let (Some(kind), Some(url)) = (resource["resourceType"].as_str(), resource["url"].as_str()) else {
                continue;
            };
            let newest = catalog.by_type_and_url.entry((kind.to_owned(), url.to_owned())).or_insert(index);
            if age_of(resource, &catalog.resources[*newest]).is_gt() {
                *newest = index;
            }
        }
        catalog
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
