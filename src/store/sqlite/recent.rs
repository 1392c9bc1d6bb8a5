//! References of recent messages: in memory for look-ups, and in a log of changes, one row per transaction.
//!
//! Hashes are random, so writing each reference into the table sorted by hash would touch one page per reference. They are moved
//! there later, one slice of all hashes at a time, when several of a slice share a page. Table and memory may both hold a row
//! meanwhile; moving a row twice has no effect.

use super::insert::{self, LogRow, json};
use super::progress;
use crate::store::rows::ReferenceRow;
use crate::store::stored::IdentityLookup;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Error, Row};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The number of slices of all hashes, a power of two.
const SLICES: usize = 512;
/// New messages after which the next slice is moved: a round takes 65,536 messages, which is about how many memory holds.
const MESSAGES_PER_SLICE: usize = 128;
/// If the log has more references at the start, slices are moved at once: about as many rows are there when a round ends. Processes
/// that each end before their round does would otherwise collect more and more rows.
const LATE_ROWS: usize = 6 * SLICES * MESSAGES_PER_SLICE;
/// Rows of the log that are deleted with a slice: more than arrive meanwhile.
const DELETED_PER_SLICE: i64 = 4 * MESSAGES_PER_SLICE as i64;
/// The row of `progress` that says up to which row of the log all references have moved.
const PROGRESS: &str = "references";
/// Rows that one query reads at the start.
const LOAD_ROWS: i64 = 128;

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
    /// The newest row of the log and the newest message in it, now and when this round began.
    newest: LogEnd,
    round_from: LogEnd,
    /// The log may add references of messages after this one again, when it is read.
    moved_message: i64,
    /// A slice is moved after each transaction until this round ends.
    is_late: bool,
    /// Changes that apply when the running transaction is committed: until then readers see the tables as they were.
    pending: Vec<Change>,
    /// A transaction failed; only the log tells what it stored.
    is_stale: bool,
}

/// Keys of a row of the log and of a message.
#[derive(Clone, Copy, Default)]
struct LogEnd {
    row: i64,
    message: i64,
}

/// A change of the rows in memory, as the log has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Change {
    /// In order of messages.
    Add(Vec<ReferenceRow>),
    Release(Vec<ReferenceRow>),
    Delete(Vec<ReferenceRow>),
    /// This slice is in its table. Never in the log.
    #[serde(skip)]
    Move(usize),
}

impl Recent {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row of the log for the references of new messages, which the running transaction writes; they are in memory once it is
    /// committed. None if there are none.
    pub fn log_new(&self, rows: Vec<ReferenceRow>) -> Result<Option<LogRow>, Error> {
        (!rows.is_empty()).then(|| self.log(Change::Add(rows))).transpose()
    }

    fn log(&self, change: Change) -> Result<LogRow, Error> {
        let text = json(&change)?;
        let mut state = self.state();
        state.newest.row += 1;
        state.pending.push(change);
        Ok((state.newest.row, text))
    }

    /// Up to this message, references are in the table only.
    pub fn moved_message(&self) -> i64 {
        self.state().moved_message
    }

