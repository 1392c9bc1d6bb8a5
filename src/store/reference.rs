//! References: the ids that a message carries, normalized and hashed, for identity, correlation and search.
//!
//! Hashes only narrow a search down: who decides on a candidate compares the ids themselves (`names`, `value`).
//! The hash is part of the stored format and never changes.

use crate::delivery::Facts;
use crate::fhir::identity::{IdentityKeys, KeyKind};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// The value of a Bundle identifier without its system, kept where there is a system: for correlation and search.
pub(super) const BARE_IDENTIFIER: i64 = 4;

/// One id of a message: a row of `reference` without its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub hash: i64,
    pub kind: i64,
    /// Whether it is one of the keys by which a repeat is known.
    pub identity: bool,
}

/// Ids compare without a leading `urn:uuid:`; UUIDs without case, all others exactly.
pub(super) fn normal(value: &str) -> Cow<'_, str> {
    const PREFIX: &str = "urn:uuid:";
    let prefixed = value.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX));
    let bare = if prefixed { &value[PREFIX.len()..] } else { value };
    if bare.len() == 36 && uuid::Uuid::try_parse(bare).is_ok() && bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(bare.to_ascii_lowercase());
    }
    Cow::Borrowed(bare)
}

pub(super) fn hash(value: &str) -> i64 {
    head(&Sha256::digest(normal(value).as_bytes()))
}

/// The first 8 bytes as an integer.
pub(super) fn head(digest: &[u8]) -> i64 {
    digest.iter().take(8).fold(0, |sum: i64, byte| (sum << 8) | i64::from(*byte))
}

/// What a message has for a kind of key, as compared.
pub(super) fn value(facts: &Facts, kind: KeyKind) -> Option<String> {
    let text = match kind {
        KeyKind::HeaderId => facts.header_id.clone(),
        KeyKind::BundleId => facts.bundle_id.clone(),
        KeyKind::BundleIdentifier => facts.bundle_identifier.as_ref().map(ToString::to_string),
    };
    text.map(|text| normal(&text).into_owned())
}

/// Whether a response's identifier may mean this message (MSG-36, MSG-37; publishers differ in which id they give).
pub fn names(facts: &Facts, identifier: &str) -> bool {
    let wanted = normal(identifier);
    let bundle_identifier = facts.bundle_identifier.as_ref();
    [facts.header_id.as_deref(), facts.bundle_id.as_deref(), bundle_identifier.map(|known| known.value.as_str())]
        .into_iter()
        .flatten()
        .any(|known| normal(known) == wanted)
        || bundle_identifier.is_some_and(|known| normal(&known.to_string()) == wanted)
}

/// Every id of a message once, sorted by hash.
pub(super) fn references(facts: &Facts, identity: &IdentityKeys) -> Vec<Reference> {
    let keys = [identity.transmission.as_ref(), identity.message.as_ref()];
    let is_key = |kind: KeyKind| keys.iter().flatten().any(|(known, _)| *known == kind);
    let mut all: Vec<Reference> = [KeyKind::HeaderId, KeyKind::BundleId, KeyKind::BundleIdentifier]
        .into_iter()
        .filter_map(|kind| Some((kind, value(facts, kind)?)))
        .map(|(kind, value)| Reference { hash: hash(&value), kind: kind as i64, identity: is_key(kind) })
        .collect();
    if let Some(identifier) = facts.bundle_identifier.as_ref().filter(|identifier| identifier.system.is_some()) {
        all.push(Reference { hash: hash(&identifier.value), kind: BARE_IDENTIFIER, identity: false });
    }
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_compare_without_urn_uuid_and_uuids_without_case() {
        let uuid = "6f2a0a6e-0c3a-4f3f-9a50-3d1a3f1c9a11";
        for spelled in [uuid, &uuid.to_uppercase(), &format!("urn:uuid:{uuid}"), &format!("URN:UUID:{uuid}")] {
            assert_eq!(normal(spelled), uuid);
        }
        assert_eq!(normal("Message-1"), "Message-1");
        assert_ne!(hash("Message-1"), hash("message-1"));
    }

    #[test]
    fn the_hash_is_that_of_every_version() {
        assert_eq!(hash("message-1"), hash("urn:uuid:message-1"));
        assert_eq!(hash(""), i64::from_be_bytes([0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14]));
    }
}
