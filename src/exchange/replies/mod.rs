//! What the sender of a message gets: at once, after waiting for the answer, or later at the status URL.
//!
//! `Replies` holds the senders that wait. `expect` decides before a request is stored whether its sender waits; `announce`
//! gives waiting senders how their request ended. The channel turns a `Reply` into a status and headers.

mod duplicates;
mod reply;
mod status;
mod wait;
mod waiting;

pub(super) use reply::first_fault;
pub use reply::{Refusal, Reply, custody_outcome};
pub use status::StatusPage;
pub(crate) use waiting::{Claim, Waiter, Waiters};

use super::Rules;
use crate::clock::Clock;
use crate::conversion::{Converted, Wanted, converted};
use crate::courier::Handle;
use crate::delivery::{DeliveryState, Metadata, NewMessage, ReplyTo};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::routing::{Channel, Table};
use crate::store::{DeliveryStatus, MessageStatus, Store, Unavailable};
use arc_swap::ArcSwap;
use bytes::Bytes;
use fhir::FhirVersion;
use fhir::event::{ResponseCode, ResponseRequired};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Clone)]
pub(super) struct Replies {
    pub store: Store,
    pub courier: Handle,
    pub rules: Arc<ArcSwap<Rules>>,
    pub clock: Clock,
    pub answer_timeout: Duration,
    pub waiters: Arc<Waiters>,
}

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) enum Completion {
    Answer {
        bytes: Bytes,
        media_type: String,
        version: Option<FhirVersion>,
        converted: bool,
        code: Option<ResponseCode>,
    },
    /// The receiver accepted the message and sent no answer message. `accepted`: with status 202.
    Taken { accepted: bool },
}

impl Completion {
    pub fn of(answer: &NewMessage) -> Self {
        Self::of_answer(&answer.metadata, answer.bytes.clone())
    }

    /// The answer in the version of its request, if it can be converted. The channel chooses the format.
    pub fn of_answer(metadata: &Metadata, bytes: Bytes) -> Self {
        let code = metadata.response.as_ref().and_then(|response| response.code);
        let version = metadata.request_format.as_ref().map(|request| request.version);
        match offload(bytes.len(), || converted(metadata, &bytes, Wanted { format: None, version })) {
            Ok(Some(Converted { bytes, metadata, .. })) => {
                let (media_type, version) = (metadata.media_type, metadata.version);
                Completion::Answer { bytes, media_type, version, converted: true, code }
            }
            _ => {
                let (media_type, version) = (metadata.media_type.clone(), metadata.version);
                Completion::Answer { bytes, media_type, version, converted: false, code }
            }
        }
    }
}

/// The receivers of a request, as far as they decide whether its sender waits.
struct Receivers {
    participants: Vec<Arc<str>>,
    /// Whether any of them reads a mailbox, which may take any time.
    has_mailbox: bool,
    /// Whether Emberpost is one of them, and has answered.
    has_emberpost: bool,
}

impl Receivers {
    fn new(participants: Vec<Arc<str>>, has_emberpost: bool, table: &Table) -> Self {
        let reads_mailbox =
            |id: &Arc<str>| table.participant(id).is_some_and(|found| matches!(found.channel, Some(Channel::Mailbox)));
        let has_mailbox = participants.iter().any(reads_mailbox);
        Receivers { participants, has_mailbox, has_emberpost }
    }

    /// The only receiver, if its answer can be waited for.
    fn single(&self) -> Option<&Arc<str>> {
        match self.participants.as_slice() {
            [one] if !self.has_mailbox && !self.has_emberpost => Some(one),
            _ => None,
        }
    }
}

/// What a reply depends on of its request's metadata.
#[derive(Clone, Copy)]
struct ReplyTerms {
    id: Uuid,
    owed: Option<ResponseRequired>,
    /// The sender prefers to fetch the answer at the status URL.
    prefers_status: bool,
}

impl ReplyTerms {
    fn of(request: &Metadata) -> ReplyTerms {
        ReplyTerms { id: request.id, owed: request.owed, prefers_status: request.reply_to == ReplyTo::Status }
    }
}

