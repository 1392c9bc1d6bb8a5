//! Writes some archived messages in one transaction: what is missing of them.
//!
//! Imported messages have negative keys in the order of their times, before all others: lists and replays find them where they would
//! have been, nothing that continues from a key meets them, and retention can distinguish them. They are no identities.

use super::import_row::{ImportedDelivery, ImportedMessage};
use super::row::{AnswerLink, Cell, Row};
use super::side::Side;
use super::table::Table;
use crate::store::retention::{IMPORTED_PROGRESS, RESTORED_PROGRESS};
use sqlx::Error;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// What is added to a time in microseconds for a key.
const KEY_OF_TIME_ZERO: i64 = -(1 << 62);
const LATEST_US: i64 = 1 << 60;
/// Answers that were named and have not come yet; those of further ones are not linked.
const PENDING_LIMIT: usize = 1_000_000;

/// What awaits an answer, by the answer's id.
pub(super) type Pending = HashMap<Uuid, Vec<AnswerLink>>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub messages: u64,
    pub contents: u64,
    pub present: u64,
}

/// Rows to be written, by table.
#[derive(Default)]
struct NewRows {
    tables: BTreeMap<&'static str, Vec<Row>>,
    terms: Vec<(i64, i64)>,
    dead: BTreeMap<i64, i64>,
    links: Vec<(Uuid, AnswerLink)>,
    /// The newest message that was there already and gets its content back; 0 if there is none.
    restored: i64,
}

/// The messages have different ids.
pub(super) async fn write(
    side: &mut Side,
    messages: Vec<ImportedMessage>,
    now_us: i64,
    pending: &mut Pending,
) -> Result<Counts, Error> {
    let (mut rows, mut counts) = (NewRows::default(), Counts::default());
    let ids: Vec<Uuid> = messages.iter().map(|message| message.id).collect();
    side.begin().await?;
    let written = async {
        rows.fill(side, messages, &mut counts).await?;
        let is_changed = rows.tables.values().any(|rows| !rows.is_empty());
        // Parents before what refers to them.
        for table in ["message", "body", "reference", "delivery", "attempt", "receiver_issues"] {
            side.insert(table, rows.tables.get(table).map_or(&[], Vec::as_slice)).await?;
        }
        side.add_terms(std::mem::take(&mut rows.terms)).await?;
        for (participant, dead) in &rows.dead {
            side.count_dead(*participant, *dead).await?;
        }
        link(side, &ids, std::mem::take(&mut rows.links), pending).await?;
        save_restored(side, rows.restored).await?;
        if is_changed { side.save_progress(IMPORTED_PROGRESS, now_us).await } else { Ok(()) }
    };
    let written = written.await;
    side.end(written).await.map(|()| counts)
}

impl NewRows {
    async fn fill(
        &mut self,
        side: &mut Side,
        messages: Vec<ImportedMessage>,
        counts: &mut Counts,
    ) -> Result<(), Error> {
        let known = keys_of(side, "message", messages.iter().map(|message| message.id)).await?;
        let present: Vec<Cell> = known.values().map(|key| Cell::Integer(*key)).collect();
        let bodies: HashSet<i64> =
            side.select("body", &["message_k"], "message_k", &present).await?.iter().filter_map(first).collect();
        let deliveries = messages.iter().flat_map(|message| &message.deliveries).map(|delivery| delivery.id);
        let known_deliveries = keys_of(side, "delivery", deliveries).await?;
        let participants = participants(side, &messages).await?;
        let new = messages.iter().filter(|message| !known.contains_key(&message.id));
        let mut new_keys = free_keys(side, "message", new.map(|message| message.received_us)).await?.into_iter();
        let new = messages.iter().flat_map(|message| &message.deliveries);
        let new = new.filter(|delivery| !known_deliveries.contains_key(&delivery.id));
        let mut delivery_keys = free_keys(side, "delivery", new.map(|delivery| delivery.created_us)).await?.into_iter();
        for message in messages {
            let known_key = known.get(&message.id).copied();
            let Some(key) = known_key.or_else(|| new_keys.next()) else { continue };
            let has_body = bodies.contains(&key);
            match (known_key.is_some(), message.body.is_some() && !has_body) {
                (false, _) => counts.messages += 1,
                (true, true) => counts.contents += 1,
                (true, false) => counts.present += 1,
            }
            self.links.extend(message.router_answer.map(|answer| (answer, AnswerLink::Message(key))));
            let ImportedMessage { body, deliveries, terms, .. } =
                if known_key.is_none() { self.add_message(message, key, &participants) } else { message };
            if let Some(body) = body.filter(|_| !has_body) {
                self.add("body", body, &[("message_k", key)]);
                self.restored = self.restored.max(known_key.unwrap_or_default());
            }
            let mut is_changed = known_key.is_none();
            for delivery in deliveries {
                let known = known_deliveries.get(&delivery.id).copied();
                is_changed |= known.is_none();
                let Some(delivery_key) = known.or_else(|| delivery_keys.next()) else { continue };
                self.add_delivery(delivery, (delivery_key, known.is_some()), key, has_body, &participants);
            }
            if is_changed {
                self.terms.extend(terms.into_iter().map(|term| (term, key)));
            }
        }
        Ok(())
    }

