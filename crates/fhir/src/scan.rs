//! The grammar of JSON's scalars (RFC 8259): the ends of strings and numbers, the meaning of escapes, the position
//! of an offset.
//!
//! Works on bytes known to be UTF-8. Builds nothing; `json` does.

/// Where and how the text violates the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    pub offset: usize,
    pub text: &'static str,
}

fn syntax_error<T>(offset: usize, text: &'static str) -> Result<T, SyntaxError> {
    Err(SyntaxError { offset, text })
}

pub(super) const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of each of eight bytes.
pub const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The high bit of each byte that is zero; bytes above a zero byte may be marked too, but never one below it.
pub(super) fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The offset of the first of these bytes. Inlined for short texts, where a call would take longer than the search.
#[inline]
pub fn any_of<const N: usize>(bytes: &[u8], wanted: [u8; N]) -> Option<usize> {
    let mut position = 0;
    while let Some(chunk) = bytes.get(position..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        let found = wanted.iter().fold(0, |found, byte| found | zeros(word ^ (ONES * u64::from(*byte))));
        if found != 0 {
            return Some(position + (found.trailing_zeros() / 8) as usize);
        }
        position += 8;
    }
    let rest = bytes.get(position..)?;
    rest.iter().position(|byte| wanted.contains(byte)).map(|at| position + at)
}

/// The offset after white space. Indented text has runs of spaces.
pub(super) fn white_end(bytes: &[u8], mut position: usize) -> usize {
    loop {
        while bytes.get(position..).and_then(|rest| rest.first_chunk::<8>()).is_some_and(|chunk| chunk == b"        ") {
            position += 8;
        }
        match bytes.get(position) {
            Some(b' ' | b'\n' | b'\r' | b'\t') => position += 1,
            _ => return position,
        }
    }
}

/// The first quote, backslash, or control character from `position` on. Reads eight bytes at a time, because
/// narrative and attachments are most of a message.
#[inline]
pub(super) fn special(bytes: &[u8], mut position: usize) -> usize {
    while let Some(chunk) = bytes.get(position..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*chunk);
        // As in `zeros`, for three conditions at once: ASCII bytes that the subtraction takes below zero.
        let quotes = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
        let backslashes = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
        let controls = word.wrapping_sub(ONES * 0x20);
        let found = (quotes | backslashes | controls) & !word & HIGHS;
        if found != 0 {
            return position + (found.trailing_zeros() / 8) as usize;
        }
        position += 8;
    }
    while bytes.get(position).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..0x20)) {
        position += 1;
    }
    position
}

/// The offset of the closing quote of the string that begins at `start`, and whether it has escapes.
#[inline]
pub(super) fn string_end(bytes: &[u8], start: usize) -> Result<(usize, bool), SyntaxError> {
    let position = special(bytes, start);
    match bytes.get(position) {
        Some(b'"') => Ok((position, false)),
        _ => unusual_end(bytes, start, position),
    }
}

/// The same for a string with an escape or an error at `position`.
#[inline(never)]
fn unusual_end(bytes: &[u8], start: usize, mut position: usize) -> Result<(usize, bool), SyntaxError> {
    loop {
        match bytes.get(position) {
            Some(b'"') => return Ok((position, true)),
            Some(b'\\') => position = special(bytes, escape_end(bytes, position)?),
            Some(_) => return syntax_error(position, "A string has a control character; write it as an escape"),
            None => return syntax_error(start - 1, "A string has no closing quote; the text may be cut off"),
        }
    }
}

/// The offset after the escape that begins at `position`, including both halves of a surrogate pair.
fn escape_end(bytes: &[u8], position: usize) -> Result<usize, SyntaxError> {
    match bytes.get(position + 1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(position + 2),
        Some(b'u') => match hex(bytes, position) {
            None => syntax_error(position, "An escape \\u is not followed by four hexadecimal digits"),
            Some(0xDC00..=0xDFFF) => {
                syntax_error(position, "An escape is the second half of a surrogate pair without the first")
            }
            Some(0xD800..=0xDBFF) => match hex(bytes, position + 6) {
                Some(0xDC00..=0xDFFF) => Ok(position + 12),
                _ => syntax_error(position, "An escape is the first half of a surrogate pair without the second"),
            },
            Some(_) => Ok(position + 6),
        },
        Some(_) => syntax_error(position, "An escape in a string is not one that JSON defines"),
        None => syntax_error(position, "The text ends in an escape"),
    }
}

/// The code unit of the escape `\\uXXXX` at `position`, if there is one.
fn hex(bytes: &[u8], position: usize) -> Option<u32> {
    let escape = bytes.get(position..position + 6)?;
    if !escape.starts_with(b"\\u") {
        return None;
    }
    escape[2..].iter().try_fold(0, |unit, byte| Some(unit * 16 + char::from(*byte).to_digit(16)?))
}

