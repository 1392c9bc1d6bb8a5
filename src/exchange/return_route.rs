//! The way home of an answer: to whom it is delivered when nobody waits for it on the line.

use super::{Exchange, Rules};
use crate::delivery::{DeliveryKind, Metadata, NewDelivery, ReplyQueue, ReplyTo};
use crate::routing::lane::{UNORDERED, lane, lane_of_callback};
use crate::routing::{Participant, Receiver};
use std::sync::Arc;

impl Exchange {
    /// Deliveries of an answer to the request's sender. None where the sender did not want this answer (MSG-48; `told`
    /// overrides that: what could not be delivered is always told), where it only looks at the status URL, or where it
    /// has no channel.
    pub(super) fn return_route(
        &self,
        request: &Metadata,
        answer: &Metadata,
        rules: &Rules,
        told: bool,
    ) -> Vec<NewDelivery> {
        let code = answer.response.as_ref().and_then(|response| response.code);
        let wanted = request.owed.is_none_or(|owed| code.is_none_or(|code| owed.wants(code)));
        if !wanted && !told {
            return Vec::new();
        }
        let participant = rules.table.participant(&request.sender);
        let has_channel = participant.is_some_and(|participant| participant.channel.is_some());
        match (&request.reply_to, participant) {
            (ReplyTo::Queue(reply), _) => self.to_queue(request, answer, reply, rules).into_iter().collect(),
            (ReplyTo::Callback(url), Some(participant)) => {
                vec![self.home(participant, request, answer, DeliveryKind::Callback { url: url.clone() })]
            }
            (ReplyTo::Wait | ReplyTo::Channel, Some(participant)) if has_channel => {
                vec![self.home(participant, request, answer, DeliveryKind::Answer)]
            }
            _ => Vec::new(),
        }
    }

    /// The delivery to a reply queue, also of a sender that is no participant; else to the source's channel.
    pub(super) fn to_queue(
        &self,
        request: &Metadata,
        answer: &Metadata,
        reply: &ReplyQueue,
        rules: &Rules,
    ) -> Option<NewDelivery> {
        let participant = rules.table.participant(&request.sender).unwrap_or(&rules.table.anyone);
        if reply.queue.is_none() && participant.channel.is_none() {
            return None;
        }
        Some(self.home(participant, request, answer, DeliveryKind::Reply(reply.clone())))
    }

    fn home(
        &self,
        participant: &Arc<Participant>,
        request: &Metadata,
        answer: &Metadata,
        kind: DeliveryKind,
    ) -> NewDelivery {
        let lane = match &kind {
            DeliveryKind::Callback { url } => lane_of_callback(participant.order, url),
            // Whoever gives a queue to answer to tells its answers apart itself.
            DeliveryKind::Reply(ReplyQueue { queue: Some(_), .. }) => UNORDERED,
            _ => lane(participant.order, answer.source.as_deref(), &answer.sender, || None),
        };
        let receiver = Receiver { participant: participant.clone(), destination: request.source.clone(), lane };
        self.delivery_to(&receiver, kind)
    }
}
