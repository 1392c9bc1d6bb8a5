//! One answer to a request after the other: who waits for it is claimed, the transaction committed, and who waits is told,
//! before the next answer to the same request is looked at. Otherwise a sender on the line could be given the answer that
//! was committed first, which went to its channel as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Gates = Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>;

/// The requests to which an answer is under way, by message id; as many as answers.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    gates: Gates,
}

/// Held from the claim to the last word of one answer.
#[derive(Debug)]
pub(super) struct InTurn<'o> {
    order: &'o InOrder,
    request: Uuid,
    held: Option<OwnedMutexGuard<()>>,
}

impl InOrder {
    /// Waits until every earlier answer to this request is through.
    pub async fn enter(&self, request: Uuid) -> InTurn<'_> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.entry(request).or_default().clone()
        };
        // Made before the wait, so that a caller that is dropped meanwhile leaves nothing behind.
        let mut turn = InTurn { order: self, request, held: None };
        turn.held = Some(gate.lock_owned().await);
        turn
    }
}

impl Drop for InTurn<'_> {
    fn drop(&mut self) {
        let mut gates = self.order.gates.lock().unwrap_or_else(PoisonError::into_inner);
        self.held = None;
        // One reference is the map's own; whoever else has one is about to enter.
        if gates.get(&self.request).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            gates.remove(&self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_empty(order: &InOrder) -> bool {
        order.gates.lock().unwrap().is_empty()
    }

    #[tokio::test]
    async fn answers_to_one_request_take_turns_and_leave_nothing_behind() {
        let order = InOrder::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = order.enter(one).await;
        let foreign = order.enter(other).await;
        let mut second = Box::pin(order.enter(one));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        let mut third = Box::pin(order.enter(one));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(third);
        drop((second, foreign));
        assert!(is_empty(&order));
    }
}
