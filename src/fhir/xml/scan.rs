//! Well-formed XML to a `Document`, without recursion and without copies: XML 1.0 with namespaces, and no DTD (XML-03).
//!
//! The grammar is checked here and not by a library, because it must hold to the letter: matching tags, legal
//! characters, references, one root, no attribute twice, declared prefixes.

use super::super::json::{DEPTH_LIMIT, NODE_LIMIT};
use super::super::outcome::IssueCode;
use super::super::scan::Broken;
use super::document::{Attribute, Content, Document, Element, Span, Value};
use super::namespace::{Mark, Scope, Space};
use super::prolog::{self, Refused};
use super::text::{self, Name, broken, is_space};
use super::{GRAMMAR, ISSUE_LIMIT};

/// Elements deeper than this cannot make JSON of allowed depth: a resource stands in two of them, a primitive in one.
const ELEMENT_DEPTH_LIMIT: usize = DEPTH_LIMIT * 2;
/// The same within narrative, beyond where it stands.
const NARRATIVE_DEPTH_LIMIT: usize = 256;
/// Most attributes of one element.
const ATTRIBUTES_LIMIT: usize = 64;

/// Why reading ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub offset: usize,
    pub text: &'static str,
    pub rule: &'static str,
    pub code: IssueCode,
}

impl Stop {
    pub fn new(offset: usize, rule: &'static str, text: &'static str) -> Stop {
        Stop { offset, text, rule, code: IssueCode::Structure }
    }

    pub fn too_long(offset: usize, text: &'static str) -> Stop {
        Stop { offset, text, rule: GRAMMAR, code: IssueCode::TooLong }
    }
}

impl From<Broken> for Stop {
    fn from(Broken { offset, text }: Broken) -> Self {
        Stop::new(offset, GRAMMAR, text)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Grammar(broken) => broken.into(),
            Refused::Encoding(offset) => Stop::new(offset, "XML-03", "FHIR XML is written in UTF-8 only"),
        }
    }
}

/// Reads a FHIR document.
pub(super) fn document(bytes: &[u8]) -> Result<Document<'_>, Stop> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Stop::too_long(0, "The body is longer than 4 GiB, which is the most that is read"));
    }
    if prolog::is_wide(bytes) {
        return Err(Stop::new(0, "XML-03", "The text is UTF-16 or UTF-32; FHIR XML is written in UTF-8 only"));
    }
    check_characters(bytes)?;
    let mut scanner = Scanner::new(bytes, false);
    scanner.position = prolog::end(bytes)?;
    scanner.between()?;
    scanner.root()?;
    scanner.between()?;
    match bytes.get(scanner.position) {
        None => Ok(scanner.document),
        Some(b'<') => Ok(broken(scanner.position, "A second root element stands after the first")?),
        Some(_) => Ok(broken(scanner.position, "Something stands after the end of the root element")?),
    }
}

/// Checks that the text is one element of XHTML and nothing else, which can stand in any document.
pub(super) fn fragment(bytes: &[u8]) -> Result<(), Broken> {
    let read = || -> Result<usize, Stop> {
        check_characters(bytes)?;
        let mut scanner = Scanner::new(bytes, true);
        scanner.root()?;
        Ok(scanner.position)
    };
    match read() {
        Ok(end) if end == bytes.len() => Ok(()),
        Ok(end) => broken(end, "Something stands after the element"),
        Err(stop) => broken(stop.offset, stop.text),
    }
}

fn check_characters(bytes: &[u8]) -> Result<(), Stop> {
    if let Err(error) = std::str::from_utf8(bytes) {
        return Ok(broken(error.valid_up_to(), "The text is not valid UTF-8")?);
    }
    match text::illegal(bytes) {
        Some(offset) => Ok(broken(offset, "A character stands in the text that XML does not allow")?),
        None => Ok(()),
    }
}

/// An element whose end tag has not come.
struct Open {
    name: Span,
    /// Within narrative, the element that holds all of it.
    element: u32,
    mark: Mark,
}

