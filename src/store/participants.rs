//! The keys of participants, which the store gives them when it first sees them.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// Keys by participant id.
pub(super) type ParticipantKeys = Arc<HashMap<Arc<str>, i64>>;

/// Replaced as a whole when a participant is added.
#[derive(Default)]
pub(super) struct Participants(RwLock<ParticipantKeys>);

impl Participants {
    pub fn new(keys: impl IntoIterator<Item = (Arc<str>, i64)>) -> Participants {
        Participants(RwLock::new(Arc::new(keys.into_iter().collect())))
    }

    pub fn keys(&self) -> ParticipantKeys {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The key of a participant that the store knows.
    pub fn key(&self, id: &str) -> Option<i64> {
        self.keys().get(id).copied()
    }

    /// Those that have no key yet, each once and sorted.
    pub fn unknown<'n>(&self, ids: impl IntoIterator<Item = &'n str>) -> Vec<String> {
        let known = self.keys();
        let mut new: Vec<String> = ids.into_iter().filter(|id| !known.contains_key(*id)).map(str::to_owned).collect();
        new.sort_unstable();
        new.dedup();
        new
    }

    /// Adds what is committed.
    pub fn add(&self, new: impl IntoIterator<Item = (Arc<str>, i64)>) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut keys).extend(new);
    }
}
