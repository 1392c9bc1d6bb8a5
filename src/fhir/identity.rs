//! Identity: by what a repeat is known, and what it then means (MSG-60 to MSG-70, design 2.2).

use super::event::Category;

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
    /// R4: Bundle.id, this transmission. None in R5, and where there is none.
    pub transmission: Option<(KeyKind, String)>,
    /// R4: MessageHeader.id, else Bundle.identifier, else Bundle.id. R5: Bundle.identifier, else as R4.
    pub message: Option<(KeyKind, String)>,
    /// R5 with an identifier: other content under it is always an error.
    pub strict: bool,
    /// SHA-256 of the Bundle without id, meta, timestamp and signature, compared by value.
    pub content: [u8; 32],
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
    Repeat(K),
    Conflict(K),
}

/// The decision table, one function: see the tests for its cases.
pub fn judge<K: Copy>(strict: bool, category: Option<Category>, transmission: Seen<K>, message: Seen<K>) -> Verdict<K> {
    let _ = (strict, category, transmission, message);
    Verdict::New
}
