//! The operations of the exchange beside accepting messages: for the app, channels, and operators.

use super::intake::Intake;
use super::replies::Replies;
use super::settlement::Settler;
use super::{Exchange, IntakeSlot, Refusal, Reply, Rules, Settings, StatusPage, Unassigned};
use crate::clock::Clock;
use crate::courier::Handle;
use crate::delivery::DeliveryState;
use crate::exchange::Inbound;
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::outcome::Issue;
use crate::store::view::{DeliveryFilter, ViewError};
use crate::store::{Store, Unavailable};
use arc_swap::ArcSwap;
use std::sync::Arc;
use uuid::Uuid;

impl Exchange {
    pub fn new(
        store: Store,
        courier: Handle,
        rules: Rules,
        clock: Clock,
        metrics: Metrics,
        settings: Settings,
    ) -> Arc<Self> {
        let (rules, settings) = (Arc::new(ArcSwap::from_pointee(rules)), Arc::new(settings));
        let intake =
            Arc::new(Intake::new(store.clone(), courier.clone(), clock.clone(), metrics.clone(), settings.clone()));
        let replies = Replies {
            store: store.clone(),
            courier: courier.clone(),
            rules: rules.clone(),
            clock: clock.clone(),
            answer_timeout: settings.answer_timeout,
            waiters: Arc::new(super::replies::Waiters::new(settings.max_waiting)),
        };
        let replies = Arc::new(replies);
        let settler = Settler {
            store: store.clone(),
            courier: courier.clone(),
            rules: rules.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            settings: settings.clone(),
            intake: intake.clone(),
            replies: replies.clone(),
            sequence: Default::default(),
        };
        let settler = Arc::new(settler);
        Arc::new(Exchange { store, courier, rules, clock, metrics, settings, settler, intake, replies })
    }

    /// Refuses a message that its channel could not decode: it is stored as received, with the reason.
    pub async fn reject(&self, inbound: Inbound, refusal: Refusal, issue: Issue, slot: IntakeSlot) -> Reply {
        let rules = self.rules.load_full();
        let refused = self.intake.undecodable(&inbound, refusal, issue);
        let reply = self.settler.refuse(refused, &inbound, &rules, slot).await;
        self.record(&reply, inbound.bytes.len(), inbound.received_at_us);
        reply
    }

    /// Counts and logs what became of a message.
    pub(super) fn record(&self, reply: &Reply, size_bytes: usize, received_at_us: i64) {
        let (result, code) = (reply.result(), reply.first_fault().map(Fault::code).unwrap_or("-"));
        self.metrics.message(result);
        tracing::info!(
            message.id = %reply.id(), message.bytes = size_bytes, result, fault = code,
            duration_ms = (self.clock.now_us() - received_at_us) / 1000, "message"
        );
    }

    /// Dead-letters a waiting delivery now, and notifies its sender. False if it is unknown or not waiting.
    pub async fn discard(&self, delivery: Uuid) -> Result<bool, Unavailable> {
        let Some((pending, state)) = self.store.pending_delivery(delivery).await? else { return Ok(false) };
        if state != DeliveryState::Waiting {
            return Ok(false);
        }
        let discarded = self.settler.end(pending.clone(), Fault::RouteDiscarded).await?;
        // Only after the commit: a delivery that could not be discarded must still be made.
        if discarded {
            self.courier.forget(pending);
        }
        Ok(discarded)
    }

    /// Attempts a waiting delivery now, whatever it waits for. False if it is not waiting.
    pub async fn try_now(&self, delivery: Uuid) -> Result<bool, Unavailable> {
        let Some((pending, DeliveryState::Waiting)) = self.store.pending_delivery(delivery).await? else {
            return Ok(false);
        };
        if !self.store.make_due(pending.delivery_key).await? {
            return Ok(false);
        }
        self.courier.retry_delivery_now(pending);
        Ok(true)
    }

    /// Puts dead or discarded deliveries, at most `limit`, at the end of their lanes again. Returns how many.
    pub async fn retry(&self, filter: &DeliveryFilter, limit: u32) -> Result<u64, ViewError> {
        let rules = self.rules.load_full();
        let expire_us = move |participant: &str| {
            let seconds = rules.table.participant(participant).unwrap_or(&rules.table.anyone).expire_after_seconds;
            i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
        };
        let pending = self.store.retry(filter, limit, expire_us).await?;
        let count = pending.len() as u64;
        self.courier.offer(pending);
        Ok(count)
    }

    /// See `Settler::assign`.
    pub async fn assign(&self, response: Uuid, request: Uuid) -> Result<(), Unassigned> {
        self.settler.assign(response, request).await
    }

    /// See `Settler::note_too_large`.
    pub async fn note_too_large(&self, inbound: Inbound, size_bytes: u64, why: &str) {
        self.settler.note_too_large(inbound, size_bytes, why).await;
    }

    /// See `Replies::status`.
    pub async fn status(&self, id: Uuid, requester: Option<&str>) -> Result<StatusPage, Unavailable> {
        self.replies.status(id, requester).await
    }

    /// See `Replies::end_status`.
    pub async fn end_status(&self, id: Uuid, requester: Option<&str>) -> Result<bool, Unavailable> {
        self.replies.end_status(id, requester).await
    }

    /// Ends the wait of all senders when the router stops: they get 202, and their messages stay stored.
    pub fn release_waiting(&self) {
        self.replies.release();
    }
}
