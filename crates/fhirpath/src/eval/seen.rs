//! A set of items: compared pairwise while there are few, by hash when there are many.

use super::super::collection::Collection;
use super::super::value::{Item, Value};
use super::equal::equal;
use super::{Done, Eval};
use emberpost_fhir::tree::{Kind, Node};
use rustc_hash::FxHasher;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};

/// The maximum number of items that are compared one by one.
const FEW: usize = 8;

#[derive(Default)]
pub(super) struct Seen<'t> {
    items: Collection<'t>,
    /// For each key the position of the last item that has it; filled once there are more than a few items. Items
    /// with the same key are compared one by one, which takes steps.
    last: HashMap<u64, u32>,
    /// For each item the previous one with the same key.
    before: Vec<Option<u32>>,
}

impl<'t> Seen<'t> {
    pub fn into_items(self) -> Collection<'t> {
        self.items
    }

    pub fn has(&self, item: &Item<'t>, eval: &mut Eval<'t>) -> Done<bool> {
        let schema = eval.scope.schema;
        eval.spend(1)?;
        eval.spend_read(item)?;
        let is_same = |other: &Item<'t>, eval: &mut Eval<'t>| -> Done<bool> {
            eval.spend(1)?;
            eval.spend_compared(item, other)?;
            Ok(equal(item, other, schema) == Some(true))
        };
        if self.last.is_empty() {
            for other in self.items.items() {
                if is_same(other, eval)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        let mut next = self.last.get(&key(item, eval)).copied();
        while let Some(at) = next {
            if let Some(other) = self.items.items().get(at as usize)
                && is_same(other, eval)?
            {
                return Ok(true);
            }
            next = self.before.get(at as usize).copied().flatten();
        }
        Ok(false)
    }

    /// Adds an item; returns whether it is new.
    pub fn add(&mut self, item: Item<'t>, eval: &mut Eval<'t>) -> Done<bool> {
        if self.has(&item, eval)? {
            return Ok(false);
        }
        self.items.push(item)?;
        if self.items.len() > FEW {
            for item in self.items.items().get(self.before.len()..).unwrap_or_default() {
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
        None => match item {
            Item::Element(element) => element.value.map_or(0, node_key).hash(&mut hasher),
            Item::Value(_) => 2u8.hash(&mut hasher),
        },
    }
    hasher.finish()
}

/// The key of an object's content, independent of the order of its members and the spelling of numbers.
fn node_key(node: Node<'_>) -> u64 {
    let hashed = |what: &dyn Fn(&mut FxHasher)| {
        let mut hasher = FxHasher::default();
        what(&mut hasher);
        hasher.finish()
    };
    match node.kind() {
        Kind::Null | Kind::Number => node.kind() as u64,
        Kind::Boolean => hashed(&|to| node.boolean().hash(to)),
        Kind::String => hashed(&|to| node.text().hash(to)),
        Kind::Array => hashed(&|to| node.items().for_each(|item| node_key(item).hash(to))),
        Kind::Object => {
            let members = node.members().map(|(name, value)| hashed(&|to| (&name, node_key(value)).hash(to)));
            members.fold(2, u64::wrapping_add)
        }
    }
}
