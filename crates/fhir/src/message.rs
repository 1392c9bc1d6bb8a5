//! A message: a Bundle of type message with a MessageHeader first, read from a tree.
//!
//! `envelope` says whether it is one, `shape` of which version, `header` what it says. The message keeps its tree, and
//! answers questions about its entries and references from it. It does not judge the content: that is `validation`.

use super::cause::Cause;
use super::envelope;
use super::event::Identifier;
use super::header::{self, Bounds, MessageHeader, Reader};
use super::identity::{self, IdentityKeys};
use super::issue::Issue;
use super::resolve;
pub use super::resolve::entries_of;
pub use super::resolve::{Index, Resolved};
use super::shape;
use super::tree::{Node, Tree};
use super::version::FhirVersion;
use std::borrow::Cow;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Message {
    pub tree: Arc<Tree>,
    pub version: FhirVersion,
    pub header: MessageHeader,
    pub bundle_id: Option<String>,
    pub bundle_identifier: Option<Identifier>,
    /// What reading found without giving up: the tree's notes, wrong types in the envelope and header, Endpoints that
    /// are not there. For the validator to report.
    pub notes: Vec<Issue>,
}

impl Message {
    /// Reads the envelope. `said` is the media type's fhirVersion, `expected` the participant's.
    /// Errs with everything that makes it no message Bundle at all, or one of another version (HTTP 400); of a message of
    /// STU3 with that alone.
    pub fn read(
        tree: impl Into<Arc<Tree>>,
        said: Option<FhirVersion>,
        expected: Option<FhirVersion>,
    ) -> Result<Message, Vec<Issue>> {
        Message::read_within(tree, said, expected, None)
    }

    /// The same, with bounds of what is routed on and stored: errs also with every element that is beyond them.
    pub fn read_within(
        tree: impl Into<Arc<Tree>>,
        said: Option<FhirVersion>,
        expected: Option<FhirVersion>,
        bounds: Option<Bounds>,
    ) -> Result<Message, Vec<Issue>> {
        let tree = tree.into();
        if let Some(issue) = shape::stu3(&tree) {
            return Err(vec![issue]);
        }
        let mut refused = envelope::check(&tree);
        let header = resolve::entries(&tree).next().and_then(|entry| entry.get("resource"));
        let header = header.filter(|header| resolve::text(*header, "resourceType").as_deref() == Some("MessageHeader"));
        let shape = header.map(|header| shape::version(header, said, expected));
        let (version, mixed) = match shape {
            Some(Ok(found)) => found,
            Some(Err(issue)) => {
                refused.push(issue);
                return Err(refused);
            }
            None => return Err(refused),
        };
        let Some(header) = header.filter(|_| refused.is_empty()) else { return Err(refused) };
        let mut notes: Vec<Issue> = tree.notes.iter().cloned().chain(mixed).collect();
        let mut reader = Reader::new(&tree, &mut notes, bounds);
        let read = header::read(&mut reader, header);
        let bundle_id = reader.bounded_text(tree.root(), "id", "Bundle").map(Cow::into_owned);
        let bundle_identifier = reader.object(tree.root(), "identifier", "Bundle");
        let bundle_identifier =
            bundle_identifier.and_then(|node| reader.identifier(node, format_args!("Bundle.identifier")));
        if !reader.refused.is_empty() {
            return Err(reader.refused);
        }
        let left_out = reader.left_out;
        if left_out > 0 {
            notes.push(Issue::left_out(left_out, Cause::Structure));
        }
        Ok(Message { version, header: read, bundle_id, bundle_identifier, notes, tree })
    }

    /// Why a document is a message of STU3, which is not read.
    pub fn stu3(tree: &Tree) -> Option<Issue> {
        shape::stu3(tree)
    }

    /// The entries of the Bundle in order, each with `fullUrl` and `resource`.
    pub fn entries(&self) -> impl Iterator<Item = Node<'_>> {
        resolve::entries(&self.tree)
    }

    /// The resource of an entry, if it is an object.
    pub fn entry_resource(&self, index: usize) -> Option<Node<'_>> {
        self.entries().nth(index)?.get("resource").filter(|resource| resource.is_object())
    }

    pub fn full_url(&self, index: usize) -> Option<String> {
        resolve::text(self.entries().nth(index)?, "fullUrl")
    }

    /// The UUID in the `fullUrl` of the header's entry, in lower case: `urn:uuid:…`, or `…/MessageHeader/…`.
    pub fn header_uuid(&self) -> Option<String> {
        const HYPHENATED: usize = 36;
        let url = self.full_url(0)?;
        let uuid = url.get(url.len().checked_sub(HYPHENATED)?..)?;
        let before = url.get(..url.len() - HYPHENATED)?.to_ascii_lowercase();
        let is_one = before == "urn:uuid:" || before.ends_with("/messageheader/");
        (is_one && uuid::Uuid::try_parse(uuid).is_ok()).then(|| uuid.to_ascii_lowercase())
    }

    /// The resource that a reference of the header (entry 0) names, looked up in the Bundle only (MSG-16, MSG-17).
    pub fn resolve(&self, reference: &str) -> Resolved<'_> {
        self.resolve_from(0, reference)
    }

    /// The same for a reference that stands in another entry's resource.
    pub fn resolve_from(&self, entry: usize, reference: &str) -> Resolved<'_> {
        resolve::resolve(&self.tree, entry, reference).0
    }

    /// Whether there is anything by which a repeat could be recognised.
    pub fn has_identity(&self) -> bool {
        self.bundle_id.is_some() || self.bundle_identifier.is_some() || self.header.id.is_some()
    }

    /// The keys and content by which a repeat is known (MSG-60 to MSG-62).
    pub fn identity(&self) -> IdentityKeys {
        identity::keys(self)
    }

    /// Whom the message is about: the Patient that is the first focus, or that its `subject` or `patient` names, by its
    /// first identifier as `system|value`, else by the reference as written. None where there is no such Patient.
    pub fn subject_key(&self) -> Option<String> {
        let reference = self.header.focus.first().filter(|reference| !reference.is_empty())?;
        let (focus, entry) = resolve::resolve(&self.tree, 0, reference);
        let focus = focus.node()?;
        if is_patient(focus) {
            return Some(first_identifier(focus).unwrap_or_else(|| reference.clone()));
        }
        let subject =
            ["subject", "patient"].into_iter().filter_map(|name| focus.get(name)).find(|node| node.is_object())?;
        let Some(reference) = resolve::text(subject, "reference") else {
            return subject.get("identifier").and_then(header::identifier).map(|identifier| identifier.to_string());
        };
        match self.resolve_from(entry, &reference).node() {
            Some(patient) if is_patient(patient) => Some(first_identifier(patient).unwrap_or(reference)),
            // Groups, devices and places are no Patient.
            Some(_) => None,
            None => Some(reference),
        }
    }
}

fn is_patient(resource: Node<'_>) -> bool {
    resolve::text(resource, "resourceType").as_deref() == Some("Patient")
}

fn first_identifier(resource: Node<'_>) -> Option<String> {
    let mut identifiers = resource.get("identifier").into_iter().flat_map(Node::items);
    identifiers.find_map(header::identifier).map(|identifier| identifier.to_string())
}

#[cfg(test)]
mod tests;