/// The narrative that is being read.
#[derive(Clone, Copy)]
struct Narrative {
    /// How many elements are open within its root, itself included.
    depth: usize,
    mark: Mark,
    prefix: Span,
}

struct Tag {
    start: usize,
    name: Name,
    mark: Mark,
    space: Space,
    is_empty: bool,
}

struct Scanner<'x> {
    bytes: &'x [u8],
    position: usize,
    document: Document<'x>,
    open: Vec<Open>,
    scope: Scope,
    /// The attributes of the tag that is being read, with those that declare namespaces.
    attributes: Vec<(Name, Value)>,
    has_prefixes: bool,
    narrative: Option<Narrative>,
    is_fragment: bool,
}

impl<'x> Scanner<'x> {
    fn new(bytes: &'x [u8], is_fragment: bool) -> Self {
        let elements = Vec::with_capacity((bytes.len() / 48 + 4).min(1 << 16));
        Scanner {
            bytes,
            position: 0,
            document: Document { bytes, elements, ..Document::default() },
            open: Vec::with_capacity(16),
            scope: Scope::default(),
            attributes: Vec::with_capacity(8),
            has_prefixes: false,
            narrative: None,
            is_fragment,
        }
    }

    /// What may stand before and after the root: white space, comments, processing instructions.
    fn between(&mut self) -> Result<(), Stop> {
        loop {
            self.skip_space();
            let rest = self.bytes.get(self.position..).unwrap_or_default();
            match rest {
                [b'<', b'?', ..] => self.instruction()?,
                [b'<', b'!', b'-', ..] => self.comment()?,
                [b'<', b'!', ..] => return self.declared(),
                _ => return Ok(()),
            }
        }
    }

    fn root(&mut self) -> Result<(), Stop> {
        if self.bytes.get(self.position) != Some(&b'<') {
            return Ok(broken(self.position, "Something else than an element stands where the root is expected")?);
        }
        self.start_tag()?;
        while !self.open.is_empty() {
            self.text()?;
            match self.bytes.get(self.position + 1) {
                Some(b'/') => self.end_tag()?,
                Some(b'?') => self.instruction()?,
                Some(b'!') => self.declared()?,
                _ => self.start_tag()?,
            }
        }
        Ok(())
    }

    fn skip_space(&mut self) {
        while self.bytes.get(self.position).is_some_and(|byte| is_space(*byte)) {
            self.position += 1;
        }
    }

    /// Up to the next `<`.
    fn text(&mut self) -> Result<(), Stop> {
        if self.narrative.is_none() {
            self.skip_space();
            if self.bytes.get(self.position) == Some(&b'<') {
                return Ok(());
            }
        }
        let from = self.position;
        let rest = self.bytes.get(from..).unwrap_or_default();
        let Some(length) = memchr::memchr(b'<', rest) else {
            return Ok(broken(self.bytes.len(), "The text ends within an element")?);
        };
        text::check_text(self.bytes, from, from + length)?;
        self.note_text(from);
        self.position = from + length;
        Ok(())
    }

    /// Text that is no white space stands at the offset, in the innermost element.
    fn note_text(&mut self, offset: usize) {
        let (None, Some(open)) = (self.narrative, self.open.last()) else { return };
        let Some(element) = self.document.elements.get_mut(open.element as usize) else { return };
        if !element.has_text && self.document.texts.len() < ISSUE_LIMIT {
            element.has_text = true;
            self.document.texts.push((open.element, offset as u32));
        }
    }

    /// A comment, a CDATA section, or what a DTD has.
    fn declared(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let rest = self.bytes.get(start..).unwrap_or_default();
        if rest.starts_with(b"<!--") {
            return self.comment();
        }
        if rest.starts_with(b"<![CDATA[") && !self.open.is_empty() {
            let Some(length) = memchr::memmem::find(&rest[9..], b"]]>") else {
                return Ok(broken(start, "A CDATA section has no end")?);
            };
            if rest[9..9 + length].iter().any(|byte| !is_space(*byte)) {
                self.note_text(start);
            }
            self.position = start + 9 + length + 3;
            return Ok(());
        }
        if rest.get(2).is_some_and(u8::is_ascii_alphabetic) {
            let text = "The document has a DOCTYPE or another declaration; FHIR XML has neither DTD nor entities";
            return Err(Stop::new(start, "XML-03", text));
        }
        Ok(broken(start, "<! begins neither a comment nor a CDATA section")?)
    }

