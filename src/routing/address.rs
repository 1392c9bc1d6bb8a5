//! Addresses: normalized, then compared exactly, then by the longest `*` pattern.
//!
//! An address is the source or destination endpoint of a message: a URL, `urn:oid:…`, `mailto:…`, `system|value`, or a bare
//! word. Only text of the form `scheme://…` is normalized; everything else is compared unchanged. An http or https address is
//! parsed by the HTTP client's parser, so that the address compared is the address posted to. Text that parsers and servers
//! interpret in different ways (`flaw`) is not accepted as an address.

mod escape;
mod flaw;
mod plain;
pub use flaw::{Flaw, flaw, refusals};

use std::collections::HashMap;
use url::Url;

/// The operation that senders may append to a base address; ignored in comparisons.
const OPERATION: &str = "/$process-message";

/// The canonical spelling of an address: scheme and host in lower case, no default port, percent-encoding only where it is
/// significant (RFC 3986 6.2.2), without one trailing slash and without a trailing `/$process-message`. Text that begins like
/// an http or https address but is not a valid URL stays unchanged. Normalizing twice changes nothing.
pub fn normalize(address: &str) -> String {
    if plain::is_plain(address) { address.to_owned() } else { normalize_parsed(address) }
}

fn normalize_parsed(address: &str) -> String {
    let parsed = http_url(address);
    let address = parsed.as_ref().map_or(address, Url::as_str);
    let Some(parts) = Parts::of(address) else { return address.to_owned() };
    // Shortening an invalid URL could turn it into a valid one: `http://://80` would become another address.
    if parsed.is_none() && is_http(parts.scheme) {
        return address.to_owned();
    }
    // Before shortening, because the ending may be percent-encoded.
    let decoded = escape::canonical(parts.rest);
    let mut rest = &*decoded;
    // After `?`, `#`, or `|` a slash may be significant.
    if !rest.contains(['?', '#', '|']) {
        while let Some(shorter) = rest.strip_suffix(OPERATION).or_else(|| without_one_slash(rest)) {
            rest = shorter;
        }
    }
    format!("{}://{}{rest}", parts.scheme.to_ascii_lowercase(), normalize_authority(&parts))
}

/// Parses an address that begins with `http://` or `https://`; None for any other and for an invalid URL.
pub fn http_url(address: &str) -> Option<Url> {
    let (scheme, _) = address.split_once("://")?;
    is_http(scheme).then(|| Url::parse(address).ok())?
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

/// Whether two addresses are the same after normalization.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || normalize(one) == normalize(other)
}

/// An address of the configuration: exact, or with a final `*` that matches any ending, also none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pattern {
    Exact(String),
    /// The text before the `*`, with normalized scheme and host.
    Prefix(String),
}

impl Pattern {
    pub fn new(written: &str) -> Pattern {
        match written.strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(normalize_prefix(prefix)),
            None => Pattern::Exact(normalize(written)),
        }
    }

    pub fn matches(&self, address: &str) -> bool {
        match self {
            _ if flaw(address).is_some() => false,
            Pattern::Exact(exact) => *exact == normalize(address),
            Pattern::Prefix(prefix) => is_open_to(prefix, &open_ended(normalize(address))),
        }
    }
}

/// Finds the owner of an address: one hash lookup for exact addresses, then one per pattern length, longest first.
#[derive(Clone, Debug, Default)]
pub struct Index {
    exact: HashMap<String, usize>,
    prefixes: HashMap<String, usize>,
    /// Lengths in bytes of the keys of `prefixes`, longest first, each once.
    lengths: Vec<usize>,
}

impl Index {
    /// Adds an address as configured. Errs with the owner that has the same address or pattern already.
    pub fn insert(&mut self, written: &str, owner: usize) -> Result<(), usize> {
        let (map, key) = match Pattern::new(written) {
            Pattern::Exact(key) => (&mut self.exact, key),
            Pattern::Prefix(key) => {
                if let Err(place) = self.lengths.binary_search_by(|length| key.len().cmp(length)) {
                    self.lengths.insert(place, key.len());
                }
                (&mut self.prefixes, key)
            }
        };
        match map.get(&key) {
            Some(first) => Err(*first),
            None => {
                map.insert(key, owner);
                Ok(())
            }
        }
    }

