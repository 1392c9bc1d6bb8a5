//! Namespace declarations in scope (Namespaces in XML 1.0).

use super::super::scan::SyntaxError;
use super::document::Span;
use super::text::{self, syntax_error};
use std::borrow::Cow;

pub(super) const FHIR: &[u8] = b"http://hl7.org/fhir";
pub(super) const XHTML: &[u8] = b"http://www.w3.org/1999/xhtml";
const XSI: &[u8] = b"http://www.w3.org/2001/XMLSchema-instance";
const XML: &[u8] = b"http://www.w3.org/XML/1998/namespace";
const XMLNS: &[u8] = b"http://www.w3.org/2000/xmlns/";

/// The uri with its references resolved.
pub(super) fn decoded(uri: &[u8]) -> Cow<'_, [u8]> {
    if !uri.contains(&b'&') {
        return Cow::Borrowed(uri);
    }
    let mut plain = Vec::with_capacity(uri.len());
    text::decode(uri, &mut plain);
    Cow::Owned(plain)
}

/// The maximum number of declarations in scope.
const BINDINGS_LIMIT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    Fhir,
    Xhtml,
    Schema,
    None,
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    /// Empty: the default namespace.
    prefix: Span,
    space: Space,
    uri: Span,
}

/// The declarations in scope, innermost last.
#[derive(Debug, Default)]
pub(super) struct Scope {
    bindings: Vec<Binding>,
    /// The position of the default declaration.
    default: Option<usize>,
}

/// A state of the scope to return to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    count: usize,
    default: Option<usize>,
}

impl Scope {
    pub fn mark(&self) -> Mark {
        Mark { count: self.bindings.len(), default: self.default }
    }

    pub fn back(&mut self, mark: Mark) {
        self.bindings.truncate(mark.count);
        self.default = mark.default;
    }

    /// Adds the declaration `xmlns` or `xmlns:prefix`, which may contain references.
    pub fn declare(&mut self, bytes: &[u8], prefix: Span, uri: Span) -> Result<(), SyntaxError> {
        let name = prefix.of(bytes);
        let named = &*decoded(uri.of(bytes));
        let at = uri.start as usize;
        if self.bindings.len() >= BINDINGS_LIMIT {
            return syntax_error(at, "More namespaces are declared than the limit of 64");
        }
        if name == b"xml" && named == XML {
            return Ok(());
        }
        if name == b"xml" || name == b"xmlns" || named == XML || named == XMLNS {
            return syntax_error(at, "A namespace that XML reserves is declared");
        }
        let space = match named {
            FHIR => Space::Fhir,
            XHTML => Space::Xhtml,
            XSI => Space::Schema,
            b"" if name.is_empty() => Space::None,
            b"" => return syntax_error(at, "A prefix is declared without a namespace"),
            _ => Space::Other,
        };
        if name.is_empty() {
            self.default = Some(self.bindings.len());
        }
        self.bindings.push(Binding { prefix, space, uri });
        Ok(())
    }

    /// The namespace of elements without a prefix.
    pub fn unprefixed(&self) -> Space {
        self.default.and_then(|at| self.bindings.get(at)).map_or(Space::None, |binding| binding.space)
    }

    /// Whether the default namespace was declared after `mark`.
    pub fn has_default_since(&self, mark: Mark) -> bool {
        self.default.is_some_and(|at| at >= mark.count)
    }

    /// The namespace of a prefix, its uri, and whether it was declared after `mark`.
    pub fn find<'x>(&self, bytes: &'x [u8], prefix: Span, mark: Mark) -> Result<(Space, &'x [u8], bool), SyntaxError> {
        let name = prefix.of(bytes);
        if name == b"xml" {
            return Ok((Space::Other, b"xml", true));
        }
        let same = |binding: &Binding| binding.prefix.start != binding.prefix.end && binding.prefix.of(bytes) == name;
        match self.bindings.iter().rposition(same) {
            Some(at) => {
                let binding = self.bindings[at];
                Ok((binding.space, binding.uri.of(bytes), at >= mark.count))
            }
            None => syntax_error(prefix.start as usize, "A prefix is not declared"),
        }
    }
}
