//! Filters as SQL conditions. The SQL text is constant; values that the caller gave are bound.

use super::core::Core;
use super::row;
use crate::delivery::{DeliveryState, MessageState};
use crate::store::reference::{self, hash};
use crate::store::view::{DeliveryFilter, MessageFilter, time_us};
use crate::store::{rows, terms};
use fhir::identity::KeyKind;
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments};

pub(in crate::store) type Bound = Query<'static, Sqlite, SqliteArguments>;

#[derive(Clone, Debug)]
enum Value {
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// Conditions that a row must meet, with their values in order.
#[derive(Clone, Debug)]
pub(in crate::store) struct Conditions {
    texts: Vec<&'static str>,
    values: Vec<Value>,
    /// Terms that every matching message has.
    pub terms: Vec<i64>,
    /// Start (inclusive) and end (exclusive) in UTC microseconds since 1970.
    pub times: (i64, i64),
    /// An index that has the matching rows in the order of their keys.
    pub index: Option<&'static str>,
}

impl Default for Conditions {
    fn default() -> Self {
        Conditions {
            texts: Vec::new(),
            values: Vec::new(),
            terms: Vec::new(),
            times: (i64::MIN, i64::MAX),
            index: None,
        }
    }
}

impl Conditions {
    pub fn integer(&mut self, text: &'static str, value: i64) {
        self.add(text, [Value::Integer(value)]);
    }

    fn text(&mut self, text: &'static str, value: &str) {
        self.add(text, [Value::Text(value.to_owned())]);
    }

    fn blob(&mut self, text: &'static str, id: uuid::Uuid) {
        self.add(text, [Value::Blob(row::blob(id))]);
    }

    fn add(&mut self, text: &'static str, values: impl IntoIterator<Item = Value>) {
        self.texts.push(text);
        self.values.extend(values);
    }

    /// Only dead and discarded deliveries.
    pub fn ended(&mut self) {
        self.add("d.k IN (SELECT k FROM delivery INDEXED BY delivery_dead WHERE state >= 4)", []);
    }

    /// Only deliveries whose content is still stored.
    pub fn with_body(&mut self) {
        self.add("EXISTS (SELECT 1 FROM body b WHERE b.message_k = d.message_k)", []);
    }

    /// ` WHERE …`, or nothing.
    pub fn sql(&self) -> String {
        self.sql_and([])
    }

    /// As `sql`, with further conditions that bind no values.
    pub fn sql_and(&self, more: impl IntoIterator<Item = String>) -> String {
        let texts: Vec<String> = self.texts.iter().map(|text| (*text).to_owned()).chain(more).collect();
        if texts.is_empty() { String::new() } else { format!(" WHERE {}", texts.join(" AND ")) }
    }

    fn since(&mut self, text: &'static str, since_us: i64) {
        self.integer(text, since_us);
        self.times.0 = since_us;
    }

    fn until(&mut self, text: &'static str, until_us: i64) {
        self.integer(text, until_us);
        self.times.1 = until_us;
    }

    pub fn bind(self, query: Bound) -> Bound {
        self.values.into_iter().fold(query, |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Blob(value) => query.bind(value),
        })
    }
}

/// Conditions on `message m`. Errs with a text for a time that is not valid.
pub(in crate::store) fn messages(core: &Core, filter: &MessageFilter) -> Result<Conditions, String> {
    let mut all = Conditions::default();
    if let Some(id) = filter.id {
        all.blob("m.id = ?", id);
    }
    let references = [
        (&filter.header_id, &[KeyKind::HeaderId as i64][..]),
        (&filter.bundle_id, &[KeyKind::BundleId as i64]),
        (&filter.bundle_identifier, &[KeyKind::BundleIdentifier as i64, reference::IDENTIFIER_VALUE]),
    ];
    for (given, kinds) in references {
        if let Some(given) = given {
            let (one, other) = (kinds[0], kinds[kinds.len() - 1]);
            let recent = core.recent.messages(hash(given), kinds, usize::MAX);
            let recent = Value::Text(serde_json::json!(recent).to_string());
            let values = [Value::Integer(hash(given)), Value::Integer(one), Value::Integer(other), recent];
            let known = "m.k IN (SELECT message_k FROM reference WHERE hash = ? AND kind IN (?, ?) \
                         UNION ALL SELECT value FROM json_each(?))";
            all.add(known, values);
        }
    }
    event(&mut all, filter.event.as_deref());
    if let Some(source) = &filter.source {
        all.text("m.source = ?", source);
    }
    if let Some(destination) = &filter.destination {
        all.text("instr(m.destinations, ?)", &format!("\n{destination}\n"));
    }
    if let Some(sender) = &filter.sender {
        all.integer("m.sender = ?", core.participant_key(sender).unwrap_or_default());
    }
    if let Some(state) = filter.state {
        all.integer("m.state = ?", row::message_state_code(state));
    }
    if let Some(code) = &filter.response_code {
        all.text("m.response_code = ?", code);
    }
    flags(&mut all, filter);
    if let Some(since) = &filter.since {
        all.since("m.received_us >= ?", time_us(since, "since")?);
    }
    if let Some(until) = &filter.until {
        all.until("m.received_us < ?", time_us(until, "until")?);
    }
    if let Some(fault) = &filter.fault {
        let delivery =
            "(instr(m.issue_labels, ?) OR EXISTS (SELECT 1 FROM delivery f WHERE f.message_k = m.k AND f.fault = ?))";
        all.add(delivery, [Value::Text(format!(" {fault} ")), Value::Text(fault.clone())]);
    }
    for label in [&filter.issue, &filter.rule].into_iter().flatten() {
        all.text("instr(m.issue_labels, ?)", &format!(" {label} "));
    }
    all.terms = terms::of_filter(filter);
    if filter.for_replay {
        // Senders of refused messages got the answer that nobody receives them; that stays true.
        all.integer("m.state = ?", row::message_state_code(MessageState::Accepted));
        if !filter.includes_answers() {
            all.add("m.in_reply_to IS NULL", []);
            // An ambiguous response is delivered to nobody before it is assigned.
            all.integer("NOT m.response_flags & ?", rows::AMBIGUOUS);
        }
    }
    Ok(all)
}

