//! Children, descendants, and the targets of references.

use super::super::COLLECTION_LIMIT_ITEMS;
use super::super::value::Item;
use super::{Done, Eval, Sink};
use emberpost_fhir::element::Element;
use std::rc::Rc;

impl<'t> Eval<'t> {
    pub(super) fn each_of_resource(&mut self, sink: Sink<'_, 't>) -> Done<bool> {
        let all = self.resource_descendants()?;
        if all.is_empty() {
            return self.each_descendant(&Item::Element(self.scope.resource), sink);
        }
        for found in all.iter() {
            self.spend(1)?;
            if !sink(self, Item::Element(*found))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn each_child(&mut self, item: &Item<'t>, sink: Sink<'_, 't>) -> Done<bool> {
        let Item::Element(element) = item else { return Ok(true) };
        let mut children = Vec::new();
        element.each_child(self.scope.schema, |child| children.push(child));
        self.spend(1 + children.len())?;
        for child in children {
            if !sink(self, Item::Element(child))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The descendants of `%resource`, cached because dom-3 uses them four times. Empty if there are too many to
    /// store.
    fn resource_descendants(&mut self) -> Done<Rc<Vec<Element<'t>>>> {
        if let Some(known) = &self.descendants {
            return Ok(known.clone());
        }
        let mut all = Vec::new();
        let resource = Item::Element(self.scope.resource);
        self.each_descendant(&resource, &mut |_, item| {
            if let Item::Element(element) = item {
                all.push(element);
            }
            Ok(all.len() <= COLLECTION_LIMIT_ITEMS)
        })?;
        if all.len() > COLLECTION_LIMIT_ITEMS {
            all = Vec::new();
        }
        let all = Rc::new(all);
        self.descendants = Some(all.clone());
        Ok(all)
    }

    /// Visits descendants in document order, without recursion.
    pub(super) fn each_descendant(&mut self, item: &Item<'t>, sink: Sink<'_, 't>) -> Done<bool> {
        let Item::Element(element) = item else { return Ok(true) };
        let mut waiting = Vec::new();
        self.push_children(&mut waiting, *element)?;
        while let Some(next) = waiting.pop() {
            if !sink(self, Item::Element(next))? {
                return Ok(false);
            }
            self.push_children(&mut waiting, next)?;
        }
        Ok(true)
    }

    /// Pushes children in reverse, so that the first one is popped next.
    fn push_children(&mut self, waiting: &mut Vec<Element<'t>>, of: Element<'t>) -> Done<()> {
        let from = waiting.len();
        of.each_child(self.scope.schema, |child| waiting.push(child));
        let children = waiting.get_mut(from..).unwrap_or_default();
        children.reverse();
        self.spend(children.len())
    }

    /// The target of a Reference, or of a text that is a reference.
    pub(super) fn resolved(&self, item: &Item<'t>) -> Option<Element<'t>> {
        let found = self.resolved_of(item);
        if found.is_none() {
            self.scope.host.undecided();
        }
        found
    }

    fn resolved_of(&self, item: &Item<'t>) -> Option<Element<'t>> {
        let host = self.scope.host;
        let from = self.scope.resource;
        if let Some(text) = item.text(self.scope.schema) {
            return host.resolve(from, &text);
        }
        let Item::Element(element) = item else { return None };
        let reference = element.value?.get("reference")?.text()?;
        host.resolve(from, &reference)
    }
}