    /// None also for an address with a flaw.
    pub fn find(&self, address: &str) -> Option<usize> {
        if flaw(address).is_some() {
            return None;
        }
        let address = normalize(address);
        if let Some(owner) = self.exact.get(&address) {
            return Some(*owner);
        }
        let address = open_ended(address);
        let prefixes = self.lengths.iter().filter_map(|length| address.get(..*length));
        let prefixes = prefixes.filter(|prefix| is_open_to(prefix, &address));
        prefixes.filter_map(|prefix| self.prefixes.get(prefix)).next().copied()
    }
}

/// `scheme://authority` and everything after it.
struct Parts<'a> {
    scheme: &'a str,
    authority: &'a str,
    rest: &'a str,
}

impl<'a> Parts<'a> {
    fn of(address: &'a str) -> Option<Parts<'a>> {
        let (scheme, after) = address.split_once("://")?;
        let mut letters = scheme.chars();
        let is_scheme = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
            && letters.all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter));
        let end = after.find(['/', '?', '#', '|']).unwrap_or(after.len());
        is_scheme.then(|| Parts { scheme, authority: &after[..end], rest: &after[end..] })
    }
}

fn normalize_authority(parts: &Parts) -> String {
    let (user, host) = match parts.authority.rsplit_once('@') {
        Some((user, host)) => (Some(escape::canonical(user)), host),
        None => (None, parts.authority),
    };
    let default_port = match () {
        () if parts.scheme.eq_ignore_ascii_case("http") => "80",
        () if parts.scheme.eq_ignore_ascii_case("https") => "443",
        () => "",
    };
    let host = match host.rsplit_once(':') {
        // A colon before the port is part of an IPv6 address in brackets; other hosts with a colon are invalid and unchanged.
        Some((name, port)) if (port == default_port || port.is_empty()) && is_host(name) => name,
        _ => host,
    };
    let host = host.to_ascii_lowercase();
    user.map_or(host.clone(), |user| format!("{user}@{host}"))
}

fn is_host(name: &str) -> bool {
    !name.contains(':') || (name.starts_with('[') && name.ends_with(']'))
}

/// Removes the final slash, unless there are several: an empty path segment is part of the address.
fn without_one_slash(path: &str) -> Option<&str> {
    path.strip_suffix('/').filter(|shorter| !shorter.ends_with('/'))
}

/// Whether an address begins with this prefix in the same part of the URL: `http://lab*` matches `http://lab.org`, but not the
/// user `lab` at another host.
fn is_open_to(prefix: &str, address: &str) -> bool {
    let in_authority = Parts::of(prefix).filter(|parts| parts.rest.is_empty() && !parts.authority.contains('@'));
    let user = Parts::of(address).is_some_and(|parts| parts.authority.contains('@'));
    address.starts_with(prefix) && !(user && in_authority.is_some_and(|parts| !parts.authority.is_empty()))
}

/// Normalizes the text before a `*`. Its end is not the address's end, so nothing is removed there.
fn normalize_prefix(prefix: &str) -> String {
    let parsed = http_url(prefix).filter(|_| Parts::of(prefix).is_some_and(|parts| !parts.rest.is_empty()));
    let prefix = parsed.as_ref().map_or(prefix, Url::as_str);
    match Parts::of(prefix) {
        None => prefix.to_owned(),
        Some(parts) if parts.rest.is_empty() => {
            format!("{}://{}", parts.scheme.to_ascii_lowercase(), parts.authority.to_ascii_lowercase())
        }
        Some(parts) => {
            let rest = escape::canonical(parts.rest);
            format!("{}://{}{rest}", parts.scheme.to_ascii_lowercase(), normalize_authority(&parts))
        }
    }
}

