//! Adds the element of a start tag to the document, and checks that narrative does not depend on its context.

use super::super::super::json::NODE_LIMIT;
use super::super::document::{Attribute, Content, Element, Span};
use super::super::namespace::{Mark, Space};
use super::tag::Tag;
use super::{Narrative, Scanner, Stop};

impl Scanner<'_> {
    /// Narrative must not use declarations outside of it, because it must be complete in JSON.
    pub(super) fn check_narrative(&self, tag: &Tag, narrative: Narrative) -> Result<(), Stop> {
        if self.is_fragment {
            return Ok(());
        }
        let text = "The narrative needs a namespace that is declared outside of it; declare it on the div";
        let outside = Stop::new(tag.start, "XML-01", text);
        let own = narrative.prefix.of(self.bytes);
        let prefix = tag.name.prefix.of(self.bytes);
        let is_declared = match prefix {
            b"" => own.is_empty() || self.scope.has_default_since(narrative.mark),
            _ if prefix == own => true,
            _ => self.scope.find(self.bytes, tag.name.prefix, narrative.mark)?.2,
        };
        if !is_declared || (!own.is_empty() && prefix == own && tag.space != Space::Xhtml) {
            return Err(outside);
        }
        self.check_narrative_attributes(narrative.mark, outside)
    }

    fn check_narrative_attributes(&self, mark: Mark, outside: Stop) -> Result<(), Stop> {
        for (name, _) in self.attributes.iter().filter(|_| self.has_prefixes) {
            let prefix = name.prefix.of(self.bytes);
            if !prefix.is_empty() && prefix != b"xmlns" && !self.scope.find(self.bytes, name.prefix, mark)?.2 {
                return Err(outside);
            }
        }
        Ok(())
    }

    /// Adds an element of FHIR, or the root of narrative, to the document.
    pub(super) fn element(&mut self, tag: &Tag) -> Result<u32, Stop> {
        let index = self.document.elements.len();
        if index >= NODE_LIMIT {
            return Err(Stop::too_long(tag.start, "The document has more values than the limit of 2000000"));
        }
        let mut element = Element {
            span: Span::new(tag.start, self.position),
            name: tag.name.local,
            next: index as u32 + 1,
            attributes: self.document.attributes.len() as u32,
            attribute_count: 0,
            content: Content::Fhir,
            has_text: false,
            value: None,
        };
        match tag.space {
            Space::Fhir => self.keep_attributes(&mut element, tag.mark)?,
            Space::Xhtml if index > 0 => {
                let text =
                    "The narrative has an attribute whose prefix is declared outside of it; declare it on the div";
                self.check_narrative_attributes(tag.mark, Stop::new(tag.start, "XML-01", text))?;
                let stands_alone =
                    tag.name.prefix.start == tag.name.prefix.end && self.scope.has_default_since(tag.mark);
                element.content = if stands_alone { Content::Xhtml } else { Content::ForeignXhtml };
            }
            _ if self.is_fragment => {}
            _ => {
                let text = "An element is not in the namespace of FHIR; declare xmlns=\"http://hl7.org/fhir\"";
                return Err(Stop::new(tag.start, "XML-01", text));
            }
        }
        self.document.elements.push(element);
        Ok(index as u32)
    }

    fn keep_attributes(&mut self, element: &mut Element, mark: Mark) -> Result<(), Stop> {
        for (name, value) in &self.attributes {
            let prefix = name.prefix.of(self.bytes);
            match (prefix, name.local.of(self.bytes)) {
                (b"", b"value") => element.value = Some(*value),
                (b"", b"xmlns") | (b"xmlns", _) => {}
                (prefix, local) => {
                    let is_schema = !prefix.is_empty()
                        && self.scope.find(self.bytes, name.prefix, mark)?.0 == Space::Schema
                        && matches!(local, b"schemaLocation" | b"noNamespaceSchemaLocation");
                    let attribute = Attribute { name: name.whole, is_schema_location: is_schema, value: *value };
                    self.document.attributes.push(attribute);
                    element.attribute_count += 1;
                }
            }
        }
        Ok(())
    }
}
