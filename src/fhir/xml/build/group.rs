//! The children of an element, those of one name beside each other, and whether they stand in their order (XML-01).

use super::super::super::schema::{ElementDef, TypeDef, TypeId};
use super::{Builder, Shape};
use rustc_hash::FxHashMap;

#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub index: u32,
    pub name: &'a [u8],
    pub known: Option<(&'a ElementDef, TypeId)>,
    pub shape: Shape,
    pub has_extra: bool,
}

impl<'a> Builder<'a> {
    /// Adds the children of an element to `children`, in the order in which JSON gets them.
    pub(super) fn gather(&mut self, index: u32, def: Option<&'a TypeDef>, is_resource: bool) {
        let from = self.children.len();
        let mut last: Option<(u16, &[u8])> = None;
        let mut is_grouped = true;
        let document = self.document;
        for child in document.children(index) {
            let element = self.element(child);
            let name = document.name(element);
            let found =
                def.and_then(|def| Some((def, self.schema.member_index(def, std::str::from_utf8(name).ok()?)?)));
            let known = found.and_then(|(def, (at, of))| {
                let element = def.elements.get(usize::from(at))?;
                Some((element, element.types.get(usize::from(of))?.type_id))
            });
            if let Some(text) = misplaced(name, known, is_resource) {
                self.note_child(child, name, from, "XML-05", text);
                continue;
            }
            match (found, last) {
                (Some((_, (at, _))), Some((before, _))) if at < before => {
                    self.note_child(child, name, from, "XML-01", "An element is out of order; XML fixes the order");
                    is_grouped = false;
                }
                (Some((_, (at, _))), before) => {
                    is_grouped &= before.is_none_or(|(before, named)| before < at || named == name);
                    last = Some((at, name));
                }
                (None, _) => is_grouped = false,
            }
            self.children.push(Child { index: child, name, known, shape: Shape::Nothing, has_extra: false });
        }
        if !is_grouped {
            self.group(from);
        }
    }

    /// Brings children of one name together, where the first of them stands.
    fn group(&mut self, from: usize) {
        let mut first: FxHashMap<&[u8], usize> = FxHashMap::default();
        let children = &mut self.children[from..];
        for (at, child) in children.iter().enumerate() {
            first.entry(child.name).or_insert(at);
        }
        children.sort_by_key(|child| first.get(child.name).copied());
    }
}

/// Why JSON has no place for an element of this name.
fn misplaced(name: &[u8], known: Option<(&ElementDef, TypeId)>, is_resource: bool) -> Option<&'static str> {
    if known.is_some_and(|(element, _)| element.is_attribute) {
        return Some("What XML writes as an attribute stands as an element");
    }
    let is_reserved = name.starts_with(b"_") || (is_resource && name == b"resourceType");
    is_reserved.then_some("An element has a name that FHIR keeps for JSON")
}
