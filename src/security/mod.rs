//! Who asks: bearer tokens of participants and operators, or nobody but a direct caller on loopback.
//!
//! Relies on the tokens' SHA-256 as configured; the tokens themselves are never kept and never logged. What a party may do
//! (events, source addresses, roles) is decided where it is done. That a listen address beyond loopback needs credentials
//! is checked at start, not here.

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

/// What an operator may do. The order is that of the rights: an operator may do what a viewer may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Lists, traces, figures.
    Viewer,
    /// Also content, retry, discard, replay, pause.
    Operator,
}

/// A person or program that works the router, as configured.
#[derive(Clone, Debug)]
pub struct Operator {
    pub name: String,
    /// Lower-case hex, one per token.
    pub token_sha256: Vec<Secret>,
    pub role: Role,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// No credentials are configured, and the request comes directly from this machine.
    Loopback,
    /// The participant with this id.
    Participant(Arc<str>),
    Operator {
        name: Arc<str>,
        role: Role,
    },
}

/// The configured credentials, replaced as a whole when the configuration is read again.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Lower-case hex of the token's SHA-256. Looking up a digest tells a caller nothing about the token by its time.
    by_digest: HashMap<String, Who>,
    own: Option<Authority>,
    /// `server.cors_origins`: pages that the operator lets in.
    origins: Vec<String>,
}

impl Credentials {
    /// Builds the look-up. Errs with every mistake: a digest that is none, a name without or with two meanings, a token
    /// that belongs to two parties.
    pub fn new(
        participants: &[Arc<Participant>],
        operators: Vec<Operator>,
        base_url: &str,
    ) -> Result<Credentials, Vec<String>> {
        let own = Authority::of_url(base_url);
        let mut credentials = Credentials { by_digest: HashMap::new(), own, origins: Vec::new() };
        let mut mistakes = Vec::new();
        for participant in participants {
            let who = Who::Participant(participant.id.clone());
            credentials.add(&format!("participant {}", participant.id), &participant.token_sha256, &who, &mut mistakes);
        }
        let mut names = Vec::new();
        for operator in operators {
            if names.contains(&operator.name) {
                mistakes.push(format!("operator {} is configured twice", operator.name));
            }
            let who = Who::Operator { name: operator.name.as_str().into(), role: operator.role };
            credentials.add(&format!("operator {}", operator.name), &operator.token_sha256, &who, &mut mistakes);
            names.push(operator.name);
        }
        if mistakes.is_empty() { Ok(credentials) } else { Err(mistakes) }
    }

    fn add(&mut self, party: &str, digests: &[Secret], who: &Who, mistakes: &mut Vec<String>) {
        for (index, digest) in digests.iter().map(Secret::expose).enumerate() {
            if digest.len() != 64 || !digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                mistakes.push(format!("token_sha256[{index}] of {party} is not 64 lower-case hex digits"));
                continue;
            }
            match self.by_digest.entry(digest.to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(who.clone());
                }
                Entry::Occupied(entry) if entry.get() == who => {}
                Entry::Occupied(entry) => {
                    mistakes.push(format!("token_sha256[{index}] of {party} also belongs to {}", entry.get().party()));
                }
            }
        }
    }

    /// The same credentials, with pages of these origins let in.
    pub fn with_origins(mut self, origins: &[String]) -> Credentials {
        self.origins = origins.to_vec();
        self
    }

    /// Whether any token is configured. Without one, only direct loopback requests are served.
    pub fn configured(&self) -> bool {
        !self.by_digest.is_empty()
    }

    /// Whether a request is served at all, before it is routed: without credentials, only direct ones are. Errs with
    /// `ROUTE_CLOSED` (HTTP 403). `is_health`: it asks for the router's health, as proxies do. `origins`: those whose pages
    /// may call (`server.cors_origins`).
    pub fn admit<B>(&self, request: &Request<B>, is_health: bool, origins: &[String]) -> Result<(), Issue> {
        if self.configured() { Ok(()) } else { direct::check(request, self.own.as_ref(), is_health, origins) }
    }

    /// Who sends a request with these headers, which `admit` let in. Errs with `SEND_CREDENTIAL` (HTTP 401 with
    /// `WWW-Authenticate`).
    pub fn who(&self, headers: &HeaderMap) -> Result<Who, Issue> {
        if !self.configured() {
            return Ok(Who::Loopback);
        }
        let token = bearer(headers)?;
        self.by_digest.get(&sha256_hex(token)).cloned().ok_or_else(|| {
            let text = "The token is not known. Send the token that the operator gave you, or ask for a new one.";
            Issue::error(IssueCode::Unknown, Fault::SendCredential, text)
        })
    }
}

impl Who {
    /// `participant lab`, `operator duty` or `loopback`, for logs and texts.
    pub fn party(&self) -> String {
        match self {
            Who::Loopback => "loopback".into(),
            Who::Participant(id) => format!("participant {id}"),
            Who::Operator { name, .. } => format!("operator {name}"),
        }
    }

    /// The role in the admin API; None for a participant. Whoever sits at the machine itself is its operator.
    pub fn role(&self) -> Option<Role> {
        match self {
            Who::Loopback => Some(Role::Operator),
            Who::Operator { role, .. } => Some(*role),
            Who::Participant(_) => None,
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

/// The token of `Authorization: Bearer`, which must stand exactly once: two would let two readers see two callers.
fn bearer(headers: &HeaderMap) -> Result<&str, Issue> {
    let login = |text: &str| Issue::error(IssueCode::Login, Fault::SendCredential, text);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Err(login("This router asks for a credential. Send Authorization: Bearer with your token."));
    };
    if values.next().is_some() {
        return Err(login("Authorization stands more than once. Send it once."));
    }
    let text = value.to_str().unwrap_or_default().trim();
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => Ok(token.trim()),
        _ => Err(login("Only Authorization: Bearer with a token is understood.")),
    }
}

#[cfg(test)]
mod tests;
