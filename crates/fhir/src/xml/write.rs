//! A tree to FHIR XML: the exact inverse of reading (XML-01, JSN-05 to JSN-08).
//!
//! Elements come in the schema's order. What XML could not give back as it is, is refused: unknown members, empty arrays,
//! a number where a string belongs. So the form that is written reads as a tree that says the same, or none is written.
//! Arrays of a value and of its `_` sibling may be of any lengths, and hold null wherever the other one has something:
//! reading gives them one length.

mod order;
mod value;

use self::order::Member;
use super::super::cause::Cause;
use super::super::finding::step;
use super::super::issue::{Issue, IssueCode};
use super::super::schema::{Primitive, Schema, TypeDef, TypeKind};
use super::super::tree::{Kind, Node};
use std::fmt::Write;

/// The resource in XML. Errs with the first thing that has no exact XML form, and its place.
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

/// The root's type, from which paths are counted, if it is one.
fn root_name<'s>(schema: &'s Schema, node: Node<'_>) -> &'s str {
    let name = node.tree.root().get("resourceType").and_then(Node::text).unwrap_or_default();
    schema.resource(&name).map_or("", |id| &schema.def(id).name)
}

/// What has no exact XML form, and where.
struct Refused<'t> {
    text: &'static str,
    node: Node<'t>,
    /// The node is a member of where the writer stands.
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
    /// The open elements, each with its type where it is a choice, and its index in an array.
    steps: Vec<(&'s str, Option<&'s str>, Option<usize>)>,
    /// The members of the open objects, innermost last: one vector for all.
    members: Vec<Member<'t>>,
}

impl<'t, 's> Writer<'t, 's> {
    /// A resource in the element of its type.
    fn resource(&mut self, node: Node<'t>, is_root: bool) -> Result<(), Refused<'t>> {
        if !node.is_object() {
            return refuse(node, "Something else than an object stands where a resource belongs");
        }
        let name = node.get("resourceType").and_then(Node::text).unwrap_or_default();
        let Some(id) = self.schema.resource(&name) else {
            return refuse(node, "The type of a resource is missing or unknown, so that its XML form is not known");
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

    /// The attributes and elements that an object has, from within its start tag on.
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
                    return refuse_member(at, "What XML writes as an attribute is no plain string");
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

    /// The end tag, or `/>` where nothing came since the start tag, whose `>` is the first from `start` on.
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
                Some(node) if element.is_array => return refuse(node, "A single value stands where JSON has an array"),
                _ => self.one(&name, def, member.value, member.extra)?,
            }
        }
        self.steps.pop();
        Ok(())
    }

    fn array(&mut self, member: Member<'t>, name: &str, def: &'s TypeDef, may_repeat: bool) -> Result<(), Refused<'t>> {
        let Member { value, extra, .. } = member;
        if let Some(single) = value.into_iter().chain(extra).find(|node| !node.is_array()) {
            return refuse(single, "Of a value and its _ sibling one is an array and the other is not");
        }
        let count = |node: Option<Node<'t>>| node.map_or(0, |node| node.items().count());
        let length = count(value).max(count(extra));
        let Some(node) = value.or(extra).filter(|_| length < 2 && (length == 0 || !may_repeat)) else {
            return self.items(member, name, def, length);
        };
        match length {
            0 => refuse(node, "An array is empty; leave the property out"),
            _ => refuse(node, "An array stands where JSON has a single value"),
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
                (None, None, Some(null)) => return refuse(null, "null stands in an array without a counterpart"),
                (value, extra, _) => self.one(name, def, value, extra)?,
            }
        }
        Ok(())
    }

    /// One element.
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
                (_, Some(node)) => refuse(node, "Narrative has no extensions"),
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
                Some(value) => refuse(value, "Something else than an object stands where an element has elements"),
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
                return refuse(extra, "Something else than an object stands where the extensions of a value belong");
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

    /// `<name`; where it begins.
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