    fn comment(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let rest = self.bytes.get(start..).unwrap_or_default();
        if !rest.starts_with(b"<!--") {
            return Ok(broken(start, "<! begins neither a comment nor a CDATA section")?);
        }
        let Some(length) = memchr::memmem::find(&rest[4..], b"--") else {
            return Ok(broken(start, "A comment has no end")?);
        };
        if rest.get(4 + length + 2) != Some(&b'>') {
            return Ok(broken(start + 4 + length, "-- stands within a comment")?);
        }
        self.position = start + 4 + length + 3;
        Ok(())
    }

    fn instruction(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let (name, end) = text::name(self.bytes, start + 2)?;
        if name.whole.of(self.bytes).eq_ignore_ascii_case(b"xml") {
            return Ok(broken(start, "An XML declaration stands elsewhere than at the start of the text")?);
        }
        let rest = self.bytes.get(end..).unwrap_or_default();
        let Some(length) = memchr::memmem::find(rest, b"?>") else {
            return Ok(broken(start, "A processing instruction has no end")?);
        };
        if length > 0 && !is_space(rest[0]) {
            return Ok(broken(end, "The name of a processing instruction is not followed by white space")?);
        }
        self.position = end + length + 2;
        Ok(())
    }

    fn end_tag(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let Some(open) = self.open.last() else { return Ok(()) };
        let name = open.name.of(self.bytes);
        let rest = self.bytes.get(start + 2..).unwrap_or_default();
        let after = start + 2 + name.len();
        let goes_on = |byte: &u8| !is_space(*byte) && *byte != b'>';
        if !rest.starts_with(name) || self.bytes.get(after).is_some_and(goes_on) {
            return Ok(broken(start, "An end tag does not match the element that is open")?);
        }
        self.position = after;
        self.skip_space();
        if self.bytes.get(self.position) != Some(&b'>') {
            return Ok(broken(self.position, "An end tag has no >")?);
        }
        self.position += 1;
        self.close();
        Ok(())
    }

    /// Ends the innermost element before the position.
    fn close(&mut self) {
        let is_in_narrative = self.narrative.is_some_and(|narrative| self.open.len() > narrative.depth);
        let Some(open) = self.open.pop() else { return };
        self.scope.back(open.mark);
        if is_in_narrative {
            return;
        }
        self.narrative = None;
        let next = self.document.elements.len() as u32;
        if let Some(element) = self.document.elements.get_mut(open.element as usize) {
            element.next = next;
            element.span.end = self.position as u32;
        }
    }

    fn start_tag(&mut self) -> Result<(), Stop> {
        let tag = self.tag()?;
        if self.is_fragment && self.open.is_empty() && tag.space != Space::Xhtml {
            return Err(Stop::new(tag.start, "XML-01", "Narrative is not in the namespace of XHTML"));
        }
        let narrative_depth = self.narrative.map(|narrative| narrative.depth + NARRATIVE_DEPTH_LIMIT);
        if self.open.len() >= narrative_depth.unwrap_or(ELEMENT_DEPTH_LIMIT) {
            return Err(Stop::new(tag.start, GRAMMAR, "The document is nested more deeply than is read"));
        }
        let element = match self.narrative {
            Some(narrative) => {
                self.check_narrative(&tag, narrative)?;
                self.open.last().map_or(0, |open| open.element)
            }
            None => self.element(&tag)?,
        };
        self.open.push(Open { name: tag.name.whole, element, mark: tag.mark });
        if self.narrative.is_none() && (self.is_fragment || tag.space == Space::Xhtml) {
            self.narrative = Some(Narrative { depth: self.open.len(), mark: tag.mark, prefix: tag.name.prefix });
        }
        if tag.is_empty {
            self.close();
        }
        Ok(())
    }

