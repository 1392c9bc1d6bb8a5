//! One transaction of accepts and settlements: it first reads what it must know, then decides in memory, then writes.
//!
//! Jobs are decided in order of arrival, each with the effects of those before it.

use super::insert::{DeliveryRow, MessageRow, ReferenceRow, Rows};
use super::lookup::{self, DeliveryRecord, IdentityLookup, KnownIdentities, LaneId, StoredState, Tails};
use super::prepare::{self, Prepared, PreparedSettlement};
use super::recent::Recent;
use super::reference::{head, value};
use super::term;
use super::writer::Keys;
use crate::delivery::{Acceptance, Metadata, NewDelivery, PendingDelivery, Settled};
use crate::routing::lane::UNORDERED;
use bytes::Bytes;
use fhir::identity::{IdentityKeys, KeyKind, Seen, Verdict, judge};
use sqlx::Error;
use sqlx::sqlite::SqliteConnection;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// Sender of the answers that the router writes itself; they are never duplicates.
pub(super) const ROUTER: &str = "emberpost";

#[derive(Clone)]
pub(super) enum BatchJob {
    Accept(Box<Prepared>),
    Settle(Box<PreparedSettlement>),
}

pub(super) enum BatchResult {
    Accept(Acceptance),
    Settle(Settled),
}

/// A stored message: its key and public id.
pub(super) type MessageRef = (i64, Uuid);

/// Sender, kind of key, normalized value.
type IdentityOf = (i64, KeyKind, String);

/// What a transaction has read and will write.
pub(super) struct Batch<'w> {
    pub keys: &'w mut Keys,
    pub participants: Arc<HashMap<Arc<str>, i64>>,
    pub now_us: i64,
    /// Copies of messages received before this time count as new.
    pub identities_from_us: i64,
    known: KnownIdentities,
    /// Messages of this batch, by sender, kind, and value of their identity keys.
    new_identities: HashMap<IdentityOf, Vec<([u8; 32], MessageRef)>>,
    pub deliveries: HashMap<i64, DeliveryRecord>,
    /// Responses that this batch assigns and that are not assigned yet.
    pub ambiguous: HashSet<i64>,
    /// The ends of the lanes that this batch may add to.
    pub tails: Tails,
    /// Messages whose identity this batch releases.
    pub released: HashSet<i64>,
    pub rows: Rows,
    /// Terms of the new messages, which are written later.
    terms: Vec<(i64, i64)>,
}

/// The result of a committed transaction.
pub(super) struct Done {
    pub answers: Vec<BatchResult>,
    /// Terms that are not written yet, and the number of their messages.
    pub terms: Vec<(i64, i64)>,
    pub messages: usize,
    /// The newest of them; 0 if there is none. Later keys may have been assigned by transactions that failed.
    pub newest: i64,
    pub references: Vec<ReferenceRow>,
}

