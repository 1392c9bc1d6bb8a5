//! Retention: deletes identities, bodies, and traces (rows of messages with their deliveries and attempts) by age, in small steps
//! between which messages are accepted.
//!
//! A message with a waiting delivery is open: nothing of it is deleted, whatever its age. The body of a message with a dead letter
//! is kept for a number of days of its own, counted from when that delivery ended, so that an operator can retry it.

use super::archived::Archived;
use std::sync::Arc;
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

/// What retention deletes.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetentionRules {
    pub days: RetentionDays,
    /// While the store has more bytes than this, the oldest bodies are deleted whatever their age, and then traces without identities.
    /// 0: no limit.
    pub store_limit_bytes: u64,
}

impl From<RetentionDays> for RetentionRules {
    fn from(days: RetentionDays) -> RetentionRules {
        RetentionRules { days, store_limit_bytes: 0 }
    }
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
    /// All bodies that may be deleted are gone, and the store is still too large.
    pub deletes_traces_by_size: bool,
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

/// Where a search for what may be archived continues.
#[derive(Clone, Copy, Debug)]
pub(super) enum ArchivePlace {
    Traces(i64),
    Bodies(i64),
    DeadLetters(DeadLetterCursor),
}

impl Default for ArchivePlace {
    fn default() -> ArchivePlace {
        ArchivePlace::Traces(0)
    }
}

impl ArchivePlace {
    /// After the last of its kind.
    pub fn next_kind(self) -> Option<ArchivePlace> {
        match self {
            ArchivePlace::Traces(_) => Some(ArchivePlace::Bodies(0)),
            ArchivePlace::Bodies(_) => Some(ArchivePlace::DeadLetters(DeadLetterCursor::default())),
            ArchivePlace::DeadLetters(_) => None,
        }
    }

    /// After a page of messages.
    pub fn after(self, window: &Window) -> Option<ArchivePlace> {
        match self {
            ArchivePlace::Traces(_) if window.more => Some(ArchivePlace::Traces(window.cursor)),
            ArchivePlace::Bodies(_) if window.more => Some(ArchivePlace::Bodies(window.cursor)),
            _ => self.next_kind(),
        }
    }
}

/// What a step of retention may do.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub now_us: i64,
    pub limits: Limits,
    /// Messages that it looks at.
    pub limit: u32,
    /// None without an archive.
    pub archived: Option<Arc<Archived>>,
    /// When messages were last imported.
    pub imported_us: Option<i64>,
    /// The newest message that was there already and whose content an import restored; 0 if there is none.
    pub restored_key: i64,
    /// Only bodies of messages with lower keys.
    pub bodies_below: i64,
    pub store_limit_bytes: u64,
    /// Bytes that the store has above its limit.
    pub excess_bytes: u64,
}

impl Scope {
    pub fn new(now_us: i64, rules: RetentionRules, limit: u32, archived: Option<Arc<Archived>>) -> Scope {
        Scope {
            now_us,
            limits: Limits::new(rules.days, now_us),
            limit,
            archived,
            imported_us: None,
            restored_key: 0,
            bodies_below: i64::MAX,
            store_limit_bytes: rules.store_limit_bytes,
            excess_bytes: 0,
        }
    }

    /// With more bytes than the limit, every body is old but those of open messages, and then every trace without an identity.
    pub fn measure(&mut self, store_bytes: u64, deletes_traces: bool) {
        self.excess_bytes = store_bytes.saturating_sub(self.store_limit_bytes);
        if self.excess_bytes > 0 {
            self.limits.bodies = Some(i64::MAX);
            if deletes_traces {
                self.limits.traces = self.limits.traces.max(self.limits.identities);
            }
        }
    }

    /// Whether deleting bodies of this size brings the store below its limit. Partitions become smaller only as a whole.
    pub fn is_enough(&self, stored_bytes: u64) -> bool {
        self.excess_bytes > 0 && self.bodies_below == i64::MAX && stored_bytes >= self.excess_bytes
    }