    /// Reads a start tag, its attributes into `self.attributes`.
    fn tag(&mut self) -> Result<Tag, Stop> {
        let start = self.position;
        let mark = self.scope.mark();
        let (name, end) = text::name(self.bytes, start + 1)?;
        self.attributes.clear();
        self.has_prefixes = false;
        self.position = end;
        let is_empty = loop {
            let before = self.position;
            self.skip_space();
            match self.bytes.get(self.position) {
                Some(b'>') => {
                    self.position += 1;
                    break false;
                }
                Some(b'/') if self.bytes.get(self.position + 1) == Some(&b'>') => {
                    self.position += 2;
                    break true;
                }
                None => return Ok(broken(self.position, "The text ends within a tag")?),
                Some(_) if self.position == before => {
                    return Ok(broken(before, "A name in a tag is not followed by white space, = or >")?);
                }
                Some(_) => self.attribute()?,
            }
        };
        if self.attributes.len() > 1 {
            self.check_attributes(mark)?;
        } else if self.has_prefixes {
            self.scope.find(self.bytes, self.attributes[0].0.prefix, mark)?;
        }
        let space = match name.prefix.start == name.prefix.end {
            true => self.scope.unprefixed(),
            false => self.scope.find(self.bytes, name.prefix, mark)?.0,
        };
        Ok(Tag { start, name, mark, space, is_empty })
    }

    fn attribute(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let (name, end) = text::name(self.bytes, start)?;
        self.position = end;
        self.skip_space();
        if self.bytes.get(self.position) != Some(&b'=') {
            return Ok(broken(start, "An attribute has no value")?);
        }
        self.position += 1;
        self.skip_space();
        let (value, end) = text::value(self.bytes, self.position)?;
        self.position = end;
        if name.whole.of(self.bytes) == b"xmlns" {
            self.scope.declare(self.bytes, name.prefix, value.span)?;
        } else if name.prefix.of(self.bytes) == b"xmlns" {
            self.scope.declare(self.bytes, name.local, value.span)?;
        } else {
            self.has_prefixes |= name.prefix.start != name.prefix.end;
        }
        if self.attributes.len() >= ATTRIBUTES_LIMIT {
            return Err(Stop::too_long(start, "An element has more attributes than are read (64)"));
        }
        self.attributes.push((name, value));
        Ok(())
    }

    /// No attribute stands twice, neither as it is written nor by its namespace, and each prefix is declared.
    fn check_attributes(&self, mark: Mark) -> Result<(), Stop> {
        let twice = |at: Span| broken(at.start as usize, "An attribute stands more than once in a tag");
        for (index, (name, _)) in self.attributes.iter().enumerate() {
            let whole = name.whole.of(self.bytes);
            if self.attributes[..index].iter().any(|(other, _)| other.whole.of(self.bytes) == whole) {
                return Ok(twice(name.whole)?);
            }
        }
        if !self.has_prefixes {
            return Ok(());
        }
        let mut expanded: Vec<(&[u8], &[u8])> = Vec::new();
        for (name, _) in &self.attributes {
            let prefix = name.prefix.of(self.bytes);
            if prefix.is_empty() || prefix == b"xmlns" {
                continue;
            }
            let found = (self.scope.find(self.bytes, name.prefix, mark)?.1, name.local.of(self.bytes));
            if expanded.contains(&found) {
                return Ok(twice(name.whole)?);
            }
            expanded.push(found);
        }
        Ok(())
    }

    /// Within narrative nothing may need what is declared outside of it, for it must stand alone in JSON.
    fn check_narrative(&self, tag: &Tag, narrative: Narrative) -> Result<(), Stop> {
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

    /// Adds an element of FHIR or the root of narrative to the document.
    fn element(&mut self, tag: &Tag) -> Result<u32, Stop> {
        let index = self.document.elements.len();
        if index >= NODE_LIMIT {
            return Err(Stop::too_long(tag.start, "The document has more values than are read (2000000)"));
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
