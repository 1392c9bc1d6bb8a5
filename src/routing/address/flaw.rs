//! Flaws: what an address must not contain, because clients, proxies, and servers interpret it differently. The address compared
//! and the address posted to could then differ.

use super::plain::is_plain;
use super::{Parts, http_url};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use fhir::MessageHeader;
use fhir::event::Event;
use percent_encoding::percent_decode_str;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

const HEADER: &str = "Bundle.entry[0].resource";

/// Why a text is not accepted as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// NUL, tab, line feed, and other control characters; clients remove some of them.
    Control,
    /// Some clients treat it as a slash.
    BackSlash,
    /// `.` or `..` as a segment of the path, also percent-encoded.
    DotSegment,
    /// `%2f` in the path; some servers treat it as a slash.
    EncodedSlash,
    /// `//` in the path; some servers treat it as one slash.
    EmptySegment,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::Control => "a control character",
            Flaw::BackSlash => "a back slash",
            Flaw::DotSegment => "a dot segment (\".\" or \"..\") in its path",
            Flaw::EncodedSlash => "a percent-encoded slash (\"%2F\") in its path",
            Flaw::EmptySegment => "an empty segment (\"//\") in its path",
        })
    }
}

/// The first flaw of an address or pattern. Control characters are a flaw anywhere; the other flaws are those of URLs.
pub fn flaw(address: &str) -> Option<Flaw> {
    if is_plain(address) { None } else { parsed_flaw(address) }
}

pub(super) fn parsed_flaw(address: &str) -> Option<Flaw> {
    if address.chars().any(char::is_control) {
        return Some(Flaw::Control);
    }
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme.trim());
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let parts = Parts::of(address);
    if !is_http && parts.is_none() {
        return None;
    }
    if address.contains('\\') {
        return Some(Flaw::BackSlash);
    }
    // The path as the client parses it, which may differ.
    let parsed = http_url(address);
    let rest = parts.map_or(address, |parts| parts.rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    flaw_of_path(path).or_else(|| parsed.and_then(|url| flaw_of_path(url.path())))
}

/// The first flaw of a path as a server sees it, which decodes it once.
fn flaw_of_path(written: &str) -> Option<Flaw> {
    let path: Vec<u8> = percent_decode_str(written).collect();
    if path.iter().any(u8::is_ascii_control) {
        return Some(Flaw::Control);
    }
    if path.contains(&b'\\') {
        return Some(Flaw::BackSlash);
    }
    if path.split(|byte| *byte == b'/').any(|segment| matches!(name_of(segment), b"." | b"..")) {
        return Some(Flaw::DotSegment);
    }
    // The text after `|` is an identifier's value, which may itself be a URL.
    let path = written.split('|').next().unwrap_or_default();
    let decoded: Vec<u8> = percent_decode_str(path).collect();
    if decoded.iter().filter(|byte| **byte == b'/').count() > path.matches('/').count() {
        return Some(Flaw::EncodedSlash);
    }
    // The text before the first slash is not a segment, and the last segment may be empty.
    let mut segments = decoded.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if name_of(segment).is_empty() && segments.peek().is_some() {
            return Some(Flaw::EmptySegment);
        }
    }
    None
}

/// The segment without path parameters (`;…`), which servlet containers remove.
fn name_of(segment: &[u8]) -> &[u8] {
    let end = segment.iter().position(|byte| *byte == b';').unwrap_or(segment.len());
    &segment[..end]
}

/// One issue for each source, destination, target, and event of a header that has a flaw (HTTP 400).
pub fn refusals(header: &MessageHeader) -> Vec<Issue> {
    let mut issues = Vec::new();
    let mut look = |text: &str, rule: &'static str, at: &dyn Fn() -> String| {
        if let Some(flaw) = flaw(text) {
            let text = format!("The address has {flaw}; give it without");
            issues.push(Issue::error(IssueCode::Value, Fault::SendStructure, text).rule(rule).at(at()));
        }
    };
    if let Some(source) = &header.source_endpoint {
        look(source, "MSG-23", &|| format!("{HEADER}.source.endpoint"));
    }
    if let Some(Event::Uri(uri)) = &header.event {
        look(uri, "MSG-31", &|| format!("{HEADER}.event"));
    }
    // Many destinations may share one list of targets.
    let mut seen = HashSet::new();
    for (index, destination) in header.destinations.iter().enumerate() {
        if let Some(endpoint) = &destination.endpoint {
            look(endpoint, "MSG-22", &|| format!("{HEADER}.destination[{index}].endpoint"));
        }
        if !destination.targets.is_empty() && seen.insert(Arc::as_ptr(&destination.targets).addr()) {
            for target in destination.targets.iter() {
                look(target, "MSG-22", &|| format!("{HEADER}.destination[{index}].target"));
            }
        }
    }
    issues
}

