//! One transaction of accepts and settlements: what it must know is read first, then it decides in memory, then it writes.
//!
//! Jobs are decided in the order in which they came, each seeing what those before it did.

use super::insert::{DeliveryRow, MessageRow, ReferenceRow, Rows};
use super::lookup::{self, Found, Known, LaneOf, Now, Probe, Tails};
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

/// Sender of the answers that the router writes itself; they are never repeats.
pub(super) const OWN: &str = "emberpost";

#[derive(Clone)]
pub(super) enum Ask {
    Accept(Box<Prepared>),
    Settle(Box<PreparedSettlement>),
}

pub(super) enum Answer {
    Accept(Acceptance),
    Settle(Settled),
}

/// A kept message: its key and public id.
pub(super) type Kin = (i64, Uuid);

/// Sender, kind of key, normalized value.
type IdentityOf = (i64, KeyKind, String);

/// What a transaction knows and will write.
pub(super) struct Batch<'w> {
    pub keys: &'w mut Keys,
    pub parties: Arc<HashMap<Arc<str>, i64>>,
    pub now_us: i64,
    /// Identities of messages received before count as new.
    pub identities_from_us: i64,
    known: Known,
    /// Messages of this very batch, by sender, kind and value of their identity keys.
    fresh: HashMap<IdentityOf, Vec<([u8; 32], Kin)>>,
    pub deliveries: HashMap<i64, Now>,
    /// Of the responses that this batch assigns, those that are not assigned yet.
    pub ambiguous: HashSet<i64>,
    /// Lanes that this batch may add to, as they are now.
    pub tails: Tails,
    /// Messages whose identity this batch gives up.
    pub released: HashSet<i64>,
    pub rows: Rows,
    /// Terms of the new messages, which are written behind them.
    terms: Vec<(i64, i64)>,
}

/// What a committed transaction leaves.
pub(super) struct Done {
    pub answers: Vec<Answer>,
    /// Terms that are not written yet, and of how many messages.
    pub terms: Vec<(i64, i64)>,
    pub messages: usize,
    /// The newest of them; 0 where there is none. The keys given out may be beyond it, by transactions that failed.
    pub newest: i64,
    pub references: Vec<ReferenceRow>,
}

/// Decides and writes all jobs, in one transaction from its beginning to its commit.
pub(super) async fn run(
    conn: &mut SqliteConnection,
    recent: &Recent,
    mut batch: Batch<'_>,
    asks: Vec<Ask>,
) -> Result<Done, Error> {
    let probes: Vec<Probe> = asks.iter().filter_map(Ask::message).flat_map(|message| batch.probes(message)).collect();
    let touched: Vec<i64> = asks.iter().filter_map(Ask::delivery_key).collect();
    let assigned: Vec<i64> = asks.iter().filter_map(Ask::assigned).collect();
    let lanes = asks.iter().filter_map(Ask::message).flat_map(|message| batch.lanes_of(message)).collect();
    let Found { known, deliveries, tails } = lookup::begin(conn, recent, &probes, &touched, &lanes).await?;
    (batch.known, batch.deliveries, batch.tails) = (known, deliveries, tails);
    batch.ambiguous = lookup::ambiguous(conn, &assigned).await?;
    let answers = asks
        .into_iter()
        .map(|ask| match ask {
            Ask::Accept(message) => Answer::Accept(batch.accept(*message)),
            Ask::Settle(settlement) => Answer::Settle(batch.settle(*settlement)),
        })
        .collect();
    batch.rows.changed = std::mem::take(&mut batch.deliveries).into_iter().filter(|(_, now)| now.changed).collect();
    let faults = batch.rows.changed.iter().filter_map(|(_, now)| Some((term::fault(now.fault?), now.message_key)));
    batch.rows.faults.extend(faults);
    lookup::release(conn, recent, &batch.released.into_iter().collect::<Vec<_>>()).await?;
    let (messages, references) = (batch.rows.messages.len(), batch.rows.references.clone());
    let newest = batch.rows.messages.iter().map(|row| row.key).max().unwrap_or_default();
    batch.rows.write_and_commit(conn).await?;
    Ok(Done { answers, terms: batch.terms, messages, newest, references })
}

