//! How a node learns of what other nodes have committed, whatever the order of commits.
//!
//! Keys are taken before the commit, so a row may become visible after rows with higher keys. A node therefore reads again from
//! a position behind which nothing can appear any more: every transaction that may have taken a key up to it has ended. The
//! database knows that: a snapshot names the oldest transaction that is still running.

use std::collections::BTreeSet;

/// What a read of the feed shows of the database besides its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below this number has ended (`pg_snapshot_xmin`).
    pub oldest_running: u64,
    /// The next number that is given to a transaction (`pg_snapshot_xmax`). A transaction gets its number before it takes keys.
    pub next_transaction: u64,
    /// The last key that was taken so far. Sequences know no snapshots: it may be newer than the snapshot.
    pub last_key: i64,
}

/// Rows that are read again and again because of one transaction that does not end. Beyond this number the feed starts anew.
const UNSETTLED_LIMIT_ROWS: usize = 10_000;

/// The position of a node in the feed.
#[derive(Clone, Debug)]
pub struct Feed {
    /// Nothing that was not read appears at or below this key any more, once all transactions below `starts_at` have ended.
    settled: i64,
    /// Transactions below this number may still bring rows at or below `settled`: everything must be read once they have ended.
    starts_at: Option<u64>,
    /// A later position, and the number below which all transactions must have ended before it is settled.
    next: Option<(i64, u64)>,
    /// The last key of the read before: older than the snapshot of the next read.
    last_key: i64,
    /// Keys above `settled` that were read already.
    seen: BTreeSet<i64>,
}

/// What a read showed.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// The rows that were not seen before, by key.
    Keys(Vec<i64>),
    /// Everything that waits must be read.
    Everything,
}

impl Feed {
    pub fn new(snapshot: Snapshot) -> Feed {
        Feed {
            settled: snapshot.last_key,
            starts_at: Some(snapshot.next_transaction),
            next: None,
            last_key: snapshot.last_key,
            seen: BTreeSet::new(),
        }
    }

    /// The next read returns the keys after this one.
    pub fn after(&self) -> i64 {
        self.settled
    }

    /// Takes a read: its snapshot, and the keys above `after` that it sees.
    pub fn read(&mut self, snapshot: Snapshot, keys: impl IntoIterator<Item = i64>) -> News {
        let settled = self.settled;
        let new: Vec<i64> = keys.into_iter().filter(|key| *key > settled && self.seen.insert(*key)).collect();
        let have_ended = |below: u64| snapshot.oldest_running >= below;
        if let Some((position, _)) = self.next.filter(|(_, below)| have_ended(*below)) {
            self.settled = position;
            self.next = None;
        }
        if self.next.is_none() {
            self.next = Some((self.last_key, snapshot.next_transaction));
        }
        self.last_key = snapshot.last_key;
        self.seen = self.seen.split_off(&(self.settled + 1));
        if self.starts_at.is_some_and(have_ended) {
            self.starts_at = None;
            return News::Everything;
        }
        if self.seen.len() > UNSETTLED_LIMIT_ROWS {
            *self = Feed::new(snapshot);
            return News::Everything;
        }
        News::Keys(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database in which transactions get numbers and keys, and commit in any order.
    #[derive(Default)]
    struct Database {
        transactions: u64,
        keys: i64,
        running: BTreeSet<u64>,
        visible: BTreeSet<i64>,
    }

    impl Database {
        fn begin(&mut self) -> u64 {
            self.transactions += 1;
            self.running.insert(self.transactions);
            self.transactions
        }

        fn take_key(&mut self) -> i64 {
            self.keys += 1;
            self.keys
        }

        fn commit(&mut self, transaction: u64, keys: &[i64]) {
            self.running.remove(&transaction);
            self.visible.extend(keys);
        }

        fn snapshot(&self) -> Snapshot {
            let next_transaction = self.transactions + 1;
            let oldest_running = self.running.first().copied().unwrap_or(next_transaction);
            Snapshot { oldest_running, next_transaction, last_key: self.keys }
        }

        fn read(&self, feed: &mut Feed) -> News {
            feed.read(self.snapshot(), self.visible.range(feed.after() + 1..).copied().collect::<Vec<_>>())
        }
    }

    #[test]
    fn a_row_that_becomes_visible_after_later_ones_is_not_missed_and_none_comes_twice() {
        let mut database = Database::default();
        let mut feed = Feed::new(database.snapshot());
        assert_eq!(database.read(&mut feed), News::Everything);
        let (slow, fast) = (database.begin(), database.begin());
        let (early, late) = (database.take_key(), database.take_key());
        database.commit(fast, &[late]);
        assert_eq!(database.read(&mut feed), News::Keys(vec![late]));
        for _ in 0..3 {
            assert_eq!(database.read(&mut feed), News::Keys(vec![]));
        }
        database.commit(slow, &[early]);
        assert_eq!(database.read(&mut feed), News::Keys(vec![early]));
        for _ in 0..3 {
            assert_eq!(database.read(&mut feed), News::Keys(vec![]));
        }
        assert_eq!(feed.after(), late, "what has ended is not read again");
        assert!(feed.seen.is_empty());
    }

    #[test]
    fn what_was_running_when_the_feed_began_makes_it_read_everything_once_more() {
        let mut database = Database::default();
        let slow = database.begin();
        let early = database.take_key();
        let mut feed = Feed::new(database.snapshot());
        assert_eq!(database.read(&mut feed), News::Keys(vec![]));
        database.commit(slow, &[early]);
        assert_eq!(database.read(&mut feed), News::Everything);
        assert_eq!(database.read(&mut feed), News::Keys(vec![]));
    }

    #[test]
    fn a_transaction_that_never_ends_costs_bounded_memory() {
        let mut database = Database::default();
        let mut feed = Feed::new(database.snapshot());
        database.read(&mut feed);
        let stuck = database.begin();
        let mut everything = 0;
        for _ in 0..30 {
            let transaction = database.begin();
            let keys: Vec<i64> = (0..1_000).map(|_| database.take_key()).collect();
            database.commit(transaction, &keys);
            everything += usize::from(database.read(&mut feed) == News::Everything);
            assert!(feed.seen.len() <= UNSETTLED_LIMIT_ROWS);
        }
        assert!((1..=3).contains(&everything), "{everything}");
        database.commit(stuck, &[]);
        assert_eq!(database.read(&mut feed), News::Everything);
        assert_eq!(database.read(&mut feed), News::Keys(vec![]));
    }
}
