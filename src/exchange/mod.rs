//! The straight path of a message: read, identify, authorise, check, plan, commit, answer or wait.
//!
//! `Exchange::accept` is the page to read first. Everything that arrives comes through it: requests and responses over
//! a channel. What comes back from our own deliveries meets the same reading and keeping in `conclude`. The exchange
//! knows no HTTP and no SQL: it sees `Inbound`, `Store` and `Reply`.

mod answered;
mod assign;
mod close;
mod conclude;
mod convertible;
mod correlate;
mod duplicates;
mod explain;
#[cfg(test)]
pub(crate) mod fixture;
mod judge;
mod meaning;
mod order;
mod own;
mod reply;
mod respond;
mod return_route;
mod status;
mod unreadable;
mod waiting;
#[cfg(test)]
mod waiting_tests;

pub use assign::Unassigned;
pub use explain::Explanation;
pub use reply::{Refusal, Reply};
pub use status::StatusPage;

use crate::admission::Permit;
use crate::clock::Clock;
use crate::courier::Handle;
use crate::delivery::{Acceptance, DeliveryState, NewMessage, ReplyQueue};
use crate::fault::Fault;
use crate::metrics::Metrics;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::Table;
use crate::store::view::{DeliveryFilter, ViewError};
use crate::store::{Store, Unavailable};
use crate::turn::Turn;
use arc_swap::ArcSwap;
use bytes::Bytes;
use fhir::FhirVersion;
use fhir::header::Bounds;
use judge::Judged;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use validation::definition::Definitions;
use validation::{Checks, OnFailure};
use waiting::Waiters;

/// A message as a channel received it: the transport's encoding removed, nothing read yet.
#[derive(Clone, Debug)]
pub struct Inbound {
    pub bytes: Bytes,
    /// Media type without parameters.
    pub media_type: String,
    /// The media type's `fhirVersion` (VER-04).
    pub said_version: Option<FhirVersion>,
    /// The participant whose credential was used; None without credentials.
    pub credential: Option<Arc<str>>,
    /// `Via` as received.
    pub via: Option<String>,
    pub request_id: String,
    pub answer_mode: AnswerMode,
    /// How long its deliveries are of use, where the sender said so (AMQP `expiration`).
    pub expires_after: Option<Duration>,
    pub received_at_us: i64,
    /// Cancelled when the sender is no longer there to hear the answer.
    pub gone: CancellationToken,
}

/// How the sender hears the answer.
#[derive(Clone, Debug, PartialEq)]
pub enum AnswerMode {
    /// On the line, as long as it is held.
    Synchronous,
    /// `async=true`: POSTed to the `response-url`, else to the source's channel.
    Asynchronous { response_url: Option<String> },
    /// `Prefer: respond-async`.
    StatusUrl,
    /// AMQP: published. `redelivered`: the broker brings it again, so that its answer may be on its way already.
    ReplyQueue { reply: ReplyQueue, redelivered: bool },
}

impl Inbound {
    /// A sender over AMQP is told by messages only: there is no status, and what is not kept is gone.
    fn is_from_queue(&self) -> bool {
        matches!(self.answer_mode, AnswerMode::ReplyQueue { .. })
    }
}

/// What a message holds on its way in: its place among the bounded number between first byte and commit, and its turn
/// among those that stay in order.
#[derive(Default)]
pub struct IntakeSlot {
    pub permit: Option<Permit>,
    pub turn: Turn,
}

/// What SIGHUP replaces as a whole.
pub struct Rules {
    pub table: Table,
    pub definitions: Definitions,
    pub checks: Checks,
    /// Whether any credential is configured: then answers are taken only from the party that was asked.
    pub requires_credentials: bool,
    /// Of senders that have none of their own.
    pub on_failure: OnFailure,
}

/// What the exchange is told once, at start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub base_url: String,
    /// Our name in `Via`.
    pub name: String,
    pub answer_timeout: Duration,
    pub max_waiting: usize,
    /// `server.fhir_version`: of what says nothing of its version.
    pub fhir_version: FhirVersion,
    /// Of what is read from a header, routed on, and stored.
    pub bounds: Bounds,
}

pub struct Exchange {
    pub store: Store,
    pub courier: Handle,
    pub rules: ArcSwap<Rules>,
    pub clock: Clock,
    pub metrics: Metrics,
    pub settings: Settings,
    waiters: Waiters,
    answers: order::InOrder,
}

impl Exchange {
    pub fn new(
        store: Store,
        courier: Handle,
        rules: Rules,
        clock: Clock,
        metrics: Metrics,
        settings: Settings,
    ) -> Arc<Self> {
        let waiters = Waiters::new(settings.max_waiting);
        let (rules, answers) = (ArcSwap::from_pointee(rules), order::InOrder::default());
        Arc::new(Exchange { store, courier, rules, clock, metrics, settings, waiters, answers })
    }

