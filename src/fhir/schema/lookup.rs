//! Members of a type by their names in JSON.

use super::{Schema, TypeDef};
use rustc_hash::FxHashMap;

/// Name to positions of element and type.
#[derive(Debug, Default)]
pub(super) struct Members(FxHashMap<Box<str>, (u16, u16)>);

impl Members {
    pub(super) fn of(found: &TypeDef, schema: &Schema) -> Members {
        let mut names = FxHashMap::default();
        for (index, element) in (0u16..).zip(&found.elements) {
            for (position, of_type) in (0u16..).zip(&element.types) {
                names.insert(element.member_name(schema, of_type).into_boxed_str(), (index, position));
            }
        }
        Members(names)
    }

    pub(super) fn get(&self, name: &str) -> Option<(u16, u16)> {
        self.0.get(name).copied()
    }
}
