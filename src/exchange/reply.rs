//! What a sender is told: the rows of the reply table, before a channel words them.

use super::{AnswerMode, Exchange, Inbound};
use crate::conversion::{Converted, Wanted, converted};
use crate::delivery::{DeliveryState, Metadata, NewDelivery, NewMessage, ReplyTo};
use crate::exchange::waiting::Waiter;
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::{Channel, Table};
use crate::store::{DeliveryStatus, MessageStatus, Unavailable};
use bytes::Bytes;
use fhir::FhirVersion;
use fhir::event::{ResponseCode, ResponseRequired};
use std::sync::Arc;
use uuid::Uuid;

/// The reply to one inbound message. `id` is Emberpost's id of the message that was just judged, or of the first of a
/// repeat.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The answer message.
    Answer {
        id: Uuid,
        bytes: Bytes,
        media_type: String,
        version: Option<FhirVersion>,
        /// It is told otherwise than its sender wrote it (MSG-123).
        converted: bool,
        repeat: bool,
        /// Why Emberpost refused the message, where the answer says that it did.
        refused: Option<Fault>,
    },
    /// The receiver took it and sent no message. `accepted`: it said 202.
    Taken { id: Uuid, accepted: bool, repeat: bool },
    /// In custody, with a status URL. `preferred`: as `Prefer: respond-async` asked.
    Custody { id: Uuid, outcome: Outcome, preferred: bool, repeat: bool },
    /// In custody, and no answer is owed.
    Acceptance { id: Uuid, repeat: bool },
    /// Taken, with nothing to say: `async=true`, and responses.
    Done { id: Uuid, repeat: bool },
    Refused {
        id: Uuid,
        refusal: Refusal,
        outcome: Outcome,
        /// What the receiver answered before, told again by status.
        repeat: bool,
    },
}

/// Why a message is refused, which decides how a channel words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Unreadable, no message, no usable source or identity, a wrong request.
    BadRequest,
    /// The sender may not.
    Forbidden,
    /// The message is invalid or cannot be routed.
    Unprocessable,
    /// Identity used before with other content.
    Conflict,
    /// Full or away: the sender comes again.
    NoStore,
    Unavailable,
    /// What the store holds of it, or of what it repeats, cannot be read.
    Damaged,
}

impl Refusal {
    /// Whether the refused message is kept with its outcome: not for strangers, not when the store is away.
    pub fn is_kept(self) -> bool {
        matches!(self, Self::BadRequest | Self::Unprocessable)
    }
}

/// How a request ended, as its waiting sender hears it.
#[derive(Clone, Debug)]
pub(super) enum Closed {
    Answer {
        bytes: Bytes,
        media_type: String,
        version: Option<FhirVersion>,
        converted: bool,
        code: Option<ResponseCode>,
    },
    Taken {
        accepted: bool,
    },
}

impl Closed {
    pub fn of_keep(answer: &NewMessage) -> Self {
        Self::of_answer(&answer.metadata, answer.bytes.clone())
    }

    /// In the version of the request, where that can be told; its format is for the channel to choose.
    pub fn of_answer(metadata: &Metadata, bytes: Bytes) -> Self {
        let code = metadata.response.as_ref().and_then(|response| response.code);
        let wanted = Wanted { format: None, version: metadata.request_format.as_ref().map(|asked| asked.version) };
        match offload(bytes.len(), || converted(metadata, &bytes, wanted)) {
            Ok(Some(told)) => {
                let Converted { bytes, metadata, .. } = told;
                Closed::Answer {
                    bytes,
                    media_type: metadata.media_type,
                    version: metadata.version,
                    converted: true,
                    code,
                }
            }
            _ => {
                let (media_type, version) = (metadata.media_type.clone(), metadata.version);
                Closed::Answer { bytes, media_type, version, converted: false, code }
            }
        }
    }
}

/// Who was to receive the request.
pub(super) struct Receivers {
    participants: Vec<Arc<str>>,
    /// Any of them reads a mailbox, so nobody can wait for it.
    mailbox: bool,
    /// Emberpost is one, too, and has answered.
    own: bool,
}

impl Receivers {
    pub fn of(deliveries: &[NewDelivery], own: bool, table: &Table) -> Self {
        Self::named(deliveries.iter().map(|delivery| delivery.participant.clone()).collect(), own, table)
    }

    fn named(participants: Vec<Arc<str>>, own: bool, table: &Table) -> Self {
        let reads =
            |id: &Arc<str>| table.participant(id).is_some_and(|found| matches!(found.channel, Some(Channel::Mailbox)));
        let mailbox = participants.iter().any(reads);
        Receivers { participants, mailbox, own }
    }