/// The offset after the number that begins at `start`.
pub(super) fn number_end(bytes: &[u8], start: usize) -> Result<usize, SyntaxError> {
    let digits =
        |from: usize| from + bytes.get(from..).unwrap_or_default().iter().take_while(|b| b.is_ascii_digit()).count();
    let mut position = start + usize::from(bytes.get(start) == Some(&b'-'));
    let whole = digits(position);
    if whole == position {
        return syntax_error(start, "A minus sign is not followed by a number");
    }
    if bytes[position] == b'0' && whole > position + 1 {
        return syntax_error(start, "A number has a leading zero");
    }
    position = whole;
    if bytes.get(position) == Some(&b'.') {
        let fraction = digits(position + 1);
        if fraction == position + 1 {
            return syntax_error(start, "A number has no digit after its decimal point");
        }
        position = fraction;
    }
    if matches!(bytes.get(position), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(position + 1), Some(b'+' | b'-')));
        let exponent = digits(position + 1 + sign);
        if exponent == position + 1 + sign {
            return syntax_error(start, "A number has no digit in its exponent");
        }
        position = exponent;
    }
    Ok(position)
}

/// The text that a checked string represents.
pub(super) fn unescape(text: &str) -> String {
    let mut decoded = Vec::new();
    unescape_into(text.as_bytes(), &mut decoded);
    String::from_utf8(decoded).unwrap_or_default()
}

/// Appends the decoded text to a buffer.
pub(super) fn unescape_into(bytes: &[u8], decoded: &mut Vec<u8>) {
    decoded.reserve(bytes.len() + 8);
    let mut done = 0;
    while let Some(position) = copy_plain(bytes, done, decoded) {
        done = position + 2;
        match bytes.get(position + 1) {
            Some(b'b') => decoded.push(8),
            Some(b'f') => decoded.push(0x0C),
            Some(b'n') => decoded.push(b'\n'),
            Some(b'r') => decoded.push(b'\r'),
            Some(b't') => decoded.push(b'\t'),
            Some(b'u') => {
                let (character, length) = unicode(bytes, position);
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                done = position + length;
            }
            Some(other) => decoded.push(*other),
            None => break,
        }
    }
}

/// Appends the bytes before the next backslash and returns its position; None if there is none. Reads eight bytes at
/// a time: in narrative there is an escape every few tens of bytes.
fn copy_plain(bytes: &[u8], mut position: usize, decoded: &mut Vec<u8>) -> Option<usize> {
    while let Some(chunk) = bytes.get(position..).and_then(|rest| rest.first_chunk::<8>()) {
        decoded.extend_from_slice(chunk);
        let found = zeros(u64::from_le_bytes(*chunk) ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            let plain = (found.trailing_zeros() / 8) as usize;
            decoded.truncate(decoded.len() - 8 + plain);
            return Some(position + plain);
        }
        position += 8;
    }
    let rest = bytes.get(position..).unwrap_or_default();
    let plain = rest.iter().position(|byte| *byte == b'\\');
    decoded.extend_from_slice(&rest[..plain.unwrap_or(rest.len())]);
    plain.map(|plain| position + plain)
}

/// The character of a checked `\\u` escape, and its length in bytes. `string_end` refuses lone surrogates.
fn unicode(bytes: &[u8], position: usize) -> (char, usize) {
    let unit = hex(bytes, position).unwrap_or_default();
    if !(0xD800..0xDC00).contains(&unit) {
        return (char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
    }
    let low = hex(bytes, position + 6).unwrap_or_default();
    let point = 0x10000 + ((unit - 0xD800) << 10) + (low.wrapping_sub(0xDC00) & 0x3FF);
    (char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
}

/// The UTF-8 byte order mark, which is not content.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Line and column of an offset, from 1. Columns count characters; a byte order mark does not count.
pub(super) fn position(bytes: &[u8], offset: usize) -> (u32, u32) {
    let mut walk = Walk::new(bytes);
    walk.to(bytes, offset)
}

/// The number of characters in a text, or in a part that ends within one. A document may be one long line, so this adds
/// bytes to a byte, up to its range, which the compiler does for many bytes at once.
fn characters(bytes: &[u8]) -> usize {
    // A continuation byte belongs to a character that began earlier.
    let begins = |byte: &u8| u8::from(!(0x80..0xC0).contains(byte));
    bytes.chunks(usize::from(u8::MAX)).map(|chunk| usize::from(chunk.iter().map(begins).sum::<u8>())).sum()
}

/// Finds the positions of many offsets in one pass; offsets must not decrease.
pub struct Walk {
    done: usize,
    line: u32,
    column: u32,
}

impl Walk {
    /// At the beginning of a text.
    pub fn new(bytes: &[u8]) -> Self {
        let done = if bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        Walk { done, line: 1, column: 1 }
    }

    /// Line and column of a byte offset, both from 1; offsets must not decrease.
    pub fn to(&mut self, bytes: &[u8], offset: usize) -> (u32, u32) {
        let end = offset.min(bytes.len()).max(self.done);
        let passed = bytes.get(self.done..end).unwrap_or_default();
        let mut rest = passed;
        if let Some(last) = memchr::memrchr(b'\n', passed) {
            let lines = memchr::memchr_iter(b'\n', &passed[..=last]).count();
            (self.line, self.column) = (self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX)), 1);
            rest = &passed[last + 1..];
        }
        let characters = characters(rest);
        self.column = self.column.saturating_add(u32::try_from(characters).unwrap_or(u32::MAX));
        self.done = end;
        (self.line, self.column)
    }
}
