//! The grammar of XML's names, references, and attribute values (XML 1.0, fifth edition), on bytes known to be
//! UTF-8.

use super::super::scan::{self, HIGHS, ONES, SyntaxError, zeros};
use super::document::{Span, Value};

pub(super) fn syntax_error<T>(offset: usize, text: &'static str) -> Result<T, SyntaxError> {
    Err(SyntaxError { offset, text })
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// The offset of the first character that XML does not allow anywhere.
pub(super) fn illegal(bytes: &[u8]) -> Option<usize> {
    let is_control = |byte: &u8| *byte < 0x20 && !is_space(*byte);
    // Fixed-size blocks without an early exit, so that the compiler vectorizes the loop.
    let piece = bytes.chunks(256).position(|piece| piece.iter().fold(false, |found, byte| found | is_control(byte)));
    let control = piece.and_then(|piece| Some(piece * 256 + bytes.get(piece * 256..)?.iter().position(is_control)?));
    let no_character = memchr::memchr_iter(0xEF, bytes)
        .find(|at| bytes.get(at + 1) == Some(&0xBF) && matches!(bytes.get(at + 2), Some(0xBE | 0xBF)));
    control.into_iter().chain(no_character).min()
}

/// Whether XML allows the character.
pub(super) fn is_legal(character: char) -> bool {
    !matches!(character, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
}

fn begins_name(character: char) -> bool {
    matches!(character,
        'A'..='Z' | 'a'..='z' | '_' | '\u{C0}'..='\u{D6}' | '\u{D8}'..='\u{F6}' | '\u{F8}'..='\u{2FF}'
        | '\u{370}'..='\u{37D}' | '\u{37F}'..='\u{1FFF}' | '\u{200C}' | '\u{200D}' | '\u{2070}'..='\u{218F}'
        | '\u{2C00}'..='\u{2FEF}' | '\u{3001}'..='\u{D7FF}' | '\u{F900}'..='\u{FDCF}' | '\u{FDF0}'..='\u{FFFD}'
        | '\u{10000}'..='\u{EFFFF}')
}

fn continues_name(character: char) -> bool {
    begins_name(character)
        || matches!(character, '-' | '.' | '0'..='9' | '\u{B7}' | '\u{300}'..='\u{36F}' | '\u{203F}' | '\u{2040}')
}

/// A name with its prefix, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Name {
    pub whole: Span,
    /// Empty if there is none.
    pub prefix: Span,
    pub local: Span,
}

/// The name that begins at `start`, and the offset after it.
pub(super) fn name(bytes: &[u8], start: usize) -> Result<(Name, usize), SyntaxError> {
    let mut end = start;
    let mut colon = None;
    loop {
        match bytes.get(end) {
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'0'..=b'9' | b'-' | b'.') => end += 1,
            Some(b':') if colon.is_none() => {
                colon = Some(end);
                end += 1;
            }
            Some(b':') => return syntax_error(start, "A name has more than one colon"),
            Some(0x80..) => match character(bytes, end).filter(|found| continues_name(*found)) {
                Some(found) => end += found.len_utf8(),
                None => break,
            },
            _ => break,
        }
    }
    let local = colon.map_or(start, |colon| colon + 1);
    let begins = |from: usize| from < end && character(bytes, from).is_some_and(begins_name);
    if !begins(start) || !begins(local) {
        return syntax_error(start, "A name is missing, or begins with a character that a name cannot begin with");
    }
    let prefix = Span::new(start, colon.unwrap_or(start));
    Ok((Name { whole: Span::new(start, end), prefix, local: Span::new(local, end) }, end))
}

fn character(bytes: &[u8], at: usize) -> Option<char> {
    let byte = *bytes.get(at)?;
    if byte < 0x80 {
        return Some(char::from(byte));
    }
    let rest = bytes.get(at..bytes.len().min(at + 4))?;
    let valid = match std::str::from_utf8(rest) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).ok()?,
    };
    valid.chars().next()
}

/// The first byte from `position` on that matters in a value: a quote, `<`, `&`, a backslash, a control character.
fn special(bytes: &[u8], mut position: usize, quote: u8) -> usize {
    let spread = |byte: u8| ONES * u64::from(byte);
    while let Some(chunk) = bytes.get(position..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let controls = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let quotes = zeros(word ^ spread(quote)) | zeros(word ^ spread(b'"'));
        let others = zeros(word ^ spread(b'<')) | zeros(word ^ spread(b'&')) | zeros(word ^ spread(b'\\'));
        let found = controls | quotes | others;
        if found != 0 {
            return position + (found.trailing_zeros() / 8) as usize;
        }
        position += 8;
    }
    let is_special = |byte: &u8| *byte == quote || matches!(byte, b'"' | b'<' | b'&' | b'\\' | 0..0x20);
    while bytes.get(position).is_some_and(|byte| !is_special(byte)) {
        position += 1;
    }
    position
}