/// Adds the trailing slash that normalization removed, so that `https://host/units/*` matches `https://host/units`.
fn open_ended(mut normalized: String) -> String {
    if normalized.contains("://") && !normalized.ends_with('/') {
        normalized.push('/');
    }
    normalized
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn spellings_of_one_address_become_equal() {
        let cases = [
            ("https://Lab.Example.ORG/fhir", "https://lab.example.org/fhir"),
            ("HTTP://NCHS.CDC.GOV/VRDR", "http://nchs.cdc.gov/VRDR"),
            ("http://lab.example.org:80/fhir", "http://lab.example.org/fhir"),
            ("https://lab.example.org:443/fhir", "https://lab.example.org/fhir"),
            ("https://lab.example.org:80/fhir", "https://lab.example.org:80/fhir"),
            ("https://lab.example.org:/fhir", "https://lab.example.org/fhir"),
            ("http://[2001:DB8::1]:80/fhir", "http://[2001:db8::1]/fhir"),
            ("http://[::1]", "http://[::1]"),
            ("http://User@HOST/x", "http://User@host/x"),
            ("https://lab.example.org/", "https://lab.example.org"),
            ("https://lab.example.org/fhir/", "https://lab.example.org/fhir"),
            ("https://lab.example.org/fhir//", "https://lab.example.org/fhir//"),
            ("https://lab.example.org/fhir/$process-message", "https://lab.example.org/fhir"),
            ("https://lab.example.org/fhir/$process-message/", "https://lab.example.org/fhir"),
            ("https://lab.example.org/$process-message", "https://lab.example.org"),
            ("https://lab.example.org/fhir?to=a/", "https://lab.example.org/fhir?to=a/"),
            ("https://Lab.example.org/fhir#id=A/", "https://lab.example.org/fhir#id=A/"),
            ("MLLP://Host:2575/", "mllp://host:2575"),
            ("http://h/a/%73ecret/1", "http://h/a/secret/1"),
            ("http://h/a/secr%65t/%7E%2d%5F%2Ex", "http://h/a/secret/~-_.x"),
            ("http://h/a/%41%7a%30", "http://h/a/Az0"),
            ("http://h/a/%c3%a4", "http://h/a/%C3%A4"),
            ("http://h/a/ä", "http://h/a/%C3%A4"),
            ("http://h/a%3fb%40", "http://h/a%3Fb%40"),
            ("http://h/a/$process%2Dmess%61ge/", "http://h/a"),
            ("http://h/a?%71=%3d", "http://h/a?q=%3D"),
            ("http://%61nn@h/a", "http://ann@h/a"),
            ("mllp://Host/%62", "mllp://host/b"),
            // An escaped percent sign is not decoded a second time.
            ("http://h/a/%2573", "http://h/a/%2573"),
            ("http://h/a/%%37%33", "http://h/a/%2573"),
            ("http://h/a/100%", "http://h/a/100%25"),
        ];
        for (written, normalized) in cases {
            assert_eq!(normalize(written), normalized, "{written}");
        }
    }

    #[test]
    fn text_that_is_not_a_url_stays_unchanged() {
        let cases = [
            "urn:oid:1.2.3.4",
            "URN:OID:1.2.3.4",
            "urn:uuid:0C3151BD-1CBF-4D64-B04D-CD9187A4C6E0",
            "mailto:Lab@Example.org",
            "llp:10.11.12.14:5432",
            "2.16.840.1.113883.3.1|LAB/",
            "Lab/",
            "lab/$process-message",
            "://Host/",
            "",
        ];
        for address in cases {
            assert_eq!(normalize(address), address);
        }
        assert_eq!(normalize("http://Example.org/ids|A/"), "http://example.org/ids|A/");
    }

    #[test]
    fn a_final_star_matches_any_ending() {
        let cases = [
            ("https://lab.example.org/units/*", "https://LAB.example.org/units/7", true),
            ("https://lab.example.org/units/*", "https://lab.example.org/units/7/8?x", true),
            ("https://lab.example.org/units/*", "https://lab.example.org/units/", true),
            ("https://lab.example.org/units/*", "https://lab.example.org/units", true),
            ("https://lab.example.org/units/*", "https://lab.example.org/unitsX", false),
            ("HTTPS://Lab.example.org:443/*", "https://lab.example.org", true),
            ("urn:oid:1.2.*", "urn:oid:1.2.3", true),
            ("urn:oid:1.2.*", "urn:oid:1.2", false),
            ("lab/*", "lab", false),
            ("*", "anything at all", true),
            ("https://lab.example.org", "https://lab.example.org/", true),
        ];
        for (pattern, address, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(address), expected, "{pattern} {address}");
        }
    }

    #[test]
    fn exact_goes_before_the_longest_pattern() {
        let mut index = Index::default();
        let written =
            ["*", "https://a.org/*", "https://a.org/units/*", "https://a.org/units/7", "urn:oid:1.*", "urn:oid:1.2.*"];
        for (owner, address) in written.into_iter().enumerate() {
            assert_eq!(index.insert(address, owner), Ok(()));
        }
        let cases = [
            ("https://a.org/units/7/", 3),
            ("https://a.org/units/8", 2),
            ("https://a.org/units", 2),
            ("https://a.org", 1),
            ("https://b.org", 0),
            ("urn:oid:1.2.3", 5),
            ("urn:oid:1.3", 4),
            ("ä", 0),
        ];
        for (address, owner) in cases {
            assert_eq!(index.find(address), Some(owner), "{address}");
        }
        assert_eq!(index.insert("HTTPS://A.org/units/7", 9), Err(3));
        assert_eq!(index.insert("https://a.org:443/*", 9), Err(1));
        assert_eq!(Index::default().find("https://a.org"), None);
    }

    #[test]
    fn no_percent_encoding_evades_the_longest_pattern() {
        let mut index = Index::default();
        for (owner, address) in
            ["http://h/a/*", "http://h/a/secret/*", "http://h/a/b/*", "http://h/e/%c3%a4/%66*", "http://h/e/*"]
                .into_iter()
                .enumerate()
        {
            assert_eq!(index.insert(address, owner), Ok(()));
        }
        for (address, owner) in [
            ("http://h/a/%73ecret/1", Some(1)),
            ("http://h/a/secr%65t/1", Some(1)),
            ("http://h/%61/%73%65%63%72%65%74", Some(1)),
            ("http://h/a/%62/1", Some(2)),
            ("http://h/%61/c/1", Some(0)),
            ("http://h/a/%2573ecret/1", Some(0)),
            ("http://h/e/%C3%A4/f/1", Some(3)),
            ("http://h/e/ä/%66", Some(3)),
            ("http://h/a/b%2f1", None),
            ("http://h/a/b%2F1", None),
            ("http://h/a//secret/1", None),
            ("http://h//a/secret/1", None),
        ] {
            assert_eq!(index.find(address), owner, "{address}");
        }
        assert_eq!(index.insert("http://h/a/s%65cret/*", 9), Err(1));
    }

    /// Text made of the pieces that normalization looks for, so that random input hits them.
    fn addresses() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "http",
            "HTTPS",
            "://",
            ":",
            "80",
            ":443",
            "/",
            "//",
            "/$process-message",
            "Host",
            "[::1]",
            "@",
            "?",
            "#",
            "|",
            "urn:oid:1.2",
            "%",
            "%7e",
            "%41",
            "%34%31",
            "%2f",
            "*",
            "ä",
            "",
        ]);
        prop_oneof![prop::collection::vec(pieces, 0..9).prop_map(|pieces| pieces.concat()), ".{0,24}"]
    }

    #[test]
    fn an_invalid_url_does_not_become_another_address() {
        for address in [
            "http://://80",
            "HTTP://:",
            "http://:80/",
            "https://:443//@",
            "http://@:80/",
            "https://[x]:443/",
            "http://a b/",
        ] {
            assert_eq!(normalize(address), address);
        }
        assert_eq!(normalize("http:////80"), normalize(&normalize("http:////80")));
    }

    /// Text that resembles an http address and may be invalid.
    fn scraps() -> impl Strategy<Value = String> {
        "(http|HTTPS|mllp)://[:/@#?|\\[\\]a0.%\\\\ ]{0,12}(/\\$process-message)?/?"
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(address in prop_oneof![addresses(), scraps()]) {
            let once = normalize(&address);
            prop_assert_eq!(normalize(&once), once);
        }

        #[test]
        fn an_address_is_found_under_its_own_spelling(address in addresses()) {
            prop_assume!(flaw(&address).is_none());
            prop_assume!(!address.ends_with('*'));
            let mut index = Index::default();
            prop_assert_eq!(index.insert(&address, 4), Ok(()));
            prop_assert_eq!(index.find(&normalize(&address)), Some(4));
        }
    }
}
