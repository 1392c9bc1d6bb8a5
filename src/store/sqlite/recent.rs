//! References of recent messages: in memory for look-ups, and in a table of their own in order of arrival.
//!
//! Hashes are random, so writing each reference into the table sorted by hash would touch one page per reference. They are moved
//! there later, one slice of all hashes at a time, when several of a slice share a page. `reference` and `reference_recent` may
//! both hold a row meanwhile; moving a row twice has no effect.

use super::insert::{self, json};
use super::progress;
use crate::store::rows::ReferenceRow;
use crate::store::stored::IdentityLookup;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of slices of all hashes, a power of two.
const SLICES: usize = 512;
/// New messages after which the next slice is moved: a round takes 65,536 messages, which is about how many memory holds.
const MESSAGES_PER_SLICE: usize = 128;
/// If the table has more rows at the start, slices are moved at once: about as many rows are there when a round ends. Processes
/// that each end before their round does would otherwise collect more and more rows.
const LATE_ROWS: usize = 6 * SLICES * MESSAGES_PER_SLICE;
/// Messages whose moved rows are deleted with a slice: more than arrive meanwhile.
const DELETED_PER_SLICE: i64 = 4 * MESSAGES_PER_SLICE as i64;
/// The row of `progress` that says up to which message all references have moved.
const PROGRESS: &str = "references";
/// Rows that one query reads at the start.
const LOAD_ROWS: i64 = 10_000;

/// References in memory; readers search them before the table, so that a row that moves meanwhile is not missed.
#[derive(Clone, Default)]
pub(in crate::store) struct Recent(Arc<Mutex<State>>);

struct State {
    /// By slice: small sets fit into the processor's cache.
    slices: Vec<BTreeSet<ReferenceRow>>,
    /// The next slice to move.
    slice: usize,
    /// New messages since the last slice moved.
    messages: usize,
    /// The newest message, and the newest when this round began.
    newest: i64,
    round_from: i64,
    /// A slice is moved after each transaction until this round ends.
    is_late: bool,
    /// Changes that apply when the running transaction is committed: until then readers see the tables as they were.
    pending: Vec<Change>,
    /// A transaction failed; only the table tells what it stored.
    is_stale: bool,
}

/// A change of the rows in memory.
enum Change {
    Release(Vec<ReferenceRow>),
    Delete(Vec<ReferenceRow>),
    /// This slice is in its table.
    Move(usize),
}

impl Recent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the rows of a committed transaction, with its newest message.
    pub fn add(&self, rows: &[ReferenceRow], newest: i64, messages: usize) {
        let mut state = self.state();
        for row in rows {
            state.slice_of(row.hash).insert(*row);
        }
        state.newest = state.newest.max(newest);
        state.messages += messages;
    }

    pub fn invalidate(&self) {
        self.state().is_stale = true;
    }

    /// Applies the changes of the transaction, which was committed. Called before the next transaction begins.
    pub fn commit(&self) {
        let mut state = self.state();
        for change in std::mem::take(&mut state.pending) {
            state.apply(change);
        }
    }

    fn on_commit(&self, change: Change) {
        self.state().pending.push(change);
    }

    pub fn has(&self, hash: i64) -> bool {
        self.state().slice_of(hash).range(rows_with(hash)).next().is_some()
    }

    /// The newest message with this key and content, and the newest with this key.
    pub fn find(&self, probe: IdentityLookup) -> (Option<i64>, Option<i64>) {
        let least = ReferenceRow {
            hash: probe.hash,
            sender: probe.sender,
            kind: probe.kind,
            content: i64::MIN,
            message_key: i64::MIN,
        };
        let most = ReferenceRow { content: i64::MAX, message_key: i64::MAX, ..least };
        let same = ReferenceRow { content: probe.content, ..least }..=ReferenceRow { content: probe.content, ..most };
        let mut state = self.state();
        let rows = state.slice_of(probe.hash);
        let key = |row: Option<&ReferenceRow>| row.map(|row| row.message_key);
        (key(rows.range(same).next_back()), key(rows.range(least..=most).next_back()))
    }

    /// Messages with this hash and one of these kinds (empty: any kind), at most `limit`.
    pub fn messages(&self, hash: i64, kinds: &[i64], limit: usize) -> Vec<i64> {
        let mut state = self.state();
        let wanted = |row: &&ReferenceRow| kinds.is_empty() || kinds.contains(&row.kind);
        let mut found: Vec<i64> =
            state.slice_of(hash).range(rows_with(hash)).filter(wanted).take(limit).map(|row| row.message_key).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Reads the table, at the start and after a transaction that failed.
    pub async fn load(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let newest = sqlx::query("SELECT coalesce(max(k), 0) FROM message").fetch_one(&mut *conn).await?.try_get(0)?;
        let mut loaded = State { newest, round_from: newest, ..State::default() };
        let mut after = (progress::read(conn, PROGRESS).await?, i64::MAX);
        loop {
            // As one text: each row would cost a switch between threads.
            let query = sqlx::query(
                "SELECT json_group_array(json_array(hash, sender, kind, content_head, message_k)) FROM (SELECT * FROM reference_recent \
                 WHERE (message_k, kind) > (?, ?) ORDER BY message_k, kind LIMIT ?)",
            );
            let row = query.bind(after.0).bind(after.1).bind(LOAD_ROWS).fetch_one(&mut *conn).await?;
            let step: Vec<(i64, i64, i64, i64, i64)> =
                serde_json::from_str(row.try_get(0)?).map_err(|error| Error::Decode(error.into()))?;
            let Some(last) = step.last() else { break };
            after = (last.4, last.2);
            for (hash, sender, kind, content, message_key) in step {
                loaded.slice_of(hash).insert(ReferenceRow { hash, sender, kind, content, message_key });
            }
        }
        loaded.is_late = loaded.slices.iter().map(BTreeSet::len).sum::<usize>() > LATE_ROWS;
        *self.state() = loaded;
        Ok(())
    }

    /// Reads the table again if it is not certain what is stored, before a transaction relies on it.
    pub async fn refresh(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let is_stale = {
            let state = self.state();
            state.is_stale || !state.pending.is_empty()
        };
        if is_stale { self.load(conn).await } else { Ok(()) }
    }

    /// Enough messages have arrived for the next slice to move.
    pub fn is_due(&self) -> bool {
        let state = self.state();
        state.is_late || state.messages >= MESSAGES_PER_SLICE
    }
}