    /// The whole path. Nothing is acknowledged before the transaction that keeps it has committed; a refusal is kept
    /// too, with its outcome, so that it can be explained later.
    ///
    /// `place` is given back before waiting for an answer. The rare ways are boxed, so that the common one is a small future.
    pub async fn accept(self: &Arc<Self>, mut inbound: Inbound, place: IntakeSlot) -> Reply {
        let size_bytes = inbound.bytes.len();
        let rules = self.rules.load_full();
        let id = self.clock.new_id();
        let judged = offload(inbound.bytes.len(), || self.judge(id, &inbound, &rules));
        let reply = match judged {
            Ok(judged) if judged.message.header.response.is_some() => {
                Box::pin(self.take_response(judged, &rules, place)).await
            }
            Ok(judged) => self.take_request(judged, &mut inbound, &rules, place).await,
            Err(refused) => Box::pin(self.refuse_received(*refused, &inbound, &rules, place)).await,
        };
        self.record(&reply, size_bytes, inbound.received_at_us);
        reply
    }

    /// Refuses what its channel could not even unpack: kept as it came, with the reason.
    pub async fn reject(&self, inbound: Inbound, refusal: Refusal, issue: Issue, place: IntakeSlot) -> Reply {
        let rules = self.rules.load_full();
        let refused = judge::unpacked(self.clock.new_id(), &inbound, refusal, issue);
        let reply = self.refuse_received(refused, &inbound, &rules, place).await;
        self.record(&reply, inbound.bytes.len(), inbound.received_at_us);
        reply
    }

    /// Refuses what could not be read or may not pass; where it was meant to answer a request of ours, that is told of it.
    async fn refuse_received(
        &self,
        mut refused: judge::Refused,
        inbound: &Inbound,
        rules: &Rules,
        place: IntakeSlot,
    ) -> Reply {
        match self.blame(&mut refused, inbound, rules).await {
            Ok(blamed) => self.refuse_and_blame(refused, blamed, rules, place).await,
            Err(away) => Reply::unavailable(refused.metadata.id, &away),
        }
    }

    /// A request: planned, kept with its deliveries and, where Emberpost is the receiver, with its answer.
    async fn take_request(
        self: &Arc<Self>,
        judged: Judged,
        inbound: &mut Inbound,
        rules: &Rules,
        place: IntakeSlot,
    ) -> Reply {
        let keep = match offload(inbound.bytes.len(), || self.plan_request(&judged, inbound, rules)) {
            Ok(keep) => keep,
            Err(refused) => return Box::pin(self.refuse(*refused, rules, place)).await,
        };
        let id = keep.metadata.id;
        let metadata = keep.metadata.clone();
        let receivers = reply::Receivers::of(&keep.deliveries, keep.answer.is_some(), &rules.table);
        let own = keep.answer.as_ref().map(|own| reply::Closed::of_keep(own));
        let at_once = self.reply_at_once(&metadata, &receivers, own, false);
        // Only who will wait has a place: an answer that claims a place must find its sender there.
        let waiter = match (&at_once, receivers.single()) {
            (None, Some(receiver)) => self.waiters.register(id, receiver),
            _ => None,
        };
        let kept = self.keep(keep, place).await;
        if let Ok(Acceptance::Conflict { message_id }) = &kept {
            let refused = judged.refused(Refusal::Conflict, reused(*message_id));
            return Box::pin(self.refuse(*refused, rules, IntakeSlot::default())).await;
        }
        // A sender may wait for long, and many may: neither the tree nor the body is in memory meanwhile.
        drop(judged);
        inbound.bytes = Bytes::new();
        match kept {
            Ok(Acceptance::New { .. } | Acceptance::Conflict { .. }) => match at_once {
                Some(reply) => reply,
                None => self.reply_when_closed(&metadata, waiter, inbound).await,
            },
            Ok(Acceptance::Duplicate { message_id }) => {
                drop(waiter);
                Box::pin(self.repeat(message_id, inbound)).await
            }
            Err(away) => Reply::unavailable(id, &away),
        }
    }

    /// Keeps a message in its turn, gives its place back, and hands its deliveries to the courier in the same order.
    async fn keep(&self, keep: NewMessage, place: IntakeSlot) -> Result<Acceptance, Unavailable> {
        let IntakeSlot { permit, mut turn } = place;
        let mut kept = self.store.accept_in_turn(keep, &mut turn).await?;
        drop(permit);
        turn.leave().await;
        if let Acceptance::New { work, .. } = &mut kept {
            self.courier.offer(std::mem::take(work));
        }
        turn.left();
        Ok(kept)
    }

