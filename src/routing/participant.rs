//! A party of the exchange, as configured (design 1.4).

use crate::fhir::{Event, FhirVersion};
use crate::validation::ProseRules;

#[derive(Clone, Debug, PartialEq)]
pub struct Participant {
    pub id: std::sync::Arc<str>,
    pub name: Option<String>,
    /// As written; a final `*` matches any ending.
    pub addresses: Vec<String>,
    pub channel: Option<Channel>,
    pub may_send: Vec<String>,
    pub may_receive: Vec<String>,
    pub fhir_version: Option<FhirVersion>,
    pub order: Order,
    pub concurrency: usize,
    pub attempt_timeout_seconds: u64,
    pub retry_schedule_seconds: Vec<u64>,
    pub expire_after_seconds: u64,
    pub rejections: Rejections,
    /// None: as `[validation]` says.
    pub prose_rules: Option<ProseRules>,
    /// Lower-case hex.
    pub token_sha256: Vec<String>,
    pub amqp_user: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Channel {
    /// A FHIR base; `asynchronous` adds `?async=true` to requests.
    Http {
        url: String,
        asynchronous: bool,
    },
    Mailbox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    None,
    #[default]
    Sender,
    Subject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rejections {
    #[default]
    Message,
    Status,
}

impl Participant {
    pub fn may_send(&self, event: &Event) -> bool {
        self.may_send.iter().any(|pattern| event.matches(pattern))
    }

    pub fn may_receive(&self, event: &Event) -> bool {
        self.may_receive.iter().any(|pattern| event.matches(pattern))
    }
}
