//! The content of a delivery: the message as received, or converted to its receiver's format and version.

use super::retryable;
use crate::conversion::{Wanted, converted};
use crate::delivery::{AttemptResult, Metadata, PendingDelivery};
use crate::fault::Fault;
use crate::offload::offload;
use crate::routing::Participant;
use crate::store::Store;
use bytes::Bytes;
use fhir::FhirVersion;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) struct Outgoing<'w> {
    /// The delivery. If the body was converted or relabeled with another version, its metadata describes the result.
    pub delivery: Cow<'w, PendingDelivery>,
    pub body: Bytes,
    is_converted: bool,
}

impl Outgoing<'_> {
    /// Whether the content differs from what its sender wrote (MSG-123).
    pub fn is_converted(&self) -> bool {
        self.is_converted
    }
}

/// The body from memory or the store, in the format and version of its receiver. Whether a request can be converted was
/// checked when it was accepted; an answer that cannot be converted is sent as received.
pub(super) async fn outgoing<'w>(
    store: &Store,
    delivery: &'w PendingDelivery,
    participant: &Participant,
) -> Result<Outgoing<'w>, AttemptResult> {
    let body = body(store, delivery).await?;
    let unchanged = |body| Ok(Outgoing { delivery: relabeled(delivery, participant), body, is_converted: false });
    match offload(body.len(), || converted(&delivery.metadata, &body, wanted(delivery, participant))) {
        Ok(None) => unchanged(body),
        Ok(Some(told)) => {
            let delivery = PendingDelivery { metadata: Arc::new(told.metadata), ..delivery.clone() };
            Ok(Outgoing { delivery: Cow::Owned(delivery), body: told.bytes, is_converted: true })
        }
        Err(_) if delivery.metadata.request_format.is_some() => unchanged(body),
        Err(_) => Err(retryable(
            Fault::RouteConversion,
            "the message cannot be converted to the participant's format and version",
        )),
    }
}

/// An R4 request to an R4B receiver, or the reverse, was validated against the receiver's version: it is labeled with
/// that version, and its content stays unchanged.
fn relabeled<'w>(delivery: &'w PendingDelivery, participant: &Participant) -> Cow<'w, PendingDelivery> {
    let wanted = participant.fhir_version.filter(|_| delivery.metadata.request_format.is_none());
    match (wanted, delivery.metadata.version) {
        (Some(wanted), Some(version)) if wanted != version && wanted.is_spelled_as(version) => {
            let metadata = Metadata { version: Some(wanted), ..(*delivery.metadata).clone() };
            Cow::Owned(PendingDelivery { metadata: Arc::new(metadata), ..delivery.clone() })
        }
        _ => Cow::Borrowed(delivery),
    }
}

/// The participant's own format has priority over the one that the request used. Versions are bridged where that is
/// allowed, and an answer has the version of its request.
fn wanted(delivery: &PendingDelivery, participant: &Participant) -> Wanted {
    let asked = delivery.metadata.request_format.as_deref();
    let bridged = participant.fhir_version.filter(|_| participant.bridge_versions);
    let bridged = bridged.filter(|wanted| Some(*wanted) != delivery.metadata.version);
    let version: Option<FhirVersion> = asked.map(|asked| asked.version).or(bridged);
    Wanted { format: participant.format.or(asked.map(|asked| asked.format)), version }
}

async fn body(store: &Store, delivery: &PendingDelivery) -> Result<Bytes, AttemptResult> {
    if let Some(body) = &delivery.body {
        return Ok(body.clone());
    }
    match store.content(delivery.message_key).await {
        Ok(Some((_, body))) => Ok(body),
        Ok(None) => Err(AttemptResult::ContentRemoved),
        // The receiver was not contacted, so an unavailable store does not count against its retry schedule.
        Err(error) => {
            tracing::warn!(delivery.id = %delivery.delivery_id, reason = %error, "a body could not be read from the store; the delivery is retried");
            Err(AttemptResult::NotSent { fault: None, detail: error.to_string() })
        }
    }
}
