//! Writes a tree as FHIR XML: the exact inverse of reading (XML-01, JSN-05 to JSN-08).
//!
//! Elements are in the schema's order. Refuses what could not be read back from XML unchanged: unknown members,
//! empty arrays, a number in place of a string. So the XML reads as an equal tree, or none is written. The arrays of
//! a value and of its `_` sibling may differ in length and have null where the other one has an item; reading gives
//! them the same length.

mod order;
mod value;

use self::order::Member;
use super::super::cause::Cause;
use super::super::finding::step;
use super::super::issue::{Issue, IssueCode};
use super::super::schema::{Primitive, Schema, TypeDef, TypeKind};
use super::super::tree::{Kind, Node};
use std::fmt::Write;

/// Writes the resource as XML. Errs with the first element that has no exact equivalent in XML, and its path.
pub fn write(node: Node<'_>, schema: &Schema) -> Result<Vec<u8>, Vec<Issue>> {
    let out = Vec::with_capacity(node.raw().len() + 256);
    let mut writer = Writer { schema, out, steps: Vec::with_capacity(32), members: Vec::with_capacity(64) };
    writer.out.extend_from_slice(b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    match writer.resource(node, true) {
        Ok(()) => Ok(writer.out),
        Err(Refused { text, node, is_member }) => {
            let (line, column) = node.position();
            let mut path = writer.path(root_name(writer.schema, node));
            if is_member {
                path.push_str(&step(&node.key().unwrap_or_default()));
            }
            let issue = Issue::error(IssueCode::NotSupported, Cause::Structure, text).rule("XML-05");
            Err(vec![issue.at(path).position(line, column)])
        }
    }
}

/// The root's type, with which paths begin, if it is a type.
fn root_name<'s>(schema: &'s Schema, node: Node<'_>) -> &'s str {
    let name = node.tree.root().get("resourceType").and_then(Node::text).unwrap_or_default();
    schema.resource(&name).map_or("", |id| &schema.def(id).name)
}

/// What has no exact equivalent in XML, and where.
struct Refused<'t> {
    text: &'static str,
    node: Node<'t>,
    /// Whether the node is a member of the current element.
    is_member: bool,
}

fn refuse<'t, T>(node: Node<'t>, text: &'static str) -> Result<T, Refused<'t>> {
    Err(Refused { text, node, is_member: false })
}

fn refuse_member<'t, T>(node: Node<'t>, text: &'static str) -> Result<T, Refused<'t>> {
    Err(Refused { text, node, is_member: true })
}

struct Writer<'t, 's> {
    schema: &'s Schema,
    out: Vec<u8>,
    /// The open elements, each with its type if it is a choice, and its index in an array.
    steps: Vec<(&'s str, Option<&'s str>, Option<usize>)>,
    /// The members of the open objects, innermost last, in one vector to avoid allocations.
    members: Vec<Member<'t>>,
}

impl<'t, 's> Writer<'t, 's> {
    /// Writes a resource in the element of its type.
    fn resource(&mut self, node: Node<'t>, is_root: bool) -> Result<(), Refused<'t>> {
        if !node.is_object() {
            return refuse(node, "A resource must be an object");
        }
        let name = node.get("resourceType").and_then(Node::text).unwrap_or_default();
        let Some(id) = self.schema.resource(&name) else {
            return refuse(node, "The type of a resource is missing or unknown, so it cannot be written as XML");
        };
        let def = self.schema.def(id);
        let start = self.out.len();
        self.out.push(b'<');
        self.out.extend_from_slice(def.name.as_bytes());
        if is_root {
            self.out.extend_from_slice(b" xmlns=\"http://hl7.org/fhir\"");
        }
        self.content(node, def, true)?;
        self.end(start, &def.name);
        Ok(())
    }

    /// Writes the attributes and elements of an object, beginning within its start tag.
    fn content(&mut self, node: Node<'t>, def: &'s TypeDef, is_resource: bool) -> Result<(), Refused<'t>> {
        let from = self.members.len();
        self.gather(node, def, is_resource)?;
        let to = self.members.len();
        for at in from..to {
            let member = self.members[at];
            let Some(element) = def.elements.get(usize::from(member.element)).filter(|found| found.is_attribute) else {
                continue;
            };
            match (member.value, member.extra) {
                (Some(value), None) if value.kind() == Kind::String => {
                    self.attribute(&element.name, value)?;
                }
                (value, extra) => {
                    let at = value.or(extra).unwrap_or(node);
                    return refuse_member(at, "What XML writes as an attribute is not a plain string");
                }
            }
        }
        self.out.push(b'>');
        for at in from..to {
            self.member(self.members[at], def)?;
        }
        self.members.truncate(from);
        Ok(())
    }

    /// Writes the end tag, or `/>` if nothing follows the start tag, whose `>` is the first from `start` on.
    fn end(&mut self, start: usize, name: &str) {
        let tag_end = memchr::memchr(b'>', self.out.get(start..).unwrap_or_default()).map(|at| start + at + 1);
        if tag_end == Some(self.out.len()) {
            self.out.pop();
            self.out.extend_from_slice(b"/>");
        } else {
            self.out.extend_from_slice(b"</");
            self.out.extend_from_slice(name.as_bytes());
            self.out.push(b'>');
        }
    }

