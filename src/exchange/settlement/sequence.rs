//! Handles the answers to one request one after the other: waiting senders are claimed, the transaction commits, and the senders
//! get the answer before the next answer to the same request is handled. Without this order a waiting sender could get an
//! answer that was committed before its own and was sent to its channel, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

type Gates = Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>;

/// The requests with an answer in progress, by message id; bounded by the number of answers in progress.
#[derive(Debug, Default)]
pub(in crate::exchange) struct AnswerSequence {
    gates: Gates,
}

/// Held from claiming the waiting senders until they have the answer.
#[derive(Debug)]
pub(in crate::exchange) struct SequenceTurn<'o> {
    sequence: &'o AnswerSequence,
    request: Uuid,
    held: Option<OwnedMutexGuard<()>>,
}

impl AnswerSequence {
    /// Waits until every earlier answer to this request is handled.
    pub async fn enter(&self, request: Uuid) -> SequenceTurn<'_> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.entry(request).or_default().clone()
        };
        // Created before the wait, so that a caller that is dropped meanwhile removes its entry.
        let mut turn = SequenceTurn { sequence: self, request, held: None };
        turn.held = Some(gate.lock_owned().await);
        turn
    }
}

impl Drop for SequenceTurn<'_> {
    fn drop(&mut self) {
        let mut gates = self.sequence.gates.lock().unwrap_or_else(PoisonError::into_inner);
        self.held = None;
        // One reference is the map's own; any other belongs to an answer that is about to enter.
        if gates.get(&self.request).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            gates.remove(&self.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_empty(sequence: &AnswerSequence) -> bool {
        sequence.gates.lock().unwrap().is_empty()
    }

    #[tokio::test]
    async fn answers_to_one_request_take_turns_and_leave_nothing_behind() {
        let sequence = AnswerSequence::default();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = sequence.enter(one).await;
        let foreign = sequence.enter(other).await;
        let mut second = Box::pin(sequence.enter(one));
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        let second = second.await;
        let mut third = Box::pin(sequence.enter(one));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop(third);
        drop((second, foreign));
        assert!(is_empty(&sequence));
    }
}