/// What the sender of a request gets once the request is stored.
pub(super) struct ExpectedReply<'r> {
    request: ReplyTerms,
    at_once: Option<Reply>,
    /// None if there is nothing to wait for, or if as many senders as allowed wait already.
    waiter: Option<Waiter<'r>>,
}

impl ExpectedReply<'_> {
    /// The reply, after waiting for the answer if there is something to wait for. `awaited`: key of the delivery to be answered.
    /// `gone`: the sender has disconnected.
    pub async fn reply(self, replies: &Replies, awaited: Option<i64>, gone: &CancellationToken) -> Reply {
        if let Some(reply) = self.at_once {
            return reply;
        }
        let completion = match self.waiter.zip(awaited) {
            Some((waiter, awaited)) => replies.wait(waiter, self.request.id, awaited, gone).await,
            None => None,
        };
        reply_to(self.request, completion, false)
    }
}

impl Replies {
    /// What the sender of a request will get; if it will wait, it is registered by now.
    pub fn expect(&self, request: &mut NewMessage, rules: &Rules) -> ExpectedReply<'_> {
        let participants = request.deliveries.iter().map(|delivery| delivery.participant.clone()).collect();
        let receivers = Receivers::new(participants, request.answer.is_some(), &rules.table);
        let answer = request.answer.as_ref().map(|answer| Completion::of(answer));
        let at_once = reply_at_once(&request.metadata, &receivers, answer, false);
        let waiter = match (&at_once, receivers.single()) {
            (None, Some(receiver)) => self.waiters.register(request.metadata.id, receiver),
            _ => None,
        };
        if let (Some(_), Some(delivery)) = (&waiter, request.deliveries.first_mut()) {
            delivery.is_awaited = true;
        }
        ExpectedReply { request: ReplyTerms::of(&request.metadata), at_once, waiter }
    }

    /// See `Waiters::claim`.
    pub fn claim(&self, request: Uuid) -> Option<Claim> {
        self.waiters.claim(request)
    }

    /// Lets claimed senders wait on: the transaction failed, or the answer was not for them.
    pub fn unclaim(&self, request: Uuid, claim: Option<Claim>) {
        claim.into_iter().for_each(|claim| self.waiters.unclaim(request, claim));
    }

    /// Gives senders how their request ended: those that were claimed before the commit, and those that registered during the
    /// commit and still saw the store as it was before. `completion`: what was just stored; if None, the store is read.
    pub async fn announce(&self, request: Uuid, claim: Option<Claim>, completion: Option<Completion>) {
        let claims: Vec<Claim> = [claim, self.waiters.claim(request)].into_iter().flatten().collect();
        if claims.is_empty() {
            return;
        }
        let completion = match completion {
            Some(completion) => Some(completion),
            None => self.stored_completion(request).await,
        };
        for claim in claims {
            match &completion {
                Some(completion) => claim.deliver(completion.clone()),
                None => self.waiters.unclaim(request, claim),
            }
        }
    }

    /// Ends all waits: the router stops.
    pub fn release(&self) {
        self.waiters.release();
    }

    async fn stored_completion(&self, request: Uuid) -> Option<Completion> {
        let status = self.store.message_status(request).await.ok()??;
        self.completion(&status).await.ok()?
    }

    /// How a request to a single receiver ended; None if it has not.
    async fn completion(&self, status: &MessageStatus) -> Result<Option<Completion>, Unavailable> {
        let Some(delivery) = status.deliveries.first() else { return Ok(None) };
        if let Some(key) = delivery.answer {
            return self.stored_answer(key).await.map(Some);
        }
        let is_complete = delivery.state == DeliveryState::Delivered && is_taken(&status.metadata, delivery);
        Ok(is_complete.then(|| Completion::Taken { accepted: delivery.status == Some(202) }))
    }

    /// A stored answer. If retention removed its content, there is nothing left to return or to wait for.
    async fn stored_answer(&self, key: i64) -> Result<Completion, Unavailable> {
        let content = self.store.content(key).await?;
        let removed = Completion::Taken { accepted: true };
        Ok(content.map_or(removed, |(metadata, bytes)| Completion::of_answer(&metadata, bytes)))
    }
}

