//! What a member holds: objects, primitives with their formats, and the `_` siblings of primitives.

use super::narrative;
use super::place::{Place, SINGLE};
use super::primitive;
use super::resources::type_name;
use super::walk::{Member, Object, Walker, named};
use crate::prose;
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::Primitive;
use emberpost_fhir::tree::{Children, Kind, Node};

impl<'t> Walker<'t, '_, '_> {
    /// One value: of a member that does not repeat, or one item of its array.
    pub fn value(
        &mut self,
        object: &Object<'t, '_>,
        member: &Member<'t>,
        (node, index): (Node<'t>, u32),
        other: &mut Counterpart<'t>,
    ) {
        let place = &object.place.element(member.plan, index);
        match (member.plan.primitive, member.is_sibling) {
            (_, true) => self.sibling(member, (node, index), other, place),
            // null is padding in arrays only.
            (Some(_), false) if node.kind() == Kind::Null => {
                if index == SINGLE || !other.stands(index) {
                    self.stray_null(place, node);
                }
            }
            (Some(of), false) => self.primitive(member, of, node, place),
            (None, false) => match node.kind() {
                Kind::Null => self.stray_null(place, node),
                Kind::Object if member.plan.is_resource => self.resource(node, Some(member.plan), place),
                Kind::Object => {
                    let plan = self.plan.type_plan(member.plan.type_id);
                    self.object(&Object { node, plan, role: Some(member.plan), place }, false);
                }
                _ => {
                    let code = &self.plan.schema.def(member.plan.type_id).code;
                    let is_xml = self.tree.is_xml();
                    self.fail(place, node, "type", IssueCode::Structure, || match is_xml {
                        true => {
                            format!("{} has the attribute value; the type {code} has elements instead", named(place))
                        }
                        false => format!("{} must be an object of type {code}", named(place)),
                    });
                }
            },
        }
    }

    fn primitive(&mut self, member: &Member<'t>, of: Primitive, node: Node<'t>, place: &Place) {
        if node.kind() != primitive::json_kind(of) {
            return self.wrong_kind(of, node, place);
        }
        let (span, escaped) = node.span();
        if !escaped {
            return self.text(member, of, (node, span), place);
        }
        let mut decoded = std::mem::take(&mut self.buffer);
        node.decode_into(&mut decoded);
        self.text(member, of, (node, &decoded), place);
        self.buffer = decoded;
    }

    /// The value of a primitive, decoded.
    fn text(&mut self, member: &Member<'t>, of: Primitive, (node, text): (Node<'t>, &[u8]), place: &Place) {
        if text.is_empty() {
            return self.form(
                (place, node),
                ("JSN-03", "a string is empty; leave the property out"),
                ("XML-02", "the attribute value is empty; leave the element out"),
            );
        }
        if !primitive::fits(of, text, self.plan.schema.version) {
            return self.wrong_format(of, node, text, place);
        }
        match of {
            Primitive::Xhtml => self.narrative(node, text, place),
            Primitive::Uri | Primitive::Url | Primitive::Canonical if text[0] == b'#' => self.local(node, text),
            Primitive::Canonical => self.prose(of, node, text),
            Primitive::Uri | Primitive::Url if text.starts_with(b"urn:") => self.prose(of, node, text),
            // Maps name the ConceptMaps that they contain in strings, the published ones too.
            Primitive::String if text[0] == b'#' && self.is_in_map() => self.local(node, text),
            _ => {}
        }
        if member.plan.is_element_id {
            self.element_id(node, place);
        }
        if let Some(bound) = member.plan.bound {
            self.bound_text(bound, of, node, text, place);
        }
        if let Some(constraints) = member.plan.constraints {
            let element = Element { value: Some(node), extra: None, type_id: member.plan.type_id };
            self.hold(constraints, element, 0, place);
        }
    }

