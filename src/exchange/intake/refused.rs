//! A refused message: why, how its sender learns of it, and what is stored.

use super::{CheckedMessage, Intake};
use crate::delivery::{MessageState, Metadata, NewMessage, ReplyTo};
use crate::exchange::answer_writer::AnswerContent;
use crate::exchange::replies::first_fault;
use crate::exchange::return_route::return_route;
use crate::exchange::{Refusal, Reply, Rules};
use crate::fault::Fault;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::Rejections;
use bytes::Bytes;
use fhir::event::ResponseCode;
use std::sync::Arc;
use uuid::Uuid;
use validation::definition::Definition;

pub(in crate::exchange) struct RefusedMessage {
    pub metadata: Metadata,
    pub bytes: Bytes,
    pub refusal: Refusal,
    pub outcome: Outcome,
    pub definition: Option<Arc<Definition>>,
    /// Asynchronous requests and responses are refused by HTTP status (MSG-41, MSG-87).
    pub(super) by_status: bool,
    /// It came over AMQP: every refusal is stored, because nothing else remains of the message once it is acknowledged.
    pub from_queue: bool,
}

impl RefusedMessage {
    /// Whether the sender gets a response message: the header could be read, and its participant did not choose status.
    fn is_answered_with_message(&self, rules: &Rules) -> bool {
        let sender = rules.table.participant(&self.metadata.sender);
        let rejections = sender.map(|participant| participant.rejections).unwrap_or_default();
        self.refusal == Refusal::Unprocessable && !self.by_status && rejections == Rejections::Message
    }

    /// Whether an answer over AMQP can be a response message; if not, it is a bare OperationOutcome.
    fn has_header(&self) -> bool {
        self.refusal != Refusal::BadRequest
    }

    /// What the sender gets over HTTP. `answer`: the response message, if there is one.
    pub(super) fn reply(&self, answer: Option<&NewMessage>) -> Reply {
        let id = self.metadata.id;
        match answer {
            Some(answer) if !self.from_queue => Reply::Answer {
                id,
                bytes: answer.bytes.clone(),
                media_type: answer.metadata.media_type.clone(),
                version: answer.metadata.version,
                converted: false,
                duplicate: false,
                refused: first_fault(&self.outcome),
            },
            _ => Reply::Refused { id, refusal: self.refusal, outcome: self.outcome.clone(), duplicate: false },
        }
    }

    /// The record to store. `meant_for`: key of the delivery that it was meant to answer; `answer`: what its sender gets.
    pub fn into_stored(self, meant_for: Option<i64>, answer: Option<NewMessage>) -> NewMessage {
        NewMessage {
            metadata: self.metadata,
            state: MessageState::Refused,
            bytes: self.bytes,
            outcome: Some(self.outcome),
            identity: Default::default(),
            deliveries: Vec::new(),
            answer: answer.map(Box::new),
            closes: meant_for,
            further: None,
            assigns: None,
            releases_request: false,
        }
    }
}

impl CheckedMessage {
    pub fn refused(&self, refusal: Refusal, outcome: impl Into<Outcome>) -> Box<RefusedMessage> {
        Box::new(RefusedMessage {
            metadata: self.metadata.clone(),
            bytes: self.bytes.clone(),
            refusal,
            outcome: outcome.into(),
            definition: self.validation.definition.clone(),
            by_status: self.asynchronous || self.is_response(),
            from_queue: self.from_queue,
        })
    }
}

impl Intake {
    /// The message that answers a refused one, if it gets one. Over AMQP that is a response message if the header could be
    /// read, else a bare OperationOutcome; a response is never answered (MSG-41).
    pub(super) fn refusal_answer(&self, refused: &RefusedMessage, rules: &Rules) -> Option<NewMessage> {
        if !refused.from_queue {
            return refused.is_answered_with_message(rules).then(|| self.fatal_error(refused, rules));
        }
        if refused.metadata.reply_to == ReplyTo::Nobody {
            return None;
        }
        let mut answer = match refused.has_header() {
            true => self.fatal_error(refused, rules),
            false => self.answers.bare_outcome(&refused.metadata, &refused.outcome),
        };
        answer.deliveries = return_route(&refused.metadata, &answer.metadata, rules, &self.clock, true);
        Some(answer)
    }

    fn fatal_error(&self, refused: &RefusedMessage, rules: &Rules) -> NewMessage {
        let outcome = Some(&refused.outcome);
        let content = AnswerContent { code: ResponseCode::FatalError, outcome, receiver_issues: &[], focus: None };
        self.answers.answer(&refused.metadata, refused.definition.as_deref(), rules, content)
    }
}

/// Why a message is refused that has the identity of an earlier one and other content.
pub(in crate::exchange) fn reused_identity(first: Uuid) -> Issue {
    let text = format!(
        "The identity of this message was used before with other content, for the message that is stored as {first}; \
         give each new message identities of its own"
    );
    Issue::error(IssueCode::Duplicate, Fault::SendReused, text).rule("MSG-61")
}