/// What a message with this identity is, by what is stored; nothing is written. `times`: now, and from when on identities
/// are known.
pub(super) async fn look(
    conn: &mut SqliteConnection,
    recent: &Recent,
    parties: Arc<HashMap<Arc<str>, i64>>,
    (now_us, identities_from_us): (i64, i64),
    metadata: &Metadata,
    identity: IdentityKeys,
) -> Result<Verdict<Uuid>, Error> {
    let mut keys = Keys::default();
    let mut batch = Batch::new(&mut keys, parties, now_us, identities_from_us);
    let message = prepare::identified(metadata, identity);
    // Who never sent anything has no identities either; its number would be that of those that were given up.
    if batch.party(&message.metadata.sender) == 0 {
        return Ok(Verdict::New);
    }
    let probes = batch.probes(&message);
    if !probes.is_empty() {
        batch.known = lookup::identities(conn, recent, &probes).await?;
    }
    Ok(match batch.verdict(&message) {
        Verdict::New => Verdict::New,
        Verdict::Duplicate((_, first)) => Verdict::Duplicate(first),
        Verdict::Conflict((_, first)) => Verdict::Conflict(first),
    })
}

impl Ask {
    /// The message that may be a repeat.
    fn message(&self) -> Option<&Prepared> {
        match self {
            Ask::Accept(message) => Some(message),
            Ask::Settle(settlement) => settlement.answer.as_deref(),
        }
    }

    /// Participants that the rows of this job name.
    pub fn parties(&self) -> Vec<&str> {
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
            Ask::Accept(message) => message.closes,
            Ask::Settle(settlement) => Some(settlement.delivery_key),
        }
    }
}

impl<'w> Batch<'w> {
    pub fn new(keys: &'w mut Keys, parties: Arc<HashMap<Arc<str>, i64>>, now_us: i64, identities_from_us: i64) -> Self {
        Batch {
            keys,
            parties,
            now_us,
            identities_from_us,
            known: Known::default(),
            fresh: HashMap::new(),
            deliveries: HashMap::new(),
            ambiguous: HashSet::new(),
            tails: Tails::new(),
            released: HashSet::new(),
            rows: Rows::default(),
            terms: Vec::new(),
        }
    }

    /// Parties are numbered before the batch begins, so that all of them are known here.
    pub fn party(&self, id: &str) -> i64 {
        self.parties.get(id).copied().unwrap_or_default()
    }