/// Decides and writes all jobs, in one transaction from its beginning to its commit.
pub(super) async fn run(
    conn: &mut SqliteConnection,
    recent: &Recent,
    mut batch: Batch<'_>,
    jobs: Vec<BatchJob>,
) -> Result<Done, Error> {
    let lookups: Vec<IdentityLookup> =
        jobs.iter().filter_map(BatchJob::message).flat_map(|message| batch.lookups(message)).collect();
    let touched: Vec<i64> = jobs.iter().filter_map(BatchJob::delivery_key).collect();
    let assigned: Vec<i64> = jobs.iter().filter_map(BatchJob::assigned).collect();
    let lanes = jobs.iter().filter_map(BatchJob::message).flat_map(|message| batch.lanes_of(message)).collect();
    let StoredState { known, deliveries, tails } = lookup::begin(conn, recent, &lookups, &touched, &lanes).await?;
    (batch.known, batch.deliveries, batch.tails) = (known, deliveries, tails);
    batch.ambiguous = lookup::ambiguous(conn, &assigned).await?;
    let answers = jobs
        .into_iter()
        .map(|job| match job {
            BatchJob::Accept(message) => BatchResult::Accept(batch.accept(*message)),
            BatchJob::Settle(settlement) => BatchResult::Settle(batch.settle(*settlement)),
        })
        .collect();
    batch.rows.changed =
        std::mem::take(&mut batch.deliveries).into_iter().filter(|(_, delivery)| delivery.changed).collect();
    let faults = batch
        .rows
        .changed
        .iter()
        .filter_map(|(_, delivery)| Some((term::fault(delivery.fault?), delivery.message_key)));
    batch.rows.faults.extend(faults);
    lookup::release(conn, recent, &batch.released.into_iter().collect::<Vec<_>>()).await?;
    let (messages, references) = (batch.rows.messages.len(), batch.rows.references.clone());
    let newest = batch.rows.messages.iter().map(|row| row.key).max().unwrap_or_default();
    batch.rows.write_and_commit(conn).await?;
    Ok(Done { answers, terms: batch.terms, messages, newest, references })
}

/// Compares the identity of a message with what is stored; writes nothing. Takes the time now and the time from which on
/// duplicates are recognized.
pub(super) async fn verdict(
    conn: &mut SqliteConnection,
    recent: &Recent,
    participants: Arc<HashMap<Arc<str>, i64>>,
    (now_us, identities_from_us): (i64, i64),
    metadata: &Metadata,
    identity: IdentityKeys,
) -> Result<Verdict<Uuid>, Error> {
    let mut keys = Keys::default();
    let mut batch = Batch::new(&mut keys, participants, now_us, identities_from_us);
    let message = prepare::identity_only(metadata, identity);
    // An unknown sender has no identities; its key would be 0, that of released identities.
    if batch.participant_key(&message.metadata.sender) == 0 {
        return Ok(Verdict::New);
    }
    let lookups = batch.lookups(&message);
    if !lookups.is_empty() {
        batch.known = lookup::identities(conn, recent, &lookups).await?;
    }
    Ok(match batch.verdict(&message) {
        Verdict::New => Verdict::New,
        Verdict::Duplicate((_, first)) => Verdict::Duplicate(first),
        Verdict::Conflict((_, first)) => Verdict::Conflict(first),
    })
}

impl BatchJob {
    /// The message that may be a duplicate.
    fn message(&self) -> Option<&Prepared> {
        match self {
            BatchJob::Accept(message) => Some(message),
            BatchJob::Settle(settlement) => settlement.answer.as_deref(),
        }
    }

    /// Participants that the rows of this job name.
    pub fn participants(&self) -> Vec<&str> {
        let mut names = Vec::new();
        let mut next = self.message();
        while let Some(message) = next {
            names.push(message.metadata.sender.as_str());
            let further = message.further.as_ref().and_then(|further| further.delivery.as_ref());
            names.extend(message.deliveries.iter().chain(further).map(|delivery| &*delivery.participant));
            next = message.answer.as_deref();
        }
        names
    }

    fn assigned(&self) -> Option<i64> {
        self.message()?.assigns.map(|(key, _)| key)
    }

    fn delivery_key(&self) -> Option<i64> {
        match self {
            BatchJob::Accept(message) => message.closes,
            BatchJob::Settle(settlement) => Some(settlement.delivery_key),
        }
    }
}

impl<'w> Batch<'w> {
    pub fn new(
        keys: &'w mut Keys,
        participants: Arc<HashMap<Arc<str>, i64>>,
        now_us: i64,
        identities_from_us: i64,
    ) -> Self {
        Batch {
            keys,
            participants,
            now_us,
            identities_from_us,
            known: KnownIdentities::default(),
            new_identities: HashMap::new(),
            deliveries: HashMap::new(),
            ambiguous: HashSet::new(),
            tails: Tails::new(),
            released: HashSet::new(),
            rows: Rows::default(),
            terms: Vec::new(),
        }
    }

