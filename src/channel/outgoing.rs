//! What a delivery carries: the message as it came, or as its receiver reads it.

use super::later;
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
    /// The delivery; where the body was converted, or is told as another version, with the metadata of what it is now.
    pub work: Cow<'w, PendingDelivery>,
    pub body: Bytes,
    is_converted: bool,
}

impl Outgoing<'_> {
    /// Whether the content is not as its sender wrote it (MSG-123).
    pub fn is_converted(&self) -> bool {
        self.is_converted
    }
}

/// The body from memory, else from the store, in the format and version of its receiver. That a request can be converted
/// was found when it was accepted; an answer that cannot goes as it came.
pub(super) async fn outgoing<'w>(
    store: &Store,
    work: &'w PendingDelivery,
    participant: &Participant,
) -> Result<Outgoing<'w>, AttemptResult> {
    let body = body(store, work).await?;
    let as_it_came = |body| Ok(Outgoing { work: as_read(work, participant), body, is_converted: false });
    match offload(body.len(), || converted(&work.metadata, &body, wanted(work, participant))) {
        Ok(None) => as_it_came(body),
        Ok(Some(told)) => {
            let work = PendingDelivery { metadata: Arc::new(told.metadata), ..work.clone() };
            Ok(Outgoing { work: Cow::Owned(work), body: told.bytes, is_converted: true })
        }
        Err(_) if work.metadata.request_format.is_some() => as_it_came(body),
        Err(_) => Err(later(Fault::RouteConversion, "the message cannot be written as the participant reads it")),
    }
}

/// A request of R4 for a receiver of R4B, or the other way round, was found to be valid in the receiver's version: it is
/// called that, and stays as it is.
fn as_read<'w>(work: &'w PendingDelivery, participant: &Participant) -> Cow<'w, PendingDelivery> {
    let wanted = participant.fhir_version.filter(|_| work.metadata.request_format.is_none());
    match (wanted, work.metadata.version) {
        (Some(wanted), Some(version)) if wanted != version && wanted.is_spelled_as(version) => {
            let metadata = Metadata { version: Some(wanted), ..(*work.metadata).clone() };
            Cow::Owned(PendingDelivery { metadata: Arc::new(metadata), ..work.clone() })
        }
        _ => Cow::Borrowed(work),
    }
}

/// A participant's own format comes first, then that in which a request was asked; versions are bridged where that is
/// allowed, and an answer speaks the version of its request.
fn wanted(work: &PendingDelivery, participant: &Participant) -> Wanted {
    let asked = work.metadata.request_format.as_deref();
    let bridged = participant.fhir_version.filter(|_| participant.bridge_versions);
    let bridged = bridged.filter(|wanted| Some(*wanted) != work.metadata.version);
    let version: Option<FhirVersion> = asked.map(|asked| asked.version).or(bridged);
    Wanted { format: participant.format.or(asked.map(|asked| asked.format)), version }
}

async fn body(store: &Store, work: &PendingDelivery) -> Result<Bytes, AttemptResult> {
    if let Some(body) = &work.body {
        return Ok(body.clone());
    }
    match store.content(work.message_key).await {
        Ok(Some((_, body))) => Ok(body),
        Ok(None) => Err(AttemptResult::ContentRemoved),
        // Nobody was asked for anything: the receiver's schedule and its count of attempts know nothing of our store.
        Err(error) => {
            tracing::warn!(delivery.id = %work.delivery_id, reason = %error, "a body could not be read; tried again");
            Err(AttemptResult::NotSent { fault: None, detail: error.to_string() })
        }
    }
}
