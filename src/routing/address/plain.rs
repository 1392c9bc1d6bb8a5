//! Recognizes addresses that are already normalized, as nearly all are, by one pass over their bytes instead of a parser.

/// Whether normalization changes nothing and the address has no flaw, as far as can be seen without parsing: an http or https URL
/// with a host name in lower case, and a path of unreserved characters without empty and dot segments.
pub(super) fn is_plain(address: &str) -> bool {
    let after = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    let Some(after) = after else { return false };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    is_plain_host(host) && port.is_none_or(is_plain_port) && is_plain_path(path)
}

/// Labels of letters, digits, and hyphens. The last one begins with a letter, so that it cannot be part of an IPv4 address.
fn is_plain_host(host: &str) -> bool {
    let is_label = |label: &str| {
        let is_of_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(is_of_label) && !label.starts_with("xn--")
    };
    let last = host.rsplit('.').next().unwrap_or(host);
    host.len() <= 253 && last.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && host.split('.').all(is_label)
}

/// A port other than the default ports, which normalization removes.
fn is_plain_port(port: &str) -> bool {
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    is_number && !port.starts_with('0') && !matches!(port, "80" | "443") && port.parse::<u16>().is_ok()
}

fn is_plain_path(path: &str) -> bool {
    let is_unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~' | b'.');
    let is_segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
    path.is_empty() || path[1..].split('/').all(|segment| is_segment(segment) && segment.bytes().all(is_unreserved))
}

#[cfg(test)]
mod tests {
    use super::super::{flaw, normalize};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_address_that_normalization_would_change_is_not_plain() {
        for address in
            ["http://lab.example.org", "https://lab-1.example.org:8443/fhir/R4", "http://localhost:1/a.b~c_d"]
        {
            assert!(is_plain(address), "{address}");
        }
        for address in [
            "http://Lab.example.org",
            "HTTP://lab.example.org",
            "http://lab.example.org/",
            "http://lab.example.org/a//b",
            "http://lab.example.org/a/../b",
            "http://lab.example.org/./b",
            "http://lab.example.org:80",
            "http://lab.example.org:08080",
            "http://lab.example.org:99999",
            "http://lab.example.org:",
            "http://127.0.0.1/a",
            "http://1.0x7f/a",
            "http://a..b/c",
            "http://xn--a.org",
            "http://user@lab.example.org",
            "http://lab.example.org/a%20b",
            "http://lab.example.org/$process-message",
            "http://lab.example.org/a?b",
            "http://lab.example.org/a#b",
            "http://lab.example.org/a|b",
            "http://lab.example.org/a\\b",
            "urn:oid:1.2",
            "",
        ] {
            assert!(!is_plain(address), "{address}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_address_has_no_flaw_and_is_its_own_normal_form(
            address in "https?://[a-z0-9.-]{1,12}(:[0-9]{1,5})?(/[a-zA-Z0-9._~-]{0,4}){0,4}"
        ) {
            if is_plain(&address) {
                let changed = super::super::normalize_parsed(&address);
                prop_assert_eq!(changed, address.clone());
                prop_assert_eq!(super::super::flaw::parsed_flaw(&address), None);
            }
            prop_assert_eq!(normalize(&address), super::super::normalize_parsed(&address));
            prop_assert_eq!(flaw(&address), super::super::flaw::parsed_flaw(&address));
        }
    }
}
