//! What an evaluation takes: steps for everything it does, and the bounds of what it makes.

use super::super::Failure;
use super::super::TEXT_LIMIT_BYTES;
use super::super::collection::Collection;
use super::super::value::{Item, Value};
use super::{Done, Eval};

/// Bytes of text that are made, decoded or compared for one step.
const BYTES_PER_STEP: usize = 16;

impl<'t> Eval<'t> {
    pub(super) fn spend(&mut self, steps: usize) -> Done<()> {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.steps = self.steps.saturating_add(steps);
        if self.steps > self.step_limit { Err(Failure::StepLimit) } else { Ok(()) }
    }

    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Done<()> {
        self.spend(bytes / BYTES_PER_STEP)
    }

    /// Adds an item to a collection, for one step.
    pub(super) fn keep(&mut self, to: &mut Collection<'t>, item: Item<'t>) -> Done<()> {
        self.spend(1)?;
        to.push(item)
    }

    /// All of these in a collection.
    pub(super) fn kept(&mut self, items: impl Iterator<Item = Item<'t>>) -> Done<Collection<'t>> {
        let mut found = Collection::Empty;
        for item in items {
            self.keep(&mut found, item)?;
        }
        Ok(found)
    }

    /// A copy, for one step each item.
    pub(super) fn copied(&mut self, items: &Collection<'t>) -> Done<Collection<'t>> {
        self.spend(items.len())?;
        Ok(items.clone())
    }

    /// Pays for a text of at most so many bytes, before it is made.
    pub(super) fn spend_text(&mut self, bytes: usize) -> Done<()> {
        self.spend_bytes(bytes)?;
        self.check_text(bytes)
    }

    /// Fails where a text of so many bytes may not be made.
    pub(super) fn check_text(&self, bytes: usize) -> Done<()> {
        if bytes > TEXT_LIMIT_BYTES { Err(Failure::TextLimit) } else { Ok(()) }
    }

    /// A text that a function made: at most a few times as long as what it was made of, else paid for before.
    pub(super) fn made(&mut self, text: String) -> Done<Collection<'t>> {
        self.spend_text(text.len())?;
        Ok(Some(Value::String(text.into())).into())
    }

    /// Pays for the value of an item of the document: of a text with escapes, or a unit, a decoded copy is made.
    pub(super) fn spend_read(&mut self, item: &Item<'t>) -> Done<()> {
        let Item::Element(element) = item else { return Ok(()) };
        match element.value {
            Some(node) if node.plain().is_none() => self.spend_bytes(node.span().0.len()),
            _ => Ok(()),
        }
    }

    /// Pays for a comparison, which ends with the shorter of the two.
    pub(super) fn spend_compared(&mut self, left: &Item<'t>, right: &Item<'t>) -> Done<()> {
        self.spend_bytes(length(left).min(length(right)))
    }

    /// Pays for `=` of two collections, one by one.
    pub(super) fn spend_aligned(&mut self, left: &Collection<'t>, right: &Collection<'t>) -> Done<()> {
        self.spend(left.len())?;
        if left.len() != right.len() {
            return Ok(());
        }
        left.items().iter().zip(right.items()).try_for_each(|(left, right)| self.spend_compared(left, right))
    }

    /// Pays for `~` of two collections, each item with each, and what objects hold likewise.
    pub(super) fn spend_pairs(&mut self, left: &Collection<'t>, right: &Collection<'t>) -> Done<()> {
        let (count, other) = (left.len(), right.len());
        if count != other {
            return self.spend(1);
        }
        self.spend(count.saturating_mul(other))?;
        let total = |items: &Collection<'t>| items.items().iter().map(length).fold(0, usize::saturating_add);
        let (mine, theirs) = (total(left), total(right));
        let is_object = |item: &Item<'t>| matches!(item, Item::Element(element) if element.value.is_some_and(|node| node.is_object()));
        match left.items().iter().any(is_object) && right.items().iter().any(is_object) {
            true => self.spend((mine / BYTES_PER_STEP).saturating_mul(theirs / BYTES_PER_STEP)),
            false => self.spend_bytes(mine.min(theirs).saturating_mul(count)),
        }
    }
}

/// Bytes that a comparison may have to look at.
fn length(item: &Item<'_>) -> usize {
    match item {
        Item::Value(Value::String(text)) => text.len(),
        Item::Value(_) => 0,
        Item::Element(element) => element.value.map_or(0, |node| node.span().0.len()),
    }
}
