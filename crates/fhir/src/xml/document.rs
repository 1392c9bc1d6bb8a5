//! An XML document as elements in document order, before its FHIR version is known: spans of its bytes, no copies.
//!
//! `scan` builds it and guarantees that it is well-formed, in FHIR's namespace, with names and references checked.
//! XHTML is one element, whose text is its bytes.

/// Byte offsets, end exclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, end: end as u32 }
    }

    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// An attribute's value between its quotes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Value {
    pub span: Span,
    /// Whether it has references, or white space that XML normalizes to a space.
    pub is_coded: bool,
    /// Whether it has quotes or backslashes, which JSON escapes.
    pub is_quoted: bool,
}

/// An attribute other than `value` and namespace declarations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attribute {
    pub name: Span,
    /// Whether it is `xsi:schemaLocation` or the like.
    pub is_schema_location: bool,
    pub value: Value,
}

/// The kind of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// In FHIR's namespace.
    Fhir,
    /// In the XHTML namespace; its bytes can be used unchanged.
    Xhtml,
    /// In the XHTML namespace, but its prefix must be removed and its namespace declared.
    ForeignXhtml,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    /// From `<` of its start tag to after `>` of its end tag.
    pub span: Span,
    /// Without prefix.
    pub name: Span,
    /// The index after its subtree.
    pub next: u32,
    /// The position of its attributes in `Document::attributes`.
    pub attributes: u32,
    pub attribute_count: u8,
    pub content: Content,
    /// Whether it has text, which FHIR only allows in narrative.
    pub has_text: bool,
    pub value: Option<Value>,
}

#[derive(Debug, Default)]
pub(super) struct Document<'x> {
    pub bytes: &'x [u8],
    /// The bytes as text; empty for a fragment.
    pub text: &'x str,
    pub elements: Vec<Element>,
    pub attributes: Vec<Attribute>,
    /// The first text of elements that have some: element and offset. The maximum number of issues limits it.
    pub texts: Vec<(u32, u32)>,
}

impl<'x> Document<'x> {
    pub fn name(&self, element: &Element) -> &'x [u8] {
        element.name.of(self.bytes)
    }

    /// The text of a span that consists of whole characters.
    pub fn text_of(&self, span: Span) -> &'x str {
        self.text.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    pub fn attributes_of(&self, element: &Element) -> &[Attribute] {
        let from = element.attributes as usize;
        self.attributes.get(from..from + usize::from(element.attribute_count)).unwrap_or_default()
    }

    /// The indexes of the direct children.
    pub fn children(&self, index: u32) -> impl Iterator<Item = u32> + use<'_, 'x> {
        let end = self.elements.get(index as usize).map_or(0, |element| element.next);
        let mut next = index + 1;
        std::iter::from_fn(move || {
            let index = (next < end).then_some(next)?;
            next = self.elements.get(index as usize)?.next;
            Some(index)
        })
    }

    /// The first child with this name.
    pub fn child(&self, index: u32, name: &str) -> Option<u32> {
        self.children(index).find(|child| {
            let element = self.elements.get(*child as usize);
            element.is_some_and(|element| self.name(element) == name.as_bytes())
        })
    }
}
