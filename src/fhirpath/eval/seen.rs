//! Which items were there already: each with each while they are few, by a hash when they are many.

use super::super::value::{Item, Value};
use super::equal::equal;
use super::{Done, Eval};
use rustc_hash::{FxHashMap, FxHasher};
use std::hash::{Hash, Hasher};

/// Up to so many are compared one by one.
const FEW: usize = 8;

#[derive(Default)]
pub(super) struct Seen<'t> {
    items: Vec<Item<'t>>,
    /// Positions by key, once there are more than a few.
    keys: FxHashMap<u64, Vec<u32>>,
}

impl<'t> Seen<'t> {
    pub fn into_items(self) -> Vec<Item<'t>> {
        self.items
    }

    pub fn has(&self, item: &Item<'t>, eval: &mut Eval<'t>) -> Done<bool> {
        let schema = eval.scope.schema;
        let is_same = |other: &Item<'t>| equal(item, other, schema) == Some(true);
        if self.keys.is_empty() {
            eval.spend(self.items.len())?;
            return Ok(self.items.iter().any(is_same));
        }
        let Some(places) = self.keys.get(&key(item, eval)) else { return Ok(false) };
        eval.spend(places.len())?;
        Ok(places.iter().filter_map(|&at| self.items.get(at as usize)).any(is_same))
    }

    /// Whether it is new; kept then.
    pub fn add(&mut self, item: Item<'t>, eval: &mut Eval<'t>) -> Done<bool> {
        if self.has(&item, eval)? {
            return Ok(false);
        }
        let at = self.items.len();
        if at > FEW && !self.keys.is_empty() {
            self.keys.entry(key(&item, eval)).or_default().push(at as u32);
        }
        self.items.push(item);
        if at == FEW {
            for (at, item) in (0u32..).zip(&self.items) {
                self.keys.entry(key(item, eval)).or_default().push(at);
            }
        }
        Ok(true)
    }
}

/// Equal items have equal keys.
fn key<'t>(item: &Item<'t>, eval: &Eval<'t>) -> u64 {
    let mut hasher = FxHasher::default();
    match item.value(eval.scope.schema) {
        Some(Value::String(text)) => (*text).hash(&mut hasher),
        Some(Value::Boolean(truth)) => truth.hash(&mut hasher),
        // A number may equal a quantity.
        Some(Value::Integer(_) | Value::Long(_) | Value::Decimal(_) | Value::Quantity(_)) => 1u8.hash(&mut hasher),
        Some(Value::Date(date) | Value::DateTime(date) | Value::Time(date)) => date.year.hash(&mut hasher),
        Some(Value::Type { name, .. }) => (*name).hash(&mut hasher),
        None => 2u8.hash(&mut hasher),
    }
    hasher.finish()
}
