//! Narrative: well-formed XHTML in a `div`, limited to the elements and attributes of HTML 4.0 chapters 7 to 11
//! (without 9.4) and 15, `a`, images, and `style` attributes; no active content, no DTD, no HTML entities; some
//! content.
//!
//! Narrative is most of the bytes of many messages, so it is scanned directly rather than parsed into events.

mod allowed;
mod names;

use allowed::{
    A, Element, IMG, P, PRE, SRC, attribute, belongs, element, is_active, is_block, is_kept_out_of_pre, name_of, nests,
    takes_text, word,
};
use emberpost_fhir::scan::{HIGHS, any_of};
use names::Names;

const NAMESPACE: &[u8] = b"http://www.w3.org/1999/xhtml";

/// The rule that the narrative violates, and how.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub rule: &'static str,
    pub text: &'static str,
}

const fn formed(text: &'static str) -> Fault {
    Fault { rule: "narrative", text }
}

const fn formatting(text: &'static str) -> Fault {
    Fault { rule: "txt-1", text }
}

const NOT_WELL_FORMED: Fault = formed("the narrative is not well-formed XHTML; close every element in order");

/// Returns the first error of a `div`. `text` is decoded and valid UTF-8. Time is linear in its length.
pub(super) fn check(text: &[u8]) -> Result<(), Fault> {
    only_characters(text)?;
    let mut scanner = Scanner {
        text,
        at: 0,
        open: Vec::with_capacity(16),
        within: Within::default(),
        names: Names::default(),
        has_root: false,
        has_content: false,
    };
    while scanner.at < text.len() {
        scanner.characters()?;
        match scanner.rest() {
            [] => break,
            [b'&', ..] => scanner.reference()?,
            [b'<', b'/', ..] => scanner.end_tag()?,
            [b'<', b'!', ..] => scanner.declaration()?,
            [b'<', b'?', ..] => scanner.skip_to(b"?>")?,
            _ => scanner.start_tag()?,
        }
    }
    scanner.end()
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
    open: Vec<Element>,
    within: Within,
    names: Names<'t>,
    has_root: bool,
    has_content: bool,
}

/// The number of open elements that exclude others.
#[derive(Default)]
struct Within {
    paragraphs: u32,
    links: u32,
    preformatted: u32,
}

impl Within {
    fn of(&mut self, element: Element) -> Option<&mut u32> {
        match element {
            P => Some(&mut self.paragraphs),
            A => Some(&mut self.links),
            PRE => Some(&mut self.preformatted),
            _ => None,
        }
    }
}

impl<'t> Scanner<'t> {
    fn rest(&self) -> &'t [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips text up to the next markup.
    fn characters(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        if rest.first() == Some(&b'<') {
            return Ok(());
        }
        let length = any_of(rest, [b'<', b'&']).unwrap_or(rest.len());
        self.at += length;
        self.content(&rest[..length])
    }

    fn content(&mut self, text: &[u8]) -> Result<(), Fault> {
        let Some(parent) = self.open.last() else {
            return match text.iter().all(u8::is_ascii_whitespace) {
                true => Ok(()),
                false => Err(formed("the narrative must be an XHTML div; there is text outside of it")),
            };
        };
        let takes_text = takes_text(*parent);
        if (self.has_content && takes_text) || text.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        if !takes_text {
            return Err(formatting(
                "the narrative has text directly in a table or list; put it into a cell or an item",
            ));
        }
        self.has_content = true;
        Ok(())
    }

    fn reference(&mut self) -> Result<(), Fault> {
        self.at += entity(self.rest())?;
        self.content(b"&")
    }

    fn skip_to(&mut self, end: &[u8]) -> Result<(), Fault> {
        let found = memchr::memmem::find(self.rest(), end).ok_or(NOT_WELL_FORMED)?;
        self.at += found + end.len();
        Ok(())
    }

    fn declaration(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        if rest.starts_with(b"<!--") {
            self.at += 4;
            self.skip_to(b"--")?;
            return self.expect(b'>');
        }
        if rest.starts_with(b"<![CDATA[") {
            let from = self.at + 9;
            self.skip_to(b"]]>")?;
            return self.content(self.text.get(from..self.at - 3).unwrap_or_default());
        }
        Err(formed("the narrative must not have a DOCTYPE; remove it"))
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        match self.text.get(self.at) == Some(&byte) {
            true => self.at += 1,
            false => return Err(NOT_WELL_FORMED),
        }
        Ok(())
    }

    /// Skips white space; returns whether there was any.
    fn white(&mut self) -> bool {
        let from = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.at > from
    }

