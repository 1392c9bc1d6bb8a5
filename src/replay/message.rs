//! The new deliveries of one replayed message, or none if it is skipped.

use crate::delivery::{DeliveryKind, NewDelivery};
use crate::exchange::Exchange;
use crate::offload::offload;
use crate::routing::lane::{OrderedBy, lane};
use crate::routing::{Order, Participant, Receiver};
use crate::store::Unavailable;
use crate::store::view::{DeliveryView, ReplayCandidate, ReplayView};
use bytes::Bytes;
use fhir::event::Category;
use fhir::{FhirVersion, Format, Message, format};
use std::sync::Arc;

/// The new deliveries of one message. Empty if it is skipped: a consequence event without `force_consequence`, content that
/// retention removed, or no receiver left.
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
        // To one participant, a message has one delivery, which is linked to the first of the originals.
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
        let lane = lane_of(exchange, candidate, participant).await?;
        let destination = original.and_then(|original| original.destination.clone());
        let receiver = Receiver { participant: participant.clone(), destination, lane };
        let kind = DeliveryKind::Replay {
            replay: replay.order.id,
            of: original.map(|original| original.id),
            forward_answers: replay.order.forward_answers,
        };
        deliveries.push(receiver.delivery(kind, exchange.clock.new_id(), exchange.clock.now_us()));
    }
    Ok(deliveries)
}

/// The lane that the message would have if it arrived now, so that replayed and live messages keep one order.
async fn lane_of(
    exchange: &Exchange,
    candidate: &ReplayCandidate,
    participant: &Participant,
) -> Result<i64, Unavailable> {
    let content = match participant.order {
        Order::Subject => exchange.store.content(candidate.message_key).await?,
        Order::None | Order::Sender => None,
    };
    let metadata = &candidate.metadata;
    let subject = || {
        let (_, bytes) = content?;
        offload(bytes.len(), || subject_of(bytes.clone(), metadata.version))
    };
    let by = OrderedBy::Sender { source: metadata.source.as_deref(), sender: &metadata.sender };
    Ok(lane(participant.order, by, subject))
}

/// None also if the stored message can no longer be parsed; then its source decides the lane.
fn subject_of(bytes: Bytes, version: Option<FhirVersion>) -> Option<String> {
    let format = Format::detect(&bytes);
    let tree = format::read(bytes, format, version, version).ok()?;
    Message::read(tree, version, version).ok()?.subject_key()
}
