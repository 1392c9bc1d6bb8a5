//! The store: one seam of methods named after intent, each one transaction. SQLite behind it.
//!
//! Nothing is acknowledged before its transaction has committed. Accepts and settlements that arrive together share one
//! transaction (group commit). No SQL, no database type leaves this folder.

pub mod view;

use crate::clock::Clock;
use crate::delivery::{DeliveryState, Facts, Keep, Kept, MessageState, Settled, Settlement, Work};
use crate::fhir::{Fault, Outcome};
use bytes::Bytes;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// How the store is opened.
#[derive(Clone, Debug)]
pub struct StoreSettings {
    /// The database file; its folder is made when missing.
    pub path: PathBuf,
    /// Less room than this on the disk refuses accepts.
    pub min_free_bytes: u64,
    /// How long identities are recognised; older ones count as new.
    pub identities_days: u32,
}

/// Why the store cannot be opened. Each is a plain sentence for exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0}")]
    Refused(String),
    #[error("cannot open the store {path}: {source}")]
    Database { path: String, source: sqlx::Error },
    #[error("cannot open the store {path}: {source}")]
    File { path: String, source: std::io::Error },
}

/// Copies a store's file consistently, also while a router has it open.
pub async fn backup_file(db: &std::path::Path, _to: &std::path::Path) -> Result<(), OpenError> {
    Err(OpenError::Refused(format!("{}: backup is not connected yet", db.display())))
}

/// The store cannot take it now; nothing was kept. The caller answers 503 and the sender comes again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("no room: {0}")]
    Full(String),
    #[error("the store cannot be reached: {0}")]
    Away(String),
}

/// The state of one message, as replies to its sender and the status URL need it.
#[derive(Clone, Debug)]
pub struct Standing {
    pub message_key: i64,
    pub facts: Arc<Facts>,
    pub state: MessageState,
    pub outcome: Option<Outcome>,
    /// Deliveries of kind Request, in the plan's order.
    pub deliveries: Vec<StandingDelivery>,
    /// The answer that Emberpost gave itself, where it was the receiver or refused.
    pub own_answer: Option<i64>,
    /// Ended by DELETE of the status URL.
    pub status_ended: bool,
}

#[derive(Clone, Debug)]
pub struct StandingDelivery {
    pub key: i64,
    pub id: Uuid,
    pub participant: String,
    pub state: DeliveryState,
    /// HTTP status of the last attempt.
    pub status: Option<u16>,
    pub fault: Option<Fault>,
    /// Key of the answer message, once there is one.
    pub answer: Option<i64>,
}

/// A delivery to whose receiver a response may refer.
#[derive(Clone, Debug)]
pub struct Asked {
    pub delivery_key: i64,
    pub delivery: Work,
    pub answered: bool,
}

/// The open store. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    settings: StoreSettings,
}

impl Store {
    /// Opens or makes the store, runs migrations. Errs when another router has it, or a newer program wrote it.
    pub async fn open(settings: StoreSettings, clock: Clock) -> Result<Store, OpenError> {
        Ok(Store { inner: Arc::new(Inner { clock, settings }) })
    }

    /// Keeps a message with its deliveries, keys and own answer, or recognises a repeat. Returns after the commit.
    pub async fn accept(&self, keep: Keep) -> Result<Kept, Unavailable> {
        let _ = keep;
        Err(Unavailable::Away("not connected".into()))
    }

    /// Records an attempt and the delivery's new state, with the answer. Deliveries already settled stay as they are.
    pub async fn settle(&self, settlement: Settlement) -> Result<Settled, Unavailable> {
        let _ = settlement;
        Err(Unavailable::Away("not connected".into()))
    }

    /// Everything a reply needs; None for an id that is not kept.
    pub async fn standing(&self, message_id: Uuid) -> Result<Option<Standing>, Unavailable> {
        let _ = message_id;
        Ok(None)
    }

    /// The body as received, and its facts; None where retention dropped it.
    pub async fn content(&self, message_key: i64) -> Result<Option<(Arc<Facts>, Bytes)>, Unavailable> {
        let _ = message_key;
        Ok(None)
    }

    /// The deliveries that went to `participant` with a message known by `identifier` (header id, Bundle id or Bundle
    /// identifier value, with and without `urn:uuid:`), newest first, at most 16.
    pub async fn asked(&self, participant: &str, identifier: &str) -> Result<Vec<Asked>, Unavailable> {
        let _ = (participant, identifier);
        Ok(Vec::new())
    }

    /// Lanes of a participant that have waiting deliveries, in key order after `after`, at most `limit`.
    pub async fn lanes(&self, participant: &str, after: Option<i64>, limit: u32) -> Result<Vec<i64>, Unavailable> {
        let _ = (participant, after, limit);
        Ok(Vec::new())
    }

    /// Waiting deliveries of one lane in order after `after_seq`, at most `limit`, without bodies.
    pub async fn lane_work(
        &self,
        participant: &str,
        lane: i64,
        after_seq: i64,
        limit: u32,
    ) -> Result<Vec<Work>, Unavailable> {
        let _ = (participant, lane, after_seq, limit);
        Ok(Vec::new())
    }

    /// Waiting deliveries (carried or not) that expired before `now_us`, at most `limit`, oldest first.
    pub async fn expired(&self, now_us: i64, limit: u32) -> Result<Vec<Work>, Unavailable> {
        let _ = (now_us, limit);
        Ok(Vec::new())
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    pub fn settings(&self) -> &StoreSettings {
        &self.inner.settings
    }
}