fn flags(all: &mut Conditions, filter: &MessageFilter) {
    for (wanted, flag) in [(filter.ambiguous, rows::AMBIGUOUS), (filter.further, rows::FURTHER)] {
        match wanted {
            // Few messages have flags; they have an index of their own.
            Some(true) => {
                all.integer(
                    "m.k IN (SELECT k FROM message INDEXED BY message_flags WHERE response_flags <> 0 AND response_flags & ?)",
                    flag,
                );
            }
            Some(false) => all.integer("NOT m.response_flags & ?", flag),
            None => {}
        }
    }
}

/// Conditions on `delivery d` with its `message m`. Errs with a text for a time that is not valid.
pub(in crate::store) fn deliveries(core: &Core, filter: &DeliveryFilter) -> Result<Conditions, String> {
    let mut all = Conditions::default();
    if let Some(id) = filter.id {
        all.blob("d.id = ?", id);
    }
    if let Some(message) = filter.message {
        all.blob("d.message_k = (SELECT k FROM message WHERE id = ?)", message);
    }
    if let Some(participant) = &filter.participant {
        all.integer("d.participant = ?", core.participant_key(participant).unwrap_or_default());
    }
    match filter.state {
        None => {}
        // Waiting and dead deliveries are few among all, and have indexes of their own.
        Some(DeliveryState::Waiting) => {
            all.add("d.k IN (SELECT k FROM delivery INDEXED BY delivery_waiting WHERE state = 0)", []);
        }
        Some(state @ (DeliveryState::Dead | DeliveryState::Discarded)) => {
            let ended = "d.k IN (SELECT k FROM delivery INDEXED BY delivery_dead WHERE state >= 4 AND state = ?)";
            all.integer(ended, row::state_code(state));
        }
        // Either may be rare among the other.
        Some(state @ (DeliveryState::Delivered | DeliveryState::Answered)) if !has_own_index(filter) => {
            all.integer("d.state IN (2, 3) AND d.state = ?", row::state_code(state));
            all.index = Some("delivery_closed");
        }
        Some(state) => all.integer("d.state = ?", row::state_code(state)),
    }
    event(&mut all, filter.event.as_deref());
    if let Some(fault) = &filter.fault {
        all.text("d.fault = ?", fault);
    }
    if let Some(since) = &filter.since {
        all.since("d.created_us >= ?", time_us(since, "since")?);
    }
    if let Some(until) = &filter.until {
        all.until("d.created_us < ?", time_us(until, "until")?);
    }
    Ok(all)
}

/// Whether an index finds fewer deliveries than that of a common state.
fn has_own_index(filter: &DeliveryFilter) -> bool {
    filter.id.is_some() || filter.message.is_some() || filter.fault.is_some()
}

/// Matches `system|code` exactly, a code with any system, or a URI. The column holds them as one text in which the code may
/// contain a bar, so the parts in the metadata decide.
fn event(all: &mut Conditions, event: Option<&str>) {
    let Some(event) = event else { return };
    let text = |text: &str| Value::Text(text.to_owned());
    match event.rsplit_once('|') {
        Some((system, code)) => {
            let exact = "(m.event = ? AND (json_extract(m.metadata, '$.event.Uri') = m.event OR \
                         (json_extract(m.metadata, '$.event.Coding.system') = ? \
                         AND json_extract(m.metadata, '$.event.Coding.code') = ?)))";
            all.add(exact, [text(event), text(system), text(code)]);
        }
        None => {
            let ending = format!("|{event}");
            let length = i64::try_from(ending.chars().count()).unwrap_or(i64::MAX);
            let exact = "(m.event = ? OR (substr(m.event, ?) = ? \
                         AND json_extract(m.metadata, '$.event.Coding.code') = ?))";
            all.add(exact, [text(event), Value::Integer(-length), text(&ending), text(event)]);
        }
    }
}
