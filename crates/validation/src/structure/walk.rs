//! The walk: objects, their members, and required elements.

use super::element_path::{ElementPath, SINGLE};
use super::plan::Special;
use super::shortcut::bit;
use super::value::Counterpart;
use super::walker::{Member, Object, Walker};
use emberpost_fhir::IssueCode;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::tree::{Kind, Node};
use std::borrow::Cow;

impl<'t> Walker<'t, '_, '_> {
    /// Checks an object: its members, including their values, required elements, and the rules of its type.
    pub fn object(&mut self, object: &Object<'t, '_>, has_value: bool) {
        let outer_ids = object.plan.has_own_ids.then(|| std::mem::take(&mut self.ids));
        let present = self.members(object);
        if let Some(outer) = outer_ids {
            self.ids = outer;
        }
        self.rules(object, present, has_value);
    }

    /// Rules that apply to an object as a whole.
    fn rules(&mut self, object: &Object<'t, '_>, present: u128, has_value: bool) {
        if object.node.children().next().is_none() {
            self.format_error(
                (object.path, object.node),
                ("JSN-03", "an object is empty; leave the property out"),
                ("XML-02", "an element is empty; fill it, or leave it out"),
            );
            return;
        }
        let is_resource = matches!(object.plan.special, Special::Resource | Special::Bundle);
        if present & !object.plan.id == 0 && !is_resource && !has_value {
            self.fail(object.path, object.node, "ele-1", IssueCode::Invariant, || {
                "an element must have a value or children beside its id".to_owned()
            });
        }
        // Parameters are the input of an operation, which may be empty.
        let is_hollow = || object.node.children().all(|member| member.has_key("resourceType"));
        if present == 0 && is_resource && &*object.plan.def.name != "Parameters" && is_hollow() {
            self.format_error(
                (object.path, object.node),
                ("JSN-03", "a resource has nothing but its type; fill it, or leave it out"),
                ("XML-02", "a resource has no elements; fill it, or leave it out"),
            );
        }
        let missing = object.plan.required & !present;
        if missing != 0 {
            self.missing(object, missing);
        }
        self.special(object, present);
        self.constraints(object, present);
    }

    /// Walks every member; returns the bits of the elements that are present.
    fn members(&mut self, object: &Object<'t, '_>) -> u128 {
        let mut present = 0;
        for node in object.node.children() {
            let (key, escaped) = node.key_span();
            let name = match escaped {
                false => Cow::Borrowed(key),
                true => Cow::Owned(node.key().unwrap_or_default().into_owned().into_bytes()),
            };
            let (base, is_sibling) = match &*name {
                [b'_', base @ ..] => (base, true),
                base => (base, false),
            };
            let Some(member) = self.known(object, node, base, is_sibling) else {
                let is_type = base == b"resourceType" && !is_sibling;
                if !is_type || !matches!(object.plan.special, Special::Resource | Special::Bundle) {
                    self.unknown(object, node, &name);
                }
                continue;
            };
            let element = bit(u32::from(member.plan.element));
            if member.plan.is_choice && present & element != 0 {
                self.second_choice(object, &member, base);
            }
            present |= element;
            self.member(object, &member);
        }
        present
    }

