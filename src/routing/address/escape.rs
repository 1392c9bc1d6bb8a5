//! Percent-encoding: which octets a text stands for, and its one canonical spelling.

use std::borrow::Cow;

/// The octet that an escape (`%` and two hexadecimal digits) at this place stands for; None where there is none.
fn octet(bytes: &[u8], at: usize) -> Option<u8> {
    let hex = |at: usize| bytes.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let (b'%', high, low) = (*bytes.get(at)?, hex(at + 1)?, hex(at + 2)?) else { return None };
    u8::try_from(high * 16 + low).ok()
}

/// Percent-decoded once; what is no escape stays.
pub(super) fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let octet = octet(bytes, at);
        decoded.push(octet.unwrap_or(*byte));
        at += if octet.is_some() { 3 } else { 1 };
    }
    decoded
}

/// Unreserved octets as themselves, all other escapes in upper case (RFC 3986 6.2.2.1 and 6.2.2.2). A percent sign that
/// begins no escape becomes one: else what was decoded behind it could make an escape that nobody wrote.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let (mut written, mut at) = (String::with_capacity(text.len() + 8), 0);
    for (place, letter) in text.char_indices() {
        if place < at {
            continue;
        }
        at = place + letter.len_utf8();
        match (letter, octet(bytes, place)) {
            ('%', Some(octet)) => {
                at = place + 3;
                match octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
                    true => written.push(char::from(octet)),
                    false => written.push_str(&text[place..at].to_ascii_uppercase()),
                }
            }
            ('%', None) => written.push_str("%25"),
            _ => written.push(letter),
        }
    }
    Cow::Owned(written)
}
