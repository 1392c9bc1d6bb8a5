//! Reads what a batch must know before it decides, in one call: locks, messages with the same identity, deliveries to be settled,
//! the ends of lanes, and new keys.

use super::sql::{Sql, Value};
use crate::store::columns;
use crate::store::stored::{BatchQuery, IdentityLookup, Keys, KnownIdentities, LaneId, StoredState, Tails};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Error, Row};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Advisory locks, to which lanes and identities are hashed. Never changes: all nodes must agree.
const SLOTS: u64 = 131_072;

const READ_BATCH: &str = "SELECT transaction_id, messages, deliveries, seqs, known, candidates, records, tails, ambiguous, waiting \
                          FROM read_batch_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::bigint::integer, $11::bigint::integer)";

const READ_IDENTITIES: &str = "WITH f AS MATERIALIZED (SELECT * FROM known_identities_1($1, $2, $3, $4)) \
     SELECT (SELECT json_agg(json_build_array(n, same, recent))::text FROM f), \
            (SELECT candidates_1(array_agg(k)) FROM (SELECT same AS k FROM f UNION SELECT recent FROM f) AS found)";

/// Locks and reads what the batch asks for, in the caller's transaction. Returns the number of the transaction, too.
pub(in crate::store) async fn read(
    conn: &mut PgConnection,
    query: &BatchQuery,
) -> Result<(String, StoredState), Error> {
    let (participants, lanes) = lane_columns(&query.lanes);
    let keys_of_deliveries: HashSet<i64> = query.deliveries.iter().copied().collect();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let sql = Sql::new(READ_BATCH)
        .bind(slots(query))
        .bind_all(identity_columns(&query.lookups))
        .bind(participants)
        .bind(lanes);
    let sql = sql.bind(keys_of_deliveries.into_iter().collect::<Vec<i64>>()).bind(query.assigned.as_slice());
    let row = sql.bind(count(query.new_messages)).bind(count(query.new_deliveries)).one(conn).await?;
    let text = |column: usize| row.try_get::<Option<&str>, _>(column);
    let mut deliveries = text(6)?.map_or(Ok(Default::default()), columns::deliveries)?;
    columns::add_waiting(&mut deliveries, text(9)?)?;
    let state = StoredState {
        keys: Keys::Reserved { messages: keys(&row, 1)?, deliveries: keys(&row, 2)?, seqs: keys(&row, 3)? },
        identities: columns::identities(text(4)?, text(5)?, &query.lookups)?,
        deliveries,
        tails: text(7)?.map_or(Ok(Default::default()), columns::tails)?,
        epochs: HashMap::new(),
        ambiguous: row.try_get::<Option<Vec<i64>>, _>(8)?.into_iter().flatten().collect(),
    };
    Ok((row.try_get(0)?, state))
}

/// The slots to which the lanes and identities of a batch are hashed, in order.
fn slots(query: &BatchQuery) -> Vec<i64> {
    let lanes = query.lanes.iter().map(|(participant, lane)| slot([*participant, *lane, 0]));
    let identities = query.lookups.iter().map(|lookup| slot([lookup.sender, lookup.hash, lookup.kind]));
    let mut slots: Vec<i64> = lanes.chain(identities).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

/// Mixes as `splitmix64` does. Part of the stored format, as `SLOTS`.
fn slot(values: [i64; 3]) -> i64 {
    let mixed = values.into_iter().fold(0_u64, |state, value| {
        let state = state.wrapping_add(value.cast_unsigned()).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ (state >> 31)
    });
    (mixed % SLOTS).cast_signed()
}

/// In descending order: the last one is assigned first.
fn keys(row: &PgRow, column: usize) -> Result<Vec<i64>, Error> {
    let mut keys: Vec<i64> = row.try_get(column)?;
    keys.sort_unstable_by(|one, other| other.cmp(one));
    Ok(keys)
}

/// Locks these lanes and reads their tails and so many new sequence numbers, in the caller's transaction.
pub(in crate::store) async fn tails(
    conn: &mut PgConnection,
    lanes: &HashSet<LaneId>,
    new_deliveries: usize,
) -> Result<(Tails, Keys), Error> {
    let query = BatchQuery { lanes: lanes.clone(), new_deliveries, ..BatchQuery::default() };
    let (_, StoredState { tails, keys, .. }) = read(conn, &query).await?;
    Ok((tails, keys))
}

/// What is known of these identities, without locks.
pub(in crate::store) fn identities(lookups: &[IdentityLookup]) -> Sql {
    Sql::new(READ_IDENTITIES).bind_all(identity_columns(lookups))
}

pub(in crate::store) fn known(row: &PgRow, lookups: &[IdentityLookup]) -> Result<KnownIdentities, Error> {
    columns::identities(row.try_get(0)?, row.try_get(1)?, lookups)
}

fn lane_columns(lanes: &HashSet<LaneId>) -> (Vec<i64>, Vec<i64>) {
    let mut lanes: Vec<LaneId> = lanes.iter().copied().collect();
    lanes.sort_unstable();
    lanes.into_iter().unzip()
}

fn identity_columns(lookups: &[IdentityLookup]) -> [Value; 4] {
    let integers = |column: fn(&IdentityLookup) -> i64| Value::from(lookups.iter().map(column).collect::<Vec<i64>>());
    let kinds: Arc<[i16]> = lookups.iter().map(|lookup| super::row::small(lookup.kind)).collect();
    [integers(|lookup| lookup.hash), integers(|lookup| lookup.sender), kinds.into(), integers(|lookup| lookup.content)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slots_of_lanes_and_identities_never_change() {
        assert_eq!([slot([1, 2, 0]), slot([1, 2, 3]), slot([-1, i64::MIN, 5])], SLOTS_OF_ALL_RELEASES);
        let distinct: HashSet<i64> = (0..1_000).map(|lane| slot([1, lane, 0])).collect();
        assert!(distinct.len() > 980, "{} of 1000 lanes have a slot of their own", distinct.len());
    }

    const SLOTS_OF_ALL_RELEASES: [i64; 3] = [33_632, 32_311, 39_210];
}
