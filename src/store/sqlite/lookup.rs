//! Reads what a batch must know before it decides, in one call: messages with the same identity, deliveries to be settled,
//! and the ends of lanes.

use super::insert::json;
use super::recent::{self, Recent};
use super::row;
use crate::store::retention::IDENTITIES_PROGRESS;
use crate::store::rows::{self, ReferenceRow};
use crate::store::stored::{
    BatchQuery, Candidate, IdentityLookup, Keys, KnownIdentities, LaneId, LastKeys, StoredState, Tails,
};
use crate::store::{codes, columns};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};
use std::collections::{HashMap, HashSet};

/// Earlier answers that a new one is compared with, at most 100; without answers to replays.
macro_rules! earlier_answers {
    () => {
        "json(CASE WHEN d.answer_k IS NOT NULL THEN (SELECT json_group_array(json_array(e.k, hex(e.response_sha256))) FROM \
         (SELECT k, response_sha256 FROM message a WHERE a.in_reply_to = m.id AND a.sender = d.participant \
          AND (a.k = d.answer_k OR a.response_flags & 2 OR a.response_code = 'transient-error') \
          ORDER BY k DESC LIMIT 100) e) END)"
    };
}

/// Begins the transaction, finds which hashes are known at all (of new messages none is), and reads deliveries. It is one
/// call that returns one row: each further row would cost a switch between SQLite's thread and the writer's.
const BEGIN_AND_READ: &str = concat!(
    "BEGIN IMMEDIATE; \
SELECT \
 (SELECT json_group_array(j.value) FROM json_each(?) AS j WHERE EXISTS (SELECT 1 FROM reference WHERE hash = j.value)), \
 (SELECT json_group_array(json_array(d.k, d.message_k, hex(m.id), d.participant, d.state, d.attempts, d.status, d.due_us, d.fault, \
    d.answer_k, d.ended_us, (SELECT response_code FROM message WHERE k = d.answer_k), ",
    earlier_answers!(),
    ")) \
  FROM json_each(?) AS j CROSS JOIN delivery d ON d.k = j.value CROSS JOIN message m ON m.k = d.message_k), \
 (SELECT json_group_array(json_array(j.value->>0, j.value->>1, (SELECT max(seq) FROM delivery \
    WHERE state = 0 AND participant = j.value->>0 AND lane = j.value->>1))) FROM json_each(?) AS j)"
);

/// Begins the batch's transaction and reads what the batch asks for. What is absent is not stored. `keys` are the last keys that
/// the writer assigned.
pub(in crate::store) async fn begin(
    conn: &mut SqliteConnection,
    recent: &Recent,
    query: &BatchQuery,
    keys: LastKeys,
) -> Result<StoredState, Error> {
    let hashes: Vec<i64> = query.lookups.iter().map(|lookup| lookup.hash).collect();
    let statement = sqlx::query(BEGIN_AND_READ).bind(json(&hashes)?).bind(json(&query.deliveries)?);
    let row = statement.bind(json(&query.lanes)?).fetch_one(&mut *conn).await?;
    let known_hashes: HashSet<i64> = row::from_json(row.try_get(0)?)?;
    let deliveries = columns::deliveries(row.try_get(1)?)?;
    let tails = columns::tails(row.try_get(2)?)?;
    let is_known = |lookup: &&IdentityLookup| known_hashes.contains(&lookup.hash) || recent.has(lookup.hash);
    let lookups: Vec<IdentityLookup> = query.lookups.iter().filter(is_known).copied().collect();
    let identities =
        if lookups.is_empty() { KnownIdentities::default() } else { identities(conn, recent, &lookups).await? };
    let ambiguous = ambiguous(conn, &query.assigned).await?;
    Ok(StoredState { keys: Keys::Counted(keys), identities, deliveries, tails, ambiguous, ..StoredState::default() })
}

/// The tails of these lanes, within the caller's transaction.
pub(in crate::store) async fn tails(conn: &mut SqliteConnection, lanes: &HashSet<LaneId>) -> Result<Tails, Error> {
    let query = sqlx::query(
        "SELECT json_group_array(json_array(j.value->>0, j.value->>1, (SELECT max(seq) FROM delivery \
           WHERE state = 0 AND participant = j.value->>0 AND lane = j.value->>1))) FROM json_each(?) AS j",
    );
    let row = query.bind(json(lanes)?).fetch_one(conn).await?;
    columns::tails(row.try_get(0)?)
}