    fn member(&mut self, member: Member<'t>, def: &'s TypeDef) -> Result<(), Refused<'t>> {
        let Some(element) = def.elements.get(usize::from(member.element)).filter(|found| !found.is_attribute) else {
            return Ok(());
        };
        let Some(of_type) = element.types.get(usize::from(member.of_type)) else { return Ok(()) };
        let (name, def) = (element.member_name(self.schema, of_type), self.schema.def(of_type.type_id));
        let is_array = member.value.or(member.extra).is_some_and(Node::is_array);
        self.steps.push((&element.name, element.is_choice.then_some(&*def.code), None));
        if is_array {
            self.array(member, &name, def, element.is_array)?;
        } else {
            match member.value.or(member.extra) {
                Some(node) if element.is_array => return refuse(node, "A single value occurs where JSON has an array"),
                _ => self.one(&name, def, member.value, member.extra)?,
            }
        }
        self.steps.pop();
        Ok(())
    }

    fn array(&mut self, member: Member<'t>, name: &str, def: &'s TypeDef, may_repeat: bool) -> Result<(), Refused<'t>> {
        let Member { value, extra, .. } = member;
        if let Some(single) = value.into_iter().chain(extra).find(|node| !node.is_array()) {
            return refuse(single, "One of a value and its _ sibling is an array and the other is not");
        }
        let count = |node: Option<Node<'t>>| node.map_or(0, |node| node.items().count());
        let length = count(value).max(count(extra));
        let Some(node) = value.or(extra).filter(|_| length < 2 && (length == 0 || !may_repeat)) else {
            return self.items(member, name, def, length);
        };
        match length {
            0 => refuse(node, "An array is empty; leave the property out"),
            _ => refuse(node, "An array occurs where JSON has a single value"),
        }
    }

    fn items(&mut self, member: Member<'t>, name: &str, def: &'s TypeDef, length: usize) -> Result<(), Refused<'t>> {
        let mut values = member.value.map(Node::items);
        let mut extras = member.extra.map(Node::items);
        for index in 0..length {
            if let Some((_, _, at)) = self.steps.last_mut() {
                *at = Some(index);
            }
            let value = values.as_mut().and_then(Iterator::next);
            let extra = extras.as_mut().and_then(Iterator::next);
            let present = |node: &Node<'_>| node.kind() != Kind::Null;
            match (value.filter(present), extra.filter(present), value.or(extra)) {
                (None, None, Some(null)) => return refuse(null, "An array has a null without a counterpart"),
                (value, extra, _) => self.one(name, def, value, extra)?,
            }
        }
        Ok(())
    }

    /// Writes one element.
    fn one(
        &mut self,
        name: &str,
        def: &'s TypeDef,
        value: Option<Node<'t>>,
        extra: Option<Node<'t>>,
    ) -> Result<(), Refused<'t>> {
        match def.kind {
            TypeKind::Primitive(Primitive::Xhtml) => match (value, extra) {
                (Some(value), None) => self.narrative(value, name),
                (_, Some(node)) => refuse(node, "Narrative cannot have extensions"),
                (None, None) => Ok(()),
            },
            TypeKind::Primitive(primitive) => self.primitive(name, primitive, def, value, extra),
            TypeKind::Resource => match value {
                Some(value) => {
                    let start = self.open(name);
                    self.out.push(b'>');
                    self.resource(value, false)?;
                    self.end(start, name);
                    Ok(())
                }
                None => Ok(()),
            },
            _ => match value {
                Some(value) if value.is_object() => {
                    let start = self.open(name);
                    self.content(value, def, false)?;
                    self.end(start, name);
                    Ok(())
                }
                Some(value) => refuse(value, "An element with child elements must be an object"),
                None => Ok(()),
            },
        }
    }

    fn primitive(
        &mut self,
        name: &str,
        primitive: Primitive,
        def: &'s TypeDef,
        value: Option<Node<'t>>,
        extra: Option<Node<'t>>,
    ) -> Result<(), Refused<'t>> {
        let start = self.open(name);
        if let Some(value) = value {
            self.check_kind(value, primitive)?;
            self.attribute("value", value)?;
        }
        match extra {
            Some(extra) if !extra.is_object() => {
                return refuse(extra, "The extensions of a value must be in an object");
            }
            Some(extra) if value.is_some() && extra.members().next().is_none() => {
                return refuse(extra, "An object is empty; leave the property out");
            }
            Some(extra) => self.content(extra, def, false)?,
            None => self.out.push(b'>'),
        }
        self.end(start, name);
        Ok(())
    }

    /// Writes `<name`; returns where it begins.
    fn open(&mut self, name: &str) -> usize {
        let start = self.out.len();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        start
    }

    fn path(&self, root: &str) -> String {
        let mut path = root.to_owned();
        for (name, of_type, index) in &self.steps {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
            if let Some(of_type) = of_type {
                let _ = write!(path, ".ofType({of_type})");
            }
            if let Some(index) = index {
                let _ = write!(path, "[{index}]");
            }
        }
        path
    }
}
