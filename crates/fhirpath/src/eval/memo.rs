//! The cached right side of an `in`, if it is the same for every focus (dom-3).

use super::super::value::{Item, Text};
use super::equal::equal;
use emberpost_fhir::schema::Schema;
use std::collections::HashSet;

#[derive(Default)]
pub(super) struct Memo<'t> {
    /// Senders choose the texts, so the hasher has a random seed.
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

/// The text of an item, if the item equals another one if and only if their texts are equal.
pub(super) fn string<'t>(item: &Item<'t>, schema: &Schema) -> Option<Text<'t>> {
    match item.value(schema)? {
        super::super::value::Value::String(text) => Some(text),
        _ => None,
    }
}
