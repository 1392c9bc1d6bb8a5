//! Values as attributes, and narrative as the XHTML that it is.

use super::super::super::schema::Primitive;
use super::super::super::tree::{Kind, Node};
use super::super::build::{bare, kind};
use super::super::{scan, text};
use super::{Refused, Writer, refuse};

impl<'t> Writer<'t, '_> {
    /// Whether reading the value as this type gives back what it is: a number as a number, a string as a string.
    pub(super) fn check_kind(&self, value: Node<'t>, primitive: Primitive) -> Result<(), Refused<'t>> {
        let is_same = match value.kind() {
            Kind::String => bare(primitive, value.text().unwrap_or_default().as_bytes()).is_none(),
            found => found == kind(primitive),
        };
        match is_same {
            true => Ok(()),
            false => {
                refuse(value, "A value is written as another kind of JSON than its type has, which XML cannot keep")
            }
        }
    }

    /// ` name="value"` of a string, number or boolean.
    pub(super) fn attribute(&mut self, name: &str, value: Node<'t>) -> Result<(), Refused<'t>> {
        self.out.push(b' ');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"=\"");
        match value.text() {
            Some(found) if found.chars().all(text::is_legal) => escape(&found, &mut self.out),
            Some(_) => return refuse(value, "A string has a character that XML cannot hold"),
            None => self.out.extend_from_slice(value.raw().as_bytes()),
        }
        self.out.push(b'"');
        Ok(())
    }

    /// The XHTML of `div`, as it is.
    pub(super) fn narrative(&mut self, value: Node<'t>, name: &str) -> Result<(), Refused<'t>> {
        let Some(found) = value.text() else {
            return refuse(value, "Narrative is no string");
        };
        // White space and comments around the div say nothing.
        let found = core(found.as_bytes());
        let is_named = text::name(found, 1).is_ok_and(|(root, _)| root.local.of(found) == name.as_bytes());
        if !found.starts_with(b"<") || !is_named {
            return refuse(value, "The narrative is not one element div and nothing else, so that it has no XML form");
        }
        let Ok(end) = scan::fragment(found) else {
            return refuse(value, "The narrative is no well-formed XHTML in its namespace, so that it has no XML form");
        };
        let (div, rest) = found.split_at(end);
        if !core(rest).is_empty() {
            return refuse(value, "The narrative is not one element div and nothing else, so that it has no XML form");
        }
        self.out.extend_from_slice(div);
        Ok(())
    }
}

/// From the first that is neither white space nor a comment nor a processing instruction.
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

/// White space is escaped, too, for XML reads it as a space.
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