    /// Lanes of a message's deliveries and of its own answer's, those that have an order.
    fn lanes_of(&self, message: &Prepared) -> Vec<LaneOf> {
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
    pub fn lane_of(&self, delivery: &NewDelivery) -> Option<LaneOf> {
        (delivery.lane != UNORDERED).then(|| (self.party(&delivery.participant), delivery.lane))
    }

    fn probes(&self, message: &Prepared) -> Vec<Probe> {
        let sender = self.party(&message.metadata.sender);
        let keys = [&message.identity.transmission, &message.identity.message];
        keys.into_iter().flatten().filter_map(|(kind, _)| self.probe(message, sender, *kind)).collect()
    }

    fn probe(&self, message: &Prepared, sender: i64, kind: KeyKind) -> Option<Probe> {
        let reference = message.references.iter().find(|reference| reference.kind == kind as i64)?;
        (&*message.metadata.sender != OWN).then(|| Probe::new(reference.hash, sender, kind, &message.identity.content))
    }

    /// Whether a message is new, a repeat, or misuses an identity, by `judge`.
    pub fn verdict(&self, message: &Prepared) -> Verdict<Kin> {
        let identity = &message.identity;
        let seen = |key: &Option<(KeyKind, String)>| {
            key.as_ref().map_or(Seen { same: None, any: None }, |(kind, _)| self.seen(message, *kind))
        };
        judge(identity.strict, message.metadata.category, seen(&identity.transmission), seen(&identity.message))
    }

    fn seen(&self, message: &Prepared, kind: KeyKind) -> Seen<Kin> {
        let sender = self.party(&message.metadata.sender);
        let (Some(probe), Some(wanted)) = (self.probe(message, sender, kind), value(&message.metadata, kind)) else {
            return Seen { same: None, any: None };
        };
        let content = &message.identity.content;
        let kept = |key: i64| {
            let candidate = self.known.candidates.get(&key)?;
            let valid = candidate.has(kind, &wanted)
                && candidate.received_us >= self.identities_from_us
                && !self.released.contains(&key);
            valid.then_some((candidate, (key, candidate.id)))
        };
        let (same, any) = self.known.keys.get(&probe).copied().unzip();
        let same = same.flatten().and_then(kept).filter(|(candidate, _)| candidate.content == *content);
        let any = any.and_then(kept);
        let fresh = self.fresh.get(&(sender, kind, wanted)).map(Vec::as_slice).unwrap_or_default();
        let fresh_same = fresh.iter().find(|(known, _)| known == content).map(|(_, kin)| *kin);
        let fresh_any = fresh.last().map(|(_, kin)| *kin);
        let same = fresh_same.or(same.map(|(_, kin)| kin));
        Seen { same, any: fresh_any.or(any.map(|(_, kin)| kin)).or(same) }
    }

    /// A stored message with this key, where one of this batch's look-ups found it.
    pub fn candidate(&self, key: i64) -> Option<&Arc<Metadata>> {
        self.known.candidates.get(&key).map(|candidate| &candidate.metadata)
    }

    /// Plans a message's rows, with its own answer and all its deliveries. `identity`: whether it is remembered.
    pub fn insert(&mut self, message: Prepared, identity: bool, flags: i64) -> (i64, Vec<PendingDelivery>) {
        let key = self.keys.next_message();
        let sender = self.party(&message.metadata.sender);
        let released = message.answer.as_ref().is_some_and(|answer| answer.releases_request);
        let identity = identity && !released;
        if identity {
            self.remember(&message, sender, key);
        }
        self.terms.extend(message.terms.iter().map(|term| (*term, key)));
        self.refer(&message, if identity { sender } else { 0 }, key);
        let mut work = self.deliver(key, &message.metadata, &message.plain, message.deliveries);
        let own_answer = message.answer.map(|answer| {
            let (answer_key, answer_work) = self.insert(*answer, false, 0);
            work.extend(answer_work);
            answer_key
        });
        let size = i64::try_from(message.plain.len()).unwrap_or(i64::MAX);
        self.rows.messages.push(MessageRow {
            key,
            state: message.state,
            committed_us: self.now_us,
            sender,
            in_reply_to: message.metadata.in_reply_to,
            own_answer,
            event: message.event,
            destinations: message.destinations,
            marks: message.marks,
            content: message.identity.content,
            said: message.identity.said,
            flags,
            metadata: message.metadata,
            metadata_json: message.metadata_json,
            outcome_json: message.outcome_json,
            full_outcome_json: message.full_outcome_json,
            size,
            packed: message.packed,
        });
        (key, work)
    }

    /// For the jobs that follow in this batch.
    fn remember(&mut self, message: &Prepared, sender: i64, key: i64) {
        let identity = &message.identity;
        for (kind, _) in [&identity.transmission, &identity.message].into_iter().flatten() {
            if let Some(value) = value(&message.metadata, *kind) {
                let known = self.fresh.entry((sender, *kind, value)).or_default();
                known.push((identity.content, (key, message.metadata.id)));
            }
        }
    }

    fn refer(&mut self, message: &Prepared, sender: i64, message_key: i64) {
        let content = head(&message.identity.content);
        self.rows.references.extend(message.references.iter().map(|reference| ReferenceRow {
            hash: reference.hash,
            sender: if reference.identity { sender } else { 0 },
            kind: reference.kind,
            content,
            message_key,
        }));
    }

    /// Plans deliveries of a message behind what waits in their lanes (`tails` must know them); gives
    /// them as the courier holds them. Whether they are carried it decides itself: the channel may change meanwhile.
    pub fn deliver(
        &mut self,
        key: i64,
        metadata: &Arc<Metadata>,
        body: &Bytes,
        new: Vec<NewDelivery>,
    ) -> Vec<PendingDelivery> {
        let mut work = Vec::new();
        for delivery in new {
            let seq = self.keys.next_seq(self.now_us);
            let prev_seq = self.lane_of(&delivery).and_then(|lane| self.tails.insert(lane, seq));
            let row = DeliveryRow {
                key: self.keys.next_delivery(),
                id: delivery.id,
                message_key: key,
                party: self.party(&delivery.participant),
                lane: delivery.lane,
                seq,
                prev_seq,
                due_us: delivery.due_at_us,
                expires_us: delivery.expires_at_us,
                created_us: self.now_us,
                kind: delivery.kind.clone(),
                destination: delivery.destination,
            };
            work.push(PendingDelivery {
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
        work
    }
}
