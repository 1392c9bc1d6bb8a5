//! Parses start tags: name, attributes, and the namespaces that they declare.

use super::super::document::Span;
use super::super::namespace::{Mark, Space};
use super::super::text::{self, Name, syntax_error};
use super::{Scanner, Stop};

/// The maximum number of attributes of one element.
const ATTRIBUTES_LIMIT: usize = 64;

/// A start tag; its attributes are in the scanner.
pub(super) struct Tag {
    pub start: usize,
    pub name: Name,
    pub mark: Mark,
    pub space: Space,
    pub is_empty: bool,
}

impl Scanner<'_> {
    /// Parses a start tag, and its attributes into `self.attributes`.
    pub(super) fn tag(&mut self) -> Result<Tag, Stop> {
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
                None => return Ok(syntax_error(self.position, "The text ends within a tag")?),
                Some(_) if self.position == before => {
                    return Ok(syntax_error(before, "A name in a tag is not followed by white space, = or >")?);
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
            return Ok(syntax_error(start, "An attribute has no value")?);
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
            return Err(Stop::too_long(start, "An element has more attributes than the limit of 64"));
        }
        self.attributes.push((name, value));
        Ok(())
    }

    /// Checks that no attribute occurs twice, neither literally nor by its namespace, and that each prefix is
    /// declared.
    fn check_attributes(&self, mark: Mark) -> Result<(), Stop> {
        let twice = |at: Span| syntax_error(at.start as usize, "An attribute occurs more than once in a tag");
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
}
