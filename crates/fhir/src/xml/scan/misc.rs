//! Comments, processing instructions, CDATA sections, and the declarations that are refused (XML-02, XML-03).

use super::super::text::{self, is_space, syntax_error};
use super::{Scanner, Stop};

impl Scanner<'_> {
    /// Parses a comment or a CDATA section; refuses everything that belongs to a DTD.
    pub(super) fn declared(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let rest = self.bytes.get(start..).unwrap_or_default();
        if rest.starts_with(b"<!--") {
            return self.comment();
        }
        if rest.starts_with(b"<![CDATA[") && !self.open.is_empty() {
            let Some(length) = memchr::memmem::find(&rest[9..], b"]]>") else {
                return Ok(syntax_error(start, "A CDATA section has no end")?);
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
        Ok(syntax_error(start, "<! does not begin a comment or a CDATA section")?)
    }

    pub(super) fn comment(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let rest = self.bytes.get(start..).unwrap_or_default();
        if !rest.starts_with(b"<!--") {
            return Ok(syntax_error(start, "<! does not begin a comment or a CDATA section")?);
        }
        let Some(length) = memchr::memmem::find(&rest[4..], b"--") else {
            return Ok(syntax_error(start, "A comment has no end")?);
        };
        if rest.get(4 + length + 2) != Some(&b'>') {
            return Ok(syntax_error(start + 4 + length, "A comment contains --")?);
        }
        self.position = start + 4 + length + 3;
        Ok(())
    }

    pub(super) fn instruction(&mut self) -> Result<(), Stop> {
        let start = self.position;
        let (name, end) = text::name(self.bytes, start + 2)?;
        if name.whole.of(self.bytes).eq_ignore_ascii_case(b"xml") {
            return Ok(syntax_error(start, "An XML declaration is only allowed at the start of the text")?);
        }
        let rest = self.bytes.get(end..).unwrap_or_default();
        let Some(length) = memchr::memmem::find(rest, b"?>") else {
            return Ok(syntax_error(start, "A processing instruction has no end")?);
        };
        if length > 0 && !is_space(rest[0]) {
            return Ok(syntax_error(end, "The name of a processing instruction is not followed by white space")?);
        }
        self.position = end + length + 2;
        Ok(())
    }
}
