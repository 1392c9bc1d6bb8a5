//! The one canonical spelling of a percent-encoded text.

use percent_encoding::percent_encode_byte;
use std::borrow::Cow;

/// Writes unreserved octets as themselves and all other escapes in upper case (RFC 3986 6.2.2.1 and 6.2.2.2). A percent sign
/// that does not begin an escape becomes one; otherwise what is decoded after it could form an escape that nobody wrote.
pub(super) fn canonical(text: &str) -> Cow<'_, str> {
    let mut parts = text.split('%');
    let before = parts.next().unwrap_or_default();
    if before.len() == text.len() {
        return Cow::Borrowed(text);
    }
    let mut written = String::with_capacity(text.len() + 8);
    written.push_str(before);
    for part in parts {
        let Some((octet, after)) = octet(part) else {
            written.push_str("%25");
            written.push_str(part);
            continue;
        };
        match octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            true => written.push(char::from(octet)),
            false => written.push_str(percent_encode_byte(octet)),
        }
        written.push_str(after);
    }
    Cow::Owned(written)
}

/// The octet that the two hexadecimal digits after a percent sign stand for, and what follows them.
fn octet(after_percent: &str) -> Option<(u8, &str)> {
    let (digits, after) = after_percent.split_at_checked(2)?;
    // `from_str_radix` alone accepts a sign.
    let is_escape = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_escape.then(|| Some((u8::from_str_radix(digits, 16).ok()?, after)))?
}
