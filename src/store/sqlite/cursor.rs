//! How far retention has come in this run: memory of the process, which a restart forgets.

/// Where the next call continues; at the start again after the end or a message that is too young.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct RetentionCursors {
    pub bodies: i64,
    pub traces: i64,
    pub dead_letters: DeadLetterCursor,
}

/// A position in the order in which deliveries ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct DeadLetterCursor {
    pub ended_us: i64,
    pub delivery_key: i64,
}
