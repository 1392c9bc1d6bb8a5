//! Whether a request comes directly from this machine, which is all that a router without credentials serves.
//!
//! The listen address already is loopback. What remains are requests that a proxy forwards, and pages in a browser on
//! this machine that use another host name (DNS rebinding) or come from another site. Their headers reveal them. Not
//! every proxy adds such headers: behind one, credentials are needed.

use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use axum::http::{Request, Version, header};
use std::net::IpAddr;

/// Headers that proxies add, besides `X-Forwarded-…`. `Via` is not among them, because routers send it to each other.
const PROXY_HEADERS: [&str; 11] = [
    "forwarded",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-envoy-external-address",
    "fastly-client-ip",
    "cdn-loop",
];

/// Host and port, in lower case and without the brackets of IPv6. Without a port, the scheme's default applies.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Authority {
    host: String,
    port: Option<u16>,
}

impl Authority {
    /// Of `scheme://host[:port]/…`; None for anything else.
    pub(super) fn of_url(url: &str) -> Option<Authority> {
        let (scheme, rest) = url.split_once("://")?;
        let default_port = match scheme.to_ascii_lowercase().as_str() {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        let mut read = Authority::parse(authority)?;
        read.port = read.port.or(Some(default_port));
        Some(read)
    }

    /// Of `host[:port]`, `[v6][:port]`. None where it is neither.
    fn parse(text: &str) -> Option<Authority> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        if host.is_empty() || host.contains(['@', ' ', ',']) {
            return None;
        }
        let port = port.map(str::parse).transpose().ok()?;
        Some(Authority { host: host.to_ascii_lowercase(), port })
    }

    fn is_loopback(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Errs with `ROUTE_CLOSED` unless the request is direct. `own` is the authority of `server.base_url`. Health checks
/// (`is_health`) may come through a proxy, because they reveal nothing that the router stores.
pub(super) fn check<B>(
    request: &Request<B>,
    own: Option<&Authority>,
    is_health: bool,
    origins: &[String],
) -> Result<(), Issue> {
    let headers = request.headers();
    if !is_health {
        if request.version() < Version::HTTP_11 {
            return Err(closed("This one is HTTP/1.0, which proxies speak."));
        }
        if let Some(name) = headers.keys().find(|name| is_sign_of_a_proxy(name.as_str())) {
            return Err(closed(&format!("This one has {name}.")));
        }
    }
    for host in hosts(request) {
        if !host.and_then(Authority::parse).is_some_and(|host| is_ours(host, own)) {
            return Err(closed("Its Host is neither a loopback name nor that of server.base_url."));
        }
    }
    for value in headers.get_all(header::ORIGIN) {
        let is_configured = origins.iter().any(|origin| origin.as_bytes() == value.as_bytes());
        if !is_configured && !value.to_str().ok().and_then(Authority::of_url).is_some_and(|origin| is_ours(origin, own))
        {
            return Err(closed("Its Origin is neither a loopback name nor that of server.base_url."));
        }
    }
    Ok(())
}

fn is_sign_of_a_proxy(name: &str) -> bool {
    name.starts_with("x-forwarded") || PROXY_HEADERS.contains(&name)
}

/// The effective hosts (RFC 9110, 7.2); None for one that cannot be read. In HTTP/1, the host of an absolute target
/// replaces the header Host (RFC 9112, 3.2.2); in HTTP/2, both must be ours (RFC 9113, 8.3.1).
fn hosts<B>(request: &Request<B>) -> Vec<Option<&str>> {
    let target = request.uri().authority().map(|authority| Some(authority.as_str()));
    let is_http1 = request.version() < Version::HTTP_2;
    let written = request.headers().get_all(header::HOST).iter().map(|value| value.to_str().ok());
    match target {
        Some(target) if is_http1 => vec![target],
        target => target.into_iter().chain(written).collect(),
    }
}

fn is_ours(asked: Authority, own: Option<&Authority>) -> bool {
    asked.is_loopback()
        || own.is_some_and(|own| asked.host == own.host && asked.port.is_none_or(|port| Some(port) == own.port))
}

fn closed(what: &str) -> Issue {
    let text = format!("No credentials are configured, so only direct requests from this machine are served. {what}");
    Issue::error(IssueCode::Forbidden, Fault::RouteClosed, text)
}
