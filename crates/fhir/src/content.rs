//! The content of a message by value: one SHA-256 that is equal exactly when two Bundles say the same.
//!
//! Left out are the Bundle's own `id`, `meta`, `timestamp` and `signature`, which belong to a transmission. Order of
//! members, white space and escapes do not count; order of items and the spelling of numbers do (JSN-02, JSN-08).
//!
//! `said` leaves out the identities of the message as well: two answers that say the same are the same answer, whatever
//! identities their sender gave them.

use super::scan;
use super::tree::{Children, Kind, Node, Tree};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// What is no content at the top of the Bundle.
const TRANSMISSION: [&[u8]; 4] = [b"id", b"meta", b"timestamp", b"signature"];
/// What is an identity, by the object that it stands in.
const OF_BUNDLE: &[&[u8]] = &[b"identifier"];
const OF_HEADER_ENTRY: &[&[u8]] = &[b"fullUrl"];
const OF_HEADER: &[&[u8]] = &[b"id"];

/// The SHA-256 over the canonical form. Each value is a tag, a length and its bytes or children, so that no two
/// different values have the same form.
pub(super) fn digest(tree: &Tree) -> [u8; 32] {
    Canonical::new(None).digest(tree)
}

/// The same without the message's identities: Bundle.identifier, MessageHeader.id, and the fullUrl of the header's entry.
pub(super) fn said(tree: &Tree) -> [u8; 32] {
    let entries = tree.root().get("entry").into_iter();
    let entry = entries.flat_map(Node::items).next();
    let header = entry.and_then(|entry| entry.get("resource"));
    Canonical::new(Some(Identities { bundle: tree.root(), entry, header })).digest(tree)
}

/// The objects that hold the identities of a message.
struct Identities<'t> {
    bundle: Node<'t>,
    entry: Option<Node<'t>>,
    header: Option<Node<'t>>,
}

impl<'t> Identities<'t> {
    fn of(&self, node: Node<'t>) -> &'static [&'static [u8]] {
        let is = |known: Option<Node<'t>>| known.is_some_and(|known| known.range() == node.range());
        match () {
            () if is(Some(self.bundle)) => OF_BUNDLE,
            () if is(self.entry) => OF_HEADER_ENTRY,
            () if is(self.header) => OF_HEADER,
            () => &[],
        }
    }
}

/// Small pieces are gathered before they are hashed.
const BUFFER_BYTES: usize = 4096;

struct Canonical<'t> {
    hasher: Sha256,
    left_out: Option<Identities<'t>>,
    buffer: Vec<u8>,
    /// The members of the open objects, innermost last: one vector for all.
    members: Vec<(Cow<'t, [u8]>, Node<'t>)>,
}

impl<'t> Canonical<'t> {
    fn new(left_out: Option<Identities<'t>>) -> Self {
        Canonical { hasher: Sha256::new(), left_out, buffer: Vec::with_capacity(BUFFER_BYTES), members: Vec::new() }
    }

    fn digest(mut self, tree: &'t Tree) -> [u8; 32] {
        self.value(tree.root(), true);
        self.hasher.update(&self.buffer);
        self.hasher.finalize().into()
    }

    /// Recurses as deep as the tree, which the reader bounds.
    fn value(&mut self, node: Node<'t>, is_top: bool) {
        match node.kind() {
            Kind::Null => self.put(b'n', 0),
            Kind::Boolean => self.put(if node.boolean() == Some(true) { b't' } else { b'f' }, 0),
            Kind::Number | Kind::String => {
                let text = decoded(node.span());
                self.put(if node.kind() == Kind::Number { b'd' } else { b's' }, text.len());
                self.bytes(&text);
            }
            Kind::Array => {
                self.put(b'a', count(node.children()));
                for item in node.children() {
                    self.value(item, false);
                }
            }
            Kind::Object => self.object(node, is_top),
        }
    }

    fn object(&mut self, node: Node<'t>, is_top: bool) {
        let from = self.members.len();
        let identities = self.left_out.as_ref().map_or(&[][..], |left_out| left_out.of(node));
        for child in node.children() {
            let key = decoded(child.key_span());
            if !(is_top && TRANSMISSION.contains(&key.as_ref()) || identities.contains(&key.as_ref())) {
                self.members.push((key, child));
            }
        }
        self.members[from..].sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let to = self.members.len();
        self.put(b'o', to - from);
        for index in from..to {
            let (key, child) = (std::mem::take(&mut self.members[index].0), self.members[index].1);
            self.put(b'k', key.len());
            self.bytes(&key);
            self.value(child, false);
        }
        self.members.truncate(from);
    }

    fn put(&mut self, tag: u8, length: usize) {
        self.bytes(&[tag]);
        self.bytes(&(length as u64).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.hasher.update(&self.buffer);
            self.buffer.clear();
            if bytes.len() > BUFFER_BYTES {
                return self.hasher.update(bytes);
            }
        }
        self.buffer.extend_from_slice(bytes);
    }
}

fn count(children: Children<'_>) -> usize {
    children.count()
}

fn decoded((bytes, escaped): (&[u8], bool)) -> Cow<'_, [u8]> {
    match escaped {
        false => Cow::Borrowed(bytes),
        true => Cow::Owned(scan::unescape(std::str::from_utf8(bytes).unwrap_or_default()).into_bytes()),
    }
}
