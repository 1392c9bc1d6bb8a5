//! Participants, as configured and with their state.

use crate::fault::Fault;
use crate::routing::{Order, Rejections};
use serde::{Deserialize, Serialize};

/// A participant without its credentials. Times are UTC microseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Participant {
    pub id: String,
    pub name: Option<String>,
    pub addresses: Vec<String>,
    /// `http`, `amqp`, `mailbox`, or null: it receives answers only, while it waits for them.
    pub channel: Option<String>,
    /// The URL of an HTTP channel, with secrets masked.
    pub url: Option<String>,
    pub may_send: Vec<String>,
    pub may_receive: Vec<String>,
    pub fhir_version: Option<String>,
    pub order: Order,
    pub concurrency: usize,
    pub rejections: Rejections,
    /// Whether a token is configured. The token itself is never shown.
    pub has_token: bool,
    pub waiting: u64,
    pub dead: u64,
    /// The id once more.
    pub participant: String,
    pub paused: bool,
    /// `closed`, or `open`: only probes are sent.
    pub breaker: String,
    pub last_fault: Option<Fault>,
    pub last_failure_at_us: Option<i64>,
    pub next_probe_at_us: Option<i64>,
    /// Attempts that run now.
    pub active: usize,
    /// Lanes with a delivery in memory.
    pub lanes: usize,
}
