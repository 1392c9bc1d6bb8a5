//! How a sender waits: in memory, and in the store, because another node may store the answer.
//!
//! An answer for which a sender waits gets its return route with a delay: the sender gets the answer in its reply, and the delivery
//! is ended. If that does not happen, because this node ends first, the delivery is made.

use super::{Completion, Replies, Waiter};
use crate::delivery::{AttemptRow, DeliveryKind, DeliveryState, Settlement};
use crate::store::{MessageStatus, Unavailable};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A sender whose time is up waits no longer than this for a store that does not answer.
const END_WAIT_LIMIT: Duration = Duration::from_secs(2);

impl Replies {
    /// Waits for the answer to a request; None once the sender waits no longer. `awaited`: key of the delivery to be answered.
    pub(super) async fn wait(
        &self,
        waiter: Waiter<'_>,
        request: Uuid,
        awaited: i64,
        gone: &CancellationToken,
    ) -> Option<Completion> {
        if let Some(completion) = waiter.wait(self.answer_timeout, gone).await {
            return Some(completion);
        }
        let ended = tokio::time::timeout(END_WAIT_LIMIT, self.store.end_wait(awaited)).await;
        let late = || Unavailable::Away("the store did not answer in time".into());
        match ended.unwrap_or_else(|_| Err(late())) {
            Ok(true) => None,
            // The answer was stored for a sender that waits here. One that is gone gets it by its return route.
            Ok(false) if gone.is_cancelled() => None,
            Ok(false) => self.handed_over(request).await.unwrap_or_else(|unavailable| {
                tracing::warn!(message.id = %request, reason = %unavailable, "a stored answer could not be read for its sender");
                None
            }),
            Err(unavailable) => {
                tracing::warn!(message.id = %request, reason = %unavailable, "the end of a wait could not be stored");
                None
            }
        }
    }

    /// The stored answer for a sender that waits on this node. Its return route ends.
    async fn handed_over(&self, request: Uuid) -> Result<Option<Completion>, Unavailable> {
        let Some(status) = self.store.message_status(request).await? else { return Ok(None) };
        let completion = self.completion(&status).await?;
        if completion.is_some() {
            self.end_return_route(&status).await?;
        }
        Ok(completion)
    }

    async fn end_return_route(&self, status: &MessageStatus) -> Result<(), Unavailable> {
        let Some(key) = status.deliveries.first().and_then(|delivery| delivery.answer) else { return Ok(()) };
        let Some((answer, _)) = self.store.content(key).await? else { return Ok(()) };
        let waits = |state| state == DeliveryState::Waiting;
        for delivery in self.store.deliveries_of(answer.id).await? {
            if delivery.kind != DeliveryKind::Answer || !waits(delivery.state) {
                continue;
            }
            let Some((pending, _)) = self.store.pending_delivery(delivery.id).await? else { continue };
            let settlement = Settlement {
                delivery_key: pending.delivery_key,
                state: DeliveryState::Delivered,
                due_at_us: pending.due_at_us,
                attempt: Some(self.reply_row()),
                fault: None,
                answer: None,
                receiver_issues: None,
                shares_with: None,
                ends_waits: false,
                lease: None,
            };
            self.store.settle(settlement).await?;
            self.courier.forget(pending);
        }
        Ok(())
    }

    fn reply_row(&self) -> AttemptRow {
        AttemptRow {
            started_at_us: self.clock.now_us(),
            duration_us: 0,
            status: None,
            result: "delivered".into(),
            fault: None,
            detail: Some("the sender waited for the answer and got it in its reply".into()),
        }
    }
}