    /// Releases or deletes rows, in the caller's transaction. What the log cannot bring back is not logged.
    async fn change(&self, conn: &mut SqliteConnection, change: Change, message_keys: &[i64]) -> Result<(), Error> {
        let moved_message = self.moved_message();
        if message_keys.iter().all(|key| *key <= moved_message) {
            return Ok(());
        }
        insert::write_log(conn, self.log(change)?).await
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

    /// Reads the log, at the start and after a transaction that failed.
    pub async fn load(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let newest = progress::newest_message(conn).await?;
        let after = progress::read(conn, PROGRESS).await?;
        let mut loaded = State { newest: LogEnd { row: after, message: 0 }, moved_message: newest, ..State::default() };
        loop {
            // As one text: each row would cost a switch between threads.
            let query = sqlx::query(
                "SELECT json_group_array(json_array(k, json(change))) FROM (SELECT k, change FROM reference_log \
                 WHERE k > ? ORDER BY k LIMIT ?)",
            );
            let row = query.bind(loaded.newest.row).bind(LOAD_ROWS).fetch_one(&mut *conn).await?;
            let step: Vec<(i64, Change)> =
                serde_json::from_str(row.try_get(0)?).map_err(|error| Error::Decode(error.into()))?;
            let Some((last, _)) = step.last() else { break };
            loaded.newest.row = *last;
            for (_, change) in step {
                if let Change::Add(rows) = &change {
                    let first = rows.iter().map(|row| row.message_key).min().unwrap_or(i64::MAX);
                    loaded.moved_message = loaded.moved_message.min(first.saturating_sub(1));
                }
                loaded.apply(change);
            }
        }
        loaded.newest.message = newest;
        loaded.round_from = loaded.newest;
        loaded.messages = 0;
        loaded.is_late = loaded.slices.iter().map(BTreeSet::len).sum::<usize>() > LATE_ROWS;
        *self.state() = loaded;
        Ok(())
    }

    /// Reads the log again if it is not certain what is stored, before a transaction relies on it.
    pub async fn refresh(&self, conn: &mut SqliteConnection) -> Result<(), Error> {
        let is_stale = {
            let state = self.state();
            state.is_stale || !state.pending.is_empty()
        };
        if is_stale { self.load(conn).await } else { Ok(()) }
    }

    /// The slice of this hash moves with the next batch.
    #[cfg(test)]
    pub fn make_due(&self, hash: i64) {
        let mut state = self.state();
        (state.slice, state.messages) = (slice_number(hash), MESSAGES_PER_SLICE);
    }

    /// Enough messages have arrived for the next slice to move.
    fn is_due(&self) -> bool {
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
            newest: LogEnd::default(),
            round_from: LogEnd::default(),
            moved_message: 0,
            is_late: false,
            pending: Vec::new(),
            is_stale: false,
        }
    }
}

impl State {
    /// The slice of a hash: by its first bits, in the order of signed integers.
    fn slice_of(&mut self, hash: i64) -> &mut BTreeSet<ReferenceRow> {
        &mut self.slices[slice_number(hash)]
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Add(rows) => {
                for row in &rows {
                    self.slice_of(row.hash).insert(*row);
                    self.newest.message = self.newest.message.max(row.message_key);
                }
                self.messages += rows.chunk_by(|one, next| one.message_key == next.message_key).count();
            }
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
                if self.slice == 0 {
                    self.moved_message = self.round_from.message;
                }
            }
        }
    }
}

fn slice_number(hash: i64) -> usize {
    let from_least = hash.wrapping_sub(i64::MIN).cast_unsigned();
    (from_least >> (u64::BITS - SLICES.trailing_zeros())) as usize
}

/// All rows with a hash.
fn rows_with(hash: i64) -> std::ops::RangeInclusive<ReferenceRow> {
    let least = ReferenceRow { hash, sender: i64::MIN, kind: i64::MIN, content: i64::MIN, message_key: i64::MIN };
    let most = ReferenceRow { hash, sender: i64::MAX, kind: i64::MAX, content: i64::MAX, message_key: i64::MAX };
    least..=most
}

/// Moves the next slice to its table if enough messages have arrived, in the caller's transaction.
pub(in crate::store) async fn move_due(recent: &Recent, conn: &mut SqliteConnection) -> Result<(), Error> {
    if recent.is_due() { move_slice(recent, conn).await } else { Ok(()) }
}

/// Moves all slices to their table, in the caller's transaction.
pub(in crate::store) async fn move_all(recent: &Recent, conn: &mut SqliteConnection) -> Result<(), Error> {
    for _ in 0..SLICES {
        move_slice(recent, conn).await?;
        recent.commit();
    }
    Ok(())
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
        (slice, rows, state.round_from.row)
    };
    insert::write_references(conn, &mut rows).await?;
    if slice + 1 == SLICES {
        progress::save(conn, PROGRESS, round_from).await?;
    }
    sqlx::query(
        "DELETE FROM reference_log WHERE k <= min((SELECT value FROM progress WHERE name = ?), \
         (SELECT min(k) FROM reference_log) + ?)",
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
    recent.change(conn, Change::Release(rows), message_keys).await
}

/// Deletes the rows of messages that are deleted, in the caller's transaction.
pub(in crate::store) async fn delete_messages(
    recent: &Recent,
    conn: &mut SqliteConnection,
    message_keys: &[i64],
    rows: Vec<ReferenceRow>,
) -> Result<(), Error> {
    recent.change(conn, Change::Delete(rows), message_keys).await
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
