//! Which items were there already: each with each while they are few, by a hash when they are many.

use super::super::value::{Item, Value};
use super::equal::equal;
use super::{Done, Eval};
use rustc_hash::FxHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// Up to so many are compared one by one.
const FEW: usize = 8;

#[derive(Default)]
pub(super) struct Seen<'t> {
    items: Vec<Item<'t>>,
    /// Of each key the position of the last item that has it; filled once there are more than a few. Items that share a
    /// key are compared one by one, which takes steps.
    last: HashMap<u64, u32>,
    /// Of each item the one before it with the same key.
    before: Vec<Option<u32>>,
}

impl<'t> Seen<'t> {
    pub fn into_items(self) -> Vec<Item<'t>> {
        self.items
    }

    pub fn has(&self, item: &Item<'t>, eval: &mut Eval<'t>) -> Done<bool> {
        let schema = eval.scope.schema;
        let is_same = |other: &Item<'t>| equal(item, other, schema) == Some(true);
        if self.last.is_empty() {
            eval.spend(self.items.len())?;
            return Ok(self.items.iter().any(is_same));
        }
        let mut next = self.last.get(&key(item, eval)).copied();
        while let Some(at) = next {
            eval.spend(1)?;
            if self.items.get(at as usize).is_some_and(is_same) {
                return Ok(true);
            }
            next = self.before.get(at as usize).copied().flatten();
        }
        Ok(false)
    }

    /// Whether it is new; kept then.
    pub fn add(&mut self, item: Item<'t>, eval: &mut Eval<'t>) -> Done<bool> {
        if self.has(&item, eval)? {
            return Ok(false);
        }
        self.items.push(item);
        if self.items.len() > FEW {
            for item in self.items.get(self.before.len()..).unwrap_or_default() {
                let at = self.before.len() as u32;
                self.before.push(self.last.insert(key(item, eval), at));
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