    /// Keeps a refusal with its outcome; the sender is told whether or not it could be kept.
    async fn refuse(&self, refused: judge::Refused, rules: &Rules, place: IntakeSlot) -> Reply {
        self.refuse_and_blame(refused, None, rules, place).await
    }

    /// `blamed`: the key of the delivery that it was meant to answer.
    async fn refuse_and_blame(
        &self,
        refused: judge::Refused,
        blamed: Option<i64>,
        rules: &Rules,
        place: IntakeSlot,
    ) -> Reply {
        let id = refused.metadata.id;
        for issue in refused.outcome.issues.iter().filter(|issue| issue.is_error()) {
            self.metrics.fault(issue.cause.code());
        }
        let own = self.refusal_answer(&refused, rules);
        let reply = match &own {
            Some(answer) if !refused.from_queue => Reply::Answer {
                id,
                bytes: answer.bytes.clone(),
                media_type: answer.metadata.media_type.clone(),
                version: answer.metadata.version,
                converted: false,
                repeat: false,
                refused: reply::first_fault(&refused.outcome),
            },
            _ => Reply::Refused { id, refusal: refused.refusal, outcome: refused.outcome.clone(), repeat: false },
        };
        if refused.refusal.is_kept() || refused.from_queue {
            let from_queue = refused.from_queue;
            let keep = refused.kept(blamed, own);
            if let Err(away) = self.keep(keep, place).await {
                tracing::warn!(message.id = %id, reason = %away, "a refusal could not be kept");
                // With a message in reply, the sender would take it for final and look for it later: say so instead.
                // What came from a queue stays there.
                if matches!(reply, Reply::Answer { .. }) || from_queue {
                    return Reply::unavailable(id, &away);
                }
            }
        }
        reply
    }

    fn record(&self, reply: &Reply, size_bytes: usize, received_at_us: i64) {
        let (result, code) = (reply.result(), reply.first_fault().map(Fault::code).unwrap_or("-"));
        self.metrics.message(result);
        tracing::info!(
            message.id = %reply.id(), message.bytes = size_bytes, result, fault = code,
            duration_ms = (self.clock.now_us() - received_at_us) / 1000, "message"
        );
    }

    /// Dead-letters a waiting delivery now; its sender is told. False when it is not waiting or not known.
    pub async fn discard(&self, delivery: Uuid) -> Result<bool, Unavailable> {
        let Some((work, state)) = self.store.delivery_work(delivery).await? else { return Ok(false) };
        if state != DeliveryState::Waiting {
            return Ok(false);
        }
        let discarded = self.end(work.clone(), Fault::RouteDiscarded).await?;
        // Only now: what could not be discarded is still to be delivered.
        if discarded {
            self.courier.forget(work);
        }
        Ok(discarded)
    }

    /// Tries a waiting delivery now, whatever it waits for. False where it does not wait.
    pub async fn try_now(&self, delivery: Uuid) -> Result<bool, Unavailable> {
        let Some((work, DeliveryState::Waiting)) = self.store.delivery_work(delivery).await? else { return Ok(false) };
        if !self.store.make_due(work.delivery_key).await? {
            return Ok(false);
        }
        self.courier.retry_delivery_now(work);
        Ok(true)
    }

    /// Puts dead or discarded deliveries back at their lane's end; how many (at most `limit`).
    pub async fn retry(&self, filter: &DeliveryFilter, limit: u32) -> Result<u64, ViewError> {
        let rules = self.rules.load_full();
        let expire_us = move |participant: &str| {
            let seconds = rules.table.participant(participant).unwrap_or(&rules.table.anyone).expire_after_seconds;
            i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
        };
        let work = self.store.retry(filter, limit, expire_us).await?;
        let count = work.len() as u64;
        self.courier.offer(work);
        Ok(count)
    }

    /// The router stops: senders that still wait get 202, their messages stay in custody.
    pub fn release_waiting(&self) {
        self.waiters.release();
    }

    /// The outcome of custody: where to look.
    fn custody_outcome() -> Outcome {
        Issue::new(
            crate::outcome::Severity::Information,
            IssueCode::Informational,
            Fault::RouteCustody,
            "The message is kept and on its way; its answer will be at the address in Content-Location",
        )
        .into()
    }
}

/// Why a message with the identity of another one is not taken.
fn reused(first: Uuid) -> Issue {
    let text = format!(
        "The identity of this message was used before with other content, for the message that is kept as {first}; \
         give each new message identities of its own"
    );
    Issue::error(IssueCode::Duplicate, Fault::SendReused, text).rule("MSG-61")
}
