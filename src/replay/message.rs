//! One message of a replay: to whom it goes again, or that it is passed over.

use crate::clock::Clock;
use crate::delivery::{DeliveryKind, NewDelivery};
use crate::exchange::Exchange;
use crate::fhir::event::Category;
use crate::routing::{Order, Participant};
use crate::store::Unavailable;
use crate::store::view::{DeliveryView, ReplayCandidate, ReplayView};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The new deliveries of one message. Empty where it is passed over: a consequence event without `force_consequence`,
/// content that retention dropped, nobody left to receive it.
pub(super) async fn deliveries(
    exchange: &Exchange,
    replay: &ReplayView,
    candidate: &ReplayCandidate,
) -> Result<Vec<NewDelivery>, Unavailable> {
    let is_consequence = candidate.facts.category == Some(Category::Consequence);
    if is_consequence && !replay.order.force_consequence {
        return Ok(Vec::new());
    }
    if !exchange.store.message(candidate.facts.id).await?.is_some_and(|message| message.body_kept) {
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
        let lane = lane(exchange, candidate, participant, *original).await?;
        deliveries.push(delivery(&exchange.clock, replay, participant, *original, lane));
    }
    Ok(deliveries)
}

/// The lane of the original, behind what waits in it. Where there is none, the messages of one source keep their order
/// among themselves.
async fn lane(
    exchange: &Exchange,
    candidate: &ReplayCandidate,
    participant: &Participant,
    original: Option<&DeliveryView>,
) -> Result<i64, Unavailable> {
    if participant.order == Order::None {
        return Ok(0);
    }
    if let Some(original) = original
        && let Some((work, _)) = exchange.store.delivery_work(original.id).await?
        && work.lane != 0
    {
        return Ok(work.lane);
    }
    Ok(source_lane(candidate.facts.source.as_deref().unwrap_or_default()))
}

/// A stable lane of a source address; never 0, which means "no order".
fn source_lane(source: &str) -> i64 {
    let digest = Sha256::digest(source.as_bytes());
    let lane = digest.iter().take(8).fold(0_i64, |lane, byte| (lane << 8) | i64::from(*byte));
    if lane == 0 { 1 } else { lane }
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
        due_at_us: now_us,
        expires_at_us: now_us.saturating_add(expire_us),
        carried: participant.is_carried_to(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_keeps_its_lane() {
        assert_eq!(source_lane("urn:a"), source_lane("urn:a"));
        assert_ne!(source_lane("urn:a"), source_lane("urn:b"));
        assert_ne!(source_lane(""), 0);
    }
}
