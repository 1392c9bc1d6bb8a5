//! Looks up contained resources by id, for references in the structure check and for `resolve()` in expressions.

use emberpost_fhir::tree::Node;
use hashbrown::HashTable;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};

/// The contained resources of the containers that were asked for. Stores node indexes instead of nodes and ids, so that it
/// borrows nothing and copies no text.
#[derive(Default)]
pub(super) struct ContainedIndex {
    by_container: RefCell<FxHashMap<u32, HashTable<u32>>>,
    /// Senders choose the ids, so the hasher has a random seed.
    hasher: RandomState,
}

impl ContainedIndex {
    /// The resource with this id in `contained` of a container; if several have the id, the first.
    pub fn find<'t>(&self, container: Node<'t>, id: &str) -> Option<Node<'t>> {
        let node = |index: &u32| Node { tree: container.tree, index: *index };
        let is_id = |index: &u32| id_of(node(index)).is_some_and(|known| known == id);
        let mut by_container = self.by_container.borrow_mut();
        let table = by_container.entry(container.index).or_insert_with(|| self.table(container));
        table.find(self.hasher.hash_one(id), is_id).map(node)
    }

    fn table(&self, container: Node<'_>) -> HashTable<u32> {
        let contained = || container.get("contained").into_iter().flat_map(Node::items);
        let text = |index: &u32| id_of(Node { tree: container.tree, index: *index }).unwrap_or_default();
        let mut table = HashTable::with_capacity(contained().count());
        for inner in contained() {
            let Some(id) = id_of(inner) else { continue };
            let is_same = |other: &u32| text(other) == id;
            table
                .entry(self.hasher.hash_one(&*id), is_same, |other| self.hasher.hash_one(&*text(other)))
                .or_insert(inner.index);
        }
        table
    }
}

fn id_of(resource: Node<'_>) -> Option<Cow<'_, str>> {
    resource.get("id").and_then(Node::text)
}
