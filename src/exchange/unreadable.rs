//! What comes out of a queue with the `correlation_id` of a request of ours, and cannot be read: it was meant to be its answer.
//! The request goes on waiting, and whoever looks at it is told why.

use super::judge::{Refused, unpacked};
use super::{AnswerMode, Exchange, Inbound, IntakeSlot, Refusal, Rules};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode};
use crate::routing::Channel;
use crate::store::{DeliveryStatus, Unavailable};
use uuid::Uuid;

impl Exchange {
    /// Notes that a message out of a queue was larger than what is taken, where it was meant to answer a request of ours: it
    /// is stored as refused without its content. `inbound` comes without its bytes, of which there were `size_bytes`.
    pub async fn note_too_large(&self, inbound: Inbound, size_bytes: u64, why: &str) {
        let rules = self.rules.load_full();
        let text = format!("The message is {why}; its content is in the dead-letter queue");
        let issue = Issue::error(IssueCode::TooLong, Fault::SendTooLarge, text);
        let mut refused = unpacked(self.clock.new_id(), &inbound, Refusal::BadRequest, issue);
        refused.metadata.size_bytes = size_bytes;
        let noted = async {
            let blamed = self.blame(&mut refused, &inbound, &rules).await?;
            if refused.metadata.in_reply_to.is_some() {
                self.keep(refused.kept(blamed, None), IntakeSlot::default()).await?;
            }
            Ok::<(), Unavailable>(())
        };
        if let Err(away) = noted.await {
            tracing::warn!(reason = %away, "AMQP: a message that is too large could not be noted with its request");
        }
    }

    /// Ties an unreadable answer to its request; the key of the delivery that it was meant to answer. A request that is
    /// refused is no answer, whatever its `correlation_id`.
    pub(super) async fn blame(
        &self,
        refused: &mut Refused,
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
        // Of several receivers, nobody knows which one wrote it.
        let one = fitting.next().is_none().then_some(delivery);
        tracing::warn!(message.id = %refused.metadata.id, request.id = %request,
            participant = one.map_or("?", |delivery| &*delivery.participant), fault = Fault::RecvBadAnswer.code(),
            "an answer out of a queue cannot be read; its request waits on");
        self.metrics.fault(Fault::RecvBadAnswer.code());
        Ok(one.map(|delivery| delivery.key))
    }
}

/// Whether this delivery's receiver may have sent it: it is the one whose user published it, else one that is served over
/// AMQP.
fn may_answer(delivery: &DeliveryStatus, sender: Option<&str>, rules: &Rules) -> bool {
    let participant = rules.table.participant(&delivery.participant);
    let over_amqp = || participant.is_some_and(|participant| matches!(participant.channel, Some(Channel::Amqp { .. })));
    sender.map_or_else(over_amqp, |sender| sender == delivery.participant)
}
