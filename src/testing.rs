//! For tests: metadata, deliveries, and participants with every field set, of which a test overrides those that it is about.

use crate::delivery::{DeliveryKind, Metadata, PendingDelivery};
pub use crate::routing::fixture::{owner, participant};
use crate::store_url::StoreUrl;
use fhir::FhirVersion;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

#[path = "../tests/it/harness/postgres.rs"]
#[allow(dead_code, reason = "the tests from outside use all of it")]
pub mod postgres;

/// A store of its own for each path: a file, or, with EMBERPOST_TEST_STORE=postgres, a database.
pub fn store_url(path: &Path) -> StoreUrl {
    match postgres::is_chosen() {
        true => StoreUrl::Postgres(postgres::shared().url_of(path).into()),
        false => StoreUrl::Sqlite(path.to_owned()),
    }
}

/// The metadata of an R4 message in JSON of the participant `ward`, without identity.
pub fn metadata() -> Metadata {
    Metadata {
        source: Some("urn:oid:1.2.3".into()),
        version: Some(FhirVersion::R4),
        size_bytes: 2,
        ..Metadata::new(Uuid::from_u128(7), "ward", "application/fhir+json", 0)
    }
}

/// A delivery that is due and never expires. Its key is its sequence number.
pub fn pending(participant: &str, lane: i64, seq: i64) -> PendingDelivery {
    PendingDelivery {
        delivery_key: seq,
        delivery_id: Uuid::from_u128(seq as u128),
        message_key: seq,
        participant: participant.into(),
        lane,
        seq,
        prev_seq: None,
        kind: DeliveryKind::Request,
        attempts: 0,
        uncounted_attempts: 0,
        is_probe: false,
        due_at_us: 0,
        expires_at_us: i64::MAX,
        metadata: Arc::new(metadata()),
        body: Some(bytes::Bytes::from_static(b"{}")),
    }
}
