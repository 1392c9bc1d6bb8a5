//! Counts the children visited by this thread, for tests of how work grows with a document.

use std::cell::Cell;

thread_local! {
    static VISITS: Cell<u64> = const { Cell::new(0) };
}

pub(super) fn count() {
    VISITS.set(VISITS.get() + 1);
}

/// The number of visits during this call.
#[inline]
pub fn of(act: impl FnOnce()) -> u64 {
    let before = VISITS.get();
    act();
    VISITS.get() - before
}