/// The value whose opening quote is at `start`, and the offset after its closing quote.
pub(super) fn value(bytes: &[u8], start: usize) -> Result<(Value, usize), SyntaxError> {
    let quote = match bytes.get(start) {
        Some(quote @ (b'"' | b'\'')) => *quote,
        _ => return syntax_error(start, "The value of an attribute is not in quotes"),
    };
    let mut value = Value::default();
    let mut position = start + 1;
    loop {
        position = special(bytes, position, quote);
        match bytes.get(position) {
            Some(byte) if *byte == quote => break,
            Some(b'<') => return syntax_error(position, "The value of an attribute contains <; write &lt;"),
            Some(b'&') => {
                value.is_coded = true;
                position = reference(bytes, position)?.1;
                continue;
            }
            Some(b'"' | b'\\') => value.is_quoted = true,
            Some(_) => value.is_coded = true,
            None => {
                return syntax_error(start, "The value of an attribute has no closing quote; the text may be cut off");
            }
        }
        position += 1;
    }
    value.span = Span::new(start + 1, position);
    Ok((value, position + 1))
}

/// The character of the reference whose `&` is at `at`, and the offset after it. Only XML's five predefined names
/// are known.
pub(super) fn reference(bytes: &[u8], at: usize) -> Result<(char, usize), SyntaxError> {
    // The longest is `&#x10FFFF;`, plus some leading zeros.
    let rest = bytes.get(at + 1..bytes.len().min(at + 33)).unwrap_or_default();
    let Some(length) = memchr::memchr(b';', rest) else {
        return syntax_error(at, "& is not part of a reference; write &amp;");
    };
    let name = &rest[..length];
    let end = at + 1 + length + 1;
    let number = |digits: &[u8], radix: u32| {
        let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).filter(|found| is_legal(*found))
    };
    let found = match name {
        b"amp" => Some('&'),
        b"lt" => Some('<'),
        b"gt" => Some('>'),
        b"quot" => Some('"'),
        b"apos" => Some('\''),
        [b'#', b'x', digits @ ..] => number(digits, 16),
        [b'#', digits @ ..] => number(digits, 10),
        _ => {
            return syntax_error(
                at,
                "& begins a name that XML does not define, or is not part of a reference; write the character or &amp;",
            );
        }
    };
    found
        .map(|found| (found, end))
        .ok_or(SyntaxError { offset: at, text: "A reference is not to a character that XML allows" })
}

/// Checks the references in text, and that it does not contain `]]>`.
pub(super) fn check_text(bytes: &[u8], from: usize, to: usize) -> Result<(), SyntaxError> {
    let mut position = from;
    while let Some(found) = memchr::memchr2(b'&', b']', bytes.get(position..to).unwrap_or_default()) {
        let at = position + found;
        position = match bytes[at] {
            b'&' => reference(bytes, at)?.1,
            _ if bytes[at..to].starts_with(b"]]>") => return syntax_error(at, "The text contains ]]>; write ]]&gt;"),
            _ => at + 1,
        };
    }
    Ok(())
}

/// Whether text is white space only, written literally or as references. The references must be valid.
pub(super) fn is_blank(text: &[u8]) -> bool {
    let mut position = 0;
    while let Some(byte) = text.get(position) {
        position = match byte {
            b'&' => match reference(text, position) {
                Ok((' ' | '\n' | '\r' | '\t', end)) => end,
                _ => return false,
            },
            byte if is_space(*byte) => position + 1,
            _ => return false,
        };
    }
    true
}

/// Decodes a value: resolves references, and normalizes line ends and tabs to spaces. The references must be valid.
pub(super) fn decode(raw: &[u8], into: &mut Vec<u8>) {
    let mut position = 0;
    while let Some(byte) = raw.get(position) {
        match byte {
            b'&' => {
                let (found, end) = reference(raw, position).unwrap_or((char::REPLACEMENT_CHARACTER, position + 1));
                into.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                position = end;
                continue;
            }
            b'\r' if raw.get(position + 1) == Some(&b'\n') => {}
            b'\n' | b'\r' | b'\t' => into.push(b' '),
            other => into.push(*other),
        }
        position += 1;
    }
}

/// Writes text as the content of a JSON string; returns whether it has escapes. The text has no control characters
/// except tab and line ends.
pub(super) fn escape(text: &[u8], into: &mut Vec<u8>) -> bool {
    let mut done = 0;
    loop {
        let at = scan::special(text, done);
        into.extend_from_slice(&text[done..at]);
        let Some(byte) = text.get(at) else { return done > 0 };
        match byte {
            b'\n' => into.extend_from_slice(b"\\n"),
            b'\r' => into.extend_from_slice(b"\\r"),
            b'\t' => into.extend_from_slice(b"\\t"),
            other => into.extend_from_slice(&[b'\\', *other]),
        }
        done = at + 1;
    }
}
