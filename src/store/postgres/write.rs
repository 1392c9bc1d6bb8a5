//! Writes the rows of a batch: one statement over arrays, a column each. What is rare has statements of its own.

use super::row::small;
use super::sql::{Sql, Value, text};
use super::statement::WRITE_BATCH;
use crate::delivery::DeliveryKind;
use crate::fault::Fault;
use crate::store::rows::{self, CountChange, DeliveryRow, MessageRow, NumberedAttempt, ReferenceRow, Rows};
use crate::store::stored::DeliveryRecord;
use crate::store::{codes, columns};
use fhir::event::Event;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgConnection, PgHasArrayType};
use sqlx::{Arguments, Encode, Error, Postgres, Row, Type};
use std::sync::Arc;

/// The arrays of a statement.
#[derive(Default)]
struct Columns {
    arguments: PgArguments,
    failure: Option<BoxDynError>,
}

impl Columns {
    /// One column of these rows.
    fn add<'r, R, T>(&mut self, rows: &'r [R], value: impl Fn(&'r R) -> T) -> &mut Columns
    where
        Vec<T>: for<'e> Encode<'e, Postgres> + Type<Postgres>,
        T: PgHasArrayType,
    {
        if let Err(failure) = self.arguments.add(rows.iter().map(value).collect::<Vec<T>>()) {
            self.failure.get_or_insert(failure);
        }
        self
    }

    /// A parameter that is not an array.
    fn add_value(mut self, value: i64) -> Columns {
        if let Err(failure) = self.arguments.add(value) {
            self.failure.get_or_insert(failure);
        }
        self
    }

    async fn execute(self, sql: &'static str, conn: &mut PgConnection) -> Result<(), Error> {
        match self.failure {
            Some(failure) => Err(Error::Encode(failure)),
            None => super::connect::within_limit(sqlx::query_with(sql, self.arguments).execute(conn)).await.map(drop),
        }
    }
}

/// Writes all rows in the caller's transaction. `slot`: where the connection counts deliveries.
pub(in crate::store) async fn rows(conn: &mut PgConnection, rows: Rows, slot: i64) -> Result<(), Error> {
    let counts = rows.count_changes();
    let terms = rows.terms;
    let is_empty = rows.messages.is_empty() && rows.deliveries.is_empty() && rows.attempts.is_empty();
    if !(is_empty && rows.changed.is_empty()) {
        let mut columns = Columns::default();
        add_messages(&mut columns, &rows.messages);
        add_references(&mut columns, &rows.references);
        columns.add(&terms, |term| term.0).add(&terms, |term| term.1);
        add_deliveries(&mut columns, &rows.deliveries);
        add_attempts(&mut columns, &rows.attempts);
        add_changes(&mut columns, &rows.changed);
        add_counts(&mut columns, &counts, slot);
        columns.add_value(slot).execute(WRITE_BATCH, conn).await?;
    }
    faults(conn, rows.faults).await?;
    release(conn, &rows.released).await?;
    for link in rows.linked_responses {
        // A response stays linked to the first request that it was linked to, and is no longer ambiguous.
        let sql = Sql::new(
            "UPDATE message SET in_reply_to = coalesce(in_reply_to, $2), \
             response_flags = ((response_flags | $3::bigint) & ~$4::bigint)::smallint, metadata = coalesce($5, metadata) WHERE k = $1",
        );
        let sql = sql.bind(link.message_key).bind(link.request).bind(link.flags).bind(rows::AMBIGUOUS);
        sql.bind(link.metadata_json).execute(conn).await?;
    }
    for (delivery, issues) in rows.receiver_issues {
        // The last report counts if a delivery is made more than once.
        let sql = Sql::new(
            "INSERT INTO receiver_issues (delivery_k, issues) VALUES ($1, $2) \
             ON CONFLICT (delivery_k) DO UPDATE SET issues = excluded.issues",
        );
        sql.bind(delivery).bind(&*issues).execute(conn).await?;
    }
    Ok(())
}

/// Stores faults of deliveries as terms of their messages. An earlier attempt may have stored the same one; that this is looked at
/// costs more than the row, so that the terms of new messages are written without it.
pub(in crate::store) async fn faults(conn: &mut PgConnection, faults: Vec<(i64, i64)>) -> Result<(), Error> {
    if faults.is_empty() {
        return Ok(());
    }
    let (hashes, keys): (Vec<i64>, Vec<i64>) = faults.into_iter().unzip();
    let insert = "INSERT INTO term (hash, message_k) SELECT DISTINCT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING";
    Sql::new(insert).bind(hashes).bind(keys).execute(conn).await.map(drop)
}

fn add_messages(columns: &mut Columns, rows: &[MessageRow]) {
    let response_code = |row: &MessageRow| {
        let code = row.metadata.response.as_ref().and_then(|response| response.code);
        code.map(|code| code.as_str())
    };
    let event_code = |event: &Event| match event {
        Event::Coding { code, .. } => Some(code.clone()),
        Event::Uri(_) => None,
    };
    columns
        .add(rows, |row| row.key)
        .add(rows, |row| row.metadata.received_at_us)
        .add(rows, |row| row.committed_us)
        .add(rows, |row| row.sender)
        .add(rows, |row| row.router_answer)
        .add(rows, |row| row.metadata.id)
        .add(rows, |row| row.in_reply_to)
        .add(rows, |row| small(codes::message_state_code(row.state)))
        .add(rows, |row| small(row.flags))
        .add(rows, |row| row.content.to_vec())
        .add(rows, |row| row.response_sha256.map(|digest| digest.to_vec()))
        .add(rows, |row| row.metadata.source.as_deref().map(|source| text(source).into_owned()))
        .add(rows, |row| row.event.as_deref().map(|event| text(event).into_owned()))
        .add(rows, |row| row.metadata.event.as_ref().and_then(event_code).map(|code| text(&code).into_owned()))
        .add(rows, response_code)
        .add(rows, |row| text(&row.destinations).into_owned())
        .add(rows, |row| row.issue_labels.as_deref().map(|labels| text(labels).into_owned()))
        .add(rows, |row| text(&row.metadata_json).into_owned())
        .add(rows, |row| row.outcome_json.as_deref().map(|outcome| text(outcome).into_owned()))
        .add(rows, |row| row.size_bytes)
        .add(rows, |row| small(row.packed.codec))
        .add(rows, |row| row.packed.bytes.to_vec())
        .add(rows, |row| row.full_outcome_json.as_deref().map(|outcome| text(outcome).into_owned()));
}

fn add_references(columns: &mut Columns, rows: &[ReferenceRow]) {
    columns
        .add(rows, |row| row.hash)
        .add(rows, |row| row.message_key)
        .add(rows, |row| row.sender)
        .add(rows, |row| row.content)
        .add(rows, |row| small(row.kind));
}

fn add_deliveries(columns: &mut Columns, rows: &[DeliveryRow]) {
    let replay_of = |kind: &DeliveryKind| match kind {
        DeliveryKind::Replay { of, .. } => *of,
        _ => None,
    };
    columns
        .add(rows, |row| row.key)
        .add(rows, |row| row.message_key)
        .add(rows, |row| row.participant_key)
        .add(rows, |row| row.lane)
        .add(rows, |row| row.seq)
        .add(rows, |row| row.prev_seq)
        .add(rows, |row| row.due_us)
        .add(rows, |row| row.expires_us)
        .add(rows, |row| row.created_us)
        .add(rows, |row| row.id)
        .add(rows, |row| replay_of(&row.kind))
        .add(rows, |row| small(codes::kind_code(&row.kind)))
        .add(rows, |row| row.destination.as_deref().map(|destination| text(destination).into_owned()))
        .add(rows, |row| codes::kind_json(&row.kind))
        .add(rows, |row| columns::waiting_text(row.waiting.as_slice()));
}

fn add_attempts(columns: &mut Columns, rows: &[NumberedAttempt]) {
    columns
        .add(rows, |row| row.delivery_key)
        .add(rows, |row| row.attempt.started_at_us)
        .add(rows, |row| row.attempt.duration_us)
        .add(rows, |row| i32::try_from(row.n).unwrap_or(i32::MAX))
        .add(rows, |row| row.attempt.status.map(i32::from))
        .add(rows, |row| text(&row.attempt.result).into_owned())
        .add(rows, |row| row.attempt.fault.map(Fault::code))
        .add(rows, |row| row.attempt.detail.as_deref().map(|detail| text(detail).into_owned()));
}

fn add_changes(columns: &mut Columns, rows: &[(i64, DeliveryRecord)]) {
    columns
        .add(rows, |row| row.0)
        .add(rows, |row| small(codes::state_code(row.1.state)))
        .add(rows, |row| i32::try_from(row.1.attempts).unwrap_or(i32::MAX))
        .add(rows, |row| row.1.status.map(i32::from))
        .add(rows, |row| row.1.due_us)
        .add(rows, |row| row.1.fault.map(Fault::code))
        .add(rows, |row| row.1.answer)
        .add(rows, |row| row.1.ended_us)
        .add(rows, |row| columns::waiting_text(&row.1.waiting));
}

fn add_counts(columns: &mut Columns, rows: &[CountChange], slot: i64) {
    columns.add(rows, |row| row.0).add(rows, |_| small(slot)).add(rows, |row| row.1).add(rows, |row| row.2);
}

/// Counts the deliveries of participants, in the caller's transaction.
pub(in crate::store) async fn counts(conn: &mut PgConnection, counts: &[CountChange], slot: i64) -> Result<(), Error> {
    let column = |value: fn(&CountChange) -> i64| Value::from(counts.iter().map(value).collect::<Vec<i64>>());
    let sql = Sql::new(super::statement::COUNT).bind(column(|count| count.0)).bind(slot);
    sql.bind(column(|count| count.1)).bind(column(|count| count.2)).execute(conn).await.map(drop)
}

/// The primary keys of the references of these messages while they have their identities: hashes, senders, kinds, heads of contents,
/// messages.
pub(in crate::store) async fn reference_keys(
    conn: &mut PgConnection,
    message_keys: &[i64],
) -> Result<[Value; 5], Error> {
    let found = Sql::new("SELECT k, sender, content_sha256, metadata FROM message WHERE k = ANY ($1)");
    let mut all: Vec<ReferenceRow> = Vec::new();
    for row in found.bind(message_keys).all(conn).await? {
        let metadata = codes::metadata(row.try_get(3)?, None)?;
        all.extend(ReferenceRow::all(&metadata, row.try_get(1)?, row.try_get(2)?, row.try_get(0)?));
    }
    let kinds: Arc<[i16]> = all.iter().map(|row| small(row.kind)).collect();
    let column = |value: fn(&ReferenceRow) -> i64| Value::from(all.iter().map(value).collect::<Vec<i64>>());
    Ok([
        column(|row| row.hash),
        column(|row| row.sender),
        kinds.into(),
        column(|row| row.content),
        column(|row| row.message_key),
    ])
}

/// Releases the identities of these messages: search and correlation still find them, and a further copy counts as new.
pub(in crate::store) async fn release(conn: &mut PgConnection, message_keys: &[i64]) -> Result<(), Error> {
    if message_keys.is_empty() {
        return Ok(());
    }
    let keys = reference_keys(conn, message_keys).await?;
    let release = "UPDATE reference AS r SET sender = 0 \
                   FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[]) \
                   AS c (hash, sender, kind, content_head, message_k) \
                   WHERE r.hash = c.hash AND r.sender = c.sender AND r.kind = c.kind AND r.content_head = c.content_head \
                   AND r.message_k = c.message_k AND r.sender <> 0";
    Sql::new(release).bind_all(keys).execute(conn).await.map(drop)
}