#[cfg(test)]
mod tests {
    use super::super::{Index, Pattern};
    use super::*;

    const FLAWED: [(&str, Flaw); 32] = [
        ("http://h/a/../b/", Flaw::DotSegment),
        ("http://h/a/..", Flaw::DotSegment),
        ("http://h/a/./b", Flaw::DotSegment),
        ("http://h/a/%2e%2e/b", Flaw::DotSegment),
        ("http://h/a/%2E./b", Flaw::DotSegment),
        ("http://h/a/.%2e/b", Flaw::DotSegment),
        ("http://h/a/..%2fb", Flaw::DotSegment),
        ("http://h/a/..;x=1/b", Flaw::DotSegment),
        ("HTTPS://h/a/../b?x#y", Flaw::DotSegment),
        ("http:/h/a/../b", Flaw::DotSegment),
        ("mllp://h/a/../b", Flaw::DotSegment),
        ("http://h/a/b%2f1", Flaw::EncodedSlash),
        ("http://h/a%2Fb?x", Flaw::EncodedSlash),
        ("http://h/a/%2f/b", Flaw::EncodedSlash),
        ("mllp://h/a%2fb", Flaw::EncodedSlash),
        ("http://h/a//b", Flaw::EmptySegment),
        ("http://h//a", Flaw::EmptySegment),
        ("http://h/a//", Flaw::EmptySegment),
        ("http://h/a/;x=1/b", Flaw::EmptySegment),
        ("mllp://h/a//b", Flaw::EmptySegment),
        ("http://h/a/b%5c1", Flaw::BackSlash),
        ("http://h/a/..\\b", Flaw::BackSlash),
        ("http:\\\\h\\a", Flaw::BackSlash),
        ("http://h\\@other/a/", Flaw::BackSlash),
        ("http://h/a/%5c..%5cb", Flaw::BackSlash),
        ("http://h/a/.\t./b", Flaw::Control),
        ("http://h/a/\n../b", Flaw::Control),
        ("http://h/a/\u{0}b", Flaw::Control),
        ("http://h/a/%00b", Flaw::Control),
        ("http://h/a/%0d%0aX: y", Flaw::Control),
        ("urn:oid:1.2\u{0}", Flaw::Control),
        ("lab\t", Flaw::Control),
    ];

    #[test]
    fn an_address_with_a_flaw_has_no_owner_and_matches_no_pattern() {
        let mut index = Index::default();
        index.insert("*", 0).unwrap();
        index.insert("http://h/a/*", 1).unwrap();
        for (address, found) in FLAWED {
            assert_eq!(flaw(address), Some(found), "{address:?}");
            assert_eq!(index.find(address), None, "{address:?}");
            assert!(!Pattern::new("*").matches(address), "{address:?}");
            assert!(!Pattern::new(address).matches(address), "{address:?}");
        }
    }

    #[test]
    fn dots_slashes_and_backslashes_outside_of_url_paths_are_part_of_an_address() {
        for address in [
            "http://h/a..b/.c/d./...",
            "http://h/a?x=../y",
            "http://h/.well-known/x",
            "http://h/a/",
            "http://h/",
            "http://h",
            "http://h/a?x=%2f//y#//%2f",
            "http://h/a%252fb/%73",
            "http://h/ids|http://other//x%2fy",
            "file:///a/b",
            "urn:x:a//b%2fc",
            "https://lab.example.org/units/7",
            "urn:oid:1.2.3",
            "DOMAIN\\user",
            "2.16.840.1.113883.3.1|LAB\\1",
            "../lab",
            "",
        ] {
            assert_eq!(flaw(address), None, "{address:?}");
        }
    }

    #[test]
    fn a_pattern_that_ends_in_the_host_does_not_match_a_user_of_that_name() {
        let pattern = Pattern::new("http://lab*");
        assert!(pattern.matches("http://lab.example.org/x"));
        assert!(!pattern.matches("http://lab@other.example/x"));
        assert!(!pattern.matches("http://lab:x@other.example/x"));
        let mut index = Index::default();
        index.insert("http://lab*", 1).unwrap();
        assert_eq!(index.find("http://lab@other.example/x"), None);
        assert_eq!(index.find("http://lab.example.org/x"), Some(1));
    }

    #[test]
    fn an_http_address_is_compared_as_the_client_parses_it() {
        for (written, read) in [
            ("http://0x7f.1/a", "http://127.0.0.1/a"),
            ("http://127.1:080/a", "http://127.0.0.1/a"),
            ("http://h/a b", "http://h/a%20b"),
            ("http://BÜCHER.example/a", "http://xn--bcher-kva.example/a"),
        ] {
            assert_eq!(super::super::normalize(written), read, "{written}");
        }
    }
}
