//! Notes rules that only XML can violate (XML-01, XML-02, XML-03, XML-05).

use super::super::super::finding::{Finding, step};
use super::super::super::schema::{TypeDef, TypeKind};
use super::super::document::{Attribute, Value};
use super::{Builder, Step};
use std::fmt::Write;

impl<'a> Builder<'a> {
    /// The path from the root's members to the current element.
    pub(super) fn path(&self) -> String {
        let mut path = String::new();
        for at in &self.steps {
            spell(at, &mut path);
        }
        path
    }

    pub(super) fn note(&mut self, offset: u32, rule: &'static str, text: &'static str) {
        let path = if self.findings.has_room_for_notes() { self.path() } else { String::new() };
        self.findings.note(Finding::new(offset as usize, rule, text, path));
    }

    /// Notes an element that JSON cannot represent.
    pub(super) fn note_misplaced(&mut self, index: u32, name: &'a [u8], text: &'static str) {
        self.steps.push(Step { name, of_type: None, index: None });
        self.note(self.element(index).span.start, "XML-05", text);
        self.steps.pop();
    }

    /// Notes text in an element.
    pub(super) fn check_text(&mut self, index: u32) {
        if !self.element(index).has_text {
            return;
        }
        let found = self.document.texts.iter().find(|(element, _)| *element == index);
        if let Some((_, offset)) = found.copied() {
            self.note(offset, "XML-05", "An element has text; FHIR has values in the attribute value only");
        }
    }

    /// Checks an element's attributes and whether it has any content, by its type; None: the type is not known.
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
            self.note(element.span.start, "XML-01", "More than one resource occurs where one is allowed");
        }
    }

    pub(super) fn note_attribute(&mut self, attribute: &Attribute) {
        let (offset, location) = (attribute.name.start, attribute.is_schema_location);
        match location {
            true => self.note(offset, "XML-03", "A resource has a schema location; leave it out"),
            false => self.note(offset, "XML-05", "An element has an attribute that FHIR does not define for it"),
        }
    }

    /// Notes the attribute `value` of an element that is not a primitive.
    pub(super) fn note_value(&mut self, value: Value) {
        self.note(value.span.start, "XML-05", "An element whose type has no value has the attribute value");
    }
}

fn spell(at: &Step<'_>, path: &mut String) {
    path.push_str(&step(std::str::from_utf8(at.name).unwrap_or_default()));
    if let Some(of_type) = at.of_type {
        let _ = write!(path, ".ofType({of_type})");
    }
    if let Some(index) = at.index {
        let _ = write!(path, "[{index}]");
    }
}
