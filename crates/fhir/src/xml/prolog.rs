//! The prolog of a document: byte order mark, XML declaration (UTF-8 only), and encodings that are not supported.

use super::super::scan::{BYTE_ORDER_MARK, SyntaxError};
use super::text::{is_space, syntax_error};

/// Whether the bytes are UTF-16 or UTF-32, judged by the first ones.
pub(super) fn is_wide(bytes: &[u8]) -> bool {
    matches!(bytes, [0xFE, 0xFF, ..] | [0xFF, 0xFE, ..] | [b'<', 0, ..] | [0, b'<', ..] | [0, 0, 0, b'<', ..])
}

/// What is wrong with the declaration.
pub(super) enum Refused {
    Grammar(SyntaxError),
    /// It names an encoding other than UTF-8, at this offset.
    Encoding(usize),
}

impl From<SyntaxError> for Refused {
    fn from(error: SyntaxError) -> Self {
        Refused::Grammar(error)
    }
}

/// The offset after byte order mark and declaration.
pub(super) fn end(bytes: &[u8]) -> Result<usize, Refused> {
    let start = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    let rest = bytes.get(start..).unwrap_or_default();
    if !rest.starts_with(b"<?xml") || !rest.get(5).is_some_and(|byte| is_space(*byte)) {
        return Ok(start);
    }
    let Some(length) = memchr::memmem::find(rest, b"?>") else {
        return Ok(syntax_error(start, "The XML declaration has no end")?);
    };
    let mut position = start + 5;
    let end = start + length;
    let mut last = 0;
    while let Some((name, value, next)) = pseudo_attribute(bytes, position, end)? {
        let is_wrong = |text| Refused::Grammar(SyntaxError { offset: position, text });
        let order = match name {
            b"version" => 1,
            b"encoding" => 2,
            b"standalone" => 3,
            _ => return Err(is_wrong("The XML declaration has an attribute that XML does not define for it")),
        };
        if order <= last || (last == 0 && order != 1) {
            return Err(is_wrong("The attributes of the XML declaration are in the wrong order"));
        }
        last = order;
        match order {
            1 if !value.starts_with(b"1.") || !value[2..].iter().all(u8::is_ascii_digit) || value.len() < 3 => {
                return Err(is_wrong("The XML declaration names a version other than XML 1.x"));
            }
            2 if !value.eq_ignore_ascii_case(b"utf-8") => return Err(Refused::Encoding(position)),
            3 if value != b"yes" && value != b"no" => return Err(is_wrong("standalone is neither yes nor no")),
            _ => {}
        }
        position = next;
    }
    match last {
        0 => Ok(syntax_error(start, "The XML declaration has no version")?),
        _ => Ok(end + 2),
    }
}

/// Name, value, and the offset after it.
type Pseudo<'x> = (&'x [u8], &'x [u8], usize);

/// The next attribute before `end`; None if there is none.
fn pseudo_attribute(bytes: &[u8], from: usize, end: usize) -> Result<Option<Pseudo<'_>>, SyntaxError> {
    let declaration = bytes.get(..end).unwrap_or_default();
    let skip = |mut at: usize| {
        while declaration.get(at).is_some_and(|byte| is_space(*byte)) {
            at += 1;
        }
        at
    };
    let name_at = skip(from);
    let Some(rest) = declaration.get(name_at..).filter(|rest| !rest.is_empty()) else { return Ok(None) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
    let equals = skip(name_at + length);
    let quote_at = skip(equals + 1);
    let quote = declaration.get(quote_at).filter(|byte| matches!(byte, b'"' | b'\''));
    let (Some(b'='), Some(quote), true) = (declaration.get(equals), quote, name_at > from) else {
        return syntax_error(name_at, "The XML declaration is not well-formed");
    };
    let value = &declaration[quote_at + 1..];
    match memchr::memchr(*quote, value) {
        Some(size) => Ok(Some((&rest[..length], &value[..size], quote_at + size + 2))),
        None => syntax_error(quote_at, "The XML declaration is not well-formed"),
    }
}
