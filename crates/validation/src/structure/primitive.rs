//! Formats of primitive values in each version, checked by scanning their bytes.
//!
//! Texts are decoded and not empty: the walk reports empty strings by JSN-03. Where the published regular
//! expressions are wrong (`time` without fraction in R4, a stray brace in R5's decimal, R5's dateTime without zone),
//! the text of the specification applies.

mod time;

use crate::uri::{is_oid, is_plain, is_uuid};
use emberpost_fhir::FhirVersion;
use emberpost_fhir::schema::Primitive;
use emberpost_fhir::tree::Kind;

/// The maximum length of a string, in characters.
const STRING_LIMIT: usize = 1_048_576;

/// The kind of JSON value that represents a primitive (JSN-07).
pub(super) fn json_kind(of: Primitive) -> Kind {
    match of {
        Primitive::Boolean => Kind::Boolean,
        Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt | Primitive::Decimal => Kind::Number,
        _ => Kind::String,
    }
}

/// Whether a value has the format of its type; a number is checked as it is written.
pub(super) fn fits(of: Primitive, text: &[u8], version: FhirVersion) -> bool {
    match of {
        Primitive::Boolean => matches!(text, b"true" | b"false"),
        Primitive::Integer => integer(text, version).is_some(),
        Primitive::UnsignedInt => unsigned(text),
        Primitive::PositiveInt => unsigned(text) && text != b"0",
        Primitive::Integer64 => integer64(text),
        Primitive::Decimal => decimal(text, version),
        Primitive::String | Primitive::Markdown => is_short(text),
        Primitive::Code => code(text, version),
        Primitive::Id => id(text),
        Primitive::Uri | Primitive::Url | Primitive::Canonical => is_solid(text),
        Primitive::Oid => text.strip_prefix(b"urn:oid:").is_some_and(is_oid),
        Primitive::Uuid => text.strip_prefix(b"urn:uuid:").is_some_and(is_uuid),
        Primitive::Date => time::date(text),
        Primitive::DateTime => time::date_time(text, version),
        Primitive::Instant => time::instant(text, version),
        Primitive::Time => time::time(text),
        Primitive::Base64Binary => base64(text, version),
        Primitive::Xhtml => true,
    }
}

/// Describes the values of a type, to complete "it must be …".
pub(super) fn allowed(of: Primitive) -> &'static str {
    match of {
        Primitive::Boolean => "true or false",
        Primitive::Integer => {
            "a whole number from -2147483648 to 2147483647, without fraction, exponent or leading zeros"
        }
        Primitive::UnsignedInt => "a whole number from 0 to 2147483647, without fraction, exponent or leading zeros",
        Primitive::PositiveInt => "a whole number from 1 to 2147483647, without fraction, exponent or leading zeros",
        Primitive::Integer64 => "a string of a whole number of 64 bits, without leading zeros",
        Primitive::Decimal => "a decimal number, in R5 with at most 18 digits before and 17 after the point",
        Primitive::String | Primitive::Markdown => "a text of at most 1048576 characters",
        Primitive::Code => "a code without white space at its ends and with single spaces inside",
        Primitive::Id => "1 to 64 of the characters A-Z, a-z, 0-9, - and .",
        Primitive::Uri | Primitive::Url | Primitive::Canonical => "a URI without white space",
        Primitive::Oid => "urn:oid: and numbers joined by dots, without leading zeros, the first of them 0, 1 or 2",
        Primitive::Uuid => "urn:uuid: and 8-4-4-4-12 hexadecimal digits in lower case",
        Primitive::Date => "YYYY, YYYY-MM or YYYY-MM-DD, a day that exists",
        Primitive::DateTime => {
            "YYYY, YYYY-MM, YYYY-MM-DD or YYYY-MM-DDThh:mm:ss with a time zone, a moment that exists"
        }
        Primitive::Instant => "YYYY-MM-DDThh:mm:ss with a time zone, a moment that exists",
        Primitive::Time => "hh:mm:ss without a time zone",
        Primitive::Base64Binary => {
            "base64 of the plain alphabet with padding, without data: before it, and in R5 without white space"
        }
        Primitive::Xhtml => "an XHTML div",
    }
}

/// Counts characters only if there are more bytes than the limit.
fn is_short(text: &[u8]) -> bool {
    text.len() <= STRING_LIMIT || text.iter().filter(|byte| !(0x80..0xC0).contains(*byte)).count() <= STRING_LIMIT
}

