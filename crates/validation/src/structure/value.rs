//! The values of members: objects, primitives with their formats, and the `_` siblings of primitives.

use super::element_path::{ElementPath, SINGLE};
use super::entries::type_name;
use super::narrative;
use super::primitive;
use super::walker::{Member, Object, Walker, named};
use crate::prose;
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::Primitive;
use emberpost_fhir::tree::{Children, Kind, Node};

impl<'t> Walker<'t, '_, '_> {
    /// Checks one value: of a member that does not repeat, or one item of its array.
    pub fn value(
        &mut self,
        object: &Object<'t, '_>,
        member: &Member<'t>,
        (node, index): (Node<'t>, u32),
        other: &mut Counterpart<'t>,
    ) {
        let path = &object.path.element(member.plan, index);
        match (member.plan.primitive, member.is_sibling) {
            (_, true) => self.sibling(member, (node, index), other, path),
            // null is padding, allowed in arrays only.
            (Some(_), false) if node.kind() == Kind::Null => {
                if index == SINGLE || !other.has_value_at(index) {
                    self.stray_null(path, node);
                }
            }
            (Some(of), false) => self.primitive(member, of, node, path),
            (None, false) => match node.kind() {
                Kind::Null => self.stray_null(path, node),
                Kind::Object if member.plan.is_resource => self.resource(node, Some(member.plan), path),
                Kind::Object => {
                    let plan = self.plan.type_plan(member.plan.type_id);
                    let holder = Some(object.node);
                    self.object(&Object { node, holder, plan, member: Some(member.plan), path }, false);
                }
                _ => {
                    let code = &self.plan.schema.def(member.plan.type_id).code;
                    let is_xml = self.tree.is_xml();
                    self.fail(path, node, "type", IssueCode::Structure, || match is_xml {
                        true => {
                            format!("{} has the attribute value; the type {code} has elements instead", named(path))
                        }
                        false => format!("{} must be an object of type {code}", named(path)),
                    });
                }
            },
        }
    }

    fn primitive(&mut self, member: &Member<'t>, of: Primitive, node: Node<'t>, path: &ElementPath) {
        if node.kind() != primitive::json_kind(of) {
            return self.wrong_kind(of, node, path);
        }
        let (span, escaped) = node.span();
        if !escaped {
            return self.text(member, of, (node, span), path);
        }
        let mut decoded = std::mem::take(&mut self.buffer);
        node.decode_into(&mut decoded);
        self.text(member, of, (node, &decoded), path);
        self.buffer = decoded;
    }

    /// Checks the decoded value of a primitive.
    fn text(&mut self, member: &Member<'t>, of: Primitive, (node, text): (Node<'t>, &[u8]), path: &ElementPath) {
        if text.is_empty() {
            return self.format_error(
                (path, node),
                ("JSN-03", "a string is empty; leave the property out"),
                ("XML-02", "the attribute value is empty; leave the element out"),
            );
        }
        if !primitive::fits(of, text, self.plan.schema.version) {
            return self.wrong_format(of, node, text, path);
        }
        match of {
            Primitive::Xhtml => self.narrative(node, text, path),
            Primitive::Uri | Primitive::Url | Primitive::Canonical if text[0] == b'#' => self.local(node, text),
            Primitive::Canonical => self.prose(of, node, text),
            Primitive::Uri | Primitive::Url if text.starts_with(b"urn:") => self.prose(of, node, text),
            // ConceptMaps refer to the maps that they contain by strings, also in published definitions.
            Primitive::String if text[0] == b'#' && self.is_in_map() => self.local(node, text),
            _ => {}
        }
        if member.plan.is_element_id {
            self.element_id(node, path);
        }
        if let Some(bound) = member.plan.bound {
            self.bound_text(bound, of, node, text, path);
        }
        if let Some(constraints) = member.plan.constraints {
            let element = Element { value: Some(node), extra: None, type_id: member.plan.type_id };
            self.check_constraints(constraints, element, 0, path);
        }
    }

    /// Checks an element's own `id`, which references within the resource may name.
    fn element_id(&mut self, node: Node<'t>, path: &ElementPath) {
        let Some(id) = node.text() else { return };
        if id.contains(char::is_whitespace) {
            self.fail(path, node, "id", IssueCode::Value, || {
                "the id of an element must not have white space".to_owned()
            });
        }
        if !self.ids.insert(id) {
            self.fail(path, node, "id", IssueCode::Value, || {
                "another element of the resource has this id; give each element its own".to_owned()
            });
        }
    }

    /// Rules for uris that the definitions do not express.
    fn prose(&mut self, of: Primitive, node: Node<'t>, text: &[u8]) {
        prose::uri(of, node, std::str::from_utf8(text).unwrap_or_default(), self.collector);
    }

    fn is_in_map(&self) -> bool {
        type_name(self.holder.container()).as_deref() == Some("StructureMap")
    }

