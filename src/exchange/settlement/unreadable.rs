//! Refused messages that were meant to answer a request of ours: those from a queue with the request's `correlation_id`.
//!
//! The request goes on waiting, and its delivery shows why there is no answer.

use super::Settler;
use crate::exchange::intake::RefusedMessage;
use crate::exchange::{AnswerMode, Inbound, IntakeSlot, Refusal, Reply, Rules};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use crate::routing::Channel;
use crate::store::{DeliveryStatus, Unavailable};
use uuid::Uuid;

impl Settler {
    /// Refuses a message that could not be read or may not pass, and links it to the request that it was meant to answer.
    pub(in crate::exchange) async fn refuse(
        &self,
        mut refused: RefusedMessage,
        inbound: &Inbound,
        rules: &Rules,
        slot: IntakeSlot,
    ) -> Reply {
        match self.link_to_request(&mut refused, inbound, rules).await {
            Ok(meant_for) => self.intake.refuse(refused, meant_for, rules, slot).await,
            Err(unavailable) => Reply::unavailable(refused.metadata.id, &unavailable),
        }
    }

    /// Records that a message from a queue exceeded the size limit, if it was meant to answer a request of ours: it is stored
    /// as refused, without content. `inbound` has no bytes; `size_bytes` is the size of the original.
    pub(in crate::exchange) async fn note_too_large(&self, inbound: Inbound, size_bytes: u64, why: &str) {
        let rules = self.rules.load_full();
        let text = format!("The message is {why}; its content is in the dead-letter queue");
        let issue = Issue::error(IssueCode::TooLong, Fault::SendTooLarge, text);
        let mut refused = self.intake.undecodable(&inbound, Refusal::BadRequest, issue);
        refused.metadata.size_bytes = size_bytes;
        let noted = async {
            let meant_for = self.link_to_request(&mut refused, &inbound, &rules).await?;
            if refused.metadata.in_reply_to.is_some() {
                self.intake.store(refused.into_stored(meant_for, None), IntakeSlot::default()).await?;
            }
            Ok::<(), Unavailable>(())
        };
        if let Err(unavailable) = noted.await {
            tracing::warn!(reason = %unavailable, "AMQP: a message that is too large could not be linked to its request");
        }
    }

    /// Links an unreadable answer to its request. Returns the key of the delivery that it was meant to answer, if there is
    /// only one. A refused request is never an answer, whatever its `correlation_id`.
    async fn link_to_request(
        &self,
        refused: &mut RefusedMessage,
        inbound: &Inbound,
        rules: &Rules,
    ) -> Result<Option<i64>, Unavailable> {
        let AnswerMode::ReplyQueue { reply, .. } = &inbound.answer_mode else { return Ok(None) };
        let is_answer = refused.refusal == Refusal::BadRequest || refused.metadata.response.is_some();
        let correlation = reply.correlation.as_deref().and_then(|text| Uuid::parse_str(text).ok());
        let Some(request) = correlation.filter(|_| is_answer) else { return Ok(None) };
        let Some(status) = self.store.message_status(request).await? else { return Ok(None) };
        let sender = inbound.credential.as_deref();
        let fits = |delivery: &&DeliveryStatus| delivery.answer.is_none() && may_answer(delivery, sender, rules);
        let mut fitting = status.deliveries.iter().filter(fits);
        let Some(delivery) = fitting.next() else { return Ok(None) };
        refused.metadata.in_reply_to = Some(request);
        // With several receivers, it is unknown which one wrote it.
        let only = fitting.next().is_none().then_some(delivery);
        tracing::warn!(message.id = %refused.metadata.id, request.id = %request,
            participant = only.map_or("?", |delivery| &*delivery.participant), fault = Fault::RecvBadAnswer.code(),
            "an answer from a queue cannot be read; its request goes on waiting");
        self.metrics.fault(Fault::RecvBadAnswer.code());
        Ok(only.map(|delivery| delivery.key))
    }
}

/// Whether this delivery's receiver may have sent it: the participant whose user published it; if that is unknown, any
/// participant with an AMQP channel.
fn may_answer(delivery: &DeliveryStatus, sender: Option<&str>, rules: &Rules) -> bool {
    let participant = rules.table.participant(&delivery.participant);
    let over_amqp = || participant.is_some_and(|participant| matches!(participant.channel, Some(Channel::Amqp { .. })));
    sender.map_or_else(over_amqp, |sender| sender == delivery.participant)
}
