//! Ordered collections. Most have no item or one, which needs no allocation. They grow by `push` alone, which limits
//! them.

use super::value::{Item, Value};
use super::{COLLECTION_LIMIT_ITEMS, Failure};

/// An ordered collection of items.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Collection<'t> {
    /// No items.
    #[default]
    Empty,
    /// One item, without an allocation.
    One(Item<'t>),
    /// At least one item; fewer than two only after items were removed.
    Many(Vec<Item<'t>>),
}

impl<'t> Collection<'t> {
    /// The number of items.
    pub fn len(&self) -> usize {
        self.items().len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.items().is_empty()
    }

    /// The items in order.
    pub fn items(&self) -> &[Item<'t>] {
        match self {
            Collection::Empty => &[],
            Collection::One(item) => std::slice::from_ref(item),
            Collection::Many(items) => items,
        }
    }

    /// Errs beyond `COLLECTION_LIMIT_ITEMS`.
    pub fn push(&mut self, item: Item<'t>) -> Result<(), Failure> {
        match self {
            Collection::Many(items) if items.len() >= COLLECTION_LIMIT_ITEMS => return Err(Failure::ItemLimit),
            Collection::Many(items) => items.push(item),
            Collection::Empty => *self = Collection::One(item),
            Collection::One(_) => {
                let Collection::One(first) = std::mem::take(self) else { return Ok(()) };
                *self = Collection::Many(vec![first, item]);
            }
        }
        Ok(())
    }
}

impl<'t> IntoIterator for Collection<'t> {
    type Item = Item<'t>;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Item<'t>>, std::vec::IntoIter<Item<'t>>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Collection::Empty => (None, Vec::new()),
            Collection::One(item) => (Some(item), Vec::new()),
            Collection::Many(items) => (None, items),
        };
        one.into_iter().chain(many)
    }
}

impl<'t> From<Option<Value<'t>>> for Collection<'t> {
    fn from(value: Option<Value<'t>>) -> Self {
        value.map_or(Collection::Empty, |value| Collection::One(Item::Value(value)))
    }
}

impl<'t> From<Option<bool>> for Collection<'t> {
    fn from(truth: Option<bool>) -> Self {
        Collection::from(truth.map(Value::Boolean))
    }
}
