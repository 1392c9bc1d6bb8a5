//! The texts of references taken apart: schemes, ids, RESTful URLs. Nothing is resolved here.

/// What follows the scheme (RFC 3986) that a text begins with, and its colon; None: it begins with none.
pub fn after_scheme(text: &str) -> Option<&str> {
    let is_of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let length = text.bytes().position(|byte| !is_of_scheme(&byte))?;
    let (scheme, rest) = text.split_at(length);
    rest.strip_prefix(':').filter(|_| scheme.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// Whether a text begins with a scheme.
pub fn has_scheme(text: &str) -> bool {
    after_scheme(text).is_some()
}

/// Whether a text is a FHIR id.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

/// A reference or URL without its version, and the version if it names one.
pub fn split_version(reference: &str) -> (&str, Option<&str>) {
    // Hardly any does, and one without `_` is known at once.
    match memchr::memchr(b'_', reference.as_bytes()).and_then(|_| reference.split_once("/_history/")) {
        Some((plain, version)) => (plain, Some(version)),
        None => (reference, None),
    }
}

/// Whether a text looks like the name of a resource type, for who has no definitions at hand.
pub fn is_type_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(|b| b.is_ascii_alphabetic())
}

/// The longest URL that relative references are read on the base of, in bytes. No server takes a longer one, and its base
/// would be read and copied once for each reference.
pub const BASE_LIMIT_BYTES: usize = 2_048;

/// Base, type and id of a RESTful URL: `https://x.example/fhir/`, `Patient`, `1`. `is_type` knows the resource types; a
/// version after the id is passed over.
pub fn restful(url: &str, is_type: impl Fn(&str) -> bool) -> Option<(&str, &str, &str)> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return None;
    }
    if url.len() > BASE_LIMIT_BYTES {
        return None;
    }
    let (url, _) = split_version(url);
    let (before, id) = url.rsplit_once('/')?;
    let (base, kind) = before.rsplit_once('/')?;
    (is_id(id) && is_type(kind)).then(|| (&url[..=base.len()], kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restful_url_is_taken_apart() {
        let is_type = |name: &str| name == "Patient";
        let parts = Some(("https://x.example/fhir/", "Patient", "1"));
        assert_eq!(restful("https://x.example/fhir/Patient/1", is_type), parts);
        assert_eq!(restful("https://x.example/fhir/Patient/1/_history/2", is_type), parts);
        for other in ["https://x.example/fhir/Pet/1", "urn:oid:1.2", "https://x.example/Patient/", "Patient/1"] {
            assert_eq!(restful(other, is_type), None, "{other}");
        }
    }
}
