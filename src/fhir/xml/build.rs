//! A document to a tree: the JSON text that says the same, and the nodes over it, in one pass.
//!
//! What the schema knows takes the shape that JSON gives it. What it does not know is kept in the shape that it has, so
//! that the check of structure reports it as it does in JSON. Only what JSON has no place for is left out, and noted
//! (XML-05). Recurses as deep as JSON may be nested.

mod group;
mod notes;
mod scalar;

use self::group::Child;
pub(super) use self::scalar::{bare, kind};
use super::super::finding::Findings;
use super::super::json::{DEPTH_LIMIT, NODE_LIMIT};
use super::super::schema::{ElementDef, Primitive, Schema, TypeDef, TypeId, TypeKind};
use super::super::tree::{Kind, Slot};
use super::GRAMMAR;
use super::document::{Attribute, Content, Document, Element};
use super::scan::Stop;

/// What a document becomes.
pub(super) struct Built {
    pub json: Vec<u8>,
    pub slots: Vec<Slot>,
    /// For each slot where it stood in the XML.
    pub offsets: Vec<u32>,
    pub findings: Findings,
}

/// Where the builder stands.
#[derive(Clone, Copy)]
struct Step<'a> {
    name: &'a [u8],
    /// Of a choice its type.
    of_type: Option<&'a str>,
    /// Within an array.
    index: Option<usize>,
}

struct Builder<'a> {
    document: &'a Document<'a>,
    schema: &'a Schema,
    json: Vec<u8>,
    slots: Vec<Slot>,
    offsets: Vec<u32>,
    /// The span of the name of the value that comes next.
    key: (u32, u32),
    depth: usize,
    steps: Vec<Step<'a>>,
    /// The children of the open elements, innermost last: one vector for all.
    children: Vec<Child<'a>>,
    findings: Findings,
    /// For values that are not what is written.
    buffer: Vec<u8>,
}

/// What an element's value is in JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// No value: there may be a `_` sibling.
    Nothing,
    Scalar(Option<Primitive>),
    Narrative,
    Object,
    /// An element that holds a resource in its own element.
    Resource,
}

pub(super) fn build(document: &Document<'_>, schema: &Schema) -> Result<Built, (Stop, Findings)> {
    let count = document.elements.len() + document.elements.len() / 4 + 8;
    let mut builder = Builder {
        document,
        schema,
        json: Vec::with_capacity(document.bytes.len()),
        slots: Vec::with_capacity(count),
        offsets: Vec::with_capacity(count),
        key: (0, 0),
        depth: 0,
        steps: Vec::with_capacity(32),
        children: Vec::with_capacity(64),
        findings: Findings::default(),
        buffer: Vec::new(),
    };
    let done = builder.root().and_then(|()| match u32::try_from(builder.json.len()) {
        Ok(_) => Ok(()),
        Err(_) => Err(Stop::too_long(0, "The JSON form is longer than 4 GiB, which is the most that is read")),
    });
    let Builder { json, slots, offsets, findings, .. } = builder;
    match done {
        Ok(()) => Ok(Built { json, slots, offsets, findings }),
        Err(stop) => Err((stop, findings)),
    }
}

impl<'a> Builder<'a> {
    fn root(&mut self) -> Result<(), Stop> {
        let offset = self.document.elements.first().map_or(0, |element| element.span.start);
        self.resource(0, offset)
    }

