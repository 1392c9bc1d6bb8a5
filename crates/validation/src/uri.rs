//! Syntax of URIs that the specification's prose requires: absolute URIs, and a valid UUID or OID after `urn:uuid:`
//! and `urn:oid:`.
//!
//! The definitions only forbid white space in a uri; these rules are those of the data types page.

use emberpost_fhir::reference::after_scheme;
pub(super) use emberpost_fhir::reference::restful;
use emberpost_fhir::scan;

/// Whether a URI has a scheme and something after it, without spaces (RFC 3986).
pub(super) fn is_absolute(uri: &str) -> bool {
    after_scheme(uri).is_some_and(|rest| !rest.is_empty() && scan::any_of(rest.as_bytes(), [b' ']).is_none())
}

/// Whether a text is 8-4-4-4-12 hexadecimal digits in lower case, as type `uuid` requires after `urn:uuid:`.
pub(super) fn is_uuid(text: &[u8]) -> bool {
    let Ok(text) = <&[u8; 36]>::try_from(text) else { return false };
    let is_of_uuid = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    // Every UUID of a message is read here, without branches: all bytes may occur, and hyphens in four places only.
    let hyphens = text.iter().filter(|byte| **byte == b'-').count();
    let places = [8, 13, 18, 23].map(|at| text[at]);
    text.iter().fold(true, |all, byte| all & is_of_uuid(byte)) && hyphens == 4 && places == *b"----"
}

/// Whether a text is numbers joined by dots, the first 0, 1, or 2, as type `oid` requires after `urn:oid:`.
pub(super) fn is_oid(text: &[u8]) -> bool {
    let mut numbers = text.split(|byte| *byte == b'.');
    let is_root = matches!(numbers.next(), Some(b"0" | b"1" | b"2"));
    let mut more = numbers.peekable();
    is_root && more.peek().is_some() && more.all(is_plain)
}

/// Whether a text is digits without a sign and without leading zeros.
pub(super) fn is_plain(digits: &[u8]) -> bool {
    match digits {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

/// What is wrong with a URI that begins with `urn:uuid:` or `urn:oid:`; None if it is valid.
pub(super) fn wrong_urn(uri: &str) -> Option<&'static str> {
    let rest = uri.strip_prefix("urn:")?;
    if let Some(uuid) = rest.strip_prefix("uuid:") {
        return (!is_uuid(uuid.as_bytes())).then_some(
            "begins with urn:uuid: but is not a UUID as FHIR writes it; use 8-4-4-4-12 hexadecimal digits in lower case",
        );
    }
    let oid = rest.strip_prefix("oid:")?;
    (!is_oid(oid.as_bytes()))
        .then_some("begins with urn:oid: but is not an OID; use numbers joined by dots, the first 0, 1 or 2")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_absolute_with_a_scheme_and_something_after_it() {
        for (uri, absolute) in [
            ("https://x.example/fhir/Patient/1", true),
            ("mailto:x@y.example", true),
            ("urn:iso:std:iso:3166", true),
            ("Patient/1", false),
            ("Patient", false),
            ("http:", false),
            ("http//://x.example", false),
            ("https://x.example/my server/1", false),
            ("2.16.840.1", false),
            ("", false),
        ] {
            assert_eq!(is_absolute(uri), absolute, "{uri}");
        }
    }

    #[test]
    fn a_urn_of_a_uuid_or_oid_contains_one() {
        for (uri, good) in [
            ("urn:uuid:0c1646f0-656a-58bb-9b1f-a5b80b67484e", true),
            ("urn:uuid:0C1646F0-656A-58BB-9B1F-A5B80B67484E", false),
            ("urn:uuid:0c1646f0656a58bb9b1fa5b80b67484e", false),
            ("urn:uuid:1", false),
            ("urn:oid:1.2.840.0.1", true),
            ("urn:oid:1.02", false),
            ("urn:oid:3.1", false),
            ("urn:oid:2", false),
            ("urn:other:2", true),
            ("https://x.example", true),
        ] {
            assert_eq!(wrong_urn(uri).is_none(), good, "{uri}");
        }
    }
}
