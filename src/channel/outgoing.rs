//! What a delivery carries: the message as it came, or as its receiver reads it.

use super::later;
use crate::apart::apart;
use crate::conversion::{Wanted, converted};
use crate::delivery::{Said, Work};
use crate::fhir::{Fault, FhirVersion};
use crate::routing::Participant;
use crate::store::Store;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;

pub(super) struct Outgoing<'w> {
    /// The delivery; where the body was converted, with the facts of what it is now.
    pub work: Cow<'w, Work>,
    pub body: Bytes,
}

impl Outgoing<'_> {
    /// Whether the content is not as its sender wrote it (MSG-123).
    pub fn is_converted(&self) -> bool {
        matches!(self.work, Cow::Owned(_))
    }
}

/// The body from memory, else from the store, in the form and version of its receiver. That a request can be converted
/// was found when it was accepted; an answer that cannot goes as it came.
pub(super) async fn outgoing<'w>(
    store: &Store,
    work: &'w Work,
    participant: &Participant,
) -> Result<Outgoing<'w>, Said> {
    let body = body(store, work).await?;
    let as_it_came = |body| Ok(Outgoing { work: Cow::Borrowed(work), body });
    match apart(body.len(), || converted(&work.facts, &body, wanted(work, participant))) {
        Ok(None) => as_it_came(body),
        Ok(Some(told)) => {
            let work = Work { facts: Arc::new(told.facts), ..work.clone() };
            Ok(Outgoing { work: Cow::Owned(work), body: told.bytes })
        }
        Err(_) if work.facts.asked.is_some() => as_it_came(body),
        Err(_) => Err(later(Fault::RouteConversion, "the message cannot be written as the participant reads it")),
    }
}

/// A participant's own form comes first, then that in which a request was asked; versions are bridged where that is
/// allowed, and an answer speaks the version of its request.
fn wanted(work: &Work, participant: &Participant) -> Wanted {
    let asked = work.facts.asked.as_deref();
    let bridged = participant.fhir_version.filter(|_| participant.bridge_versions);
    let bridged = bridged.filter(|wanted| Some(*wanted) != work.facts.version);
    let version: Option<FhirVersion> = asked.map(|asked| asked.version).or(bridged);
    Wanted { form: participant.format.or(asked.map(|asked| asked.form)), version }
}

async fn body(store: &Store, work: &Work) -> Result<Bytes, Said> {
    if let Some(body) = &work.body {
        return Ok(body.clone());
    }
    match store.content(work.message_key).await {
        Ok(Some((_, body))) => Ok(body),
        Ok(None) => Err(Said::Refused { outcome: None, detail: "the body is no longer kept".into() }),
        // Nobody was asked for anything: the receiver's schedule and its count of attempts know nothing of our store.
        Err(error) => {
            tracing::warn!(delivery.id = %work.delivery_id, reason = %error, "a body could not be read; tried again");
            Err(Said::Unsent { fault: None, detail: error.to_string() })
        }
    }
}
