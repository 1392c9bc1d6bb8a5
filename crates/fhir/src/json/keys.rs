//! The names in objects: finds duplicates by their decoded text, without allocating as long as there are none.

use super::super::tree::{KEY_ESCAPED, Tag};
use super::scan;
use std::borrow::Cow;

/// The maximum number of names that are compared pairwise; more are sorted.
const PAIRS_LIMIT: usize = 32;

/// A name between its quotes, as byte offsets.
#[derive(Clone, Copy, Default)]
pub(super) struct Key {
    pub start: u32,
    pub end: u32,
    pub tag: Tag,
    /// `KEY_ESCAPED` or nothing.
    pub flags: u8,
}

impl Key {
    /// The tag of the name.
    #[inline]
    pub fn new(bytes: &[u8], start: usize, end: usize, escaped: bool) -> Key {
        let key = Key {
            start: start as u32,
            end: end as u32,
            tag: Tag::default(),
            flags: if escaped { KEY_ESCAPED } else { 0 },
        };
        let tag = match escaped {
            false => Tag::of(&bytes[start..end]),
            true => Tag::of(text(bytes, key).as_bytes()),
        };
        Key { tag, ..key }
    }
}

/// Whether the names must be sorted to find duplicates. Most objects have few names and no duplicates, which this
/// determines without allocating.
pub(super) fn may_repeat(bytes: &[u8], keys: &[Key]) -> bool {
    let raw = |key: &Key| &bytes[key.start as usize..key.end as usize];
    keys.len() > PAIRS_LIMIT
        || keys.iter().any(|key| key.flags != 0)
        || keys.iter().enumerate().any(|(index, key)| keys[..index].iter().any(|other| raw(other) == raw(key)))
}

/// Each name that an earlier member of the same object has, with the offset of its opening quote.
pub(super) fn repeated<'b>(bytes: &'b [u8], keys: &[Key]) -> Vec<(Cow<'b, str>, usize)> {
    let mut names: Vec<(Cow<'b, str>, u32)> = keys.iter().map(|key| (text(bytes, *key), key.start)).collect();
    names.sort();
    let again = names.windows(2).filter(|pair| pair[0].0 == pair[1].0);
    again.map(|pair| (pair[1].0.clone(), pair[1].1 as usize - 1)).collect()
}

/// The decoded name.
pub(super) fn text(bytes: &[u8], key: Key) -> Cow<'_, str> {
    let text = std::str::from_utf8(&bytes[key.start as usize..key.end as usize]).unwrap_or_default();
    if key.flags & KEY_ESCAPED == 0 { Cow::Borrowed(text) } else { Cow::Owned(scan::unescape(text)) }
}