    fn element(&self, index: u32) -> &'a Element {
        &self.document.elements[index as usize]
    }

    fn open(&mut self, kind: Kind, offset: u32) -> Result<u32, Stop> {
        if self.depth >= DEPTH_LIMIT {
            let text = "The document is nested more deeply than is read (64 levels)";
            return Err(Stop::new(offset as usize, GRAMMAR, text));
        }
        self.depth += 1;
        let start = self.json.len();
        self.json.push(if kind == Kind::Object { b'{' } else { b'[' });
        self.push(kind, start, start, 0, offset)
    }

    fn close(&mut self, node: u32, bracket: u8) {
        self.depth -= 1;
        self.json.push(bracket);
        let next = self.slots.len() as u32;
        if let Some(slot) = self.slots.get_mut(node as usize) {
            slot.end = self.json.len() as u32;
            slot.next = next;
        }
    }

    fn push(&mut self, kind: Kind, start: usize, end: usize, flags: u8, offset: u32) -> Result<u32, Stop> {
        let index = self.slots.len();
        if index >= NODE_LIMIT {
            return Err(Stop::too_long(offset as usize, "The document has more values than are read (2000000)"));
        }
        let (key_start, key_end) = std::mem::take(&mut self.key);
        let next = index as u32 + 1;
        self.slots.push(Slot { start: start as u32, end: end as u32, key_start, key_end, next, kind, flags });
        self.offsets.push(offset);
        Ok(index as u32)
    }

    fn comma(&mut self) {
        if !matches!(self.json.last(), Some(b'{' | b'[')) {
            self.json.push(b',');
        }
    }

    /// A member's name; `extra` is the one that begins with `_`. Names of XML need no escapes.
    fn key(&mut self, name: &[u8], extra: bool) {
        self.comma();
        self.json.push(b'"');
        let start = self.json.len() as u32;
        if extra {
            self.json.push(b'_');
        }
        self.json.extend_from_slice(name);
        self.key = (start, self.json.len() as u32);
        self.json.extend_from_slice(b"\":");
    }

    /// An element whose name is the type of a resource. `offset` is that of the element that holds it.
    fn resource(&mut self, index: u32, offset: u32) -> Result<(), Stop> {
        let element = self.element(index);
        let name = self.document.name(element);
        let found = std::str::from_utf8(name).ok().and_then(|name| self.schema.resource(name));
        let def = found.map(|id| self.schema.def(id));
        let node = self.open(Kind::Object, offset)?;
        self.key(b"resourceType", false);
        self.text(name, element.span.start)?;
        self.check_text(index);
        if let Some(value) = element.value {
            self.note_value(value);
        }
        // The id of a resource is an element.
        for attribute in self.document.attributes_of(element) {
            self.note_attribute(attribute);
        }
        self.members(index, def, true)?;
        self.close(node, b'}');
        Ok(())
    }

    /// A value with elements of its own, or the `_` sibling of a primitive.
    fn object(&mut self, index: u32, def: Option<&'a TypeDef>) -> Result<(), Stop> {
        let element = self.element(index);
        let node = self.open(Kind::Object, element.span.start)?;
        for attribute in self.document.attributes_of(element) {
            if self.is_known_attribute(def, attribute) {
                self.key(attribute.name.of(self.document.bytes), false);
                self.value(attribute.value, None, attribute.name.start)?;
            }
        }
        self.members(index, def, false)?;
        self.close(node, b'}');
        Ok(())
    }

    fn is_known_attribute(&self, def: Option<&TypeDef>, attribute: &Attribute) -> bool {
        let name = attribute.name.of(self.document.bytes);
        match (def, std::str::from_utf8(name)) {
            (Some(def), Ok(name)) => self.schema.member(def, name).is_some_and(|(element, _)| element.is_attribute),
            _ => matches!(name, b"id" | b"url"),
        }
    }

    fn members(&mut self, index: u32, def: Option<&'a TypeDef>, is_resource: bool) -> Result<(), Stop> {
        let from = self.children.len();
        self.gather(index, def, is_resource);
        let to = self.children.len();
        let mut at = from;
        while at < to {
            let first = self.children[at];
            let same = self.children[at..to].iter().take_while(|child| child.name == first.name).count();
            self.member(at, at + same)?;
            at += same;
        }
        self.children.truncate(from);
        Ok(())
    }

    /// All children of one name: a value or an array, and the same of the `_` sibling.
    fn member(&mut self, from: usize, to: usize) -> Result<(), Stop> {
        let Child { name, known, .. } = self.children[from];
        let of_type = known.map(|(_, type_id)| self.schema.def(type_id));
        let is_repeated = known.is_some_and(|(element, _)| element.is_array) || to - from > 1;
        self.steps.push(self.step(name, known, is_repeated.then_some(0)));
        let (mut has_value, mut has_extra, mut is_array) = (false, false, is_repeated);
        for at in from..to {
            self.step_to(at - from);
            if self.children[at].is_late {
                let offset = self.element(self.children[at].index).span.start;
                self.note(offset, "XML-01", "An element is out of order; XML fixes the order");
            }
            let (shape, extra) = self.shape(self.children[at].index, known);
            let child = &mut self.children[at];
            (child.shape, child.has_extra) = (shape, extra);
            has_value |= shape != Shape::Nothing;
            has_extra |= extra;
            is_array |= shape == Shape::Resource && self.document.children(self.children[at].index).nth(1).is_some();
        }
        if has_value {
            self.key(name, false);
            self.values(from..to, of_type, is_array)?;
        }
        if has_extra {
            self.key(name, true);
            self.extras(from..to, of_type, is_array)?;
        }
        self.steps.pop();
        Ok(())
    }

    fn step(&self, name: &'a [u8], known: Option<(&'a ElementDef, TypeId)>, index: Option<usize>) -> Step<'a> {
        let Some((element, type_id)) = known else { return Step { name, of_type: None, index } };
        let of_type = element.is_choice.then(|| &*self.schema.def(type_id).code);
        Step { name: element.name.as_bytes(), of_type, index }
    }

    fn step_to(&mut self, index: usize) {
        if let Some(Step { index: Some(at), .. }) = self.steps.last_mut() {
            *at = index;
        }
    }

    fn values(
        &mut self,
        range: std::ops::Range<usize>,
        of_type: Option<&'a TypeDef>,
        is_array: bool,
    ) -> Result<(), Stop> {
        let first = range.start;
        let array = is_array.then(|| self.open(Kind::Array, self.element(self.children[first].index).span.start));
        let array = array.transpose()?;
        for at in range {
            self.step_to(at - first);
            if is_array {
                self.comma();
            }
            let Child { index, shape, .. } = self.children[at];
            let element = self.element(index);
            match shape {
                Shape::Nothing => self.null(element.span.start)?,
                Shape::Scalar(primitive) => {
                    self.value(element.value.unwrap_or_default(), primitive, element.span.start)?;
                }
                Shape::Narrative => self.narrative(element)?,
                Shape::Object => self.object(index, of_type)?,
                Shape::Resource => self.resources(index)?,
            }
        }
        if let Some(array) = array {
            self.close(array, b']');
        }
        Ok(())
    }

    fn extras(
        &mut self,
        range: std::ops::Range<usize>,
        of_type: Option<&'a TypeDef>,
        is_array: bool,
    ) -> Result<(), Stop> {
        let first = range.start;
        let array = is_array.then(|| self.open(Kind::Array, self.element(self.children[first].index).span.start));
        let array = array.transpose()?;
        for at in range {
            self.step_to(at - first);
            if is_array {
                self.comma();
            }
            let Child { index, has_extra, .. } = self.children[at];
            match has_extra {
                true => self.object(index, of_type)?,
                false => self.null(self.element(index).span.start)?,
            }
        }
        if let Some(array) = array {
            self.close(array, b']');
        }
        Ok(())
    }

    /// The resources in an element that should hold one.
    fn resources(&mut self, index: u32) -> Result<(), Stop> {
        let offset = self.element(index).span.start;
        let mut inner = self.document.children(index);
        let Some(first) = inner.next() else {
            let node = self.open(Kind::Object, offset)?;
            self.close(node, b'}');
            return Ok(());
        };
        self.resource(first, offset)?;
        for next in inner {
            self.comma();
            self.resource(next, self.element(next).span.start)?;
        }
        Ok(())
    }

    /// The shape of an element, and whether it has a `_` sibling. Notes what is wrong with the element itself.
    fn shape(&mut self, index: u32, known: Option<(&ElementDef, TypeId)>) -> (Shape, bool) {
        let element = self.element(index);
        let of_type = known.map(|(_, type_id)| self.schema.def(type_id));
        let kind = of_type.map(|def| def.kind);
        if element.content != Content::Fhir || kind == Some(TypeKind::Primitive(Primitive::Xhtml)) {
            if element.content != Content::Fhir
                && kind.is_some_and(|kind| kind != TypeKind::Primitive(Primitive::Xhtml))
            {
                self.note(element.span.start, "XML-01", "An element of FHIR is in the namespace of XHTML");
            }
            return (Shape::Narrative, false);
        }
        self.check_text(index);
        let has_children = element.next > index + 1;
        self.check_element(index, of_type, has_children);
        let has_attributes =
            self.document.attributes_of(element).iter().any(|attribute| self.is_known_attribute(of_type, attribute));
        match kind {
            Some(TypeKind::Resource) => (Shape::Resource, false),
            Some(TypeKind::Primitive(primitive)) => match element.value {
                Some(_) => (Shape::Scalar(Some(primitive)), has_children || has_attributes),
                None if self.holds_more_than_extensions(index) => (Shape::Object, false),
                None => (Shape::Nothing, true),
            },
            Some(_) if element.value.is_none() || has_children || has_attributes => (Shape::Object, false),
            None if element.value.is_none() => (Shape::Object, false),
            Some(_) => (Shape::Scalar(None), false),
            None => (Shape::Scalar(None), has_children || has_attributes),
        }
    }

    /// A primitive without a value holds what a data type does.
    fn holds_more_than_extensions(&self, index: u32) -> bool {
        self.document.children(index).any(|child| self.document.name(self.element(child)) != b"extension")
    }
}
