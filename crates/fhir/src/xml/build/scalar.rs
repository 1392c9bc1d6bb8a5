//! Builds values without elements: the attribute `value` and narrative in JSON (JSN-07, JSN-08).

use super::super::super::scan;
use super::super::super::schema::Primitive;
use super::super::super::tree::{ESCAPED, Kind};
use super::super::document::{Content, Element, Value};
use super::super::scan::Stop;
use super::super::{narrative, text};
use super::Builder;

impl Builder<'_> {
    /// Writes a boolean or number if the type is one and the text is its JSON, else a string.
    pub(super) fn value(&mut self, value: Value, primitive: Option<Primitive>, offset: u32) -> Result<(), Stop> {
        let raw = value.span.of(self.document.bytes);
        if value.is_coded {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            text::decode(raw, &mut buffer);
            let done = self.scalar(&buffer, primitive, offset);
            self.buffer = buffer;
            return done;
        }
        if value.is_quoted || primitive.is_some_and(is_bare) {
            return self.scalar(raw, primitive, offset);
        }
        self.plain(raw, offset)
    }

    fn scalar(&mut self, text: &[u8], primitive: Option<Primitive>, offset: u32) -> Result<(), Stop> {
        match primitive.and_then(|primitive| bare(primitive, text)) {
            Some(kind) => {
                let start = self.json.len();
                self.json.extend_from_slice(text);
                self.push(kind, start, start + text.len(), 0, offset).map(|_| ())
            }
            None => self.text(text, offset),
        }
    }

    /// Writes a string.
    pub(super) fn text(&mut self, text: &[u8], offset: u32) -> Result<(), Stop> {
        self.json.push(b'"');
        let start = self.json.len();
        let is_escaped = text::escape(text, &mut self.json);
        let end = self.json.len();
        self.json.push(b'"');
        self.push(Kind::String, start, end, if is_escaped { ESCAPED } else { 0 }, offset).map(|_| ())
    }

    /// Writes a string that needs no escapes.
    fn plain(&mut self, text: &[u8], offset: u32) -> Result<(), Stop> {
        self.json.push(b'"');
        let start = self.json.len();
        self.json.extend_from_slice(text);
        self.json.push(b'"');
        self.push(Kind::String, start, start + text.len(), 0, offset).map(|_| ())
    }

    pub(super) fn null(&mut self, offset: u32) -> Result<(), Stop> {
        let start = self.json.len();
        self.json.extend_from_slice(b"null");
        self.push(Kind::Null, start, start + 4, 0, offset).map(|_| ())
    }

    /// Writes the text of the XHTML unchanged.
    pub(super) fn narrative(&mut self, element: &Element) -> Result<(), Stop> {
        let raw = element.span.of(self.document.bytes);
        match element.content {
            Content::ForeignXhtml => self.text(&narrative::standing_alone(raw), element.span.start),
            _ => self.text(raw, element.span.start),
        }
    }
}

/// Whether JSON writes the type without quotes.
fn is_bare(primitive: Primitive) -> bool {
    kind(primitive) != Kind::String
}

/// The kind of value that JSON uses for the type (JSN-07).
pub(in super::super) fn kind(primitive: Primitive) -> Kind {
    match primitive {
        Primitive::Boolean => Kind::Boolean,
        Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt | Primitive::Decimal => Kind::Number,
        _ => Kind::String,
    }
}

/// The kind of the text, if JSON can write it without quotes as this type.
pub(in super::super) fn bare(primitive: Primitive, text: &[u8]) -> Option<Kind> {
    let kind = kind(primitive);
    let fits = match kind {
        Kind::Boolean => text == b"true" || text == b"false",
        Kind::Number => matches!(text.first(), Some(b'-' | b'0'..=b'9')) && scan::number_end(text, 0) == Ok(text.len()),
        _ => false,
    };
    fits.then_some(kind)
}
