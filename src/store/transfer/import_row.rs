//! An archived message as rows of the tables, without keys.

use super::row::{Cell, Row};
use super::table::Table;
use crate::store::archive::line::{ArchivedDelivery, Columns, Record, from_json, id, json_text};
use crate::store::codes;
use crate::store::prepare::{Packed, pack};
use crate::store::rows::ReferenceRow;
use crate::store::terms::{self, SearchFields};
use bytes::Bytes;
use uuid::Uuid;

const INVALID: &str = "its record is not valid";
/// Keys are given when the rows are written.
const NO_KEY: Cell = Cell::Integer(0);

pub(super) struct ImportedMessage {
    pub id: Uuid,
    pub received_us: i64,
    pub sender: String,
    pub router_answer: Option<Uuid>,
    pub row: Row,
    pub body: Option<Row>,
    /// With key 0.
    pub references: Vec<ReferenceRow>,
    pub terms: Vec<i64>,
    pub deliveries: Vec<ImportedDelivery>,
}

pub(super) struct ImportedDelivery {
    pub id: Uuid,
    pub created_us: i64,
    pub participant: String,
    pub answer: Option<Uuid>,
    pub is_dead: bool,
    pub row: Row,
    pub attempts: Vec<Row>,
    pub issues: Option<Row>,
}

impl ImportedMessage {
    /// Errs with what is wrong, without anything of the message.
    pub async fn new(record: Record) -> Result<ImportedMessage, &'static str> {
        let Record { message, content, deliveries, .. } = record;
        let table = Table::named("message");
        let given = [("k", NO_KEY), ("sender", NO_KEY), ("router_answer_k", Cell::Null)];
        let row = from_json(table, &message, &given).ok_or(INVALID)?;
        let deliveries: Vec<_> = deliveries.iter().map(delivery).collect::<Result<_, _>>()?;
        let body = match content {
            None => None,
            Some(mut content) => {
                let outcome = json_text(&content.outcome.take());
                Some(body(content.into_bytes()?, outcome).await)
            }
        };
        let metadata = codes::metadata(text(table, &row, "metadata").ok_or(INVALID)?, None).map_err(|_| INVALID)?;
        let Some([Cell::Bytes(content_sha256)]) = table.values(&row, &["content_sha256"]).first_chunk().cloned() else {
            return Err(INVALID);
        };
        Ok(ImportedMessage {
            id: id(&message, "id").ok_or(INVALID)?,
            received_us: integer(table, &row, "received_us").ok_or(INVALID)?,
            sender: string(&message, "sender").ok_or(INVALID)?,
            router_answer: id(&message, "router_answer"),
            body,
            // No identity: a copy that arrives now is a new message.
            references: ReferenceRow::all(&metadata, 0, &content_sha256, 0),
            terms: terms(&row, &deliveries).ok_or(INVALID)?,
            deliveries,
            row,
        })
    }
}

async fn body(bytes: Vec<u8>, outcome: Cell) -> Row {
    let size = Cell::Integer(bytes.len() as i64);
    let Packed { codec, bytes } = pack(&Bytes::from(bytes)).await;
    vec![NO_KEY, size, Cell::Integer(codec), Cell::Bytes(bytes.to_vec()), outcome]
}

fn delivery(archived: &ArchivedDelivery) -> Result<ImportedDelivery, &'static str> {
    let table = Table::named("delivery");
    let given = [
        ("k", NO_KEY),
        ("message_k", NO_KEY),
        ("participant", NO_KEY),
        ("answer_k", Cell::Null),
        // Its place in its lane: a retry gives it another one.
        ("seq", Cell::Integer(0)),
        ("prev_seq", Cell::Null),
    ];
    let columns = &archived.columns;
    let row = from_json(table, columns, &given).ok_or(INVALID)?;
    let state = codes::state(integer(table, &row, "state").ok_or(INVALID)?).map_err(|_| INVALID)?;
    if matches!(state, crate::delivery::DeliveryState::Waiting | crate::delivery::DeliveryState::Active) {
        return Err("a delivery of it waits, which no archive contains");
    }
    let attempt = |columns| from_json(Table::named("attempt"), columns, &[("delivery_k", NO_KEY)]).ok_or(INVALID);
    let issues = json_text(&archived.issues);
    Ok(ImportedDelivery {
        id: id(columns, "id").ok_or(INVALID)?,
        created_us: integer(table, &row, "created_us").ok_or(INVALID)?,
        participant: string(columns, "participant").ok_or(INVALID)?,
        answer: id(columns, "answer"),
        is_dead: state == crate::delivery::DeliveryState::Dead,
        row,
        attempts: archived.attempt_list.iter().map(attempt).collect::<Result<_, _>>()?,
        issues: (issues != Cell::Null).then(|| vec![NO_KEY, issues]),
    })
}

fn string(columns: &Columns, name: &str) -> Option<String> {
    columns.get(name)?.as_str().map(str::to_owned)
}

fn text<'r>(table: &Table, row: &'r [Cell], column: &str) -> Option<&'r str> {
    let place = table.columns.iter().position(|(name, _)| *name == column)?;
    match row.get(place)? {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn integer(table: &Table, row: &[Cell], column: &str) -> Option<i64> {
    match table.values(row, &[column]).first()? {
        Cell::Integer(value) => Some(*value),
        _ => None,
    }
}

/// What the message is searched by, each once.
fn terms(row: &Row, deliveries: &[ImportedDelivery]) -> Option<Vec<i64>> {
    let table = Table::named("message");
    let fields = SearchFields {
        source: text(table, row, "source"),
        event: text(table, row, "event"),
        response_code: text(table, row, "response_code"),
        destinations: text(table, row, "destinations")?,
        issue_labels: text(table, row, "issue_labels"),
        state: codes::message_state(integer(table, row, "state")?).ok()?,
    };
    let faults = deliveries.iter().flat_map(|delivery| {
        let attempts = delivery.attempts.iter().filter_map(|row| text(Table::named("attempt"), row, "fault"));
        attempts.chain(text(Table::named("delivery"), &delivery.row, "fault"))
    });
    let mut all = fields.terms();
    all.extend(faults.map(terms::issue_label));
    all.sort_unstable();
    all.dedup();
    Some(all)
}
