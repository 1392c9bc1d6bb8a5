//! Authentication: bearer tokens of participants and operators, or direct requests on loopback if no credential is
//! configured.
//!
//! Only the SHA-256 of a token is configured; tokens themselves are never stored or logged. Authorization (events,
//! source addresses, roles) is checked where the operation is done. That a listen address beyond loopback requires
//! credentials is checked at the start, not here.

mod direct;

use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use crate::routing::Participant;
use crate::secret::Secret;
use axum::http::{HeaderMap, Request, header};
use direct::Authority;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::sync::Arc;

/// What an operator may do, in the order of rights: an operator may do everything that a viewer may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Lists, traces, metrics.
    Viewer,
    /// Also content, retry, discard, replay, pause.
    Operator,
}

/// A person or program that operates the router.
#[derive(Clone, Debug)]
pub struct Operator {
    pub name: String,
    /// Lower-case hex, one per token.
    pub token_sha256: Vec<Secret>,
    pub role: Role,
}

/// The authenticated caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Principal {
    /// No credentials are configured, and the request comes directly from this machine.
    Loopback,
    /// The participant with this id.
    Participant(Arc<str>),
    Operator {
        name: Arc<str>,
        role: Role,
    },
}

/// The configured credentials, replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Lower-case hex of the token's SHA-256. Looking up a digest tells a caller nothing about the token by its time.
    by_digest: HashMap<String, Principal>,
    own: Option<Authority>,
    /// `server.cors_origins`: origins whose pages may call.
    origins: Vec<String>,
}

impl Credentials {
    /// Builds the lookup. Errs with all errors: an invalid digest, a duplicate name, a token with two owners.
    pub fn new(
        participants: &[Arc<Participant>],
        operators: Vec<Operator>,
        base_url: &str,
    ) -> Result<Credentials, Vec<String>> {
        let own = Authority::of_url(base_url);
        let mut credentials = Credentials { by_digest: HashMap::new(), own, origins: Vec::new() };
        let mut errors = Vec::new();
        for participant in participants {
            let who = Principal::Participant(participant.id.clone());
            credentials.add(&format!("participant {}", participant.id), &participant.token_sha256, &who, &mut errors);
        }
        let mut names = Vec::new();
        for operator in operators {
            if names.contains(&operator.name) {
                errors.push(format!("operator {} is configured twice", operator.name));
            }
            let who = Principal::Operator { name: operator.name.as_str().into(), role: operator.role };
            credentials.add(&format!("operator {}", operator.name), &operator.token_sha256, &who, &mut errors);
            names.push(operator.name);
        }
        if errors.is_empty() { Ok(credentials) } else { Err(errors) }
    }

    fn add(&mut self, owner: &str, digests: &[Secret], who: &Principal, errors: &mut Vec<String>) {
        for (index, digest) in digests.iter().map(Secret::expose).enumerate() {
            if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                errors.push(format!("token_sha256[{index}] of {owner} is not 64 lower-case hex digits"));
                continue;
            }
            match self.by_digest.entry(digest.to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(who.clone());
                }
                Entry::Occupied(entry) if entry.get() == who => {}
                Entry::Occupied(entry) => {
                    errors.push(format!("token_sha256[{index}] of {owner} also belongs to {}", entry.get().label()));
                }
            }
        }
    }

    /// Sets the origins whose pages may call.
    pub fn with_origins(mut self, origins: &[String]) -> Credentials {
        self.origins = origins.to_vec();
        self
    }

    /// Whether any token is configured. Without one, only direct loopback requests are served.
    pub fn configured(&self) -> bool {
        !self.by_digest.is_empty()
    }

    /// Whether a request is served at all, before routing: without credentials, only direct ones are. Errs with
    /// `ROUTE_CLOSED` (HTTP 403). `is_health`: it is a health check, which proxies may send. `origins`: those whose
    /// pages may call (`server.cors_origins`).
    pub fn admit<B>(&self, request: &Request<B>, is_health: bool, origins: &[String]) -> Result<(), Issue> {
        if self.configured() { Ok(()) } else { direct::check(request, self.own.as_ref(), is_health, origins) }
    }

    /// The caller with these headers, after `admit`. Errs with `SEND_CREDENTIAL` (HTTP 401 with `WWW-Authenticate`).
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Issue> {
        if !self.configured() {
            return Ok(Principal::Loopback);
        }
        let token = bearer(headers)?;
        self.by_digest.get(&sha256_hex(token)).cloned().ok_or_else(|| {
            let text = "The token is not known; send the token that the operator gave you, or ask for a new one";
            Issue::error(IssueCode::Unknown, Fault::SendCredential, text)
        })
    }
}

impl Principal {
    /// `participant lab`, `operator duty` or `loopback`, for logs and texts.
    pub fn label(&self) -> String {
        match self {
            Principal::Loopback => "loopback".into(),
            Principal::Participant(id) => format!("participant {id}"),
            Principal::Operator { name, .. } => format!("operator {name}"),
        }
    }

    /// The role in the admin API; None for a participant. A user of the machine itself is an operator.
    pub fn role(&self) -> Option<Role> {
        match self {
            Principal::Loopback => Some(Role::Operator),
            Principal::Operator { role, .. } => Some(*role),
            Principal::Participant(_) => None,
        }
    }
}

/// SHA-256 of a token, as `token_sha256` spells it.
pub fn sha256_hex(token: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(token.as_bytes()) {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// The token of `Authorization: Bearer`. The header must occur exactly once, because two readers could otherwise see
/// two callers.
fn bearer(headers: &HeaderMap) -> Result<&str, Issue> {
    let login = |text: &str| Issue::error(IssueCode::Login, Fault::SendCredential, text.to_owned());
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(login("This router requires a credential; send Authorization: Bearer with your token"));
    };
    if values.next().is_some() {
        return Err(login("Authorization occurs more than once; send it once"));
    }
    let text = value.to_str().unwrap_or_default().trim();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(login("Only Authorization: Bearer with a token is supported")),
    }
}

#[cfg(test)]
mod tests;
