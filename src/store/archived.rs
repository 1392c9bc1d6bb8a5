//! Which messages are in the archive, between the moment when their file is on disk and their deletion.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What of the deliveries of a message changes when one of them is retried or answered: number, attempts, states, the last end, and
/// the newest answer.
pub(super) type DeliveryDigest = (i64, i64, i64, i64, i64);

/// Messages that an archive holds on disk: only these may be deleted where there is an archive.
#[derive(Debug, Default)]
pub struct Archived {
    /// None: some of its rows are deleted already, after all of them were archived.
    messages: Mutex<HashMap<i64, Option<DeliveryDigest>>>,
    /// Nothing more may be archived.
    is_last: bool,
}

impl Archived {
    pub(super) fn new(messages: HashMap<i64, DeliveryDigest>, is_last: bool) -> Archived {
        let messages = messages.into_iter().map(|(key, digest)| (key, Some(digest))).collect();
        Archived { messages: Mutex::new(messages), is_last }
    }

    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    fn messages(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Option<DeliveryDigest>>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_empty(&self) -> bool {
        self.messages().is_empty()
    }

    pub(super) fn contains(&self, message_key: i64) -> bool {
        self.messages().contains_key(&message_key)
    }

    /// Those of these messages whose deliveries are as they were archived. `now`: as they are.
    pub(super) fn unchanged(&self, keys: &[i64], now: &HashMap<i64, DeliveryDigest>) -> Vec<i64> {
        let messages = self.messages();
        let is_unchanged = |key: &&i64| match messages.get(key) {
            Some(Some(archived)) => *archived == now.get(key).copied().unwrap_or_default(),
            Some(None) => true,
            None => false,
        };
        keys.iter().filter(is_unchanged).copied().collect()
    }

    /// Its rows are deleted in several steps, which change its deliveries.
    pub(super) fn begin_deleting(&self, message_key: i64) {
        self.messages().entry(message_key).and_modify(|digest| *digest = None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_archived_and_has_not_changed_may_be_deleted() {
        let digest = (1, 2, 3, 4, 5);
        let archived = Archived::new(HashMap::from([(1, digest), (2, digest), (3, DeliveryDigest::default())]), true);
        let now = HashMap::from([(1, digest), (2, (1, 3, 3, 9, 5)), (4, digest)]);
        assert_eq!(archived.unchanged(&[1, 2, 3, 4], &now), [1, 3]);
        archived.begin_deleting(2);
        archived.begin_deleting(4);
        assert_eq!(archived.unchanged(&[1, 2, 3, 4], &now), [1, 2, 3]);
    }
}
