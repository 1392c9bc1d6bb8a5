//! The way home of an answer: to whom it is delivered when nobody waits for it on the line.

use super::{Exchange, Rules};
use crate::delivery::{DeliveryKind, Facts, NewDelivery, ReplyTo};
use crate::routing::lane::lane_of_source;
use crate::routing::{Participant, Receiver};
use std::sync::Arc;

impl Exchange {
    /// Deliveries of an answer to the request's sender. None where the sender did not want this answer (MSG-48; `told`
    /// overrides that: what could not be delivered is always told), where it only looks at the status URL, or where it
    /// has no channel.
    pub(super) fn way_home(&self, request: &Facts, answer: &Facts, rules: &Rules, told: bool) -> Vec<NewDelivery> {
        let code = answer.response.as_ref().and_then(|response| response.code);
        let wanted = request.owed.is_none_or(|owed| code.is_none_or(|code| owed.wants(code)));
        let Some(participant) = rules.table.participant(&request.sender) else { return Vec::new() };
        if !wanted && !told {
            return Vec::new();
        }
        match &request.reply_to {
            ReplyTo::Callback(url) => {
                self.home(participant, request, answer, DeliveryKind::Callback { url: url.clone() })
            }
            ReplyTo::Wait | ReplyTo::Channel if participant.channel.is_some() => {
                self.home(participant, request, answer, DeliveryKind::Answer)
            }
            _ => Vec::new(),
        }
    }

    fn home(
        &self,
        participant: &Arc<Participant>,
        request: &Facts,
        answer: &Facts,
        kind: DeliveryKind,
    ) -> Vec<NewDelivery> {
        let receiver = Receiver {
            participant: participant.clone(),
            destination: request.source.clone(),
            lane: lane_of_source(participant.order, answer.source.as_deref().unwrap_or(&answer.sender)),
        };
        let mut delivery = self.delivery_to(&receiver, kind);
        // A callback goes to its own URL, whatever the participant's channel is.
        delivery.carried |= matches!(delivery.kind, DeliveryKind::Callback { .. });
        vec![delivery]
    }
}