    /// The one receiver whose answer can be waited for.
    pub fn single(&self) -> Option<&Arc<str>> {
        match self.participants.as_slice() {
            [one] if !self.mailbox && !self.own => Some(one),
            _ => None,
        }
    }
}

impl Exchange {
    /// The reply to a request that is in custody, when it is closed or time is up.
    pub(super) async fn reply_when_closed(
        &self,
        metadata: &Metadata,
        waiter: Option<Waiter<'_>>,
        inbound: &Inbound,
    ) -> Reply {
        let closed = match waiter {
            Some(waiter) => waiter.wait(self.settings.answer_timeout, &inbound.gone).await,
            None => None,
        };
        closed.map_or_else(|| custody(metadata, false), |closed| spoken(metadata, closed, false))
    }

    /// The reply where nothing has to be waited for.
    pub(super) fn reply_at_once(
        &self,
        metadata: &Metadata,
        receivers: &Receivers,
        own: Option<Closed>,
        repeat: bool,
    ) -> Option<Reply> {
        match metadata.reply_to {
            ReplyTo::Callback(_) | ReplyTo::Channel | ReplyTo::Queue(_) | ReplyTo::Nobody => {
                return Some(Reply::Done { id: metadata.id, repeat });
            }
            ReplyTo::Status => return Some(custody(metadata, repeat)),
            ReplyTo::Wait => {}
        }
        if let (Some(closed), true) = (own, receivers.participants.is_empty()) {
            return Some(spoken(metadata, closed, repeat));
        }
        if matches!(metadata.owed, Some(ResponseRequired::Never | ResponseRequired::OnError)) {
            return Some(Reply::Acceptance { id: metadata.id, repeat });
        }
        receivers.single().is_none().then(|| custody(metadata, repeat))
    }

    /// The same message again: as the first time, waiting with it while it is under way (MSG-61, MSG-62).
    pub(super) async fn repeat(self: &Arc<Self>, first: Uuid, inbound: &Inbound) -> Reply {
        let repeated = match &inbound.answer_mode {
            AnswerMode::ReplyQueue { reply, redelivered } => {
                self.repeat_to_queue(first, reply.clone(), *redelivered).await
            }
            _ => self.try_repeat(first, inbound).await,
        };
        match repeated {
            Ok(reply) => reply,
            Err(away) => Reply::unavailable(first, &away),
        }
    }

    async fn try_repeat(&self, first: Uuid, inbound: &Inbound) -> Result<Reply, Unavailable> {
        let status = self.first(first).await?;
        let rules = self.rules.load_full();
        let names = status.deliveries.iter().map(|delivery| Arc::from(delivery.participant.as_str())).collect();
        let receivers = Receivers::named(names, status.router_answer.is_some(), &rules.table);
        let own = match status.router_answer {
            Some(key) => Some(self.kept_answer(key).await?),
            None => None,
        };
        if let Some(reply) = self.reply_at_once(&status.metadata, &receivers, own, true) {
            return Ok(reply);
        }
        // Registered before the look at the store, so that an answer between the two is not missed.
        let waiter = receivers.single().and_then(|receiver| self.waiters.register(first, receiver));
        let status = self.first(first).await?;
        let closed = match self.closed(&status).await? {
            Some(closed) => Some(closed),
            None => match waiter {
                Some(waiter) => waiter.wait(self.settings.answer_timeout, &inbound.gone).await,
                None => None,
            },
        };
        let metadata = &status.metadata;
        Ok(closed.map_or_else(|| custody(metadata, true), |closed| spoken(metadata, closed, true)))
    }

    /// How a request to one receiver ended, if it has.
    pub(super) async fn closed(&self, status: &MessageStatus) -> Result<Option<Closed>, Unavailable> {
        let Some(delivery) = status.deliveries.first() else { return Ok(None) };
        if let Some(key) = delivery.answer {
            return self.kept_answer(key).await.map(Some);
        }
        let closes = delivery.state == DeliveryState::Delivered && is_taken(&status.metadata, delivery);
        Ok(closes.then(|| Closed::Taken { accepted: delivery.status == Some(202) }))
    }

    /// The answer as it was given. Where retention dropped its content, nothing is left to say or to wait for.
    async fn kept_answer(&self, key: i64) -> Result<Closed, Unavailable> {
        let content = self.store.content(key).await?;
        Ok(content.map_or(Closed::Taken { accepted: true }, |(metadata, bytes)| Closed::of_answer(&metadata, bytes)))
    }
}

/// Whether a receiver's empty 2xx ends the request: not where an answer is always owed.
pub(super) fn closes_without_message(owed: Option<ResponseRequired>) -> bool {
    owed != Some(ResponseRequired::Always)
}

