//! What only the XML form breaks, noted with its place (XML-01, XML-02, XML-03, XML-05).

use super::super::super::finding::{Finding, step};
use super::super::super::schema::{TypeDef, TypeKind};
use super::super::document::{Attribute, Value};
use super::Builder;
use std::fmt::Write;

impl Builder<'_> {
    /// From the root's members down to where the builder stands.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for at in &self.steps {
            path.push_str(&step(std::str::from_utf8(at.name).unwrap_or_default()));
            if let Some(index) = at.index {
                let _ = write!(path, "[{index}]");
            }
        }
        path
    }

    pub(super) fn note(&mut self, offset: u32, rule: &'static str, text: &'static str) {
        if self.findings.has_room_for_notes() {
            let path = self.path();
            self.findings.note(Finding::new(offset as usize, rule, text, path));
        }
    }

    /// Of a child that is being gathered, those before it standing from `from` on.
    pub(super) fn note_child(&mut self, child: u32, name: &[u8], from: usize, rule: &'static str, text: &'static str) {
        if !self.findings.has_room_for_notes() {
            return;
        }
        let offset = self.element(child).span.start;
        let before = self.children[from..].iter().filter(|child| child.name == name);
        let (count, known) = before.fold((0, None), |(count, _), child| (count + 1, child.known));
        let is_array = count > 0 || known.is_some_and(|(element, _)| element.is_array);
        let mut path = self.path() + &step(std::str::from_utf8(name).unwrap_or_default());
        if is_array {
            let _ = write!(path, "[{count}]");
        }
        self.findings.note(Finding::new(offset as usize, rule, text, path));
    }

    /// Text in an element.
    pub(super) fn check_text(&mut self, index: u32) {
        if !self.element(index).has_text {
            return;
        }
        let found = self.document.texts.iter().find(|(element, _)| *element == index);
        if let Some((_, offset)) = found.copied() {
            self.note(offset, "XML-05", "Text stands in an element; FHIR has values in the attribute value only");
        }
    }

    /// An element's attributes and whether it has any content, by its type; None: the type is not known.
    pub(super) fn check_element(&mut self, index: u32, of_type: Option<&TypeDef>, has_children: bool) {
        let element = self.element(index);
        let attributes = self.document.attributes_of(element);
        for attribute in attributes {
            if !self.is_known_attribute(of_type, attribute) {
                self.note_attribute(attribute);
            }
        }
        let is_primitive = of_type.is_none_or(|def| matches!(def.kind, TypeKind::Primitive(_)));
        let is_resource = of_type.is_some_and(|def| def.kind == TypeKind::Resource);
        match element.value {
            Some(value) if is_resource => self.note_value(value),
            Some(value) if !is_primitive && (has_children || !attributes.is_empty()) => self.note_value(value),
            Some(value) if value.span.start == value.span.end => {
                self.note(element.span.start, "XML-02", "An attribute value is empty; leave it out");
            }
            None if !has_children && attributes.is_empty() => {
                self.note(element.span.start, "XML-02", "An element is empty; leave it out");
            }
            _ => {}
        }
        if is_resource && self.document.children(index).nth(1).is_some() {
            self.note(element.span.start, "XML-01", "More than one resource stands where one is allowed");
        }
    }

    pub(super) fn note_attribute(&mut self, attribute: &Attribute) {
        let (offset, location) = (attribute.name.start, attribute.is_schema_location);
        match location {
            true => self.note(offset, "XML-03", "A location of schemas stands in a resource; leave it out"),
            false => self.note(offset, "XML-05", "An element has an attribute that FHIR does not define for it"),
        }
    }

    /// The attribute `value` of what is no primitive.
    pub(super) fn note_value(&mut self, value: Value) {
        self.note(value.span.start, "XML-05", "An element that has no value has the attribute value");
    }
}
