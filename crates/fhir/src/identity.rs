//! Identity: by what a repeat is known, and what it then means (MSG-60 to MSG-70).
//!
//! Two functions. `keys` says which ids of a message count, by its version:
//!
//! | version | transmission | message key | strict |
//! |---|---|---|---|
//! | R4, R4B | Bundle.id | MessageHeader.id, else Bundle.identifier, else Bundle.id | no |
//! | R5 with Bundle.identifier | none | Bundle.identifier | yes |
//! | R5 without | as R4 | as R4 | no |
//!
//! `judge` says what it means that some are known, of the same sender, with the same content or with another. The first
//! row that holds decides:
//!
//! | transmission | message key | otherwise | verdict |
//! |---|---|---|---|
//! | known, same content | any | | repeat |
//! | known, other content | any | | conflict |
//! | new or none | known, same content | | repeat |
//! | new or none | known, other content | strict | conflict |
//! | new or none | known, other content | category consequence | conflict |
//! | new or none | known, other content | currency, notification, unknown | new: copied header ids exist in the field |
//! | new or none | new | | new |
//!
//! Where the message key fell back to Bundle.id, both keys are one, so that the first two rows decide.
//! It knows no store and no sender: whoever asks has looked the keys up.

use super::content;
use super::event::Category;
use super::message::Message;
use super::version::FhirVersion;
use std::borrow::Cow;

/// Which of a message's ids a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i64)]
pub enum KeyKind {
    HeaderId = 1,
    BundleId = 2,
    BundleIdentifier = 3,
}

/// The keys of one message and its content, by value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IdentityKeys {
    /// R4: Bundle.id, this transmission. None in R5 with an identifier, and where there is none.
    pub transmission: Option<(KeyKind, String)>,
    /// R4: MessageHeader.id, else Bundle.identifier, else Bundle.id. R5: Bundle.identifier, else as R4.
    pub message: Option<(KeyKind, String)>,
    /// R5 with an identifier: other content under it is always an error.
    pub strict: bool,
    /// SHA-256 of the Bundle without id, meta, timestamp and signature, compared by value.
    pub content: [u8; 32],
    /// Of a response: SHA-256 of what it says, without its own identities. Two answers to one request that have the same
    /// are the same answer.
    pub said: Option<[u8; 32]>,
}

/// What the store knows of one key, within the same sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<K> {
    /// A message with this key and the same content.
    pub same: Option<K>,
    /// Some message with this key.
    pub any: Option<K>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<K> {
    New,
    Duplicate(K),
    Conflict(K),
}

/// The keys of a message; the first table above.
pub(super) fn keys(message: &Message) -> IdentityKeys {
    let content = content::digest(&message.tree);
    let said = message.header.response.is_some().then(|| content::said(&message.tree));
    let identifier = message.bundle_identifier.as_ref().map(|found| (KeyKind::BundleIdentifier, found.to_string()));
    if message.version == FhirVersion::R5 && identifier.is_some() {
        return IdentityKeys { transmission: None, message: identifier, strict: true, content, said };
    }
    let transmission = message.bundle_id.clone().map(|id| (KeyKind::BundleId, id));
    let header_id = message.header.id.clone().map(|id| (KeyKind::HeaderId, id));
    let key = header_id.or(identifier).or_else(|| transmission.clone());
    IdentityKeys { transmission, message: key, strict: false, content, said }
}

/// What a message is, given what is known of its keys; the second table above.
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

/// An id as it is compared: without a leading `urn:uuid:`, UUIDs without case, all others exactly.
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
