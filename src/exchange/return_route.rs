//! The return route of an answer: the deliveries by which it reaches the request's sender when that sender does not wait for
//! it in an open HTTP request.

use super::Rules;
use crate::clock::Clock;
use crate::delivery::{DeliveryKind, Metadata, NewDelivery, ReplyQueue, ReplyTo};
use crate::routing::lane::{OrderedBy, UNORDERED, lane};
use crate::routing::{Participant, Receiver};
use std::sync::Arc;

/// Deliveries of an answer to the request's sender. Empty if the sender does not want this answer (MSG-48; `always` overrides
/// that, because a failed delivery is always reported), if it only polls the status URL, or if it has no channel.
pub(super) fn return_route(
    request: &Metadata,
    answer: &Metadata,
    rules: &Rules,
    clock: &Clock,
    always: bool,
) -> Vec<NewDelivery> {
    let code = answer.response.as_ref().and_then(|response| response.code);
    let wanted = request.owed.is_none_or(|owed| code.is_none_or(|code| owed.wants(code)));
    if !wanted && !always {
        return Vec::new();
    }
    let participant = rules.table.participant(&request.sender);
    let has_channel = participant.is_some_and(|participant| participant.channel.is_some());
    match (&request.reply_to, participant) {
        (ReplyTo::Queue(reply), _) => to_reply_queue(request, answer, reply, rules, clock).into_iter().collect(),
        (ReplyTo::Callback(url), Some(participant)) => {
            vec![delivery(participant, request, answer, DeliveryKind::Callback { url: url.clone() }, clock)]
        }
        (ReplyTo::Wait | ReplyTo::Channel, Some(participant)) if has_channel => {
            vec![delivery(participant, request, answer, DeliveryKind::Answer, clock)]
        }
        _ => Vec::new(),
    }
}

/// The delivery to a reply queue, which the sender may have without being a participant; without a queue, to the source's
/// channel. None if there is neither.
pub(super) fn to_reply_queue(
    request: &Metadata,
    answer: &Metadata,
    reply: &ReplyQueue,
    rules: &Rules,
    clock: &Clock,
) -> Option<NewDelivery> {
    let participant = rules.table.participant(&request.sender).unwrap_or(&rules.table.anyone);
    if reply.queue.is_none() && participant.channel.is_none() {
        return None;
    }
    Some(delivery(participant, request, answer, DeliveryKind::Reply(reply.clone()), clock))
}

fn delivery(
    participant: &Arc<Participant>,
    request: &Metadata,
    answer: &Metadata,
    kind: DeliveryKind,
    clock: &Clock,
) -> NewDelivery {
    let lane = match &kind {
        DeliveryKind::Callback { url } => lane(participant.order, OrderedBy::Callback(url), || None),
        // A sender that names a reply queue matches answers by their correlation id, and needs no order.
        DeliveryKind::Reply(ReplyQueue { queue: Some(_), .. }) => UNORDERED,
        _ => {
            let by = OrderedBy::Sender { source: answer.source.as_deref(), sender: &answer.sender };
            lane(participant.order, by, || None)
        }
    };
    let receiver = Receiver { participant: participant.clone(), destination: request.source.clone(), lane };
    receiver.delivery(kind, clock.new_id(), clock.now_us())
}
