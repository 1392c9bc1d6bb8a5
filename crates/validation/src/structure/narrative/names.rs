//! Namespaces in narrative: it may declare XHTML as the default namespace, or for the prefix of its names.

use super::{Fault, NAMESPACE, formed};
use std::borrow::Cow;

/// The maximum number of nested prefix declarations.
const PREFIXES_LIMIT: usize = 64;

const NOT_XHTML: Fault = formed("the narrative must be in the namespace http://www.w3.org/1999/xhtml");

/// The declarations in scope. A level is the number of open elements around the declaring element.
#[derive(Default)]
pub(super) struct Names<'t> {
    /// The level of the outermost element that declares XHTML as the default; no other default is allowed.
    default_from: Option<usize>,
    prefixes: Vec<Prefix<'t>>,
    /// Levels and prefixes of the open elements that have a prefix.
    open: Vec<(usize, &'t [u8])>,
}

struct Prefix<'t> {
    level: usize,
    name: &'t [u8],
    is_xhtml: bool,
}

impl<'t> Names<'t> {
    /// Handles an attribute `xmlns`, or one that begins with `xmlns:`.
    pub fn declare(&mut self, name: &'t [u8], value: &[u8], level: usize) -> Result<(), Fault> {
        let is_xhtml = *decoded(value) == *NAMESPACE;
        let Some(name) = name.strip_prefix(b"xmlns:") else {
            if !is_xhtml {
                return Err(NOT_XHTML);
            }
            self.default_from = self.default_from.or(Some(level));
            return Ok(());
        };
        if self.prefixes.iter().any(|known| known.level == level && known.name == name) {
            return Err(formed("the narrative has an attribute twice in one element"));
        }
        if self.prefixes.len() >= PREFIXES_LIMIT {
            return Err(formed("the narrative declares more prefixes than are read; use the default namespace"));
        }
        self.prefixes.push(Prefix { level, name, is_xhtml });
        Ok(())
    }

    /// Checks that an element with this prefix, or without one, is XHTML.
    pub fn check(&self, prefix: Option<&[u8]>) -> Result<(), Fault> {
        let is_xhtml = match prefix {
            None => self.default_from.is_some(),
            Some(prefix) => {
                self.prefixes.iter().rev().find(|known| known.name == prefix).is_some_and(|known| known.is_xhtml)
            }
        };
        if is_xhtml { Ok(()) } else { Err(NOT_XHTML) }
    }

    /// Records an open element.
    pub fn opened(&mut self, prefix: Option<&'t [u8]>, level: usize) {
        self.open.extend(prefix.map(|prefix| (level, prefix)));
    }

    /// The prefix of the innermost open element.
    pub fn innermost(&self, level: usize) -> Option<&'t [u8]> {
        self.open.last().filter(|(at, _)| *at == level).map(|(_, prefix)| *prefix)
    }

    /// Records that the element of this level has ended.
    pub fn closed(&mut self, level: usize) {
        if self.default_from == Some(level) {
            self.default_from = None;
        }
        while self.prefixes.last().is_some_and(|known| known.level >= level) {
            self.prefixes.pop();
        }
        while self.open.last().is_some_and(|(at, _)| *at >= level) {
            self.open.pop();
        }
    }
}

/// Splits a name into prefix and local part.
pub(super) fn split(name: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match name.iter().position(|byte| *byte == b':') {
        Some(at) => (Some(&name[..at]), &name[at + 1..]),
        None => (None, name),
    }
}

/// Resolves the references in a value; they are known to be complete.
fn decoded(value: &[u8]) -> Cow<'_, [u8]> {
    let text = std::str::from_utf8(value).ok().filter(|text| text.contains('&'));
    match text.and_then(|text| quick_xml::escape::unescape(text).ok()) {
        Some(plain) => Cow::Owned(plain.into_owned().into_bytes()),
        None => Cow::Borrowed(value),
    }
}
