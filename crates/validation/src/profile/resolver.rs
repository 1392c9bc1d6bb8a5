//! Resolves references from an element to other resources of its message (MSG-16), and finds the paths of resources.

use super::super::document_index::{DocumentIndex, ResolvedTarget};
use super::named_path::NamedPath;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Kind, Node, Tree};

/// What a profile is checked against, with its context.
#[derive(Clone, Copy)]
pub(super) struct Target<'t> {
    pub element: Element<'t>,
    /// The resource that contains it; for a resource, the resource itself.
    pub resource: Element<'t>,
    /// The container of that resource, else the resource itself.
    pub root: Element<'t>,
}

impl<'t> Target<'t> {
    /// A resource that is not contained in another.
    pub fn whole(resource: Element<'t>) -> Target<'t> {
        Target { element: resource, resource, root: resource }
    }
}

pub(super) struct Resolver<'t> {
    document: DocumentIndex<'t>,
}

impl<'t> Resolver<'t> {
    pub fn new(tree: &'t Tree, schema: &'static Schema) -> Resolver<'t> {
        Resolver { document: DocumentIndex::new(tree, schema) }
    }

    /// The target of a reference; `from` is the resource that has the reference, or an element of it.
    pub fn resolve(&self, from: Element<'t>, reference: &str) -> Option<Target<'t>> {
        let ResolvedTarget { resource, root } = self.document.resolve(from, reference)?;
        Some(Target { element: resource, resource, root })
    }

    /// The resource of the first entry.
    pub fn header(&self) -> Option<Node<'t>> {
        self.document.entries()?.first()?.get("resource")
    }

    /// Calls `act` with the path of a resource: of an entry, or contained in one.
    pub fn with_path<R>(&self, node: Node<'t>, act: impl FnOnce(&NamedPath) -> R) -> Option<R> {
        let bundle = NamedPath::root("Bundle");
        let entries = self.document.entries()?;
        let at = entries.partition_point(|entry| entry.index <= node.index).checked_sub(1)?;
        let entry = bundle.member("entry", u32::try_from(at).ok());
        let resource = entry.member("resource", None);
        let holder = entries.get(at)?.get("resource")?;
        let mut contained = (0u32..).zip(holder.get("contained").into_iter().flat_map(Node::items));
        match contained.find(|(_, inner)| *inner == node) {
            Some((index, _)) => Some(act(&resource.member("contained", Some(index)))),
            None => Some(act(&resource)),
        }
    }

    pub fn with_target_path<R>(&self, target: Target<'t>, act: impl FnOnce(&NamedPath) -> R) -> Option<R> {
        self.with_path(target.element.node()?, act)
    }
}

/// The text of a reference: `reference` of a Reference, that of a CodeableReference's reference, or a uri itself.
pub(super) fn reference_of(element: Element<'_>) -> Option<String> {
    let node = element.value?;
    let text = match node.kind() {
        Kind::String => node.text(),
        _ => node.get("reference").and_then(|inner| match inner.kind() {
            Kind::Object => inner.get("reference").and_then(Node::text),
            _ => inner.text(),
        }),
    };
    text.map(|text| text.into_owned())
}
