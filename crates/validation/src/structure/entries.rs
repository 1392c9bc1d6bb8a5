//! The entries of a Bundle that encloses what is being walked.

use emberpost_fhir::message::entries_of;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;
use std::cell::OnceCell;

/// The entries of a Bundle by fullUrl; built when the first reference needs it.
pub(super) struct Entries<'t> {
    bundle: Node<'t>,
    /// Sorted by fullUrl. Not hashed, so that senders cannot choose names that collide; most Bundles are small.
    named: OnceCell<Vec<(Cow<'t, str>, Node<'t>)>>,
}

impl<'t> Entries<'t> {
    pub fn new(bundle: Node<'t>) -> Self {
        Entries { bundle, named: OnceCell::new() }
    }

    /// The resource of the first entry with this fullUrl.
    pub fn find(&self, full_url: &str) -> Option<Node<'t>> {
        let named = self.named.get_or_init(|| self.named());
        let at = named.partition_point(|(name, _)| **name < *full_url);
        named.get(at).filter(|(name, _)| *name == full_url).map(|(_, resource)| *resource)
    }

    /// Whether references may be searches, such as `Patient?identifier=…`, that a server replaces.
    pub fn takes_conditions(&self) -> bool {
        let kind = self.bundle.get("type").and_then(Node::text);
        kind.is_some_and(|kind| matches!(&*kind, "transaction" | "batch"))
    }

    fn named(&self) -> Vec<(Cow<'t, str>, Node<'t>)> {
        let mut named: Vec<_> = entries_of(self.bundle)
            .filter_map(|entry| {
                let [full_url, resource] = entry.pick(["fullUrl", "resource"]);
                Some((full_url?.text()?, resource?))
            })
            .collect();
        // The sort is stable, so the first entry of each name comes first.
        named.sort_by(|one, other| one.0.cmp(&other.0));
        named
    }
}

/// The type that a resource names.
pub(super) fn type_name<'t>(resource: Node<'t>) -> Option<Cow<'t, str>> {
    resource.get("resourceType").and_then(Node::text)
}
