//! What references lead to within a document (MSG-16): the one answer of `resolve()` in invariants and in profiles.

use emberpost_fhir::element::Element;
use emberpost_fhir::message::Index;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Node, Tree};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::collections::HashMap;

/// Most Bundles within one document that references are looked up in.
const BUNDLES_LIMIT: usize = 1_000;

/// The indexes of nodes. What senders choose is hashed with a seed.
type ById = HashMap<Box<str>, u32>;

/// The Bundles of a document.
pub(super) struct Around<'t> {
    schema: &'static Schema,
    /// Every Bundle, with the places in the document where it begins and ends, outer ones first.
    bundles: Vec<(u32, u32, Index<'t>)>,
    /// What resources contain, by its ids, under the container's index: of those that were asked for.
    contained: RefCell<FxHashMap<u32, ById>>,
}

/// A resource that a reference leads to.
#[derive(Clone, Copy)]
pub(super) struct Led<'t> {
    pub resource: Element<'t>,
    /// What contains it, else itself.
    pub root: Element<'t>,
}

impl<'t> Around<'t> {
    pub fn new(tree: &'t Tree, schema: &'static Schema) -> Around<'t> {
        let mut around = Around { schema, bundles: Vec::new(), contained: RefCell::default() };
        around.take(tree.root());
        around
    }

    /// Recursion ends with the document's depth, which the reader bounds.
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

    /// The innermost Bundle that a node stands in, and the entry's position and resource.
    fn holder(&self, node: Node) -> Option<(&Index<'t>, usize, Node<'t>)> {
        let around = |(from, to, _): &&(u32, u32, Index)| *from < node.index && node.index < *to;
        let (_, _, index) = self.bundles.iter().rev().find(around)?;
        let at = index.entries().partition_point(|entry| entry.index <= node.index).checked_sub(1)?;
        let resource = index.entries().get(at)?.get("resource")?;
        Some((index, at, resource))
    }

    /// `from` is, or is within, the resource that holds the reference.
    pub fn resolve(&self, from: Element<'t>, reference: &str) -> Option<Led<'t>> {
        let node = from.node()?;
        // What is asked of a Bundle as a whole may stand in any entry; its first one tells the base of its urls.
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

    fn whole(&self, node: Node<'t>) -> Option<Led<'t>> {
        let resource = Element::resource(node, self.schema)?;
        Some(Led { resource, root: resource })
    }

    fn contained(&self, container: Node<'t>, reference: &str) -> Option<Led<'t>> {
        let id = reference.strip_prefix('#')?;
        let root = Element::resource(container, self.schema)?;
        if id.is_empty() {
            return Some(Led { resource: root, root });
        }
        let index = *self.contained.borrow_mut().entry(container.index).or_insert_with(|| by_id(container)).get(id)?;
        let inner = Node { tree: container.tree, index };
        Some(Led { resource: Element::resource(inner, self.schema)?, root })
    }
}

/// Of one id the first resource counts.
fn by_id(container: Node) -> ById {
    let mut named = ById::new();
    for inner in container.get("contained").into_iter().flat_map(Node::items) {
        if let Some(id) = inner.get("id").and_then(Node::text) {
            named.entry(id.into()).or_insert(inner.index);
        }
    }
    named
}