    /// Reads a name; returns it with its `word`.
    fn name(&mut self) -> Result<(&'t [u8], u64), Fault> {
        let rest = self.rest();
        let length = name_length(rest);
        self.at += length;
        if !rest.first().is_some_and(|first| first.is_ascii_alphabetic() || *first == b'_' || *first >= 0x80) {
            return Err(NOT_WELL_FORMED);
        }
        let name = &rest[..length];
        Ok(match rest.first_chunk::<8>() {
            Some(chunk) if length < 8 => (name, u64::from_le_bytes(*chunk) & ((1 << (8 * length)) - 1)),
            _ => (name, word(name)),
        })
    }

    fn end_tag(&mut self) -> Result<(), Fault> {
        self.at += 2;
        let Some(innermost) = self.open.pop() else { return Err(NOT_WELL_FORMED) };
        if let Some(prefix) = self.names.innermost(self.open.len()) {
            let rest = self.rest().strip_prefix(prefix).filter(|rest| rest.first() == Some(&b':'));
            rest.ok_or(NOT_WELL_FORMED)?;
            self.at += prefix.len() + 1;
        }
        self.closed(innermost);
        if let Some(length) = closes(self.rest(), innermost) {
            self.at += length;
            return Ok(());
        }
        if element(self.name()?.1) != Some(innermost) {
            return Err(NOT_WELL_FORMED);
        }
        self.white();
        self.expect(b'>')
    }

    fn opened(&mut self, name: Element, prefix: Option<&'t [u8]>) {
        if let Some(count) = self.within.of(name) {
            *count += 1;
        }
        self.names.opened(prefix, self.open.len());
        self.open.push(name);
    }

    /// Records that an element has ended.
    fn closed(&mut self, name: Element) {
        if let Some(count) = self.within.of(name) {
            *count = count.saturating_sub(1);
        }
        self.names.closed(self.open.len());
    }

    fn start_tag(&mut self) -> Result<(), Fault> {
        self.at += 1;
        let (whole, whole_word) = self.name()?;
        if self.open.is_empty() {
            self.root(names::split(whole).1)?;
        }
        let (name, prefix) = match element(whole_word) {
            Some(name) => (name, None),
            None => {
                let (prefix, local) = names::split(whole);
                let name = element(word(local)).filter(|_| prefix.is_some());
                let text = "the narrative has an element that is not basic formatting; remove it";
                (name.ok_or(formatting(text))?, prefix)
            }
        };
        self.nesting(name)?;
        let mut seen = Attributes::default();
        loop {
            let white = self.white();
            match self.rest() {
                [b'>', ..] => {
                    self.at += 1;
                    self.names.check(prefix)?;
                    self.opened(name, prefix);
                    return Ok(());
                }
                [b'/', b'>', ..] => {
                    self.at += 2;
                    self.names.check(prefix)?;
                    self.names.closed(self.open.len());
                    return Ok(());
                }
                _ if white => self.attribute(name, &mut seen)?,
                _ => return Err(NOT_WELL_FORMED),
            }
        }
    }

    /// Checks where an element occurs against HTML's nesting rules.
    fn nesting(&self, name: Element) -> Result<(), Fault> {
        let Some(parent) = self.open.last() else { return Ok(()) };
        if !nests(*parent, name) {
            return Err(formatting(
                "the narrative has a part of a table or list where it is not allowed; nest them as HTML does",
            ));
        }
        match () {
            () if self.within.paragraphs > 0 && is_block(name) => Err(formatting(
                "the narrative has a block, such as a table, in a paragraph; close the paragraph before it",
            )),
            () if self.within.links > 0 && name == A => {
                Err(formatting("the narrative has a link in a link; close the first one before the second"))
            }
            () if self.within.preformatted > 0 && is_kept_out_of_pre(name) => {
                Err(formatting("the narrative has an element in pre that HTML does not allow there; move it out"))
            }
            () => Ok(()),
        }
    }

    fn root(&mut self, name: &[u8]) -> Result<(), Fault> {
        if self.has_root {
            return Err(formed("the narrative must have one root element, a div"));
        }
        self.has_root = true;
        match name == b"div" {
            true => Ok(()),
            false => Err(formed("the root of the narrative must be a div")),
        }
    }

    fn attribute(&mut self, element: Element, seen: &mut Attributes) -> Result<(), Fault> {
        let (name, word) = self.name()?;
        self.white();
        self.expect(b'=')?;
        self.white();
        let value = self.attribute_value()?;
        if name.starts_with(b"xmlns") {
            if name == b"xmlns" && std::mem::replace(&mut seen.has_namespace, true) {
                return Err(formed("the narrative has an attribute twice in one element"));
            }
            return self.names.declare(name, value, self.open.len());
        }
        let Some(position) = attribute(word) else {
            return Err(formatting("the narrative has an attribute that is not basic formatting; remove it"));
        };
        if !belongs(position, element) {
            return Err(formatting("the narrative has an attribute that its element does not have in HTML; remove it"));
        }
        if seen.known & (1 << position) != 0 {
            return Err(formed("the narrative has an attribute twice in one element"));
        }
        seen.known |= 1 << position;
        if is_active(word, value) {
            return Err(formatting("the narrative has a link with active content; remove it"));
        }
        self.has_content |= element == IMG && word == SRC;
        Ok(())
    }