    fn add(&mut self, table: &'static str, mut row: Row, keys: &[(&str, i64)]) {
        for (column, key) in keys {
            Table::named(table).set(&mut row, column, Cell::Integer(*key));
        }
        self.tables.entry(table).or_default().push(row);
    }

    fn add_message(
        &mut self,
        mut message: ImportedMessage,
        key: i64,
        participants: &HashMap<String, i64>,
    ) -> ImportedMessage {
        let sender = participants.get(&message.sender).copied().unwrap_or_default();
        self.add("message", std::mem::take(&mut message.row), &[("k", key), ("sender", sender)]);
        for reference in &message.references {
            let row = [reference.hash, key, reference.kind, reference.sender, reference.content];
            self.add("reference", row.map(Cell::Integer).to_vec(), &[]);
        }
        message
    }

    /// What receivers reported is stored as long as the content.
    fn add_delivery(
        &mut self,
        delivery: ImportedDelivery,
        (key, is_known): (i64, bool),
        message_key: i64,
        had_body: bool,
        participants: &HashMap<String, i64>,
    ) {
        self.links.extend(delivery.answer.map(|answer| (answer, AnswerLink::Delivery(key))));
        if let Some(issues) = delivery.issues.filter(|_| !had_body) {
            self.add("receiver_issues", issues, &[("delivery_k", key)]);
        }
        if is_known {
            return;
        }
        let participant = participants.get(&delivery.participant).copied().unwrap_or_default();
        let keys = [("k", key), ("message_k", message_key), ("participant", participant)];
        self.add("delivery", delivery.row, &keys);
        for attempt in delivery.attempts {
            self.add("attempt", attempt, &[("delivery_k", key)]);
        }
        *self.dead.entry(participant).or_default() += i64::from(delivery.is_dead);
    }
}

async fn save_restored(side: &mut Side, restored: i64) -> Result<(), Error> {
    let name = [Cell::text(RESTORED_PROGRESS.to_owned())];
    let before = side.select("progress", &["value"], "name", &name).await?.first().and_then(first).unwrap_or_default();
    if restored > before { side.save_progress(RESTORED_PROGRESS, restored).await } else { Ok(()) }
}

fn first(row: &Row) -> Option<i64> {
    match row.first() {
        Some(Cell::Integer(value)) => Some(*value),
        _ => None,
    }
}

/// The keys of those that the store has.
async fn keys_of(side: &mut Side, table: &str, ids: impl Iterator<Item = Uuid>) -> Result<HashMap<Uuid, i64>, Error> {
    let ids: BTreeSet<Uuid> = ids.collect();
    let ids: Vec<Cell> = ids.iter().map(|id| Cell::Bytes(id.as_bytes().to_vec())).collect();
    let rows = side.select(table, &["id", "k"], "id", &ids).await?;
    let read = |row: Row| match <[Cell; 2]>::try_from(row) {
        Ok([Cell::Bytes(id), Cell::Integer(key)]) => Some((Uuid::from_slice(&id).ok()?, key)),
        _ => None,
    };
    Ok(rows.into_iter().filter_map(read).collect())
}

async fn participants(side: &mut Side, messages: &[ImportedMessage]) -> Result<HashMap<String, i64>, Error> {
    let mut all = HashMap::new();
    for message in messages {
        let receivers = message.deliveries.iter().map(|delivery| &delivery.participant);
        for id in receivers.chain([&message.sender]) {
            if !all.contains_key(id) {
                all.insert(id.clone(), side.participant(id).await?);
            }
        }
    }
    Ok(all)
}

/// A key for each of these times that no row has: the next one after its time.
async fn free_keys(side: &mut Side, table: &str, times_us: impl Iterator<Item = i64>) -> Result<Vec<i64>, Error> {
    let wanted: Vec<i64> = times_us.map(|time_us| KEY_OF_TIME_ZERO + time_us.clamp(0, LATEST_US)).collect();
    let mut taken = HashSet::new();
    loop {
        let mut used = taken.clone();
        let free = |wanted: &i64| {
            let mut key = *wanted;
            while !used.insert(key) {
                key += 1;
            }
            key
        };
        let keys: Vec<i64> = wanted.iter().map(free).collect();
        let cells: Vec<Cell> = keys.iter().map(|key| Cell::Integer(*key)).collect();
        let found = side.select(table, &["k"], "k", &cells).await?;
        if found.is_empty() {
            return Ok(keys);
        }
        taken.extend(found.iter().filter_map(first));
    }
}

/// Links what these messages answer, and their answers, where both are there. The others wait for their answer.
async fn link(side: &mut Side, ids: &[Uuid], new: Vec<(Uuid, AnswerLink)>, pending: &mut Pending) -> Result<(), Error> {
    let mut may_be_there: BTreeSet<Uuid> = ids.iter().filter(|id| pending.contains_key(id)).copied().collect();
    for (answer, link) in new {
        may_be_there.insert(answer);
        pending.entry(answer).or_default().push(link);
    }
    let found = keys_of(side, "message", may_be_there.into_iter()).await?;
    for (id, key) in found {
        for link in pending.remove(&id).unwrap_or_default() {
            side.link(link, key).await?;
        }
    }
    if pending.len() > PENDING_LIMIT {
        pending.clear();
    }
    Ok(())
}
