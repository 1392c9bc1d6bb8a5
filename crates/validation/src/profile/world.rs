//! What lies around an element in its document: the resources that references lead to, within the message only (MSG-16).

use super::super::around::{Around, Led};
use super::place::Place;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Kind, Node, Tree};

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
    around: Around<'t>,
}

impl<'t> World<'t> {
    pub fn new(tree: &'t Tree, schema: &'static Schema) -> World<'t> {
        World { around: Around::new(tree, schema) }
    }

    /// The resource that a reference leads to; `from` is, or is within, the resource that holds the reference.
    pub fn resolve(&self, from: Element<'t>, reference: &str) -> Option<Target<'t>> {
        let Led { resource, root } = self.around.resolve(from, reference)?;
        Some(Target { element: resource, resource, root })
    }

    /// The resource of the first entry.
    pub fn header(&self) -> Option<Node<'t>> {
        self.around.entries()?.first()?.get("resource")
    }

    /// Does something with the place of a resource: of an entry, or contained in it.
    pub fn at_place<R>(&self, node: Node<'t>, act: impl FnOnce(&Place) -> R) -> Option<R> {
        let bundle = Place::root("Bundle");
        let entries = self.around.entries()?;
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

    pub fn at_target<R>(&self, target: Target<'t>, act: impl FnOnce(&Place) -> R) -> Option<R> {
        self.at_place(target.element.node()?, act)
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