    /// Reads a quoted value. Every reference must be complete and known, and `<` must be escaped.
    fn attribute_value(&mut self) -> Result<&'t [u8], Fault> {
        let quote = match self.rest() {
            [quote @ (b'"' | b'\''), ..] => *quote,
            _ => return Err(NOT_WELL_FORMED),
        };
        self.at += 1;
        let from = self.at;
        loop {
            let rest = self.rest();
            self.at += any_of(rest, [quote, b'&', b'<']).ok_or(NOT_WELL_FORMED)?;
            match self.text.get(self.at) {
                Some(b'&') => self.at += entity(self.rest())?,
                Some(b'<') => return Err(formed("the narrative has < in an attribute; write &lt;")),
                _ => break,
            }
        }
        let value = self.text.get(from..self.at).unwrap_or_default();
        self.at += 1;
        Ok(value)
    }

    fn end(self) -> Result<(), Fault> {
        if !self.open.is_empty() || !self.has_root {
            return Err(formed("the narrative must be one XHTML div that is closed"));
        }
        if !self.has_content {
            let text = "the narrative must have some content; write it, or leave text out";
            return Err(Fault { rule: "txt-2", text });
        }
        Ok(())
    }
}

/// The length of the name at the start of a text. The first byte below `@`, searched eight bytes at a time, usually
/// ends it.
fn name_length(text: &[u8]) -> usize {
    let low = text.first_chunk::<8>().map_or(0, |chunk| {
        let word = u64::from_le_bytes(*chunk);
        (!(word | (word << 1)) & HIGHS).trailing_zeros() as usize / 8
    });
    let rest = text.get(low..).unwrap_or_default();
    low + rest.iter().position(|byte| ENDS_NAME[usize::from(*byte)]).unwrap_or(rest.len())
}

/// The length of an element's name and its `>`, if the text begins with them.
fn closes(text: &[u8], open: Element) -> Option<usize> {
    let (word, length) = name_of(open);
    let chunk = u64::from_le_bytes(*text.first_chunk::<8>()?);
    let is_same = length < 8 && chunk & ((1 << (8 * length)) - 1) == word && text.get(length) == Some(&b'>');
    is_same.then_some(length + 1)
}

/// Bytes that cannot continue a name.
const ENDS_NAME: [bool; 256] = {
    let (mut ends, mut at) = ([false; 256], 0);
    while at < 256 {
        ends[at] =
            matches!(at as u8, b' ' | b'\t' | b'\n' | b'\r' | 0x0C | b'>' | b'/' | b'=' | b'<' | b'"' | b'\'' | b'&');
        at += 1;
    }
    ends
};

/// The attributes of one element.
#[derive(Default)]
struct Attributes {
    /// A bit for each known attribute.
    known: u64,
    has_namespace: bool,
}

/// Checks that XML allows all characters; escapes in JSON can denote others.
fn only_characters(text: &[u8]) -> Result<(), Fault> {
    let is_control = |byte: u8| (byte < b' ') & (byte != b'\t') & (byte != b'\n') & (byte != b'\r');
    // Fixed-size blocks without an early exit, so that the compiler vectorizes the loop.
    let has_control = |piece: &[u8]| piece.iter().fold(false, |found, byte| found | is_control(*byte));
    // U+FFFE and U+FFFF.
    let is_none = |at: usize| text.get(at + 1) == Some(&0xBF) && matches!(text.get(at + 2), Some(0xBE | 0xBF));
    match text.chunks(256).any(has_control) || memchr::memchr_iter(0xEF, text).any(is_none) {
        true => Err(formed("the narrative has a control character, which XHTML does not allow; remove it")),
        false => Ok(()),
    }
}

/// The length of a reference to one of XML's five entities or to a character; HTML's entities would need a DTD.
fn entity(text: &[u8]) -> Result<usize, Fault> {
    const UNKNOWN: Fault =
        formed("the narrative has an entity that is not one of XML; write the character or its number");
    let end = text.iter().take(16).position(|byte| *byte == b';').ok_or(UNKNOWN)?;
    let name = &text[1..end];
    let (digits, radix) = match name {
        b"amp" | b"lt" | b"gt" | b"quot" | b"apos" => return Ok(end + 1),
        [b'#', b'x', digits @ ..] => (digits, 16),
        [b'#', digits @ ..] => (digits, 10),
        _ => return Err(UNKNOWN),
    };
    let code = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, radix).ok());
    let is_allowed =
        |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
    match code.and_then(char::from_u32).is_some_and(is_allowed) {
        true => Ok(end + 1),
        false => Err(UNKNOWN),
    }
}

#[cfg(test)]
mod tests;