/// Which of these responses are still ambiguous; inside the transaction.
async fn ambiguous(conn: &mut SqliteConnection, keys: &[i64]) -> Result<HashSet<i64>, Error> {
    if keys.is_empty() {
        return Ok(HashSet::new());
    }
    let sql = "SELECT k FROM message WHERE k IN (SELECT value FROM json_each(?)) AND response_flags & ?";
    let rows = sqlx::query(sql).bind(json(&keys)?).bind(rows::AMBIGUOUS).fetch_all(conn).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// The newest message of each key and content, and a recent message of each key.
pub(in crate::store) async fn identities(
    conn: &mut SqliteConnection,
    recent: &Recent,
    lookups: &[IdentityLookup],
) -> Result<KnownIdentities, Error> {
    let mut known = KnownIdentities::default();
    let mut keys = Vec::new();
    for lookup in lookups {
        if let (same, Some(any)) = recent.find(*lookup) {
            known.keys.insert(*lookup, (same, any));
            keys.extend(same.into_iter().chain([any]));
        }
    }
    let rows: Vec<_> = lookups.iter().map(|lookup| (lookup.hash, lookup.sender, lookup.kind, lookup.content)).collect();
    // One message with the key and other content is enough; the bounds keep the query cheap for ids of thousands of messages.
    // Rows of messages that are gone, or whose identities are released, may be left (`leftover`).
    let rows = sqlx::query(
        "SELECT n, same, coalesce(some, same) FROM (SELECT p.n, \
            (SELECT max(message_k) FROM reference \
             WHERE hash = p.hash AND sender = p.sender AND kind = p.kind AND content_head = p.content_head) AS same, \
            (SELECT max(message_k) FROM (SELECT message_k FROM (SELECT message_k FROM reference \
             WHERE hash = p.hash AND sender = p.sender AND kind = p.kind LIMIT 1024) AS r \
             WHERE r.message_k > coalesce((SELECT value FROM progress WHERE name = ?), 0) \
             AND EXISTS (SELECT 1 FROM message WHERE k = r.message_k) LIMIT 16)) AS some \
         FROM (SELECT key AS n, value->>0 AS hash, value->>1 AS sender, value->>2 AS kind, value->>3 AS content_head \
               FROM json_each(?)) AS p) \
         WHERE coalesce(some, same) IS NOT NULL",
    )
    .bind(IDENTITIES_PROGRESS)
    .bind(json(&rows)?)
    .fetch_all(&mut *conn)
    .await?;
    for row in rows {
        let index = usize::try_from(row.try_get::<i64, _>(0)?).unwrap_or(usize::MAX);
        let (same, any): (Option<i64>, i64) = (row.try_get(1)?, row.try_get(2)?);
        if let Some(lookup) = lookups.get(index) {
            let (recent_same, recent_any) = known.keys.get(lookup).copied().unzip();
            known.keys.insert(*lookup, (recent_same.flatten().max(same), recent_any.unwrap_or(any)));
            keys.extend(same.into_iter().chain([any]));
        }
    }
    if !keys.is_empty() {
        known.candidates = candidates(conn, &keys).await?;
    }
    Ok(known)
}

async fn candidates(conn: &mut SqliteConnection, keys: &[i64]) -> Result<HashMap<i64, Candidate>, Error> {
    let rows = sqlx::query(
        "SELECT k, id, content_sha256, received_us, metadata, in_reply_to FROM message \
         WHERE k IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&keys)?)
    .fetch_all(conn)
    .await?;
    let mut found = HashMap::new();
    for row in rows {
        let candidate = Candidate {
            id: row::uuid(row.try_get(1)?)?,
            content: codes::digest(row.try_get(2)?)?,
            received_us: row.try_get(3)?,
            metadata: row::metadata(row.try_get(4)?, row.try_get(5)?)?,
        };
        found.insert(row.try_get(0)?, candidate);
    }
    Ok(found)
}

/// The primary keys of rows, as a parameter of `json_each`.
pub(in crate::store) fn keys_json(rows: &[ReferenceRow]) -> Result<String, Error> {
    json(&rows)
}

/// Releases the identities of these messages: search and correlation still find them, and a further copy counts as new.
pub(in crate::store) async fn release(
    conn: &mut SqliteConnection,
    recent: &Recent,
    message_keys: &[i64],
) -> Result<(), Error> {
    if message_keys.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT k, sender, content_sha256, metadata FROM message WHERE k IN (SELECT value FROM json_each(?))",
    )
    .bind(json(&message_keys)?)
    .fetch_all(&mut *conn)
    .await?;
    let mut references = Vec::new();
    for row in rows {
        let (key, sender): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let metadata = row::metadata(row.try_get(3)?, None)?;
        references.extend(ReferenceRow::all(&metadata, sender, row.try_get(2)?, key));
    }
    // By the whole primary key: a sender that reuses an id has thousands of rows with the same hash.
    sqlx::query(
        "UPDATE OR REPLACE reference SET sender = 0 \
         FROM (SELECT value->>0 AS hash, value->>1 AS sender, value->>2 AS kind, value->>3 AS content_head, \
                      value->>4 AS message_k FROM json_each(?)) AS c \
         WHERE reference.hash = c.hash AND reference.sender = c.sender AND reference.kind = c.kind \
         AND reference.content_head = c.content_head AND reference.message_k = c.message_k",
    )
    .bind(keys_json(&references)?)
    .execute(&mut *conn)
    .await?;
    recent::release(recent, conn, message_keys, references).await
}