    fn known(&self, object: &Object<'t, '_>, node: Node<'t>, name: &[u8], is_sibling: bool) -> Option<Member<'t>> {
        let plan = object.plan.member(self.plan.schema, name)?;
        (!is_sibling || plan.primitive.is_some()).then_some(Member { node, plan, is_sibling })
    }

    /// Checks that the value is an array if and only if the element repeats (JSN-05), and how many values there are.
    fn member(&mut self, object: &Object<'t, '_>, member: &Member<'t>) {
        let node = member.node;
        if !member.plan.is_array {
            if node.is_array() {
                let path = object.path.element(member.plan, SINGLE);
                match self.tree.is_xml() {
                    true => self.too_many(&path, node, (&member.plan.def.name, node.items().count() as u32)),
                    false => self.wrong_shape(&path, node, "must be a single value, not an array"),
                }
            } else {
                self.value(object, member, (node, SINGLE), &mut Counterpart::new(object.node, node));
            }
            return;
        }
        if !node.is_array() {
            let path = object.path.element(member.plan, SINGLE);
            let is_null = node.kind() == Kind::Null;
            match is_null {
                true => self.stray_null(&path, node),
                false => self.wrong_shape(&path, node, "must be an array, even for a single value"),
            }
            return;
        }
        let (mut count, mut other) = (0u32, Counterpart::new(object.node, node));
        for item in node.items() {
            self.value(object, member, (item, count), &mut other);
            count += 1;
        }
        self.count(object, member, count);
    }

    fn count(&mut self, object: &Object<'t, '_>, member: &Member<'t>, count: u32) {
        let plan = member.plan;
        if count == 0 {
            let path = object.path.element(plan, SINGLE);
            self.fail(&path, member.node, "JSN-03", IssueCode::Structure, || {
                "an array is empty; leave the property out".to_owned()
            });
        } else if plan.max != u16::MAX && count > u32::from(plan.max) {
            self.too_many(object.path, member.node, (&plan.def.name, count));
        } else if count < u32::from(plan.min) && !member.is_sibling {
            let (name, min) = (&plan.def.name, plan.min);
            self.fail(object.path, member.node, "min", IssueCode::Required, || {
                format!("{name} must occur at least {min} times but occurs {count} times")
            });
        }
    }

    /// A choice has one value: another member of the same element is another type.
    fn second_choice(&mut self, object: &Object<'t, '_>, member: &Member<'t>, name: &[u8]) {
        let of_element = |node: &Node<'t>| {
            let key = node.key().unwrap_or_default();
            let base = key.strip_prefix('_').unwrap_or(&key).as_bytes();
            let other = object.plan.member(self.plan.schema, base);
            base != name && other.is_some_and(|other| other.element == member.plan.element)
        };
        if object.node.children().take_while(|node| node.index < member.node.index).any(|node| of_element(&node)) {
            let path = object.path.element(member.plan, SINGLE);
            let name = &member.plan.def.name;
            self.fail(&path, member.node, "max", IssueCode::Structure, || {
                format!("{name}[x] has one value of one type; there is already a value of another type")
            });
        }
    }

    #[cold]
    fn missing(&mut self, object: &Object<'t, '_>, missing: u128) {
        for (index, element) in (0u32..).zip(&object.plan.def.elements) {
            if missing & bit(index) != 0 && !self.is_reported_by_header_rules(object, &element.name) {
                let choice = if element.is_choice { "[x]" } else { "" };
                self.fail(object.path, object.node, "min", IssueCode::Required, || {
                    format!(
                        "{}{choice} is missing; {} must have at least {}",
                        element.name, object.plan.def.name, element.min
                    )
                });
            }
        }
    }

    /// Whether the message rules report this for the message's own header: MSG-03, MSG-35, MSG-37.
    fn is_reported_by_header_rules(&self, object: &Object<'t, '_>, element: &str) -> bool {
        let header = match (&*object.plan.def.name, element) {
            ("MessageHeader", "event") => Some(object.path),
            ("MessageHeader.response", "code" | "identifier") => object.path.parent,
            _ => None,
        };
        let entry = header.filter(|_| self.options.is_message).and_then(|header| header.parent);
        entry.is_some_and(|entry| entry.index == 0 && entry.parent.is_some_and(|root| root.member.is_none()))
    }

    #[cold]
    fn unknown(&mut self, object: &Object<'t, '_>, node: Node<'t>, name: &[u8]) {
        // The expression is the object's, because FHIRPath has no path to an undefined element. Line and column are
        // the member's.
        self.fail(object.path, node, "unknown-element", IssueCode::Structure, || {
            format!("'{}' is not an element of {}", quote(&String::from_utf8_lossy(name)), object.plan.def.name)
        });
    }

    fn too_many(&mut self, path: &ElementPath, node: Node<'t>, (name, count): (&str, u32)) {
        self.fail(path, node, "max", IssueCode::Structure, || {
            format!("{name} occurs {count} times, more often than allowed")
        });
    }
}