    /// An element's own `id`, which references within the resource may name.
    fn element_id(&mut self, node: Node<'t>, place: &Place) {
        let Some(id) = node.text() else { return };
        if id.contains(char::is_whitespace) {
            self.fail(place, node, "id", IssueCode::Value, || {
                "the id of an element must not have white space".to_owned()
            });
        }
        if !self.ids.insert(id) {
            self.fail(place, node, "id", IssueCode::Value, || {
                "another element of the resource has this id; give each element its own".to_owned()
            });
        }
    }

    /// What the definitions do not say of uris.
    fn prose(&mut self, of: Primitive, node: Node<'t>, text: &[u8]) {
        prose::uri(of, node, std::str::from_utf8(text).unwrap_or_default(), self.report);
    }

    fn is_in_map(&self) -> bool {
        type_name(self.holder.container()).as_deref() == Some("StructureMap")
    }

    #[cold]
    fn wrong_kind(&mut self, of: Primitive, node: Node<'t>, place: &Place) {
        if self.tree.is_xml() {
            return match node.text() {
                Some(text) => self.wrong_format(of, node, text.as_bytes(), place),
                None => self.fail(place, node, "type", IssueCode::Structure, || {
                    let code = primitive::allowed(of);
                    format!(
                        "{} must have the attribute value, and no elements but extensions; its value must be {code}",
                        named(place)
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
        self.fail(place, node, "JSN-07", IssueCode::Structure, || {
            format!("{} must be {wanted} and is {found}", named(place))
        });
    }

    #[cold]
    fn wrong_format(&mut self, of: Primitive, node: Node<'t>, text: &[u8], place: &Place) {
        self.fail(place, node, "format", IssueCode::Value, || {
            let found = match of {
                Primitive::Code => format!(" '{}'", quote(&String::from_utf8_lossy(text))),
                _ => String::new(),
            };
            format!("{}{found} has not the format of its type; it must be {}", named(place), primitive::allowed(of))
        });
    }

    fn narrative(&mut self, node: Node<'t>, text: &[u8], place: &Place) {
        if let Err(fault) = narrative::check(text) {
            self.fail(place, node, fault.rule, IssueCode::Invariant, || fault.text.to_owned());
        }
        if self.holder.container().get("contained").is_some() {
            self.narrative_links(node, text);
        }
    }

    /// Links and images that show what the resource contains.
    fn narrative_links(&mut self, node: Node<'t>, text: &[u8]) {
        for at in memchr::memmem::find_iter(text, b"#") {
            let (before, rest) = text.split_at(at);
            let Some(quote) = before.last().filter(|quote| matches!(quote, b'"' | b'\'')) else { continue };
            if let Some(end) = memchr::memchr(*quote, rest).filter(|end| *end > 1) {
                self.local(node, &rest[..end]);
            }
        }
    }

    /// The object of `_x`: `id` and `extension` (JSN-06).
    fn sibling(
        &mut self,
        member: &Member<'t>,
        (node, index): (Node<'t>, u32),
        other: &mut Counterpart<'t>,
        place: &Place,
    ) {
        match node.kind() {
            Kind::Object => {
                let has_extension = node.children().any(|child| child.key().as_deref() == Some("extension"));
                let has_value = has_extension || other.stands(index);
                let plan = self.plan.type_plan(member.plan.type_id);
                self.object(&Object { node, plan, role: Some(member.plan), place }, has_value);
            }
            Kind::Null if index != SINGLE && other.stands(index) => {}
            Kind::Null => self.stray_null(place, node),
            _ => self.fail(place, node, "JSN-06", IssueCode::Structure, || {
                format!("_{} must be an object with id or extension, as {} is a primitive", named(place), named(place))
            }),
        }
    }
}

/// What stands on the other side of a primitive: `_x` of `x`, `x` of `_x`. Looked up when a null asks for it, and passed
/// through once.
pub(super) struct Counterpart<'t> {
    holder: Node<'t>,
    member: Node<'t>,
    /// Items that were not passed yet, and the index of the first of them.
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

    /// Whether a value stands there; asked with growing indexes. `SINGLE`: of a member that does not repeat.
    fn stands(&mut self, index: u32) -> bool {
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
