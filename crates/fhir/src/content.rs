//! Hashes of a message's content: equal if and only if two Bundles have the same content.
//!
//! `digest` leaves out the Bundle's own `id`, `meta`, `timestamp`, and `signature`, which belong to one
//! transmission. The order of members, white space, and escapes do not matter; the order of items and the digits of
//! numbers do (JSN-02, JSN-08).
//!
//! `digest_without_identity` also leaves out the identities of the message: two answers with the same content are
//! the same answer, whatever identities their sender assigned.

use super::scan;
use super::tree::{Children, Kind, Node, Tree};
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Members of the Bundle that belong to the transmission, not to the content.
const TRANSMISSION: [&[u8]; 4] = [b"id", b"meta", b"timestamp", b"signature"];
/// Members that are identities, by the object that has them.
const OF_BUNDLE: &[&[u8]] = &[b"identifier"];
const OF_HEADER_ENTRY: &[&[u8]] = &[b"fullUrl"];
const OF_HEADER: &[&[u8]] = &[b"id"];

/// SHA-256 of the canonical form. Each value is a tag, a length, and its bytes or children, so that different values
/// never have the same canonical form.
pub(super) fn digest(tree: &Tree) -> [u8; 32] {
    Canonical::new(None).digest(tree)
}

/// The same without the message's identities: Bundle.identifier, MessageHeader.id, and the fullUrl of the header's
/// entry.
pub(super) fn digest_without_identity(tree: &Tree) -> [u8; 32] {
    let entries = tree.root().get("entry").into_iter();
    let entry = entries.flat_map(Node::items).next();
    let header = entry.and_then(|entry| entry.get("resource"));
    Canonical::new(Some(Identities { bundle: tree.root(), entry, header })).digest(tree)
}

/// The objects that have the identities of a message.
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

/// The size of the buffer that collects small pieces before they are hashed.
const BUFFER_BYTES: usize = 4096;

struct Canonical<'t> {
    hasher: Sha256,
    left_out: Option<Identities<'t>>,
    buffer: Vec<u8>,
    /// The members of the open objects, innermost last, in one vector to avoid allocations.
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

    /// The reader limits the depth of the tree, and with it this recursion.
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