    #[cold]
    fn wrong_kind(&mut self, of: Primitive, node: Node<'t>, path: &ElementPath) {
        if self.tree.is_xml() {
            return match node.text() {
                Some(text) => self.wrong_format(of, node, text.as_bytes(), path),
                None => self.fail(path, node, "type", IssueCode::Structure, || {
                    let code = primitive::allowed(of);
                    format!(
                        "{} must have the attribute value, and no elements but extensions; its value must be {code}",
                        named(path)
                    )
                }),
            };
        }
        let found = match node.kind() {
            Kind::Object => "an object",
            Kind::Array => "an array",
            Kind::String => "a string",
            Kind::Number => "a number",
            Kind::Boolean => "a boolean",
            Kind::Null => "null",
        };
        let wanted = match primitive::json_kind(of) {
            Kind::Boolean => "true or false",
            Kind::Number => "a JSON number",
            _ => "a JSON string",
        };
        self.fail(path, node, "JSN-07", IssueCode::Structure, || {
            format!("{} must be {wanted} but is {found}", named(path))
        });
    }

    #[cold]
    fn wrong_format(&mut self, of: Primitive, node: Node<'t>, text: &[u8], path: &ElementPath) {
        self.fail(path, node, "format", IssueCode::Value, || {
            let found = match of {
                Primitive::Code => format!(" '{}'", quote(&String::from_utf8_lossy(text))),
                _ => String::new(),
            };
            format!(
                "{}{found} does not have the format of its type; it must be {}",
                named(path),
                primitive::allowed(of)
            )
        });
    }

    fn narrative(&mut self, node: Node<'t>, text: &[u8], path: &ElementPath) {
        if let Err(fault) = narrative::check(text) {
            self.fail(path, node, fault.rule, IssueCode::Invariant, || fault.text.to_owned());
        }
        if self.holder.container().get("contained").is_some() {
            self.narrative_links(node, text);
        }
    }

    /// Links and images in the narrative that refer to contained resources.
    fn narrative_links(&mut self, node: Node<'t>, text: &[u8]) {
        for at in memchr::memmem::find_iter(text, b"#") {
            let (before, rest) = text.split_at(at);
            let Some(quote) = before.last().filter(|quote| matches!(quote, b'"' | b'\'')) else { continue };
            if let Some(end) = memchr::memchr(*quote, rest).filter(|end| *end > 1) {
                self.local(node, &rest[..end]);
            }
        }
    }

    /// Checks the object of `_x`: `id` and `extension` (JSN-06).
    fn sibling(
        &mut self,
        member: &Member<'t>,
        (node, index): (Node<'t>, u32),
        other: &mut Counterpart<'t>,
        path: &ElementPath,
    ) {
        match node.kind() {
            Kind::Object => {
                let has_extension = node.children().any(|child| child.key().as_deref() == Some("extension"));
                let has_value = has_extension || other.has_value_at(index);
                let plan = self.plan.type_plan(member.plan.type_id);
                self.object(&Object { node, holder: None, plan, member: Some(member.plan), path }, has_value);
            }
            Kind::Null if index != SINGLE && other.has_value_at(index) => {}
            Kind::Null => self.stray_null(path, node),
            _ => self.fail(path, node, "JSN-06", IssueCode::Structure, || {
                format!("_{} must be an object with id or extension, as {} is a primitive", named(path), named(path))
            }),
        }
    }
}

/// The other member of a primitive: `_x` for `x`, `x` for `_x`. Looked up when the first null needs it, and iterated
/// once.
pub(super) struct Counterpart<'t> {
    holder: Node<'t>,
    member: Node<'t>,
    /// The remaining items, and the index of the first of them.
    rest: Option<(Children<'t>, u32)>,
}

impl<'t> Counterpart<'t> {
    pub fn new(holder: Node<'t>, member: Node<'t>) -> Self {
        Counterpart { holder, member, rest: None }
    }

    fn other(&self) -> Option<Node<'t>> {
        let key = self.member.key()?;
        match key.strip_prefix('_') {
            Some(base) => self.holder.get(base),
            None => self.holder.get(&format!("_{key}")),
        }
    }

    /// Whether a value is present at an index; indexes must increase. `SINGLE`: of a member that does not repeat.
    fn has_value_at(&mut self, index: u32) -> bool {
        if index == SINGLE {
            return self.other().is_some_and(|other| other.kind() != Kind::Null);
        }
        if self.rest.is_none() {
            self.rest = self.other().filter(|other| other.is_array()).map(|other| (other.children(), 0));
        }
        let Some((items, at)) = &mut self.rest else { return false };
        while *at < index {
            items.next();
            *at += 1;
        }
        *at += 1;
        items.next().is_some_and(|item| item.kind() != Kind::Null)
    }
}
