//! Members of a type by their names in JSON, and its elements by their names in paths.

use super::{Schema, TypeDef};
use rustc_hash::FxHashMap;

#[derive(Debug, Default)]
pub(super) struct Members {
    /// Name in JSON to positions of element and type.
    names: FxHashMap<Box<str>, (u16, u16)>,
    /// Name in paths (`value`) to position of the element.
    elements: FxHashMap<Box<str>, u16>,
}

impl Members {
    pub(super) fn of(found: &TypeDef, schema: &Schema) -> Members {
        let mut names = FxHashMap::default();
        let mut elements = FxHashMap::default();
        for (index, element) in (0u16..).zip(&found.elements) {
            elements.insert(element.name.clone(), index);
            for (position, of_type) in (0u16..).zip(&element.types) {
                names.insert(element.member_name(schema, of_type).into_boxed_str(), (index, position));
            }
        }
        Members { names, elements }
    }

    pub(super) fn get(&self, name: &str) -> Option<(u16, u16)> {
        self.names.get(name).copied()
    }

    pub(super) fn element(&self, name: &str) -> Option<u16> {
        self.elements.get(name).copied()
    }
}
