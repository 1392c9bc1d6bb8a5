//! The origin of an HTTP request: the peer of its connection, and the sender's address that a trusted proxy reports.

use axum::http::{HeaderMap, HeaderName, header};
use std::net::{IpAddr, SocketAddr};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A request extension, set for every request of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub peer: IpAddr,
    /// The connection is from the reserve for health checks and operators: messages are not accepted over it.
    pub is_reserved: bool,
}

/// The address whose share of the admission limits a request uses. None for a trusted proxy that does not report the
/// sender: it has no share of its own.
pub fn address_of(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpAddr]) -> Option<IpAddr> {
    let is_trusted = |address: &IpAddr| trusted_proxies.contains(&address.to_canonical());
    if !is_trusted(&peer) {
        return Some(peer.to_canonical());
    }
    let named = match headers.contains_key(header::FORWARDED) {
        true => hops(headers, &header::FORWARDED).filter_map(forwarded_for).collect::<Vec<_>>(),
        false => hops(headers, &FORWARDED_FOR).map(address).collect(),
    };
    // The last hop is what the proxy itself saw; earlier ones are unverified claims. An obscured hop ends the search.
    named.into_iter().rev().find(|hop| !hop.as_ref().is_some_and(&is_trusted)).flatten()
}

fn hops<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(','))
}

/// The `for` parameter of one element of `Forwarded` (RFC 7239); the outer None if there is none.
fn forwarded_for(element: &str) -> Option<Option<IpAddr>> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    Some(address(node.trim().trim_matches('"')))
}

/// `192.0.2.1`, `192.0.2.1:47`, `2001:db8::1`, `[2001:db8::1]:47`; None for anything else.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trusted_proxy_may_name_another_sender() {
        let proxy: IpAddr = [10, 0, 0, 1].into();
        let other: IpAddr = [10, 0, 0, 2].into();
        let trusted = [proxy, "2001:db8::9".parse().unwrap()];
        type Case = (IpAddr, &'static [(&'static str, &'static str)], Option<&'static str>);
        let cases: &[Case] = &[
            (other, &[("x-forwarded-for", "192.0.2.1")], Some("10.0.0.2")),
            (proxy, &[], None),
            (proxy, &[("x-forwarded-for", "192.0.2.1")], Some("192.0.2.1")),
            (proxy, &[("x-forwarded-for", "6.6.6.6, 192.0.2.1")], Some("192.0.2.1")),
            (proxy, &[("x-forwarded-for", "192.0.2.1, 10.0.0.1")], Some("192.0.2.1")),
            (proxy, &[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.1:4711")], Some("192.0.2.1")),
            (proxy, &[("x-forwarded-for", "192.0.2.1, unknown")], None),
            (proxy, &[("forwarded", "for=192.0.2.1;proto=https;by=10.0.0.1")], Some("192.0.2.1")),
            (proxy, &[("forwarded", "for=6.6.6.6, For=\"[2001:db8::1]:47\"")], Some("2001:db8::1")),
            (proxy, &[("forwarded", "for=192.0.2.1, for=\"[2001:db8::9]\"")], Some("192.0.2.1")),
            (proxy, &[("forwarded", "for=_hidden"), ("x-forwarded-for", "6.6.6.6")], None),
            (proxy, &[("forwarded", "proto=https")], None),
            ("::ffff:10.0.0.1".parse().unwrap(), &[("x-forwarded-for", "192.0.2.1")], Some("192.0.2.1")),
        ];
        for (peer, pairs, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *pairs {
                headers.append(HeaderName::from_static(name), value.parse().unwrap());
            }
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(address_of(*peer, &headers, &trusted), expected, "{peer} {pairs:?}");
        }
    }
}