/// The reply if there is nothing to wait for. `answer`: Emberpost's own, if it is a receiver.
fn reply_at_once(
    metadata: &Metadata,
    receivers: &Receivers,
    answer: Option<Completion>,
    duplicate: bool,
) -> Option<Reply> {
    let request = ReplyTerms::of(metadata);
    match metadata.reply_to {
        ReplyTo::Callback(_) | ReplyTo::Channel | ReplyTo::Queue(_) | ReplyTo::Nobody => {
            return Some(Reply::Done { id: metadata.id, duplicate });
        }
        ReplyTo::Status => return Some(custody(request, duplicate)),
        ReplyTo::Wait => {}
    }
    if let (Some(answer), true) = (answer, receivers.participants.is_empty()) {
        return Some(reply_to(request, Some(answer), duplicate));
    }
    if matches!(metadata.owed, Some(ResponseRequired::Never | ResponseRequired::OnError)) {
        return Some(Reply::Acceptance { id: metadata.id, duplicate });
    }
    receivers.single().is_none().then(|| custody(request, duplicate))
}

/// The reply to a request that ended in this way; None: it has not ended yet.
fn reply_to(request: ReplyTerms, completion: Option<Completion>, duplicate: bool) -> Reply {
    let id = request.id;
    match completion {
        None => custody(request, duplicate),
        Some(Completion::Taken { accepted }) => Reply::Taken { id, accepted, duplicate },
        Some(Completion::Answer { bytes, media_type, version, converted, code }) => {
            match unwanted(request.owed, code) {
                Some(UnwantedAnswer::Silent) => Reply::Acceptance { id, duplicate },
                Some(UnwantedAnswer::Failure(refusal, outcome)) => Reply::Refused { id, refusal, outcome, duplicate },
                None => Reply::Answer { id, bytes, media_type, version, converted, duplicate, refused: None },
            }
        }
    }
}

/// The message is stored, and its answer will be at the status URL.
fn custody(request: ReplyTerms, duplicate: bool) -> Reply {
    Reply::Custody { id: request.id, preferred: request.prefers_status, duplicate }
}

/// Whether a receiver's empty 2xx completes the request: not if an answer is always owed.
pub(super) fn completes_without_message(owed: Option<ResponseRequired>) -> bool {
    owed != Some(ResponseRequired::Always)
}

/// Whether a delivered request is complete although its receiver sent no message. Without an HTTP status it went into a queue,
/// and the receiver has not answered yet; that is complete only if nothing but errors is answered.
fn is_taken(metadata: &Metadata, delivery: &DeliveryStatus) -> bool {
    let expects_silence = matches!(metadata.owed, Some(ResponseRequired::Never | ResponseRequired::OnError));
    expects_silence || delivery.status.is_some() && completes_without_message(metadata.owed)
}

/// What the sender gets in place of an answer that it does not want (MSG-48, MSG-92).
enum UnwantedAnswer {
    /// Only that the message was accepted.
    Silent,
    /// The sender wants messages of success only, so a failure is reported by status.
    Failure(Refusal, Outcome),
}

/// None if the sender wants an answer with this code, or if nothing says otherwise.
fn unwanted(owed: Option<ResponseRequired>, code: Option<ResponseCode>) -> Option<UnwantedAnswer> {
    let (owed, code) = (owed?, code?);
    match owed {
        _ if owed.wants(code) => None,
        ResponseRequired::OnSuccess => Some(failure(code)),
        _ => Some(UnwantedAnswer::Silent),
    }
}

fn failure(code: ResponseCode) -> UnwantedAnswer {
    let (refusal, issue) = match code {
        ResponseCode::TransientError => (Refusal::Unavailable, IssueCode::Transient),
        _ => (Refusal::Unprocessable, IssueCode::Processing),
    };
    let text =
        "The receiver answered with an error; its message is stored, since only messages of success were asked for";
    UnwantedAnswer::Failure(refusal, Issue::error(issue, Fault::RecvRefused, text).rule("MSG-92").into())
}
