//! The router itself: its figures, its clock, and where it would send a message.

use crate::exchange;
use crate::store::view;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Figures of the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoreFigures {
    pub now_us: i64,
    pub participants: Vec<ParticipantFigures>,
    pub messages: u64,
    pub commits: u64,
    pub operations: u64,
    pub free_bytes: Option<u64>,
    pub database_bytes: u64,
    pub log_bytes: u64,
}

/// Waiting and dead deliveries of one participant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ParticipantFigures {
    pub participant: String,
    pub waiting: u64,
    pub dead: u64,
    pub lanes_blocked: u64,
    pub oldest_waiting_at_us: Option<i64>,
}

impl From<view::Figures> for StoreFigures {
    fn from(figures: view::Figures) -> StoreFigures {
        let view::Figures {
            now_us,
            participants,
            messages,
            commits,
            operations,
            free_bytes,
            database_bytes,
            log_bytes,
        } = figures;
        let participants = participants.into_iter().map(ParticipantFigures::from).collect();
        StoreFigures { now_us, participants, messages, commits, operations, free_bytes, database_bytes, log_bytes }
    }
}

impl From<view::ParticipantFigures> for ParticipantFigures {
    fn from(figures: view::ParticipantFigures) -> ParticipantFigures {
        let view::ParticipantFigures { participant, waiting, dead, lanes_blocked, oldest_waiting_at_us } = figures;
        ParticipantFigures { participant, waiting, dead, lanes_blocked, oldest_waiting_at_us }
    }
}

/// The clock by which deliveries expire and retention deletes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClockState {
    /// UTC microseconds since 1970.
    pub now_us: i64,
    /// How far it is ahead of what the machine's own clock and the store say, if they differ; negative: behind.
    pub clock_ahead_seconds: Option<i64>,
}

/// Where a message would go, and why; or why it is refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explanation {
    pub sender: Option<String>,
    pub event: Option<String>,
    pub definition: Option<String>,
    pub accepted: bool,
    pub receivers: Vec<String>,
    /// Emberpost itself is the receiver.
    pub to_self: bool,
    pub reasons: Vec<String>,
    /// OperationOutcome; null if there are no issues.
    pub outcome: Option<Value>,
}

impl From<exchange::Explanation> for Explanation {
    fn from(explanation: exchange::Explanation) -> Explanation {
        let exchange::Explanation { sender, event, definition, accepted, receivers, to_self, reasons, outcome } =
            explanation;
        let outcome = (!outcome.issues.is_empty()).then(|| outcome.to_resource());
        Explanation { sender, event, definition, accepted, receivers, to_self, reasons, outcome }
    }
}
