//! References: the ids that a message carries, normalized and hashed, for identity, correlation, and search.
//!
//! A hash only finds candidates; the ids themselves decide (`Metadata::is_named_by`, `value`).
//! The hash is part of the stored format and never changes.

use crate::delivery::Metadata;
use fhir::identity::{IdentityKeys, KeyKind, normal};
use sha2::{Digest, Sha256};

/// Kind of reference: the value of a Bundle identifier without its system, if it has a system; for correlation and search.
pub(super) const IDENTIFIER_VALUE: i64 = 4;
/// Kind of reference: the UUID of the header entry's `fullUrl`, if it is not the header's id; for correlation.
pub(super) const HEADER_UUID: i64 = 5;

/// One id of a message: a row of `reference` without its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub hash: i64,
    pub kind: i64,
    /// Whether it is one of the keys that identify duplicates.
    pub identity: bool,
}

pub(super) fn hash(value: &str) -> i64 {
    head(&Sha256::digest(normal(value).as_bytes()))
}

/// The first 8 bytes as an integer.
pub(super) fn head(digest: &[u8]) -> i64 {
    digest.iter().take(8).fold(0, |sum: i64, byte| (sum << 8) | i64::from(*byte))
}

/// The normalized id of a message for a kind of key.
pub(super) fn value(metadata: &Metadata, kind: KeyKind) -> Option<String> {
    let text = match kind {
        KeyKind::HeaderId => metadata.header_id.clone(),
        KeyKind::BundleId => metadata.bundle_id.clone(),
        KeyKind::BundleIdentifier => metadata.bundle_identifier.as_ref().map(ToString::to_string),
    };
    text.map(|text| normal(&text).into_owned())
}

/// Every id of a message once, sorted by hash.
pub(super) fn references(metadata: &Metadata, identity: &IdentityKeys) -> Vec<Reference> {
    let keys = [identity.transmission.as_ref(), identity.message.as_ref()];
    let is_key = |kind: KeyKind| keys.iter().flatten().any(|(known, _)| *known == kind);
    let mut all: Vec<Reference> = [KeyKind::HeaderId, KeyKind::BundleId, KeyKind::BundleIdentifier]
        .into_iter()
        .filter_map(|kind| Some((kind, value(metadata, kind)?)))
        .map(|(kind, value)| Reference { hash: hash(&value), kind: kind as i64, identity: is_key(kind) })
        .collect();
    if let Some(identifier) = metadata.bundle_identifier.as_ref().filter(|identifier| identifier.system.is_some()) {
        all.push(Reference { hash: hash(&identifier.value), kind: IDENTIFIER_VALUE, identity: false });
    }
    if let Some(uuid) = &metadata.header_uuid {
        all.push(Reference { hash: hash(uuid), kind: HEADER_UUID, identity: false });
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash("message-1"), hash("urn:uuid:message-1"));
        assert_eq!(hash(""), i64::from_be_bytes([0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14]));
    }
}
