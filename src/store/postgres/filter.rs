//! Filters as SQL conditions and as sources of keys. The SQL text is constant but for integers; other values are bound.

use super::core::Core;
use super::row::small;
use super::sql::Value;
use crate::delivery::{DeliveryState, MessageState};
use crate::store::codes::{message_state_code, state_code};
use crate::store::reference::{self, hash};
use crate::store::view::{DeliveryFilter, MessageFilter, time_us};
use crate::store::{rows, terms};
use fhir::identity::KeyKind;

/// A query that returns the keys `k` of all rows that can match, through an index.
#[derive(Clone, Debug)]
pub(in crate::store) struct Source {
    query: String,
    /// The column that the index returns in order, so that reading it can stop early.
    order: Option<&'static str>,
    /// It is better read as a whole than the table, however long it is.
    is_whole: bool,
}

impl Source {
    pub fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// Whether it is worth reading if it has many keys.
    pub fn may_be_long(&self) -> bool {
        self.order.is_some() || self.is_whole
    }

    /// The newest first if it is ordered, and then only those below a key.
    pub fn sql(&self, below: Option<i64>) -> String {
        match (self.order, below) {
            (None, _) => self.query.clone(),
            (Some(key), None) => format!("{} ORDER BY {key} DESC", self.query),
            (Some(key), Some(below)) => format!("{} AND {key} < {below} ORDER BY {key} DESC", self.query),
        }
    }
}

/// Conditions that a row must meet, with their values in order.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Conditions {
    texts: Vec<String>,
    pub values: Vec<Value>,
    pub sources: Vec<Source>,
}

impl Conditions {
    /// Each `?` becomes the number of a parameter.
    fn numbered(&mut self, text: &str, values: impl IntoIterator<Item = Value>) -> String {
        let mut values = values.into_iter();
        let mut numbered = String::with_capacity(text.len());
        for letter in text.chars() {
            if letter == '?' {
                self.values.extend(values.next());
                numbered.push_str(&format!("${}", self.values.len()));
            } else {
                numbered.push(letter);
            }
        }
        numbered
    }

    pub fn add(&mut self, text: &str, values: impl IntoIterator<Item = Value>) {
        let text = self.numbered(text, values);
        self.texts.push(text);
    }

    /// Through an index that has the keys in their order.
    fn ordered(&mut self, query: &str, key: &'static str, values: impl IntoIterator<Item = Value>) {
        let query = self.numbered(query, values);
        self.sources.push(Source { query, order: Some(key), is_whole: false });
    }

    fn unordered(&mut self, query: &str, values: impl IntoIterator<Item = Value>) {
        let query = self.numbered(query, values);
        self.sources.push(Source { query, order: None, is_whole: false });
    }

    /// Only dead and discarded deliveries.
    pub fn ended(&mut self) {
        self.add("d.state IN (4, 5)", []);
        let query = "SELECT k FROM delivery WHERE state = 4 UNION ALL SELECT k FROM delivery WHERE state = 5";
        self.sources.push(Source { query: query.into(), order: None, is_whole: true });
    }

    /// Only deliveries whose content is still stored.
    pub fn with_body(&mut self) {
        self.add("EXISTS (SELECT 1 FROM body b WHERE b.message_k = d.message_k)", []);
    }

    /// ` WHERE …`, or nothing; `more`: further conditions that bind no values.
    pub fn sql_and(&self, more: impl IntoIterator<Item = String>) -> String {
        let texts: Vec<String> = self.texts.iter().cloned().chain(more).collect();
        if texts.is_empty() { String::new() } else { format!(" WHERE {}", texts.join(" AND ")) }
    }

    fn since_until(
        &mut self,
        (table, column, alias): (&str, &str, &str),
        (since, until): (&Option<String>, &Option<String>),
    ) -> Result<(), String> {
        let since = since.as_deref().map(|since| time_us(since, "since")).transpose()?;
        let until = until.as_deref().map(|until| time_us(until, "until")).transpose()?;
        let bounds =
            [since.map(|since| format!("{column} >= {since}")), until.map(|until| format!("{column} < {until}"))];
        let bounds: Vec<String> = bounds.into_iter().flatten().collect();
        if !bounds.is_empty() {
            self.unordered(&format!("SELECT k FROM {table} WHERE {}", bounds.join(" AND ")), []);
            self.texts.extend(bounds.into_iter().map(|bound| format!("{alias}.{bound}")));
        }
        Ok(())
    }
}

