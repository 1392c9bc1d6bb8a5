//! A party of the exchange, as configured: what it owns, what it may send and receive, how it is served.
//!
//! Data only; whether ids and addresses agree with those of the others is `Table::build`'s to say.

use super::address::Pattern;
use crate::secret::{Secret, SecretUrl};
use fhir::{Event, FhirVersion, Format};
use std::sync::Arc;
use validation::{Level, OnFailure, ProseRules};

/// Every sender, while no participant is configured.
pub const ANYONE: &str = "anyone";
/// Answers under way at once to reply queues of whoever is no participant.
const ANYONE_CONCURRENCY: usize = 64;
/// Emberpost itself, as sender of its own answers and as receiver of what names its base.
pub const EMBERPOST: &str = "emberpost";

#[derive(Clone, Debug, PartialEq)]
pub struct Participant {
    pub id: Arc<str>,
    pub name: Option<String>,
    /// As written; a final `*` matches any ending.
    pub addresses: Vec<String>,
    /// None: it gets answers only, while it waits for them.
    pub channel: Option<Channel>,
    /// Events: code, `system|code`, uri, or `*`.
    pub may_send: Vec<String>,
    pub may_receive: Vec<String>,
    /// Expected where a message does not say; None: as its shape tells.
    pub fhir_version: Option<FhirVersion>,
    pub order: Order,
    /// Attempts under way at once, over all lanes; at least 1.
    pub concurrency: usize,
    /// Attempts at its channel that begin in one second at most; 0: no limit.
    pub rate_per_second: u32,
    /// Failed attempts after which a delivery is a dead letter; 0: no limit.
    pub attempts_limit: u32,
    pub attempt_timeout_seconds: u64,
    /// Never empty; the last interval repeats until the delivery expires.
    pub retry_schedule_seconds: Vec<u64>,
    /// Counted from acceptance, or from an operator's retry.
    pub expire_after_seconds: u64,
    pub rejections: Rejections,
    /// The format in which it is given messages and answers; None: messages as they came, answers as it asked.
    pub format: Option<Format>,
    /// Whether messages of another version than its own are given to it, where only the header's spelling differs.
    pub bridge_versions: bool,
    /// None: as `[validation]` says.
    pub level: Option<Level>,
    /// None: as `[validation]` says.
    pub prose_rules: Option<ProseRules>,
    /// None: as `[validation]` says.
    pub on_failure: Option<OnFailure>,
    /// Lower-case hex.
    pub token_sha256: Vec<Secret>,
    pub amqp_user: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Channel {
    /// A FHIR base; `asynchronous` adds `?async=true` to requests.
    Http { url: SecretUrl, asynchronous: bool },
    /// Published with this routing key; the exchange `""` is the default one, where the key is a queue's name.
    Amqp { exchange: String, routing_key: String },
    /// Deliveries wait until their reader comes.
    Mailbox,
}

impl Channel {
    /// Whether the courier brings its messages; else they wait for a reader.
    pub fn is_carried(&self) -> bool {
        match self {
            Channel::Http { .. } | Channel::Amqp { .. } => true,
            Channel::Mailbox => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
/// What keeps its order: nothing, the messages of one source address, or those of one patient.
pub enum Order {
    None,
    #[default]
    Sender,
    Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
/// How a refusal is told: 200 with a fatal-error answer, or 4xx with an OperationOutcome.
pub enum Rejections {
    #[default]
    Message,
    Status,
}

impl Participant {
    /// A participant with nothing but its id and every default.
    pub fn new(id: &str) -> Participant {
        Participant {
            id: id.into(),
            name: None,
            addresses: Vec::new(),
            channel: None,
            may_send: vec!["*".to_owned()],
            may_receive: vec!["*".to_owned()],
            fhir_version: None,
            order: Order::Sender,
            concurrency: 8,
            rate_per_second: 0,
            attempts_limit: 0,
            attempt_timeout_seconds: 60,
            retry_schedule_seconds: vec![1, 5, 30, 120, 600, 3600, 14_400],
            expire_after_seconds: 432_000,
            rejections: Rejections::Message,
            format: None,
            bridge_versions: false,
            level: None,
            prose_rules: None,
            on_failure: None,
            token_sha256: Vec::new(),
            amqp_user: None,
        }
    }

    /// Whether it has a credential over HTTP and none over AMQP.
    pub fn is_open_over_amqp(&self) -> bool {
        !self.token_sha256.is_empty() && self.amqp_user.is_none()
    }

    /// Whether the courier brings its messages.
    pub fn is_carried_to(&self) -> bool {
        self.channel.as_ref().is_some_and(Channel::is_carried)
    }

    /// Whoever is let in without being a participant: it gets answers to its reply queue, and nothing else.
    pub fn anyone() -> Participant {
        Participant { order: Order::None, concurrency: ANYONE_CONCURRENCY, ..Participant::new(ANYONE) }
    }

    /// The first of these addresses that it owns.
    pub fn owned_of<'a>(&self, addresses: &'a [Arc<str>]) -> Option<&'a Arc<str>> {
        let patterns: Vec<Pattern> = self.addresses.iter().map(|written| Pattern::new(written)).collect();
        addresses.iter().find(|address| patterns.iter().any(|pattern| pattern.matches(address)))
    }

    pub fn may_send(&self, event: &Event) -> bool {
        self.may_send.iter().any(|pattern| event.matches(pattern))
    }

    pub fn may_receive(&self, event: &Event) -> bool {
        self.may_receive.iter().any(|pattern| event.matches(pattern))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_token_hash_nor_password_is_printed() {
        let mut participant = Participant::new("lab");
        participant.token_sha256 = vec!["0f".repeat(32).into()];
        participant.channel =
            Some(Channel::Http { url: "https://lab:secret@lab.org/fhir".into(), asynchronous: false });
        let printed = format!("{participant:?}");
        assert!(printed.contains("[masked]") && !printed.contains("0f0f"), "{printed}");
        assert!(printed.contains("https://lab.org/fhir") && !printed.contains("secret"), "{printed}");
    }

    #[test]
    fn events_are_allowed_by_code_system_and_code_or_star() {
        let event = Event::Coding { system: Some("urn:e".into()), code: "patient-link".into() };
        let cases = [("*", true), ("patient-link", true), ("urn:e|patient-link", true), ("urn:x|patient-link", false)];
        for (pattern, allowed) in cases {
            let mut participant = Participant::new("lab");
            participant.may_send = vec![pattern.to_owned()];
            participant.may_receive = vec![pattern.to_owned()];
            assert_eq!(participant.may_send(&event), allowed, "{pattern}");
            assert_eq!(participant.may_receive(&event), allowed, "{pattern}");
        }
    }
}
