//! What lies around an element in its document: the resources that references lead to, within the message only (MSG-16).

use super::place::Place;
use crate::fhir::element::Element;
use crate::fhir::message::Index;
use crate::fhir::schema::Schema;
use crate::fhir::tree::{Kind, Node, Tree};

/// Most Bundles within one message that references are looked up in.
const BUNDLES_LIMIT: usize = 1_000;

/// What a profile is held against, with what surrounds it.
#[derive(Clone, Copy)]
pub(super) struct Target<'t> {
    pub element: Element<'t>,
    /// The resource that holds it; of a resource itself.
    pub resource: Element<'t>,
    /// What contains that resource, else itself.
    pub root: Element<'t>,
}

impl<'t> Target<'t> {
    /// A resource that no other contains.
    pub fn whole(resource: Element<'t>) -> Target<'t> {
        Target { element: resource, resource, root: resource }
    }
}

pub(super) struct World<'t> {
    schema: &'static Schema,
    /// Every Bundle, with the places in the document where it begins and ends, outer ones first.
    bundles: Vec<(u32, u32, Index<'t>)>,
}

impl<'t> World<'t> {
    pub fn new(tree: &'t Tree, schema: &'static Schema) -> World<'t> {
        let mut world = World { schema, bundles: Vec::new() };
        world.take(tree.root());
        world
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

    /// The innermost Bundle that a node stands in, and the entry's position and resource.
    fn holder(&self, node: Node) -> Option<(&Index<'t>, usize, Node<'t>)> {
        let around = |(from, to, _): &&(u32, u32, Index)| *from < node.index && node.index < *to;
        let (_, _, index) = self.bundles.iter().rev().find(around)?;
        let at = index.entries().partition_point(|entry| entry.index <= node.index).checked_sub(1)?;
        let resource = index.entries().get(at)?.get("resource")?;
        Some((index, at, resource))
    }

    /// The resource that a reference leads to; `from` is, or is within, the resource that holds the reference.
    pub fn resolve(&self, from: Element<'t>, reference: &str) -> Option<Target<'t>> {
        let node = from.node()?;
        // What is asked of a Bundle as a whole may stand in any entry; its first one tells the base of its urls.
        if let Some((_, _, index)) = self.bundles.iter().find(|(at, _, _)| *at == node.index) {
            let element = Element::resource(index.resolve_from(0, reference).node()?, self.schema)?;
            return Some(Target::whole(element));
        }
        let Some((index, at, container)) = self.holder(node) else {
            return self.contained(node.tree.root(), reference);
        };
        match reference.starts_with('#') {
            true => self.contained(container, reference),
            false => {
                let element = Element::resource(index.resolve_from(at, reference).node()?, self.schema)?;
                Some(Target::whole(element))
            }
        }
    }

    /// The resource of the first entry.
    pub fn header(&self) -> Option<Node<'t>> {
        self.bundles.first()?.2.entries().first()?.get("resource")
    }

    /// Does something with the place of a resource: of an entry, or contained in it.
    pub fn at_place<R>(&self, node: Node<'t>, act: impl FnOnce(&Place) -> R) -> Option<R> {
        let bundle = Place::root("Bundle");
        let (_, _, index) = self.bundles.first()?;
        let at = index.entries().partition_point(|entry| entry.index <= node.index).checked_sub(1)?;
        let entry = bundle.member("entry", u32::try_from(at).ok());
        let resource = entry.member("resource", None);
        let holder = index.entries().get(at)?.get("resource")?;
        let mut contained = (0u32..).zip(holder.get("contained").into_iter().flat_map(Node::items));
        match contained.find(|(_, inner)| *inner == node) {
            Some((index, _)) => Some(act(&resource.member("contained", Some(index)))),
            None => Some(act(&resource)),
        }
    }

    pub fn at_target<R>(&self, target: Target<'t>, act: impl FnOnce(&Place) -> R) -> Option<R> {
        self.at_place(target.element.node()?, act)
    }

    fn contained(&self, container: Node<'t>, reference: &str) -> Option<Target<'t>> {
        let id = reference.strip_prefix('#')?;
        let root = Element::resource(container, self.schema)?;
        if id.is_empty() {
            return Some(Target::whole(root));
        }
        let is_it = |inner: &Node| inner.get("id").and_then(Node::text).as_deref() == Some(id);
        let inner = container.get("contained").into_iter().flat_map(Node::items).find(is_it)?;
        let element = Element::resource(inner, self.schema)?;
        Some(Target { element, resource: element, root })
    }
}

/// The text of a reference: of a Reference its `reference`, of a CodeableReference that of its, of a uri itself.
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
