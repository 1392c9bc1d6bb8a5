//! A participant as configured: the addresses it owns, what it may send and receive, and how it receives.
//!
//! Data only; `Table::build` checks ids and addresses against those of the other participants.

use super::address::Pattern;
use crate::secret::{Secret, SecretUrl};
use fhir::{Event, FhirVersion, Format};
use std::sync::Arc;
use validation::{Level, OnFailure, ProseRules};

/// The id of every sender while no participant is configured.
pub const ANYONE: &str = "anyone";
/// Concurrent attempts to deliver answers to reply queues of senders that are not participants.
const ANYONE_CONCURRENCY: usize = 64;
/// The id of Emberpost itself: the sender of its own answers, and the receiver of messages to its own base.
pub const EMBERPOST: &str = "emberpost";

#[derive(Clone, Debug, PartialEq)]
pub struct Participant {
    pub id: Arc<str>,
    pub name: Option<String>,
    /// As configured; a final `*` matches any ending.
    pub addresses: Vec<String>,
    /// None: it receives only answers, while it waits for them.
    pub channel: Option<Channel>,
    /// Events: code, `system|code`, uri, or `*`.
    pub may_send: Vec<String>,
    pub may_receive: Vec<String>,
    /// The version assumed for its messages that do not say theirs; None: `server.fhir_version`.
    pub fhir_version: Option<FhirVersion>,
    pub order: Order,
    /// Concurrent attempts over all lanes; at least 1.
    pub concurrency: usize,
    /// Attempts that may begin per second; 0: no limit.
    pub rate_per_second: u32,
    /// Failed attempts after which a delivery is a dead letter; 0: no limit.
    pub attempts_limit: u32,
    pub attempt_timeout_seconds: u64,
    /// Never empty; the last interval repeats until the delivery expires.
    pub retry_schedule_seconds: Vec<u64>,
    /// Counted from acceptance, or from an operator's retry.
    pub expire_after_seconds: u64,
    pub rejections: Rejections,
    /// The format in which it receives messages and answers; None: messages as received, answers in the format of the request.
    pub format: Option<Format>,
    /// Whether messages of another FHIR version are converted to its own, if only the spelling of the header differs.
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
    /// Published with this routing key. The exchange `""` is the default exchange, whose routing keys are names of queues.
    Amqp { exchange: String, routing_key: String },
    /// Deliveries wait until the participant fetches them.
    Mailbox,
}

impl Channel {
    /// Whether the courier delivers to it; if not, deliveries wait to be fetched.
    pub fn is_carried(&self) -> bool {
        match self {
            Channel::Http { .. } | Channel::Amqp { .. } => true,
            Channel::Mailbox => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
/// Which messages to a participant are delivered in order: none, those of one source address, or those about one patient.
pub enum Order {
    None,
    #[default]
    Sender,
    Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
/// How a refusal is reported: 200 with a fatal-error answer, or 4xx with an OperationOutcome.
pub enum Rejections {
    #[default]
    Message,
    Status,
}

impl Participant {
    /// A participant with an id and the defaults of every setting.
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

    /// Whether it has a credential for HTTP but none for AMQP, so that its messages over AMQP are not authenticated.
    pub fn is_open_over_amqp(&self) -> bool {
        !self.token_sha256.is_empty() && self.amqp_user.is_none()
    }

    /// Whether the courier delivers to it.
    pub fn is_carried_to(&self) -> bool {
        self.channel.as_ref().is_some_and(Channel::is_carried)
    }

    /// Stands in for senders that are not participants: they receive answers in their reply queues, and nothing else.
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
