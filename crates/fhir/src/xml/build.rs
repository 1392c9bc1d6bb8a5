//! Builds a tree from an XML document: the equivalent JSON text and the nodes over it, in one pass.
//!
//! What the schema defines gets the shape that JSON gives it. What it does not define keeps its shape, so that the
//! structure check reports it as in JSON. Only what JSON cannot represent is left out, and noted (XML-05). The
//! allowed nesting of JSON limits the recursion.

mod group;
mod member;
mod notes;
mod scalar;

use self::group::Child;
pub(super) use self::scalar::{bare, kind};
use super::super::finding::Findings;
use super::super::json::{DEPTH_LIMIT, NODE_LIMIT};
use super::super::schema::{Primitive, Schema, TypeDef};
use super::super::tree::{Kind, Slot, Tag};
use super::document::{Attribute, Document, Element};
use super::scan::Stop;

/// The JSON text of a document and its nodes.
pub(super) struct Built {
    pub json: Vec<u8>,
    pub slots: Vec<Slot>,
    /// The position of each slot in the XML.
    pub offsets: Vec<u32>,
    pub findings: Findings,
}

/// A step on the path to the current element.
#[derive(Clone, Copy)]
struct Step<'a> {
    name: &'a [u8],
    /// The type of a choice.
    of_type: Option<&'a str>,
    /// The index within an array.
    index: Option<usize>,
}

struct Builder<'a> {
    document: &'a Document<'a>,
    schema: &'a Schema,
    json: Vec<u8>,
    slots: Vec<Slot>,
    offsets: Vec<u32>,
    /// The span of the name of the next value.
    key: (u32, u32),
    depth: usize,
    steps: Vec<Step<'a>>,
    /// The children of the open elements, innermost last, in one vector to avoid allocations.
    children: Vec<Child<'a>>,
    findings: Findings,
    /// Buffer for values that differ from what is written.
    buffer: Vec<u8>,
}

/// How JSON represents an element's value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// No value, but possibly a `_` sibling.
    Nothing,
    Scalar(Option<Primitive>),
    Narrative,
    Object,
    /// An element that holds a resource, which is an element of its own.
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
        Err(_) => Err(Stop::too_long(0, "The equivalent JSON is longer than the limit of 4 GiB")),
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
            return Err(Stop::too_deep(offset as usize));
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
            return Err(Stop::too_long(offset as usize, "The document has more values than the limit of 2000000"));
        }
        let (key_start, key_end) = std::mem::take(&mut self.key);
        let next = index as u32 + 1;
        let tag = Tag::of(self.json.get(key_start as usize..key_end as usize).unwrap_or_default());
        self.slots.push(Slot { start: start as u32, end: end as u32, key_start, key_end, next, tag, kind, flags });
        self.offsets.push(offset);
        Ok(index as u32)
    }

    fn comma(&mut self) {
        if !matches!(self.json.last(), Some(b'{' | b'[')) {
            self.json.push(b',');
        }
    }

    /// Writes a member's name; `extra` names begin with `_`. Names in XML need no escapes.
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

    /// Builds a resource from an element whose name is its type. `offset` is that of the element around it.
    fn resource(&mut self, index: u32, offset: u32) -> Result<(), Stop> {
        let element = self.element(index);
        let name = self.document.name(element);
        let def = self.schema.resource(self.document.text_of(element.name)).map(|id| self.schema.def(id));
        let node = self.open(Kind::Object, offset)?;
        self.key(b"resourceType", false);
        self.text(name, element.span.start)?;
        self.check_text(index);
        if let Some(value) = element.value {
            self.note_value(value);
        }
        // The id of a resource is an element, not an attribute.
        for attribute in self.document.attributes_of(element) {
            self.note_attribute(attribute);
        }
        self.members(index, def, true)?;
        self.close(node, b'}');
        Ok(())
    }

    /// Builds a value with elements of its own, or the `_` sibling of a primitive.
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
        let name = self.document.text_of(attribute.name);
        match def {
            Some(def) => self.schema.member(def, name).is_some_and(|(element, _)| element.is_attribute),
            None => matches!(name, "id" | "url"),
        }
    }
}
