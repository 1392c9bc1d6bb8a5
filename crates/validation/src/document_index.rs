//! Resolves references within a document (MSG-16), for `resolve()` in invariants and in profiles alike.

use crate::contained::ContainedIndex;
use emberpost_fhir::element::Element;
use emberpost_fhir::message::Index;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Node, Tree};

/// The maximum number of Bundles in one document within which references are resolved.
const BUNDLES_LIMIT: usize = 1_000;

/// The Bundles of a document and what their resources contain.
pub(super) struct DocumentIndex<'t> {
    schema: &'static Schema,
    /// Every Bundle with the node indexes at which it begins and ends, outer Bundles first.
    bundles: Vec<(u32, u32, Index<'t>)>,
    contained: ContainedIndex,
}

/// The resource that a reference resolves to.
#[derive(Clone, Copy)]
pub(super) struct ResolvedTarget<'t> {
    pub resource: Element<'t>,
    /// The container of a contained resource, else the resource itself.
    pub root: Element<'t>,
}

impl<'t> DocumentIndex<'t> {
    pub fn new(tree: &'t Tree, schema: &'static Schema) -> DocumentIndex<'t> {
        let mut document = DocumentIndex { schema, bundles: Vec::new(), contained: ContainedIndex::default() };
        document.take(tree.root());
        document
    }

    /// Adds a Bundle and the Bundles in its entries. The reader limits the depth of the document, and with it this
    /// recursion.
    fn take(&mut self, node: Node<'t>) {
        let is_bundle = node.get("resourceType").and_then(Node::text).as_deref() == Some("Bundle");
        if !is_bundle || self.bundles.len() >= BUNDLES_LIMIT {
            return;
        }
        let index = Index::of(node);
        let entries = index.entries().to_vec();
        self.bundles.push((node.index, node.after(), index));
        for resource in entries.iter().filter_map(|entry| entry.get("resource")) {
            self.take(resource);
        }
    }

    /// The entries of the outermost Bundle.
    pub fn entries(&self) -> Option<&[Node<'t>]> {
        self.bundles.first().map(|(_, _, index)| index.entries())
    }

    /// The innermost Bundle around a node, with the position and the resource of the entry that contains the node.
    fn holder(&self, node: Node) -> Option<(&Index<'t>, usize, Node<'t>)> {
        let document = |(from, to, _): &&(u32, u32, Index)| *from < node.index && node.index < *to;
        let (_, _, index) = self.bundles.iter().rev().find(document)?;
        let at = index.entries().partition_point(|entry| entry.index <= node.index).checked_sub(1)?;
        let resource = index.entries().get(at)?.get("resource")?;
        Some((index, at, resource))
    }

    /// Resolves a reference. `from` is the resource that contains the reference, or an element of it.
    pub fn resolve(&self, from: Element<'t>, reference: &str) -> Option<ResolvedTarget<'t>> {
        let node = from.node()?;
        // The Bundle as a whole has no fullUrl of its own; the first entry gives the base for relative URLs.
        if let Some((_, _, index)) = self.bundles.iter().find(|(at, _, _)| *at == node.index) {
            return self.whole(index.resolve_from(0, reference).node()?);
        }
        let Some((index, at, container)) = self.holder(node) else {
            return self.contained(node.tree.root(), reference);
        };
        match reference.starts_with('#') {
            true => self.contained(container, reference),
            false => self.whole(index.resolve_from(at, reference).node()?),
        }
    }

    fn whole(&self, node: Node<'t>) -> Option<ResolvedTarget<'t>> {
        let resource = Element::resource(node, self.schema)?;
        Some(ResolvedTarget { resource, root: resource })
    }

    fn contained(&self, container: Node<'t>, reference: &str) -> Option<ResolvedTarget<'t>> {
        let id = reference.strip_prefix('#')?;
        let root = Element::resource(container, self.schema)?;
        if id.is_empty() {
            return Some(ResolvedTarget { resource: root, root });
        }
        let inner = self.contained.find(container, id)?;
        Some(ResolvedTarget { resource: Element::resource(inner, self.schema)?, root })
    }
}