/// Conditions on `message m`. Errs with a text for a time that is not valid.
pub(in crate::store) fn messages(core: &Core, filter: &MessageFilter) -> Result<Conditions, String> {
    let mut all = Conditions::default();
    if let Some(id) = filter.id {
        all.add("m.id = ?", [id.into()]);
        all.unordered("SELECT k FROM message WHERE id = ?", [id.into()]);
    }
    references(&mut all, filter);
    event(&mut all, filter.event.as_deref());
    for (column, value) in [("m.source", &filter.source), ("m.response_code", &filter.response_code)] {
        if let Some(value) = value {
            all.add(&format!("{column} = ?"), [value.as_str().into()]);
        }
    }
    if let Some(destination) = &filter.destination {
        all.add("strpos(m.destinations, ?) > 0", [format!("\n{destination}\n").into()]);
    }
    if let Some(sender) = &filter.sender {
        all.add("m.sender = ?", [core.participants.key(sender).unwrap_or_default().into()]);
    }
    if let Some(state) = filter.state {
        all.add(&format!("m.state = {}", message_state_code(state)), []);
    }
    flags(&mut all, filter);
    all.since_until(("message", "received_us", "m"), (&filter.since, &filter.until))?;
    if let Some(fault) = &filter.fault {
        let fault_of = "(strpos(m.issue_labels, ?) > 0 OR EXISTS (SELECT 1 FROM delivery f WHERE f.message_k = m.k AND f.fault = ?))";
        all.add(fault_of, [format!(" {fault} ").into(), fault.as_str().into()]);
    }
    for label in [&filter.issue, &filter.rule].into_iter().flatten() {
        all.add("strpos(m.issue_labels, ?) > 0", [format!(" {label} ").into()]);
    }
    for term in terms::of_filter(filter) {
        all.ordered(&format!("SELECT message_k AS k FROM term WHERE hash = {term}"), "message_k", []);
    }
    if filter.for_replay {
        // Senders of refused messages got the answer that nobody receives them; that stays true.
        all.add(&format!("m.state = {}", message_state_code(MessageState::Accepted)), []);
        if !filter.includes_answers() {
            // An ambiguous response is delivered to nobody before it is assigned.
            all.add(&format!("m.in_reply_to IS NULL AND m.response_flags & {} = 0", rows::AMBIGUOUS), []);
        }
    }
    Ok(all)
}

fn references(all: &mut Conditions, filter: &MessageFilter) {
    let references = [
        (&filter.header_id, &[KeyKind::HeaderId as i64][..]),
        (&filter.bundle_id, &[KeyKind::BundleId as i64]),
        (&filter.bundle_identifier, &[KeyKind::BundleIdentifier as i64, reference::IDENTIFIER_VALUE]),
    ];
    for (given, kinds) in references {
        let Some(given) = given else { continue };
        let kinds: Vec<String> = kinds.iter().map(|kind| small(*kind).to_string()).collect();
        let known = format!(
            "SELECT DISTINCT message_k AS k FROM reference WHERE hash = {} AND kind IN ({})",
            hash(given),
            kinds.join(", ")
        );
        all.add(&format!("m.k IN ({known})"), []);
        all.sources.push(Source { query: known, order: None, is_whole: true });
    }
}

fn flags(all: &mut Conditions, filter: &MessageFilter) {
    for (wanted, flag) in [(filter.ambiguous, rows::AMBIGUOUS), (filter.further, rows::FURTHER)] {
        match wanted {
            // Few messages have flags; they have an index of their own.
            Some(true) => {
                all.add(&format!("m.response_flags & {flag} <> 0"), []);
                all.ordered("SELECT k FROM message WHERE response_flags <> 0", "k", []);
            }
            Some(false) => all.add(&format!("m.response_flags & {flag} = 0"), []),
            None => {}
        }
    }
}

/// Conditions on `delivery d` with its `message m`. Errs with a text for a time that is not valid.
pub(in crate::store) fn deliveries(core: &Core, filter: &DeliveryFilter) -> Result<Conditions, String> {
    let mut all = Conditions::default();
    if let Some(id) = filter.id {
        all.add("d.id = ?", [id.into()]);
        all.unordered("SELECT k FROM delivery WHERE id = ?", [id.into()]);
    }
    if let Some(message) = filter.message {
        let of_message = "message_k = (SELECT k FROM message WHERE id = ?)";
        all.add(&format!("d.{of_message}"), [message.into()]);
        all.unordered(&format!("SELECT k FROM delivery WHERE {of_message}"), [message.into()]);
    }
    let participant = filter.participant.as_ref().map(|id| core.participants.key(id).unwrap_or_default());
    if let Some(key) = participant {
        all.add(&format!("d.participant = {key}"), []);
    }
    if let Some(state) = filter.state {
        let state_is = format!("state = {}", state_code(state));
        all.add(&format!("d.{state_is}"), []);
        // Any state but active may be rare among the others, and each has an index of its own.
        let as_indexed = match state {
            DeliveryState::Waiting => "state + 0 = 0".to_owned(),
            _ => state_is.clone(),
        };
        all.ordered(&format!("SELECT k FROM delivery WHERE {as_indexed}"), "k", []);
        if let (DeliveryState::Waiting, Some(key)) = (state, participant) {
            all.unordered(&format!("SELECT k FROM delivery WHERE {state_is} AND participant = {key}"), []);
        }
    }
    event(&mut all, filter.event.as_deref());
    if let Some(fault) = &filter.fault {
        all.add("d.fault = ?", [fault.as_str().into()]);
        all.ordered("SELECT k FROM delivery WHERE fault = ?", "k", [fault.as_str().into()]);
    }
    all.since_until(("delivery", "created_us", "d"), (&filter.since, &filter.until))?;
    Ok(all)
}

/// Matches `system|code` exactly, a code with any system, or a URI. The column holds system and code as one text in which the code
/// may contain a bar, so its own column decides.
fn event(all: &mut Conditions, event: Option<&str>) {
    let Some(event) = event else { return };
    match event.rsplit_once('|') {
        Some((_, code)) => {
            all.add("(m.event = ? AND coalesce(m.event_code, ?) = ?)", [event.into(), code.into(), code.into()]);
        }
        None => all.add("(m.event = ? OR m.event_code = ?)", [event.into(), event.into()]),
    }
}
