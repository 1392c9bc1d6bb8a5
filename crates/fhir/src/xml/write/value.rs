//! Writes values as attributes, and narrative as XHTML.

use super::super::super::schema::Primitive;
use super::super::super::tree::{Kind, Node};
use super::super::build::{bare, kind};
use super::super::{scan, text};
use super::{Refused, Writer, refuse};

impl<'t> Writer<'t, '_> {
    /// Checks that reading the value as this type returns it unchanged: a number as a number, a string as a string.
    pub(super) fn check_kind(&self, value: Node<'t>, primitive: Primitive) -> Result<(), Refused<'t>> {
        let is_same = match value.kind() {
            Kind::String => bare(primitive, value.text().unwrap_or_default().as_bytes()).is_none(),
            found => found == kind(primitive),
        };
        match is_same {
            true => Ok(()),
            false => refuse(value, "The kind of JSON value differs from that of its type, which XML cannot represent"),
        }
    }

    /// Writes ` name="value"` for a string, number, or boolean.
    pub(super) fn attribute(&mut self, name: &str, value: Node<'t>) -> Result<(), Refused<'t>> {
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"=\"");
        match value.text() {
            Some(found) if found.chars().all(text::is_legal) => escape(&found, &mut self.out),
            Some(_) => return refuse(value, "A string has a character that XML does not allow"),
            None => self.out.extend_from_slice(value.raw().as_bytes()),
        }
        self.out.push(b'"');
        Ok(())
    }

    /// Writes the XHTML of `div` unchanged.
    pub(super) fn narrative(&mut self, value: Node<'t>, name: &str) -> Result<(), Refused<'t>> {
        let Some(found) = value.text() else {
            return refuse(value, "Narrative must be a string");
        };
        // White space and comments around the div are not content.
        let found = core(found.as_bytes());
        let is_named = text::name(found, 1).is_ok_and(|(root, _)| root.local.of(found) == name.as_bytes());
        if !found.starts_with(b"<") || !is_named {
            return refuse(value, "The narrative is not exactly one element div, so it cannot be written as XML");
        }
        let Ok(end) = scan::fragment(found) else {
            return refuse(
                value,
                "The narrative is not well-formed XHTML in its namespace, so it cannot be written as XML",
            );
        };
        let (div, rest) = found.split_at(end);
        if !core(rest).is_empty() {
            return refuse(value, "The narrative is not exactly one element div, so it cannot be written as XML");
        }
        self.out.extend_from_slice(div);
        Ok(())
    }
}

/// The text from the first byte that is not white space, a comment, or a processing instruction.
fn core(mut rest: &[u8]) -> &[u8] {
    loop {
        rest = rest.trim_ascii_start();
        let end: &[u8] = match rest {
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'?', ..] => b"?>",
            _ => return rest,
        };
        let from = if end.len() == 3 { 4 } else { 2 };
        let after = rest.get(from..).and_then(|inner| memchr::memmem::find(inner, end)).map(|at| from + at + end.len());
        rest = after.and_then(|after| rest.get(after..)).unwrap_or_default();
    }
}

/// White space is escaped, too, because XML normalizes it to a space.
fn escape(text: &str, into: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let reference: &[u8] = match byte {
            b'&' => b"&amp;",
            b'<' => b"&lt;",
            b'>' => b"&gt;",
            b'"' => b"&quot;",
            b'\n' => b"&#10;",
            b'\r' => b"&#13;",
            b'\t' => b"&#9;",
            _ => continue,
        };
        into.extend_from_slice(&bytes[done..at]);
        into.extend_from_slice(reference);
        done = at + 1;
    }
    into.extend_from_slice(&bytes[done..]);
}
