//! The right side of an `in` that is the same for every focus: gathered once, asked often (dom-3).

use super::super::value::{Item, Text};
use super::equal::equal;
use emberpost_fhir::schema::Schema;
use std::collections::HashSet;

#[derive(Default)]
pub(super) struct Memo<'t> {
    /// Whoever writes the message chooses them, so the hash has a seed.
    texts: HashSet<Box<str>>,
    pub others: Vec<Item<'t>>,
}

impl<'t> Memo<'t> {
    pub fn add(&mut self, item: Item<'t>, schema: &Schema) {
        match string(&item, schema) {
            Some(text) => {
                self.texts.insert((&*text).into());
            }
            None => self.others.push(item),
        }
    }

    pub fn has(&self, item: &Item<'t>, schema: &Schema) -> bool {
        let known = string(item, schema).is_some_and(|text| self.texts.contains(&*text));
        known || self.others.iter().any(|other| equal(item, other, schema) == Some(true))
    }
}

/// The text of an item that equals another exactly if their texts are equal.
pub(super) fn string<'t>(item: &Item<'t>, schema: &Schema) -> Option<Text<'t>> {
    match item.value(schema)? {
        super::super::value::Value::String(text) => Some(text),
        _ => None,
    }
}
