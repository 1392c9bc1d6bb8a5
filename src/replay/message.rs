//! One message of a replay: to whom it goes again, or that it is passed over.

use crate::clock::Clock;
use crate::delivery::{DeliveryKind, NewDelivery};
use crate::exchange::Exchange;
use crate::offload::offload;
use crate::routing::{self, Order, Participant};
use crate::store::Unavailable;
use crate::store::view::{DeliveryView, ReplayCandidate, ReplayView};
use bytes::Bytes;
use fhir::event::Category;
use fhir::{FhirVersion, Format, Message, format};
use std::sync::Arc;

/// The new deliveries of one message. Empty where it is passed over: a consequence event without `force_consequence`,
/// content that retention dropped, nobody left to receive it.
pub(super) async fn deliveries(
    exchange: &Exchange,
    replay: &ReplayView,
    candidate: &ReplayCandidate,
) -> Result<Vec<NewDelivery>, Unavailable> {
    let is_consequence = candidate.metadata.category == Some(Category::Consequence);
    if is_consequence && !replay.order.force_consequence {
        return Ok(Vec::new());
    }
    if !candidate.body_kept {
        return Ok(Vec::new());
    }
    let originals: Vec<&DeliveryView> =
        candidate.originals.iter().filter(|delivery| delivery.kind == DeliveryKind::Request).collect();
    let rules = exchange.rules.load_full();
    let mut receivers: Vec<(Arc<Participant>, Option<&DeliveryView>)> = Vec::new();
    match &replay.order.to {
        // One message to one participant is one delivery; it repeats the first.
        Some(to) => receivers
            .extend(rules.table.participant(to).map(|participant| (participant.clone(), originals.first().copied()))),
        None => {
            for original in originals {
                let participant = rules.table.participant(&original.participant);
                receivers.extend(participant.map(|participant| (participant.clone(), Some(original))));
            }
        }
    }
    let mut deliveries = Vec::with_capacity(receivers.len());
    for (participant, original) in receivers.iter().filter(|(participant, _)| participant.channel.is_some()) {
        let lane = lane(exchange, candidate, participant).await?;
        deliveries.push(delivery(&exchange.clock, replay, participant, *original, lane));
    }
    Ok(deliveries)
}

/// The lane that the message would have if it came now: a replay stands in one order with live traffic.
async fn lane(exchange: &Exchange, candidate: &ReplayCandidate, participant: &Participant) -> Result<i64, Unavailable> {
    let content = match participant.order {
        Order::Subject => exchange.store.content(candidate.message_key).await?,
        Order::None | Order::Sender => None,
    };
    let metadata = &candidate.metadata;
    let subject = || {
        let (_, bytes) = content?;
        offload(bytes.len(), || subject_of(bytes.clone(), metadata.version))
    };
    Ok(routing::lane::lane(participant.order, metadata.source.as_deref(), &metadata.sender, subject))
}

/// None also where the message cannot be read any more: then its source makes the lane.
fn subject_of(bytes: Bytes, version: Option<FhirVersion>) -> Option<String> {
    let format = Format::detect(&bytes);
    let tree = format::read(bytes, format, version, version).ok()?;
    Message::read(tree, version, version).ok()?.subject_key()
}

fn delivery(
    clock: &Clock,
    replay: &ReplayView,
    participant: &Participant,
    original: Option<&DeliveryView>,
    lane: i64,
) -> NewDelivery {
    let expire_us = i64::try_from(participant.expire_after_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    let now_us = clock.now_us();
    NewDelivery {
        id: clock.new_id(),
        participant: participant.id.clone(),
        destination: original.and_then(|original| original.destination.clone()),
        lane,
        kind: DeliveryKind::Replay {
            replay: replay.order.id,
            of: original.map(|original| original.id),
            forward_answers: replay.order.forward_answers,
        },
        due_at_us: 0,
        expires_at_us: now_us.saturating_add(expire_us),
    }
}
