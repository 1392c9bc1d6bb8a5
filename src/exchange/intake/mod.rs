//! Intake: from received bytes to a stored message, or to a stored refusal that lists every reason.
//!
//! `check` parses a message, identifies its sender, and validates it. `plan_request` decides who receives it and builds the
//! record to store. `store` commits that record and passes its deliveries to the courier; `refuse` stores a refusal.

mod check;
mod convertible;
mod refused;
mod request;

pub(super) use check::{CheckedMessage, fill_metadata, forbidden_event};
pub(super) use refused::{RefusedMessage, reused_identity};

use super::answer_writer::AnswerWriter;
use super::{Inbound, IntakeSlot, Refusal, Reply, Rules, Settings};
use crate::clock::Clock;
use crate::courier::Handle;
use crate::delivery::{Acceptance, MessageState, Metadata, NewDelivery, NewMessage};
use crate::metrics::Metrics;
use crate::offload::offload;
use crate::outcome::{Issue, Outcome};
use crate::routing::Plan;
use crate::routing::plan::plan;
use crate::store::{Store, Unavailable};
use check::Checker;
use std::sync::Arc;
use validation::Checked;

pub(super) struct Intake {
    store: Store,
    courier: Handle,
    clock: Clock,
    metrics: Metrics,
    settings: Arc<Settings>,
    checker: Checker,
    pub answers: AnswerWriter,
}

impl Intake {
    pub fn new(store: Store, courier: Handle, clock: Clock, metrics: Metrics, settings: Arc<Settings>) -> Intake {
        let checker = Checker { clock: clock.clone(), settings: settings.clone() };
        let answers = AnswerWriter { clock: clock.clone(), settings: settings.clone() };
        Intake { store, courier, clock, metrics, settings, checker, answers }
    }

    /// Parses, identifies the sender, and validates. Large messages are parsed without blocking other tasks.
    pub fn check(&self, inbound: &Inbound, rules: &Rules) -> Result<CheckedMessage, Box<RefusedMessage>> {
        offload(inbound.bytes.len(), || self.checker.check(self.clock.new_id(), inbound, rules))
    }

    /// Validates a message that has been parsed already, by the rules and by the settings of the participant that wrote it.
    pub fn validate(
        &self,
        message: &fhir::Message,
        writer: Option<&crate::routing::Participant>,
        rules: &Rules,
    ) -> Checked {
        self.checker.validate(message, writer, rules)
    }

    /// The refusal of a message that its channel could not decode.
    pub fn undecodable(&self, inbound: &Inbound, refusal: Refusal, issue: Issue) -> RefusedMessage {
        check::undecodable(self.clock.new_id(), inbound, refusal, issue)
    }

    /// Plans a request and builds everything that its transaction stores.
    pub fn plan_request(
        &self,
        message: &CheckedMessage,
        inbound: &Inbound,
        rules: &Rules,
    ) -> Result<NewMessage, Box<RefusedMessage>> {
        offload(inbound.bytes.len(), || {
            let (mut metadata, plan) = self.route_request(message, inbound, rules)?;
            metadata.planned_at_us = Some(self.clock.now_us());
            let answer = match plan.to_self {
                true => self.answer_as_receiver(message, &metadata, rules, plan.receivers.is_empty()),
                false => None,
            };
            let deliveries = plan.receivers.iter().map(|receiver| self.request_to(receiver, inbound.expires_after));
            let deliveries = deliveries.collect();
            Ok(NewMessage { deliveries, answer: answer.map(Box::new), ..message.to_store(metadata) })
        })
    }

    /// Where a request and its answer go, or why it is refused. Serves stored requests and `POST route` alike.
    pub fn route_request(
        &self,
        message: &CheckedMessage,
        inbound: &Inbound,
        rules: &Rules,
    ) -> Result<(Metadata, Plan), Box<RefusedMessage>> {
        let mut metadata = message.metadata.clone();
        let definition = message.validation.definition.as_deref();
        metadata.owed = message
            .message
            .header
            .response_request
            .or_else(|| definition.and_then(|definition| definition.response_required));
        metadata.reply_to = self
            .reply_to(message, inbound, rules, metadata.owed)
            .map_err(|(refusal, issue)| message.refused(refusal, issue))?;
        let plan = self.route(message, &metadata, rules)?;
        Ok((metadata, plan))
    }

    /// Who receives a message, in formats and versions that they accept.
    pub fn route(
        &self,
        message: &CheckedMessage,
        metadata: &Metadata,
        rules: &Rules,
    ) -> Result<Plan, Box<RefusedMessage>> {
        let unprocessable = |issues: Vec<Issue>| message.refused(Refusal::Unprocessable, issues);
        let plan = plan(&message.message, &metadata.sender, metadata.category, &rules.table).map_err(unprocessable)?;
        convertible::check(message, metadata, &plan, &rules.definitions).map_err(unprocessable)?;
        Ok(plan)
    }

    /// Stores a message in its turn, releases its permit, and passes its deliveries to the courier in the same order.
    pub async fn store(&self, new: NewMessage, slot: IntakeSlot) -> Result<Acceptance, Unavailable> {
        let IntakeSlot { permit, mut turn } = slot;
        let mut acceptance = self.store.accept_in_turn(new, &mut turn).await?;
        drop(permit);
        turn.leave().await;
        if let Acceptance::New { deliveries, .. } = &mut acceptance {
            self.courier.offer(std::mem::take(deliveries));
        }
        turn.left();
        Ok(acceptance)
    }

    /// Stores a refusal with its outcome and returns what the sender gets, which does not depend on whether it could be
    /// stored. `meant_for`: key of the delivery that the refused message was meant to answer.
    pub async fn refuse(
        &self,
        refused: RefusedMessage,
        meant_for: Option<i64>,
        rules: &Rules,
        slot: IntakeSlot,
    ) -> Reply {
        let (id, from_queue) = (refused.metadata.id, refused.from_queue);
        for issue in refused.outcome.issues.iter().filter(|issue| issue.is_error()) {
            self.metrics.fault(issue.cause.code());
        }
        let answer = self.refusal_answer(&refused, rules);
        let reply = refused.reply(answer.as_ref());
        if !refused.refusal.is_stored() && !from_queue {
            return reply;
        }
        if let Err(unavailable) = self.store(refused.into_stored(meant_for, answer), slot).await {
            tracing::warn!(message.id = %id, reason = %unavailable, "a refusal could not be stored");
            // A sender takes an answer message for final and may look it up later, so it gets 503 instead. A message from a
            // queue stays there.
            if matches!(reply, Reply::Answer { .. }) || from_queue {
                return Reply::unavailable(id, &unavailable);
            }
        }
        reply
    }
}

impl CheckedMessage {
    /// The record to store, without deliveries and answer.
    pub fn to_store(&self, metadata: Metadata) -> NewMessage {
        let issues = &self.validation.issues;
        NewMessage {
            metadata,
            state: MessageState::Accepted,
            bytes: self.bytes.clone(),
            outcome: (!issues.is_empty()).then(|| Outcome::from(issues.clone())),
            identity: self.message.identity(),
            deliveries: Vec::<NewDelivery>::new(),
            answer: None,
            closes: None,
            further: None,
            assigns: None,
            releases_request: false,
        }
    }
}
