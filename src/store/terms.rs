//! Terms: the values by which messages are searched, as hashes.
//!
//! A term finds messages that may match; the conditions on their rows decide. The hash is part of the stored format and never
//! changes.

use super::reference::head;
use super::view::MessageFilter;
use crate::delivery::MessageState;
use crate::fault::Fault;
use sha2::{Digest, Sha256};

/// The fields by which a message is searched, as its row holds them.
pub(super) struct SearchFields<'m> {
    pub source: Option<&'m str>,
    pub event: Option<&'m str>,
    pub response_code: Option<&'m str>,
    /// Each between line feeds.
    pub destinations: &'m str,
    /// Each between spaces.
    pub issue_labels: Option<&'m str>,
    pub state: MessageState,
}

impl SearchFields<'_> {
    /// Each term once.
    pub fn terms(&self) -> Vec<i64> {
        let mut all: Vec<i64> = self.destinations.lines().filter(|line| !line.is_empty()).map(destination).collect();
        all.extend(self.issue_labels.into_iter().flat_map(|labels| labels.split_whitespace().map(issue_label)));
        all.extend(self.source.map(source));
        all.extend(self.event.map(event));
        all.extend(self.response_code.map(response_code));
        all.extend((self.state == MessageState::Refused).then(refused));
        all.sort_unstable();
        all.dedup();
        all
    }
}

fn term(kind: &str, value: &str) -> i64 {
    head(&Sha256::new().chain_update(kind).chain_update([0]).chain_update(value).finalize())
}

pub(super) fn destination(value: &str) -> i64 {
    term("destination", value)
}

pub(super) fn source(value: &str) -> i64 {
    term("source", value)
}

/// By the code of `system|code`, so that it is found with and without its system.
pub(super) fn event(value: &str) -> i64 {
    term("event", value.rsplit('|').next().unwrap_or(value))
}

pub(super) fn response_code(value: &str) -> i64 {
    term("response", value)
}

/// A fault, an issue code, or a rule of its outcome, or a fault of one of its deliveries.
pub(super) fn issue_label(value: &str) -> i64 {
    term("mark", value)
}

pub(super) fn fault(fault: Fault) -> i64 {
    issue_label(fault.code())
}

pub(super) fn refused() -> i64 {
    term("refused", "")
}

/// Terms that every message that matches the filter has.
pub(super) fn of_filter(filter: &MessageFilter) -> Vec<i64> {
    let given = [
        filter.source.as_deref().map(source),
        filter.destination.as_deref().map(destination),
        filter.event.as_deref().map(event),
        filter.response_code.as_deref().map(response_code),
        filter.fault.as_deref().map(issue_label),
        filter.issue.as_deref().map(issue_label),
        filter.rule.as_deref().map(issue_label),
        (filter.state == Some(MessageState::Refused)).then(refused),
    ];
    given.into_iter().flatten().collect()
}