    /// Participants are added before the batch begins, so that all of them are known here.
    pub fn participant_key(&self, id: &str) -> i64 {
        self.participants.get(id).copied().unwrap_or_default()
    }

    /// Ordered lanes of the deliveries of a message and of the router's answer to it.
    fn lanes_of(&self, message: &Prepared) -> Vec<LaneId> {
        let mut lanes = Vec::new();
        let mut next = Some(message);
        while let Some(message) = next {
            let further = message.further.as_ref().and_then(|further| further.delivery.as_ref());
            lanes.extend(message.deliveries.iter().chain(further).filter_map(|delivery| self.lane_of(delivery)));
            next = message.answer.as_deref();
        }
        lanes
    }

    /// None in the lane without order.
    pub fn lane_of(&self, delivery: &NewDelivery) -> Option<LaneId> {
        (delivery.lane != UNORDERED).then(|| (self.participant_key(&delivery.participant), delivery.lane))
    }

    fn lookups(&self, message: &Prepared) -> Vec<IdentityLookup> {
        let sender = self.participant_key(&message.metadata.sender);
        let keys = [&message.identity.transmission, &message.identity.message];
        keys.into_iter().flatten().filter_map(|(kind, _)| self.lookup(message, sender, *kind)).collect()
    }

    fn lookup(&self, message: &Prepared, sender: i64, kind: KeyKind) -> Option<IdentityLookup> {
        let reference = message.references.iter().find(|reference| reference.kind == kind as i64)?;
        (&*message.metadata.sender != ROUTER)
            .then(|| IdentityLookup::new(reference.hash, sender, kind, &message.identity.content))
    }

    /// Whether a message is new, a duplicate, or a conflict, by `judge`.
    pub fn verdict(&self, message: &Prepared) -> Verdict<MessageRef> {
        let identity = &message.identity;
        let seen = |key: &Option<(KeyKind, String)>| {
            key.as_ref().map_or(Seen { same: None, any: None }, |(kind, _)| self.seen(message, *kind))
        };
        judge(identity.strict, message.metadata.category, seen(&identity.transmission), seen(&identity.message))
    }

    fn seen(&self, message: &Prepared, kind: KeyKind) -> Seen<MessageRef> {
        let sender = self.participant_key(&message.metadata.sender);
        let (Some(lookup), Some(wanted)) = (self.lookup(message, sender, kind), value(&message.metadata, kind)) else {
            return Seen { same: None, any: None };
        };
        let content = &message.identity.content;
        let valid = |key: i64| {
            let candidate = self.known.candidates.get(&key)?;
            let is_valid = candidate.has_key(kind, &wanted)
                && candidate.received_us >= self.identities_from_us
                && !self.released.contains(&key);
            is_valid.then_some((candidate, (key, candidate.id)))
        };
        let (same, any) = self.known.keys.get(&lookup).copied().unzip();
        let same = same.flatten().and_then(valid).filter(|(candidate, _)| candidate.content == *content);
        let any = any.and_then(valid);
        let new = self.new_identities.get(&(sender, kind, wanted)).map(Vec::as_slice).unwrap_or_default();
        let new_same = new.iter().find(|(known, _)| known == content).map(|(_, message)| *message);
        let new_any = new.last().map(|(_, message)| *message);
        let same = new_same.or(same.map(|(_, message)| message));
        Seen { same, any: new_any.or(any.map(|(_, message)| message)).or(same) }
    }

    /// A stored message with this key, if this batch has read it.
    pub fn candidate(&self, key: i64) -> Option<&Arc<Metadata>> {
        self.known.candidates.get(&key).map(|candidate| &candidate.metadata)
    }