impl Default for State {
    fn default() -> State {
        let slices = vec![BTreeSet::new(); SLICES];
        State {
            slices,
            slice: 0,
            messages: 0,
            newest: 0,
            round_from: 0,
            is_late: false,
            pending: Vec::new(),
            is_stale: false,
        }
    }
}

impl State {
    /// The slice of a hash: by its first bits, in the order of signed integers.
    fn slice_of(&mut self, hash: i64) -> &mut BTreeSet<ReferenceRow> {
        let from_least = hash.wrapping_sub(i64::MIN).cast_unsigned();
        &mut self.slices[(from_least >> (u64::BITS - SLICES.trailing_zeros())) as usize]
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Release(rows) => {
                for row in rows {
                    let slice = self.slice_of(row.hash);
                    if slice.remove(&row) {
                        slice.insert(ReferenceRow { sender: 0, ..row });
                    }
                }
            }
            Change::Delete(rows) => {
                for row in rows {
                    self.slice_of(row.hash).remove(&row);
                }
            }
            Change::Move(slice) => {
                self.slices[slice].clear();
                self.slice = (slice + 1) % SLICES;
                self.is_late &= self.slice != 0;
            }
        }
    }
}

/// All rows with a hash.
fn rows_with(hash: i64) -> std::ops::RangeInclusive<ReferenceRow> {
    let least = ReferenceRow { hash, sender: i64::MIN, kind: i64::MIN, content: i64::MIN, message_key: i64::MIN };
    let most = ReferenceRow { hash, sender: i64::MAX, kind: i64::MAX, content: i64::MAX, message_key: i64::MAX };
    least..=most
}

/// Moves the next slice to its table, in the caller's transaction.
pub(in crate::store) async fn move_slice(recent: &Recent, conn: &mut SqliteConnection) -> Result<(), Error> {
    let (slice, mut rows, round_from) = {
        let mut state = recent.state();
        state.messages = 0;
        let slice = state.slice;
        if slice == 0 {
            state.round_from = state.newest;
        }
        let rows = state.slices[slice].iter().copied().collect::<Vec<_>>();
        (slice, rows, state.round_from)
    };
    insert::write_references(conn, &mut rows).await?;
    if slice + 1 == SLICES {
        progress::save(conn, PROGRESS, round_from).await?;
    }
    sqlx::query(
        "DELETE FROM reference_recent WHERE message_k <= min((SELECT value FROM progress WHERE name = ?), \
         (SELECT min(message_k) FROM reference_recent) + ?)",
    )
    .bind(PROGRESS)
    .bind(DELETED_PER_SLICE)
    .execute(conn)
    .await?;
    recent.on_commit(Change::Move(slice));
    Ok(())
}

/// Releases the identities of these rows of messages, in the caller's transaction.
pub(in crate::store) async fn release(
    recent: &Recent,
    conn: &mut SqliteConnection,
    message_keys: &[i64],
    rows: Vec<ReferenceRow>,
) -> Result<(), Error> {
    let update = "UPDATE reference_recent SET sender = 0 WHERE message_k IN (SELECT value FROM json_each(?))";
    sqlx::query(update).bind(json(&message_keys)?).execute(conn).await?;
    recent.on_commit(Change::Release(rows));
    Ok(())
}

/// Deletes the rows of messages that are deleted, in the caller's transaction.
pub(in crate::store) async fn delete_messages(
    recent: &Recent,
    conn: &mut SqliteConnection,
    message_keys: &[i64],
    rows: Vec<ReferenceRow>,
) -> Result<(), Error> {
    let delete = "DELETE FROM reference_recent WHERE message_k IN (SELECT value FROM json_each(?))";
    sqlx::query(delete).bind(json(&message_keys)?).execute(conn).await?;
    recent.on_commit(Change::Delete(rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_follow_each_other_in_the_order_of_hashes() {
        let mut state = State::default();
        let width = u64::MAX / SLICES as u64 + 1;
        for slice in 0..SLICES {
            let first = i64::MIN.wrapping_add_unsigned(width * slice as u64);
            for hash in [first, first.wrapping_add_unsigned(width - 1)] {
                state.slice_of(hash).insert(ReferenceRow { hash, sender: 0, kind: 0, content: 0, message_key: 0 });
            }
            assert_eq!(state.slices[slice].len(), 2);
        }
    }
}
