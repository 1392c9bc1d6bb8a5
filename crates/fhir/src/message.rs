//! A message: a Bundle of type message whose first entry is a MessageHeader, read from a tree.
//!
//! `envelope` checks whether it is one, `spelling` detects its version, `header` reads its header. The message keeps
//! its tree and finds entries and references in it. The content is checked by `validation`.

use super::cause::Cause;
use super::envelope;
use super::event::Identifier;
use super::header::{self, Bounds, MessageHeader, Reader};
use super::identity::{self, IdentityKeys};
use super::issue::Issue;
use super::resolve;
pub use super::resolve::entries_of;
pub use super::resolve::{Index, Resolved};
use super::spelling;
use super::tree::{Node, Tree};
use super::version::FhirVersion;
use std::borrow::Cow;
use std::sync::Arc;

/// A message Bundle with its header.
#[derive(Clone, Debug)]
pub struct Message {
    /// The whole document.
    pub tree: Arc<Tree>,
    /// The version as which the message is read.
    pub version: FhirVersion,
    /// The header in entry 0.
    pub header: MessageHeader,
    /// `Bundle.id`.
    pub bundle_id: Option<String>,
    /// `Bundle.identifier`.
    pub bundle_identifier: Option<Identifier>,
    /// What reading found but did not refuse: the tree's notes, wrong types in the envelope and header, missing
    /// Endpoints. The validator reports them.
    pub notes: Vec<Issue>,
}

impl Message {
    /// Reads the envelope and the header. `declared` is the fhirVersion of the media type, `expected` the
    /// participant's version.
    ///
    /// # Errors
    /// Everything that makes it not a message Bundle, or one of another version (HTTP 400); for a message of STU3,
    /// that alone.
    pub fn read(
        tree: impl Into<Arc<Tree>>,
        declared: Option<FhirVersion>,
        expected: Option<FhirVersion>,
    ) -> Result<Message, Vec<Issue>> {
        Message::read_within(tree, declared, expected, None)
    }

    /// The same, with bounds on what is used for routing and stored; errs also with every element that exceeds them.
    pub fn read_within(
        tree: impl Into<Arc<Tree>>,
        declared: Option<FhirVersion>,
        expected: Option<FhirVersion>,
        bounds: Option<Bounds>,
    ) -> Result<Message, Vec<Issue>> {
        let tree = tree.into();
        if let Some(issue) = spelling::stu3(&tree) {
            return Err(vec![issue]);
        }
        let mut refused = envelope::check(&tree);
        let header = resolve::entries(&tree).next().and_then(|entry| entry.get("resource"));
        let header = header.filter(|header| resolve::text(*header, "resourceType").as_deref() == Some("MessageHeader"));
        let shape = header.map(|header| spelling::version(header, declared, expected));
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
            notes.push(Issue::unlisted(left_out, Cause::Structure));
        }
        Ok(Message { version, header: read, bundle_id, bundle_identifier, notes, tree })
    }

    /// Why a document is a message of STU3, which is not supported.
    pub fn stu3(tree: &Tree) -> Option<Issue> {
        spelling::stu3(tree)
    }

    /// The entries of the Bundle in order, each with `fullUrl` and `resource`.
    pub fn entries(&self) -> impl Iterator<Item = Node<'_>> {
        resolve::entries(&self.tree)
    }

    /// The resource of an entry, if it is an object.
    pub fn entry_resource(&self, index: usize) -> Option<Node<'_>> {
        self.entries().nth(index)?.get("resource").filter(|resource| resource.is_object())
    }

    /// The `fullUrl` of an entry.
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

    /// The target of a reference in the header (entry 0), looked up in the Bundle only (MSG-16, MSG-17).
    pub fn resolve(&self, reference: &str) -> Resolved<'_> {
        self.resolve_from(0, reference)
    }

    /// The target of a reference in another entry's resource.
    pub fn resolve_from(&self, entry: usize, reference: &str) -> Resolved<'_> {
        resolve::resolve(&self.tree, entry, reference).0
    }

    /// Whether there is any id by which a duplicate can be recognized.
    pub fn has_identity(&self) -> bool {
        self.bundle_id.is_some() || self.bundle_identifier.is_some() || self.header.id.is_some()
    }

    /// The keys and hashes by which a duplicate is recognized (MSG-60 to MSG-62).
    pub fn identity(&self) -> IdentityKeys {
        identity::keys(identity::Identified {
            tree: &self.tree,
            version: self.version,
            header: &self.header,
            bundle_id: self.bundle_id.as_deref(),
            bundle_identifier: self.bundle_identifier.as_ref(),
        })
    }

    /// The subject of the message: the Patient that is the first focus, or that its `subject` or `patient` refers
    /// to, by its first identifier as `system|value`, else by the reference as written. None if there is no such
    /// Patient.
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
            // Groups, devices, and locations are not Patients.
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
