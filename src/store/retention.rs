//! Retention: deletes identities, bodies, and traces (rows of messages with their deliveries and attempts) by age, in small steps
//! between which messages are accepted.
//!
//! A message with a waiting delivery is open: nothing of it is deleted, whatever its age. The body of a message with a dead letter
//! is kept for a number of days of its own, counted from when that delivery ended, so that an operator can retry it.

use super::Store;
use super::Unavailable;
use super::backend::{Lease, on_backend};
use super::view::RetentionStep;
use std::time::Instant;

/// After how many days each kind is deleted; 0 keeps it forever.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionDays {
    /// Bodies of messages without dead letters, counted from when the message was received.
    pub bodies: u32,
    /// Bodies of messages with dead or discarded deliveries, counted from when the last of those ended.
    pub dead_letters: u32,
    pub traces: u32,
    pub identities: u32,
}

/// The most that one step deletes: rows, and pages of 4 KiB of bodies.
pub(super) const STEP_COST: i64 = 4_096;
const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The row of `progress` that says up to which message identities are released. A copy of the store keeps it.
pub(super) const IDENTITIES_PROGRESS: &str = "identities";

/// Where the next call continues; at the start again after the end or a message that is too young.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetentionCursors {
    pub bodies: i64,
    pub traces: i64,
    pub dead_letters: DeadLetterCursor,
}

/// A position in the order in which deliveries ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DeadLetterCursor {
    pub ended_us: i64,
    pub delivery_key: i64,
}

/// Times before which something is old, in UTC microseconds since 1970; None keeps everything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub bodies: Option<i64>,
    pub dead_letters: Option<i64>,
    pub traces: Option<i64>,
    pub identities: Option<i64>,
}

impl Limits {
    pub fn new(days: RetentionDays, now_us: i64) -> Limits {
        let before = |days: u32| (days > 0).then(|| now_us.saturating_sub(i64::from(days) * MICROSECONDS_PER_DAY));
        // The row of the first message identifies its duplicates: traces stay at least as long as identities.
        let traces = if days.traces == 0 { 0 } else { days.traces.max(days.identities) };
        Limits {
            bodies: before(days.bodies),
            dead_letters: before(days.dead_letters),
            traces: before(traces),
            identities: before(days.identities),
        }
    }
}

/// The messages of one step.
pub(super) struct Window {
    /// Old enough and not open.
    pub ended: Vec<i64>,
    /// Where the next step continues.
    pub cursor: i64,
    /// Further messages are old.
    pub more: bool,
    /// The first message alone costs more than a step may.
    pub too_large: bool,
}

/// A message that a step looks at.
pub(super) struct Aged {
    pub key: i64,
    pub is_old: bool,
    /// A delivery of it waits, or its dead letters are young.
    pub is_open: bool,
    pub cost: i64,
}

impl Window {
    /// Of at most `limit` messages in the order of their keys.
    pub fn new(messages: &[Aged], limit: u32) -> Window {
        let mut window = Window { ended: Vec::new(), cursor: 0, more: false, too_large: false };
        let mut all_old = true;
        let mut sum: i64 = 0;
        for message in messages {
            all_old &= message.is_old;
            if message.is_old && !message.is_open {
                sum = sum.saturating_add(message.cost);
                if sum > STEP_COST && !window.ended.is_empty() {
                    window.more = true;
                    break;
                }
                window.too_large = sum > STEP_COST;
                window.ended.push(message.key);
            }
            window.cursor = message.key;
        }
        // Old messages that are protected must not hold up those behind them.
        window.more |= all_old && messages.len() >= limit as usize;
        if !all_old {
            window.cursor = 0;
        }
        window
    }
}

/// A dead letter that is old.
pub(super) struct DeadLetter {
    pub message_key: i64,
    pub place: DeadLetterCursor,
    /// Another delivery of its message waits, or died later.
    pub is_protected: bool,
    pub cost: i64,
}

/// The messages to delete, of at most `limit` dead letters in the order in which they ended, and where to continue.
pub(super) fn dead_letters(letters: &[DeadLetter], limit: u32) -> (Vec<i64>, DeadLetterCursor) {
    let (mut ended, mut cursor, mut sum) = (Vec::new(), DeadLetterCursor::default(), 0_i64);
    for letter in letters {
        if !letter.is_protected {
            sum = sum.saturating_add(letter.cost);
            if sum > STEP_COST && !ended.is_empty() {
                return (ended, cursor);
            }
            ended.push(letter.message_key);
        }
        cursor = letter.place;
    }
    let cursor = if letters.len() < limit as usize { DeadLetterCursor::default() } else { cursor };
    (ended, cursor)
}

pub(super) fn microseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

impl Store {
    /// Deletes what is older than `days`. Call again while it deletes something. Deletes nothing while the clock may be wrong.
    pub async fn sweep(&self, now_us: i64, days: RetentionDays, limit: u32) -> Result<RetentionStep, Unavailable> {
        if !self.inner.backend.holds(Lease::Upkeep) {
            return Ok(RetentionStep::default());
        }
        on_backend!(self, backend => backend.sweep(now_us, days, limit).await)
    }
}
