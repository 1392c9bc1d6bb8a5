//! The identity of a message: how a duplicate is recognized, and what follows from it (MSG-60 to MSG-70).
//!
//! Two functions. `keys` returns the ids of a message that count, by its version:
//!
//! | version | transmission | message key | strict |
//! |---|---|---|---|
//! | R4, R4B | Bundle.id | MessageHeader.id, else Bundle.identifier, else Bundle.id | no |
//! | R5 with Bundle.identifier | none | Bundle.identifier | yes |
//! | R5 without | as R4 | as R4 | no |
//!
//! `judge` decides what it means if some of the keys are known, from the same sender, with the same or with other
//! content. The first row that applies decides:
//!
//! | transmission | message key | otherwise | verdict |
//! |---|---|---|---|
//! | known, same content | any | | duplicate |
//! | known, other content | any | | conflict |
//! | new or none | known, same content | | duplicate |
//! | new or none | known, other content | strict | conflict |
//! | new or none | known, other content | category consequence | conflict |
//! | new or none | known, other content | currency, notification, unknown | new: copied header ids exist in the field |
//! | new or none | new | | new |
//!
//! If the message key is Bundle.id, both keys are equal, and the first two rows decide. `judge` does not know stores
//! or senders: the caller looks the keys up.

use super::content;
use super::event::{Category, Identifier};
use super::format::{self, Format};
use super::header::MessageHeader;
use super::tree::Tree;
use super::version::FhirVersion;
use bytes::Bytes;
use std::borrow::Cow;

/// Which of a message's ids a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum KeyKind {
    /// MessageHeader.id.
    HeaderId = 1,
    /// Bundle.id.
    BundleId = 2,
    /// Bundle.id.
    BundleIdentifier = 3,
}

/// The keys of one message, and hashes of its content.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdentityKeys {
    /// R4: Bundle.id, which identifies a transmission. None in R5 with an identifier, and if the Bundle has no id.
    pub transmission: Option<(KeyKind, String)>,
    /// R4: MessageHeader.id, else Bundle.identifier, else Bundle.id. R5: Bundle.identifier, else as in R4.
    pub message: Option<(KeyKind, String)>,
    /// R5 with an identifier: other content with the same key is always an error.
    pub strict: bool,
    /// SHA-256 of the Bundle without id, meta, timestamp, and signature, independent of formatting.
    pub content: [u8; 32],
    /// For a response: SHA-256 of its content without its own identities. If it is equal for two answers to one
    /// request, they are the same answer.
    pub response_content: Option<[u8; 32]>,
}

/// What the store knows about one key of the same sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<K> {
    /// A message with this key and the same content.
    pub same: Option<K>,
    /// Any message with this key.
    pub any: Option<K>,
}

/// What a message is, compared with those already received; `K` identifies the earlier message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<K> {
    /// No stored message has this identity.
    New,
    /// The stored message has the same identity and content.
    Duplicate(K),
    /// The stored message has the same identity and other content.
    Conflict(K),
}

/// What identifies a message.
pub(super) struct Identified<'m> {
    pub tree: &'m Tree,
    pub version: FhirVersion,
    pub header: &'m MessageHeader,
    pub bundle_id: Option<&'m str>,
    pub bundle_identifier: Option<&'m Identifier>,
}

/// Whether a document has the content with this hash. XML is read by the elements of a version, which the document need not show: it has
/// the content if it does in one of them.
pub fn has_content(bytes: &Bytes, sha256: &[u8; 32]) -> bool {
    let format = Format::detect(bytes);
    let declared: &[Option<FhirVersion>] = match format {
        Format::Json => &[None],
        Format::Xml => &[None, Some(FhirVersion::R4), Some(FhirVersion::R4B), Some(FhirVersion::R5)],
    };
    let has = |version: &Option<FhirVersion>| {
        format::read(bytes.clone(), format, *version, None).is_ok_and(|tree| content::digest(&tree) == *sha256)
    };
    declared.iter().any(has)
}

/// The keys of a message; the first table above.
pub(super) fn keys(message: Identified) -> IdentityKeys {
    let content = content::digest(message.tree);
    let response_content = message.header.response.is_some().then(|| content::digest_without_identity(message.tree));
    let identifier = message.bundle_identifier.map(|found| (KeyKind::BundleIdentifier, found.to_string()));
    if message.version == FhirVersion::R5 && identifier.is_some() {
        return IdentityKeys { transmission: None, message: identifier, strict: true, content, response_content };
    }
    let transmission = message.bundle_id.map(|id| (KeyKind::BundleId, id.to_owned()));
    let header_id = message.header.id.clone().map(|id| (KeyKind::HeaderId, id));
    let key = header_id.or(identifier).or_else(|| transmission.clone());
    IdentityKeys { transmission, message: key, strict: false, content, response_content }
}

/// The verdict on a message, given what is known of its keys; the second table above.
pub fn judge<K: Copy>(strict: bool, category: Option<Category>, transmission: Seen<K>, message: Seen<K>) -> Verdict<K> {
    match (transmission, message) {
        (Seen { same: Some(known), .. }, _) => Verdict::Duplicate(known),
        (Seen { any: Some(known), .. }, _) => Verdict::Conflict(known),
        (_, Seen { same: Some(known), .. }) => Verdict::Duplicate(known),
        (_, Seen { any: Some(known), .. }) if strict || category == Some(Category::Consequence) => {
            Verdict::Conflict(known)
        }
        _ => Verdict::New,
    }
}

/// Normalizes an id for comparison: without a leading `urn:uuid:`, UUIDs in lower case, all others unchanged.
pub fn normal(value: &str) -> Cow<'_, str> {
    const PREFIX: &str = "urn:uuid:";
    let prefixed = value.get(..PREFIX.len()).is_some_and(|head| head.eq_ignore_ascii_case(PREFIX));
    let bare = if prefixed { &value[PREFIX.len()..] } else { value };
    if bare.len() == 36 && uuid::Uuid::try_parse(bare).is_ok() && bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Cow::Owned(bare.to_ascii_lowercase());
    }
    Cow::Borrowed(bare)
}

#[cfg(test)]
mod tests;