    /// Adds the rows of a message, of the router's answer to it, and of all deliveries. `has_identity`: whether later copies are
    /// recognized.
    pub fn insert(&mut self, message: Prepared, has_identity: bool, flags: i64) -> (i64, Vec<PendingDelivery>) {
        let key = self.keys.next_message();
        let sender = self.participant_key(&message.metadata.sender);
        let released = message.answer.as_ref().is_some_and(|answer| answer.releases_request);
        let has_identity = has_identity && !released;
        if has_identity {
            self.add_identity(&message, sender, key);
        }
        self.terms.extend(message.terms.iter().map(|term| (*term, key)));
        self.add_references(&message, if has_identity { sender } else { 0 }, key);
        let mut pending = self.deliver(key, &message.metadata, &message.plain, message.deliveries);
        let router_answer = message.answer.map(|answer| {
            let (answer_key, answer_pending) = self.insert(*answer, false, 0);
            pending.extend(answer_pending);
            answer_key
        });
        let size_bytes = i64::try_from(message.plain.len()).unwrap_or(i64::MAX);
        self.rows.messages.push(MessageRow {
            key,
            state: message.state,
            committed_us: self.now_us,
            sender,
            in_reply_to: message.metadata.in_reply_to,
            router_answer,
            event: message.event,
            destinations: message.destinations,
            issue_labels: message.issue_labels,
            content: message.identity.content,
            response_sha256: message.identity.said,
            flags,
            metadata: message.metadata,
            metadata_json: message.metadata_json,
            outcome_json: message.outcome_json,
            full_outcome_json: message.full_outcome_json,
            size_bytes,
            packed: message.packed,
        });
        (key, pending)
    }

    /// Adds the identity for the next jobs of this batch.
    fn add_identity(&mut self, message: &Prepared, sender: i64, key: i64) {
        let identity = &message.identity;
        for (kind, _) in [&identity.transmission, &identity.message].into_iter().flatten() {
            if let Some(value) = value(&message.metadata, *kind) {
                let known = self.new_identities.entry((sender, *kind, value)).or_default();
                known.push((identity.content, (key, message.metadata.id)));
            }
        }
    }

    fn add_references(&mut self, message: &Prepared, sender: i64, message_key: i64) {
        let content = head(&message.identity.content);
        self.rows.references.extend(message.references.iter().map(|reference| ReferenceRow {
            hash: reference.hash,
            sender: if reference.identity { sender } else { 0 },
            kind: reference.kind,
            content,
            message_key,
        }));
    }

    /// Adds deliveries of a message at the end of their lanes (`tails` must hold them), and returns them as the courier holds
    /// them. The courier decides whether it makes them, because the channel may change meanwhile.
    pub fn deliver(
        &mut self,
        key: i64,
        metadata: &Arc<Metadata>,
        body: &Bytes,
        new: Vec<NewDelivery>,
    ) -> Vec<PendingDelivery> {
        let mut pending = Vec::new();
        for delivery in new {
            let seq = self.keys.next_seq(self.now_us);
            let prev_seq = self.lane_of(&delivery).and_then(|lane| self.tails.insert(lane, seq));
            let row = DeliveryRow {
                key: self.keys.next_delivery(),
                id: delivery.id,
                message_key: key,
                participant_key: self.participant_key(&delivery.participant),
                lane: delivery.lane,
                seq,
                prev_seq,
                due_us: delivery.due_at_us,
                expires_us: delivery.expires_at_us,
                created_us: self.now_us,
                kind: delivery.kind.clone(),
                destination: delivery.destination,
            };
            pending.push(PendingDelivery {
                delivery_key: row.key,
                delivery_id: row.id,
                message_key: key,
                participant: delivery.participant,
                lane: row.lane,
                seq,
                prev_seq,
                kind: delivery.kind,
                attempts: 0,
                uncounted_attempts: 0,
                is_probe: false,
                due_at_us: row.due_us,
                expires_at_us: row.expires_us,
                metadata: metadata.clone(),
                body: Some(body.clone()),
            });
            self.rows.deliveries.push(row);
        }
        pending
    }
}
