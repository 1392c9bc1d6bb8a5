//! Parses the texts of references: schemes, ids, RESTful URLs. Resolves nothing.

/// The text after the scheme (RFC 3986) and its colon; None if the text does not begin with a scheme.
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

/// Splits a reference or URL into the part before `/_history/` and the version, if there is one.
pub fn split_version(reference: &str) -> (&str, Option<&str>) {
    // Versions are rare, and a text without `_` has none.
    match memchr::memchr(b'_', reference.as_bytes()).and_then(|_| reference.split_once("/_history/")) {
        Some((plain, version)) => (plain, Some(version)),
        None => (reference, None),
    }
}

/// Whether a text looks like the name of a resource type, for callers without definitions.
pub fn is_type_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_uppercase()) && text.bytes().all(|b| b.is_ascii_alphabetic())
}

/// The longest URL on whose base relative references are resolved, in bytes. Servers accept no longer ones, and the
/// base is read and copied once for each reference.
pub const BASE_LIMIT_BYTES: usize = 2_048;

/// Base, type, and id of a RESTful URL: `https://x.example/fhir/`, `Patient`, `1`. `is_type` recognizes resource
/// types; a version after the id is ignored.
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
    fn a_restful_url_is_split() {
        let is_type = |name: &str| name == "Patient";
        let parts = Some(("https://x.example/fhir/", "Patient", "1"));
        assert_eq!(restful("https://x.example/fhir/Patient/1", is_type), parts);
        assert_eq!(restful("https://x.example/fhir/Patient/1/_history/2", is_type), parts);
        for other in ["https://x.example/fhir/Pet/1", "urn:oid:1.2", "https://x.example/Patient/", "Patient/1"] {
            assert_eq!(restful(other, is_type), None, "{other}");
        }
    }
}