/// Whether there is no white space. Reads every byte: vectorized, that is faster than stopping at the first.
fn is_solid(text: &[u8]) -> bool {
    !text.iter().fold(false, |found, byte| found | byte.is_ascii_whitespace())
}

/// The value of digits; None beyond 64 bits.
fn value(digits: &[u8]) -> Option<u64> {
    let step = |sum: u64, digit: &u8| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    if is_plain(digits) { digits.iter().try_fold(0, step) } else { None }
}

fn integer(text: &[u8], version: FhirVersion) -> Option<i64> {
    let negative = text.first() == Some(&b'-');
    let digits = value(if negative { text.get(1..)? } else { text })?;
    if negative && digits == 0 && version == FhirVersion::R5 {
        return None;
    }
    let value = i64::try_from(digits).ok()?;
    let value = if negative { -value } else { value };
    i32::try_from(value).ok().map(i64::from)
}

fn unsigned(text: &[u8]) -> bool {
    value(text).is_some_and(|value| i32::try_from(value).is_ok())
}

fn integer64(text: &[u8]) -> bool {
    let (sign, digits) = match text {
        [sign @ (b'-' | b'+'), digits @ ..] => (Some(*sign), digits),
        digits => (None, digits),
    };
    match (value(digits), sign) {
        (None, _) => false,
        (Some(0), sign) => sign.is_none(),
        (Some(value), Some(b'-')) => value <= i64::MIN.unsigned_abs(),
        (Some(value), _) => i64::try_from(value).is_ok(),
    }
}

/// `-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?`; in R5 with at most 18, 17, and 10 digits, and no leading zeros
/// in the exponent.
fn decimal(text: &[u8], version: FhirVersion) -> bool {
    let (whole_limit, part_limit, exponent_limit) = match version {
        FhirVersion::R5 => (18, 17, 10),
        _ => (usize::MAX, usize::MAX, usize::MAX),
    };
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let (mantissa, exponent) = split_at_any(text, b"eE");
    let (whole, part) = split_at_any(mantissa, b".");
    let digits = |digits: &[u8], limit| (1..=limit).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let exponent = exponent.map(|exponent| match exponent {
        [b'-' | b'+', digits @ ..] => digits,
        digits => digits,
    });
    is_plain(whole)
        && whole.len() <= whole_limit
        && part.is_none_or(|part| digits(part, part_limit))
        && exponent.is_none_or(|exponent| {
            digits(exponent, exponent_limit) && (version != FhirVersion::R5 || is_plain(exponent))
        })
}

/// Splits before the first of these bytes.
fn split_at_any<'b>(text: &'b [u8], any: &[u8]) -> (&'b [u8], Option<&'b [u8]>) {
    match text.iter().position(|byte| any.contains(byte)) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// No white space at the ends, single white space inside; in R5 only spaces.
fn code(text: &[u8], version: FhirVersion) -> bool {
    let is_white = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0B;
    let mut after_white = true;
    for &byte in text {
        let white = is_white(byte);
        if white && (after_white || (version == FhirVersion::R5 && byte != b' ')) {
            return false;
        }
        after_white = white;
    }
    !after_white
}

pub(super) fn id(text: &[u8]) -> bool {
    (1..=64).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

/// Groups of four characters of the plain alphabet, padded at the end. Before R5, white space is ignored; R5 forbids
/// it.
fn base64(text: &[u8], version: FhirVersion) -> bool {
    let (mut count, mut padding) = (0usize, 0usize);
    for block in text.chunks(BLOCK) {
        // Embedded documents are megabytes of plain characters, so blocks of bytes are checked at once.
        if padding == 0 && block.iter().fold(true, |all, byte| all & is_base64(*byte)) {
            count += block.len();
            continue;
        }
        for byte in block {
            match byte {
                b'=' => padding += 1,
                b' ' | b'\t' | b'\r' | b'\n' if version != FhirVersion::R5 => {}
                byte if padding == 0 && is_base64(*byte) => count += 1,
                _ => return false,
            }
        }
    }
    (count + padding).is_multiple_of(4) && padding <= 2 && count > 0
}

/// The size of a block.
const BLOCK: usize = 64;

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() | (byte == b'+') | (byte == b'/')
}

#[cfg(test)]
mod tests;
