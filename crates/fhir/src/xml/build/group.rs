//! Groups the children of an element by name, and finds those that are out of order (XML-01).

use super::super::super::schema::{ElementDef, TypeDef, TypeId};
use super::{Builder, Shape};

#[derive(Clone, Copy)]
pub(super) struct Child<'a> {
    pub index: u32,
    pub name: &'a [u8],
    /// Position among the elements of its type.
    at: Option<u16>,
    pub known: Option<(&'a ElementDef, TypeId)>,
    /// Whether it should precede an element that it follows.
    pub is_late: bool,
    pub shape: Shape,
    pub has_extra: bool,
}

impl<'a> Builder<'a> {
    /// Appends the children of an element to `children`, in the order in which JSON gets them.
    pub(super) fn gather(&mut self, index: u32, def: Option<&'a TypeDef>, is_resource: bool) {
        let from = self.children.len();
        let mut last: Option<(u16, &[u8])> = None;
        let mut is_grouped = true;
        let document = self.document;
        for index in document.children(index) {
            let element = self.element(index);
            let name = document.name(element);
            let before = self.children[from..].last().filter(|before| before.name == name);
            let (at, known) = match before {
                Some(before) => (before.at, before.known),
                None => self.find(def, document.text_of(element.name)),
            };
            if let Some(text) = misplaced(name, known, is_resource) {
                self.note_misplaced(index, name, text);
                continue;
            }
            let is_late = matches!((at, last), (Some(at), Some((before, _))) if at < before);
            match at {
                Some(at) if !is_late => {
                    is_grouped &= last.is_none_or(|(before, named)| before < at || named == name);
                    last = Some((at, name));
                }
                _ => is_grouped = false,
            }
            self.children.push(Child { index, name, at, known, is_late, shape: Shape::Nothing, has_extra: false });
        }
        if !is_grouped {
            group(&mut self.children[from..]);
        }
    }

    fn find(&self, def: Option<&'a TypeDef>, name: &str) -> Found<'a> {
        let Some((def, (at, of))) = def.and_then(|def| Some((def, self.schema.member_index(def, name)?))) else {
            return (None, None);
        };
        let element = def.elements.get(usize::from(at));
        let known = element.and_then(|element| Some((element, element.types.get(usize::from(of))?.type_id)));
        (Some(at), known)
    }
}

/// An element of a type, by its name: position, definition, type.
type Found<'a> = (Option<u16>, Option<(&'a ElementDef, TypeId)>);

/// Moves children with the same name to the first of them. Sorts instead of hashing, because senders could choose
/// names that collide.
fn group(children: &mut [Child<'_>]) {
    let mut names: Vec<(&[u8], usize)> = children.iter().enumerate().map(|(at, child)| (child.name, at)).collect();
    names.sort_unstable();
    let mut ranks = vec![0; children.len()];
    let mut first = (&b""[..], usize::MAX);
    for (name, at) in names {
        if first.1 == usize::MAX || first.0 != name {
            first = (name, at);
        }
        if let Some(rank) = ranks.get_mut(at) {
            *rank = first.1;
        }
    }
    let mut ranked: Vec<(usize, Child<'_>)> = ranks.into_iter().zip(children.iter().copied()).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    for (child, (_, grouped)) in children.iter_mut().zip(ranked) {
        *child = grouped;
    }
}

/// Why JSON cannot represent an element with this name.
fn misplaced(name: &[u8], known: Option<(&ElementDef, TypeId)>, is_resource: bool) -> Option<&'static str> {
    if known.is_some_and(|(element, _)| element.is_attribute) {
        return Some("An element occurs where XML requires an attribute");
    }
    let is_reserved = name.starts_with(b"_") || (is_resource && name == b"resourceType");
    is_reserved.then_some("An element has a name that FHIR reserves for JSON")
}
