//! Builds the members of an object: values, arrays, and `_` siblings (JSN-05, JSN-06), each in the shape of its
//! type.

use super::super::super::schema::{ElementDef, Primitive, TypeDef, TypeId, TypeKind};
use super::super::super::tree::Kind;
use super::super::document::Content;
use super::super::scan::Stop;
use super::group::Child;
use super::{Builder, Shape, Step};
use std::ops::Range;

impl<'a> Builder<'a> {
    pub(super) fn members(&mut self, index: u32, def: Option<&'a TypeDef>, is_resource: bool) -> Result<(), Stop> {
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

    /// Builds all children with one name: a value or an array, and its `_` sibling.
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
        // Readers look for the array of values first, so without values it is as long as the other, and all null.
        let is_listed = known.is_some_and(|(element, _)| element.is_array);
        if has_value || (has_extra && is_listed) {
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

    fn values(&mut self, range: Range<usize>, of_type: Option<&'a TypeDef>, is_array: bool) -> Result<(), Stop> {
        self.listed(range, is_array, |builder, Child { index, shape, .. }| {
            let element = builder.element(index);
            match shape {
                Shape::Nothing => builder.null(element.span.start),
                Shape::Scalar(primitive) => {
                    builder.value(element.value.unwrap_or_default(), primitive, element.span.start)
                }
                Shape::Narrative => builder.narrative(element),
                Shape::Object => builder.object(index, of_type),
                Shape::Resource => builder.resources(index),
            }
        })
    }

    fn extras(&mut self, range: Range<usize>, of_type: Option<&'a TypeDef>, is_array: bool) -> Result<(), Stop> {
        self.listed(range, is_array, |builder, Child { index, has_extra, .. }| match has_extra {
            true => builder.object(index, of_type),
            false => builder.null(builder.element(index).span.start),
        })
    }

    /// Writes each child of the range, as an array if they are one.
    fn listed(
        &mut self,
        range: Range<usize>,
        is_array: bool,
        write: impl Fn(&mut Self, Child<'a>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let first = range.start;
        let array = is_array.then(|| self.open(Kind::Array, self.element(self.children[first].index).span.start));
        let array = array.transpose()?;
        for at in range {
            self.step_to(at - first);
            if is_array {
                self.comma();
            }
            write(self, self.children[at])?;
        }
        if let Some(array) = array {
            self.close(array, b']');
        }
        Ok(())
    }

    /// Builds the resources in an element that should hold exactly one.
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

    /// Whether a primitive without a value has children other than extensions, like a data type.
    fn holds_more_than_extensions(&self, index: u32) -> bool {
        self.document.children(index).any(|child| self.document.name(self.element(child)) != b"extension")
    }
}
