//! Accounts for the cost of an evaluation: steps for all work, and limits on the size of results.

use super::super::Failure;
use super::super::TEXT_LIMIT_BYTES;
use super::super::collection::Collection;
use super::super::value::{Item, Value};
use super::{Done, Eval};

/// The number of bytes of text created, decoded, or compared per step.
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

    /// Collects all of these items.
    pub(super) fn kept(&mut self, items: impl Iterator<Item = Item<'t>>) -> Done<Collection<'t>> {
        let mut found = Collection::Empty;
        for item in items {
            self.keep(&mut found, item)?;
        }
        Ok(found)
    }

    /// Copies a collection, for one step per item.
    pub(super) fn copied(&mut self, items: &Collection<'t>) -> Done<Collection<'t>> {
        self.spend(items.len())?;
        Ok(items.clone())
    }

    /// Charges for a text of at most this many bytes, before it is created.
    pub(super) fn spend_text(&mut self, bytes: usize) -> Done<()> {
        self.spend_bytes(bytes)?;
        self.check_text(bytes)
    }

    /// Errs if a text of this many bytes is not allowed.
    pub(super) fn check_text(&self, bytes: usize) -> Done<()> {
        if bytes > TEXT_LIMIT_BYTES { Err(Failure::TextLimit) } else { Ok(()) }
    }

    /// A text that a function created: at most a few times as long as its input, or charged before.
    pub(super) fn made(&mut self, text: String) -> Done<Collection<'t>> {
        self.spend_text(text.len())?;
        Ok(Some(Value::String(text.into())).into())
    }

    /// Charges for reading an item of the document: a text with escapes, or a unit, is copied to be decoded.
    pub(super) fn spend_read(&mut self, item: &Item<'t>) -> Done<()> {
        let Item::Element(element) = item else { return Ok(()) };
        match element.value {
            Some(node) if node.plain().is_none() => self.spend_bytes(node.span().0.len()),
            _ => Ok(()),
        }
    }

    /// Charges for a comparison, which ends with the shorter of the two.
    pub(super) fn spend_compared(&mut self, left: &Item<'t>, right: &Item<'t>) -> Done<()> {
        self.spend_bytes(length(left).min(length(right)))
    }

    /// Charges for `=` of two collections, item by item.
    pub(super) fn spend_aligned(&mut self, left: &Collection<'t>, right: &Collection<'t>) -> Done<()> {
        self.spend(left.len())?;
        if left.len() != right.len() {
            return Ok(());
        }
        left.items().iter().zip(right.items()).try_for_each(|(left, right)| self.spend_compared(left, right))
    }

    /// Charges for `~` of two collections, each item with each, and likewise for the members of objects.
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

/// The number of bytes that a comparison may read.
fn length(item: &Item<'_>) -> usize {
    match item {
        Item::Value(Value::String(text)) => text.len(),
        Item::Value(_) => 0,
        Item::Element(element) => element.value.map_or(0, |node| node.span().0.len()),
    }
}