    /// Dead letters that ended before this time no longer protect their message.
    pub fn protected_since_us(&self) -> i64 {
        self.limits.dead_letters.unwrap_or(i64::MIN)
    }

    /// The key after which a step looks for what is older than `before_us`. Imported messages, which have negative keys, are as old
    /// as the last import: who imported them wants to look at them.
    pub fn first_key(&self, cursor: i64, before_us: i64) -> i64 {
        match self.imported_us {
            Some(imported_us) if cursor == 0 && imported_us < before_us => i64::MIN,
            _ => cursor,
        }
    }

    /// As `first_key`, for bodies. Those that an import restored of messages that were still there are as old as the import, too; they
    /// cannot be distinguished from bodies that were never deleted, so that all before the newest of them stay as long.
    pub fn first_body_key(&self, cursor: i64, before_us: i64) -> i64 {
        match self.imported_us {
            Some(imported_us) if imported_us >= before_us => cursor.max(self.restored_key),
            _ => self.first_key(cursor, before_us),
        }
    }

    pub fn window(&self, messages: &[Aged]) -> Window {
        // Not more than what is too much.
        let excess_pages = i64::try_from(self.excess_bytes / 4_096).unwrap_or(i64::MAX).saturating_add(1);
        let most_cost = if self.excess_bytes > 0 { STEP_COST.min(excess_pages) } else { STEP_COST };
        Window::new(messages, (self.limit, most_cost), self.archived.as_deref())
    }

    /// The messages to delete of these, and where to continue.
    pub fn dead_letters(&self, letters: &[DeadLetter]) -> (Vec<i64>, DeadLetterCursor) {
        dead_letters(letters, self.limit, self.archived.as_deref())
    }
}

/// The row of `progress` that says when messages were last imported.
pub(super) const IMPORTED_PROGRESS: &str = "imported_us";
/// The row of `progress` with the newest message that was there already and whose content an import restored.
pub(super) const RESTORED_PROGRESS: &str = "restored_newest";

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
    /// Of at most `limit` messages in the order of their keys. With an archive it ends before the first one that is not there yet.
    fn new(messages: &[Aged], (limit, most_cost): (u32, i64), archived: Option<&Archived>) -> Window {
        let mut window = Window { ended: Vec::new(), cursor: 0, more: false, too_large: false };
        let mut all_old = true;
        let mut sum: i64 = 0;
        for message in messages {
            let is_archived = archived.is_none_or(|archived| message.is_open || archived.contains(message.key));
            all_old &= message.is_old && is_archived;
            if !all_old && archived.is_some() {
                break;
            }
            if message.is_old && !message.is_open {
                sum = sum.saturating_add(message.cost);
                if sum > most_cost && !window.ended.is_empty() {
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
    /// 0 if its body is gone.
    pub cost: i64,
}

/// The messages to delete, of at most `limit` dead letters in the order in which they ended, and where to continue. With an archive
/// it ends before the first one that is not there yet.
fn dead_letters(letters: &[DeadLetter], limit: u32, archived: Option<&Archived>) -> (Vec<i64>, DeadLetterCursor) {
    let (mut ended, mut cursor, mut sum) = (Vec::new(), DeadLetterCursor::default(), 0_i64);
    for letter in letters {
        if !letter.is_protected {
            if letter.cost > 0 && archived.is_some_and(|archived| !archived.contains(letter.message_key)) {
                return (ended, DeadLetterCursor::default());
            }
            sum = sum.saturating_add(letter.cost);
            if sum > STEP_COST && !ended.is_empty() {
                return (ended, cursor);
            }
            ended.extend((letter.cost > 0).then_some(letter.message_key));
        }
        cursor = letter.place;
    }
    let cursor = if letters.len() < limit as usize { DeadLetterCursor::default() } else { cursor };
    (ended, cursor)
}

pub(super) fn microseconds_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}
