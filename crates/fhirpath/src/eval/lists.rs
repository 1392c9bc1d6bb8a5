//! Functions on whole collections.

use super::super::Failure;
use super::super::ast::{Call, Expr};
use super::super::collection::Collection;
use super::super::function::Function;
use super::super::value::Item;
use super::seen::Seen;
use super::{Done, Eval, Focus};
use std::cmp::Ordering;
use std::collections::VecDeque;

/// Whether it sorts in descending order, and the value.
type Key<'t> = (bool, Option<Item<'t>>);
/// An item and its sort keys.
type Keyed<'t> = (Vec<Key<'t>>, Collection<'t>);

impl<'t> Eval<'t> {
    pub(super) fn distinct(&mut self, items: Collection<'t>) -> Done<Collection<'t>> {
        if items.len() < 2 {
            return Ok(items);
        }
        Ok(self.seen(items)?.into_items())
    }

    pub(super) fn is_distinct(&mut self, items: Collection<'t>) -> Done<bool> {
        let mut seen = Seen::default();
        for item in items {
            if !seen.add(item, self)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn union(&mut self, all: &[Expr], focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let mut seen = Seen::default();
        for one in all {
            for item in self.scoped(one, focus)? {
                seen.add(item, self)?;
            }
        }
        Ok(seen.into_items())
    }

    /// Whether every item of `items` is in `of`.
    pub(super) fn is_subset(&mut self, items: Collection<'t>, of: Collection<'t>) -> Done<bool> {
        let all = self.seen(of)?;
        for item in items {
            if !all.has(&item, self)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn seen(&mut self, items: impl IntoIterator<Item = Item<'t>>) -> Done<Seen<'t>> {
        let mut seen = Seen::default();
        for item in items {
            seen.add(item, self)?;
        }
        Ok(seen)
    }

    /// `intersect` returns the items that are in the other collection, once; `exclude` those that are not, with
    /// duplicates.
    pub(super) fn filter_by(
        &mut self,
        items: Collection<'t>,
        other: Collection<'t>,
        keeps: bool,
    ) -> Done<Collection<'t>> {
        let other = self.seen(other)?;
        let mut found = Collection::Empty;
        for item in items {
            if other.has(&item, self)? == keeps {
                self.keep(&mut found, item)?;
            }
        }
        if keeps { self.distinct(found) } else { Ok(found) }
    }

    /// `repeat` takes each item once; `repeatAll` every time, limited by the maximum number of steps and items.
    pub(super) fn repeat(&mut self, call: &Call, of: &Expr, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let once = call.function == Function::Repeat;
        let mut waiting = VecDeque::from([self.input(call, focus)?]);
        let mut seen = Seen::default();
        let mut found = Collection::Empty;
        self.loops += 1;
        while let Some(items) = waiting.pop_front() {
            for (index, item) in (0..).zip(items) {
                self.spend(1)?;
                let this = Collection::One(item);
                let mut next = Collection::Empty;
                for item in self.scoped(of, focus.with(&this, index))? {
                    if !once || seen.add(item.clone(), self)? {
                        self.keep(&mut found, item.clone())?;
                        self.keep(&mut next, item)?;
                    }
                }
                if !next.is_empty() {
                    waiting.push_back(next);
                }
            }
        }
        self.loops -= 1;
        Ok(found)
    }

    pub(super) fn aggregate(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let [of, first @ ..] = call.arguments.as_slice() else { return Ok(Collection::Empty) };
        let mut total = match first.first() {
            Some(first) => self.scoped(first, focus)?,
            None => Collection::Empty,
        };
        let items = self.input(call, focus)?;
        self.loops += 1;
        for (index, item) in (0..).zip(items) {
            let this = Collection::One(item);
            total = self.scoped(of, Focus { this: &this, index, total: Some(&total) })?;
        }
        self.loops -= 1;
        Ok(total)
    }

    /// Sorts by the values of the arguments, or by the items themselves; `-` before an argument sorts in descending
    /// order. Items without a value come first in either direction.
    pub(super) fn sort(&mut self, call: &Call, focus: Focus<'_, 't>) -> Done<Collection<'t>> {
        let items = self.input(call, focus)?;
        let by: &[Expr] = if call.arguments.is_empty() { &[Expr::This] } else { &call.arguments };
        let mut keyed: Vec<Keyed<'t>> = Vec::new();
        for (index, item) in (0..).zip(items) {
            self.spend(1)?;
            let this = Collection::One(item);
            let mut keys = Vec::new();
            for expr in by {
                let (down, expr) = match expr {
                    Expr::Sign(true, inner) => (true, &**inner),
                    other => (false, other),
                };
                let key = self.scoped(expr, focus.with(&this, index))?;
                keys.push((down, self.single(key, "sort")?));
            }
            keyed.push((keys, this));
        }
        let sorted = self.merge_sorted(keyed)?;
        self.kept(sorted.into_iter().flat_map(|(_, item)| item))
    }

    /// A merge sort of our own: a comparison may fail, which ends it, and the standard library's sorts may panic if
    /// the order is not total.
    fn merge_sorted(&mut self, keyed: Vec<Keyed<'t>>) -> Done<Vec<Keyed<'t>>> {
        let mut runs = keyed.into_iter().map(|one| VecDeque::from([one])).collect::<Vec<_>>();
        while runs.len() > 1 {
            let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
            let mut waiting = runs.into_iter();
            while let Some(left) = waiting.next() {
                merged.push(match waiting.next() {
                    Some(right) => self.merged(left, right)?,
                    None => left,
                });
            }
            runs = merged;
        }
        Ok(runs.into_iter().flatten().collect())
    }

    fn merged(&mut self, mut left: VecDeque<Keyed<'t>>, mut right: VecDeque<Keyed<'t>>) -> Done<VecDeque<Keyed<'t>>> {
        let mut found = VecDeque::with_capacity(left.len() + right.len());
        while let (Some(mine), Some(theirs)) = (left.front(), right.front()) {
            let takes_left = self.sort_order(&mine.0, &theirs.0)? != Ordering::Greater;
            self.spend(1)?;
            found.extend(if takes_left { left.pop_front() } else { right.pop_front() });
        }
        found.extend(left);
        found.extend(right);
        Ok(found)
    }

    fn sort_order(&mut self, left: &[Key<'t>], right: &[Key<'t>]) -> Done<Ordering> {
        for ((down, left), (_, right)) in left.iter().zip(right) {
            let order = match (left, right) {
                (Some(left), Some(right)) => {
                    let order = self.order(left, right)?.ok_or(Failure::Unordered)?;
                    if *down { order.reverse() } else { order }
                }
                (left, right) => left.is_some().cmp(&right.is_some()),
            };
            if order != Ordering::Equal {
                return Ok(order);
            }
        }
        Ok(Ordering::Equal)
    }
}
