//! Path normalization: needless percent-encoding is decoded, double and trailing slashes are removed, and an alias of
//! the base becomes the base with a fixed version.

use fhir::FhirVersion;
use percent_encoding::percent_decode_str;

/// The aliases of the base; each fixes the version of requests and answers.
pub const ALIASES: [(&str, FhirVersion); 3] =
    [("R4", FhirVersion::R4), ("R4B", FhirVersion::R4B), ("R5", FhirVersion::R5)];

#[derive(Debug, PartialEq)]
pub struct Rewritten {
    pub path: String,
    pub version: Option<FhirVersion>,
}

/// The path to route; None if it equals the one that was written. `base_path` has no trailing slash.
pub fn rewrite(path: &str, base_path: &str) -> Option<Rewritten> {
    let below_base = path.strip_prefix(base_path).is_some_and(|rest| rest.starts_with("/R"));
    let is_plain = !path.contains('%') && !path.contains("//") && (path == "/" || !path.ends_with('/'));
    if is_plain && !below_base {
        return None;
    }
    let mut plain = if is_plain { path.to_owned() } else { spelled_plainly(path) };
    let mut version = None;
    if let Some((name, rest)) = alias(&plain, base_path) {
        version = ALIASES.into_iter().find(|(alias, _)| *alias == name).map(|(_, version)| version);
        plain = format!("{base_path}{rest}");
        if plain.is_empty() {
            plain.push('/');
        }
    }
    (plain != path).then_some(Rewritten { path: plain, version })
}

/// The alias that follows the base, and the rest of the path.
fn alias<'p>(path: &'p str, base_path: &str) -> Option<(&'p str, &'p str)> {
    let below = path.strip_prefix(base_path)?.strip_prefix('/')?;
    let end = below.find('/').unwrap_or(below.len());
    let (name, rest) = below.split_at(end);
    ALIASES.iter().any(|(alias, _)| *alias == name).then_some((name, rest))
}

/// Decodes the characters that RFC 3986 calls unreserved, and `$`, with which operations begin; everything else stays
/// as written.
fn spelled_plainly(path: &str) -> String {
    if !path.is_ascii() {
        return path.to_owned();
    }
    let is_plain = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~$".contains(octet);
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(first) = rest.bytes().next() {
        let decoded = percent_decode_str(rest).next().filter(|octet| first == b'%' && is_plain(octet));
        rest = &rest[if decoded.is_some() { "%24".len() } else { 1 }..];
        let next = char::from(decoded.unwrap_or(first));
        if next != '/' || !plain.ends_with('/') {
            plain.push(next);
        }
    }
    while plain.len() > 1 && plain.ends_with('/') {
        plain.pop();
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_path_are_routed_alike_and_aliases_fix_the_version() {
        let r5 = Some(FhirVersion::R5);
        for (base, path, expected) in [
            ("/fhir", "/fhir/$process-message", None),
            ("/fhir", "/fhir/%24process-message", Some(("/fhir/$process-message", None))),
            ("/fhir", "/fhir/%24%70rocess-message/", Some(("/fhir/$process-message", None))),
            ("/fhir", "//fhir//$process-message//", Some(("/fhir/$process-message", None))),
            ("/fhir", "/fhir/", Some(("/fhir", None))),
            ("/fhir", "/", None),
            ("/fhir", "//", Some(("/", None))),
            ("/fhir", "/fhir/a%2Fb", None),
            ("/fhir", "/fhir/a%2fb/", Some(("/fhir/a%2fb", None))),
            ("/fhir", "/fhir/%", None),
            ("/fhir", "/fhir/%4", None),
            ("/fhir", "/fhir/R5/metadata", Some(("/fhir/metadata", r5))),
            ("/fhir", "/fhir/R5", Some(("/fhir", r5))),
            ("/fhir", "/fhir//R5/%24process-message/", Some(("/fhir/$process-message", r5))),
            ("/fhir", "/fhir/R4B/metadata", Some(("/fhir/metadata", Some(FhirVersion::R4B)))),
            ("/fhir", "/fhir/R6/metadata", None),
            ("/fhir", "/fhir/R5x/metadata", None),
            ("/fhir", "/R5/metadata", None),
            ("", "/R4/metadata", Some(("/metadata", Some(FhirVersion::R4)))),
            ("", "/R5", Some(("/", r5))),
            ("/a/fhir", "/a/fhir/R5/R4/metadata", Some(("/a/fhir/R4/metadata", r5))),
        ] {
            let expected = expected.map(|(path, version)| Rewritten { path: path.into(), version });
            assert_eq!(rewrite(path, base), expected, "{path}");
        }
    }
}
