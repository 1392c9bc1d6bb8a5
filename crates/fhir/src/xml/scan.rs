//! Parses well-formed XML to a `Document`, without recursion and without copies: XML 1.0 with namespaces, and no DTD
//! (XML-03).
//!
//! Checks the grammar itself instead of using a library, because it must be enforced to the letter: matching tags,
//! legal characters, references, one root, no duplicate attribute, declared prefixes.

mod element;
mod misc;
mod tag;

use super::super::finding::{DEPTH, TOO_DEEP};
use super::super::issue::IssueCode;
use super::super::json::DEPTH_LIMIT;
use super::super::scan::SyntaxError;
use super::document::{Document, Span, Value};
use super::namespace::{Mark, Scope, Space};
use super::prolog::{self, Refused};
use super::text::{self, Name, is_space, syntax_error};
use super::{GRAMMAR, ISSUE_LIMIT};

/// Deeper elements cannot become JSON of the allowed depth: a resource takes two elements, a primitive one.
const ELEMENT_DEPTH_LIMIT: usize = DEPTH_LIMIT * 2;
/// The limit within narrative, beyond its own depth.
const NARRATIVE_DEPTH_LIMIT: usize = 256;

/// Why parsing ended.
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

    pub fn too_deep(offset: usize) -> Stop {
        Stop { offset, text: TOO_DEEP, rule: DEPTH, code: IssueCode::TooLong }
    }

    pub fn too_long(offset: usize, text: &'static str) -> Stop {
        Stop { offset, text, rule: GRAMMAR, code: IssueCode::TooLong }
    }
}

impl From<SyntaxError> for Stop {
    fn from(SyntaxError { offset, text }: SyntaxError) -> Self {
        Stop::new(offset, GRAMMAR, text)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Grammar(error) => error.into(),
            Refused::Encoding(offset) => Stop::new(offset, "XML-03", "FHIR XML must be UTF-8"),
        }
    }
}

/// Parses a FHIR document.
pub(super) fn document(bytes: &[u8]) -> Result<Document<'_>, Stop> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(Stop::too_long(0, "The body is longer than the limit of 4 GiB"));
    }
    if prolog::is_wide(bytes) {
        return Err(Stop::new(0, "XML-03", "The text is UTF-16 or UTF-32; FHIR XML must be UTF-8"));
    }
    let text = check_characters(bytes)?;
    let mut scanner = Scanner::new(bytes, false);
    scanner.document.text = text;
    scanner.position = prolog::end(bytes)?;
    scanner.between()?;
    scanner.root()?;
    scanner.between()?;
    match bytes.get(scanner.position) {
        None => Ok(scanner.document),
        Some(b'<') => Ok(syntax_error(scanner.position, "There is a second root element after the first")?),
        Some(_) => Ok(syntax_error(scanner.position, "There is text after the end of the root element")?),
    }
}

/// Checks that the text begins with one element of XHTML, which can be in any document; returns the offset after it.
pub(super) fn fragment(bytes: &[u8]) -> Result<usize, SyntaxError> {
    let read = || -> Result<usize, Stop> {
        check_characters(bytes)?;
        let mut scanner = Scanner::new(bytes, true);
        scanner.root()?;
        Ok(scanner.position)
    };
    read().or_else(|stop| syntax_error(stop.offset, stop.text))
}

fn check_characters(bytes: &[u8]) -> Result<&str, Stop> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return Ok(syntax_error(error.valid_up_to(), "The text is not valid UTF-8")?),
    };
    match text::illegal(bytes) {
        Some(offset) => Ok(syntax_error(offset, "The text has a character that XML does not allow")?),
        None => Ok(text),
    }
}

/// An element whose end tag was not read yet.
struct Open {
    name: Span,
    /// Within narrative, the element that contains all of it.
    element: u32,
    mark: Mark,
}

/// The narrative that is being parsed.
#[derive(Clone, Copy)]
struct Narrative {
    /// The number of open elements within its root, including the root.
    depth: usize,
    mark: Mark,
    prefix: Span,
}

struct Scanner<'x> {
    bytes: &'x [u8],
    position: usize,
    document: Document<'x>,
    open: Vec<Open>,
    scope: Scope,
    /// The attributes of the current tag, including namespace declarations.
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

    /// Skips what is allowed before and after the root: white space, comments, processing instructions.
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
            return Ok(syntax_error(self.position, "The root element is expected here")?);
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

    /// Reads up to the next `<`.
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
            return Ok(syntax_error(self.bytes.len(), "The text ends within an element")?);
        };
        text::check_text(self.bytes, from, from + length)?;
        if !text::is_blank(&rest[..length]) {
            self.note_text(from);
        }
        self.position = from + length;
        Ok(())
    }

    /// Records text other than white space in the innermost element.
    fn note_text(&mut self, offset: usize) {
        let (None, Some(open)) = (self.narrative, self.open.last()) else { return };
        let Some(element) = self.document.elements.get_mut(open.element as usize) else { return };
        if !element.has_text && self.document.texts.len() < ISSUE_LIMIT {
            element.has_text = true;
            self.document.texts.push((open.element, offset as u32));
        }
    }

    fn end_tag(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let Some(open) = self.open.last() else { return Ok(()) };
        let name = open.name.of(self.bytes);
        let rest = self.bytes.get(start + 2..).unwrap_or_default();
        let after = start + 2 + name.len();
        let goes_on = |byte: &u8| !is_space(*byte) && *byte != b'>';
        if !rest.starts_with(name) || self.bytes.get(after).is_some_and(goes_on) {
            return Ok(syntax_error(start, "An end tag does not match the element that is open")?);
        }
        self.position = after;
        self.skip_space();
        if self.bytes.get(self.position) != Some(&b'>') {
            return Ok(syntax_error(self.position, "An end tag has no >")?);
        }
        self.position += 1;
        self.close();
        Ok(())
    }

    /// Ends the innermost element before the current position.
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
            return Err(Stop::too_deep(tag.start));
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
}