/// Whether a delivered request is closed though its receiver sent no message. Without a status it went into a queue, and
/// the receiver itself has said nothing yet, which is all there is to expect where only an error is answered.
pub(super) fn is_taken(metadata: &Metadata, delivery: &DeliveryStatus) -> bool {
    let silent = matches!(metadata.owed, Some(ResponseRequired::Never | ResponseRequired::OnError));
    silent || delivery.status.is_some() && closes_without_message(metadata.owed)
}

fn custody(metadata: &Metadata, repeat: bool) -> Reply {
    let preferred = metadata.reply_to == ReplyTo::Status;
    Reply::Custody { id: metadata.id, outcome: Exchange::custody_outcome(), preferred, repeat }
}

/// A closed request in the words of the reply table.
fn spoken(metadata: &Metadata, closed: Closed, repeat: bool) -> Reply {
    let id = metadata.id;
    match closed {
        Closed::Taken { accepted } => Reply::Taken { id, accepted, repeat },
        Closed::Answer { bytes, media_type, version, converted, code } => match unwanted(metadata.owed, code) {
            Some(Unwanted::Silent) => Reply::Acceptance { id, repeat },
            Some(Unwanted::Failure(refusal, outcome)) => Reply::Refused { id, refusal, outcome, repeat },
            None => Reply::Answer { id, bytes, media_type, version, converted, repeat, refused: None },
        },
    }
}

/// What the sender hears in place of an answer that it does not want (MSG-48, MSG-92).
pub(super) enum Unwanted {
    /// That the message was taken.
    Silent,
    /// It wants messages of success only: a failure is reported all the same, by status.
    Failure(Refusal, Outcome),
}

/// None where the sender wants an answer with this code, or nobody says otherwise.
pub(super) fn unwanted(owed: Option<ResponseRequired>, code: Option<ResponseCode>) -> Option<Unwanted> {
    let (owed, code) = (owed?, code?);
    match owed {
        _ if owed.wants(code) => None,
        ResponseRequired::OnSuccess => Some(failed(code)),
        _ => Some(Unwanted::Silent),
    }
}

fn failed(code: ResponseCode) -> Unwanted {
    let (refusal, issue) = match code {
        ResponseCode::TransientError => (Refusal::Unavailable, IssueCode::Transient),
        _ => (Refusal::Unprocessable, IssueCode::Processing),
    };
    let text =
        "The receiver answered with an error; its message is kept, since only messages of success were asked for";
    Unwanted::Failure(refusal, Issue::error(issue, Fault::RecvRefused, text).rule("MSG-92").into())
}

pub(super) fn first_fault(outcome: &Outcome) -> Option<Fault> {
    outcome.issues.iter().find(|issue| issue.is_error()).map(|issue| issue.cause)
}

impl Reply {
    pub fn id(&self) -> Uuid {
        match self {
            Reply::Answer { id, .. }
            | Reply::Taken { id, .. }
            | Reply::Custody { id, .. }
            | Reply::Acceptance { id, .. }
            | Reply::Done { id, .. }
            | Reply::Refused { id, .. } => *id,
        }
    }

    pub fn is_repeat(&self) -> bool {
        match self {
            Reply::Answer { repeat, .. }
            | Reply::Taken { repeat, .. }
            | Reply::Custody { repeat, .. }
            | Reply::Acceptance { repeat, .. }
            | Reply::Done { repeat, .. }
            | Reply::Refused { repeat, .. } => *repeat,
        }
    }

    /// For figures and logs.
    pub fn result(&self) -> &'static str {
        match self {
            Reply::Refused { refusal: Refusal::Conflict, .. } => "conflict",
            Reply::Refused { .. } | Reply::Answer { refused: Some(_), .. } => "refused",
            _ if self.is_repeat() => "repeat",
            _ => "accepted",
        }
    }

    pub fn first_fault(&self) -> Option<Fault> {
        match self {
            Reply::Refused { outcome, .. } => first_fault(outcome),
            Reply::Answer { refused, .. } => *refused,
            _ => None,
        }
    }

    pub(super) fn unavailable(id: Uuid, away: &Unavailable) -> Self {
        let (refusal, code, text) = match away {
            Unavailable::Full(_) => (Refusal::NoStore, IssueCode::NoStore, "The store has no room; send again later"),
            Unavailable::Away(_) => {
                (Refusal::Unavailable, IssueCode::Transient, "The store cannot be reached; send again later")
            }
            Unavailable::Damaged(_) => (
                Refusal::Damaged,
                IssueCode::Exception,
                "A stored row cannot be read; tell the operator, and send again later",
            ),
        };
        tracing::warn!(message.id = %id, reason = %away, "the store refused");
        let outcome = Issue::error(code, Fault::RouteNoStore, text).into();
        Reply::Refused { id, refusal, outcome, repeat: false }
    }
}
