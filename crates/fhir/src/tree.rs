//! A document as a tree over its bytes: spans, the digits of numbers, and positions are preserved, and nothing is
//! copied.
//!
//! The nodes are in one vector in document order, each with the index after its subtree, so that walking is a scan.
//! `json` builds the tree and guarantees that spans are valid UTF-8 and escapes are complete. `xml` builds the same
//! tree over the equivalent JSON text, and records the position of each value in the XML. The tree knows nothing of
//! FHIR except what the readers noted.

#[cfg(any(test, feature = "count-visits"))]
pub mod visits;

use super::issue::Issue;
use super::scan;
use bytes::Bytes;
use bytestring::ByteString;
use std::borrow::Cow;
use std::fmt;

/// What a node is, in JSON's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number, as written.
    Number,
    /// A string, as written, with its escapes.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// The value's span has escapes, so its text must be decoded.
pub(super) const ESCAPED: u8 = 1;
/// The same for the key's span.
pub(super) const KEY_ESCAPED: u8 = 2;

/// One node. Spans are byte offsets, end exclusive; those of strings and keys exclude the quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub start: u32,
    pub end: u32,
    /// The member's name; empty outside objects.
    pub key_start: u32,
    pub key_end: u32,
    /// The index after this node's subtree, which is the next sibling's if there is one.
    pub next: u32,
    /// The tag of the decoded name.
    pub tag: Tag,
    pub kind: Kind,
    pub flags: u8,
}

/// A cheap hash of a member's name: nearly every look-up can reject other names by it without reading them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tag(u16);

impl Tag {
    #[inline]
    pub fn of(name: &[u8]) -> Tag {
        let [first, middle, last] = match name {
            [] => [0; 3],
            _ => [name[0], name[name.len() / 2], name[name.len() - 1]].map(u32::from),
        };
        let mixed = first * 31 + middle * 7 + last * 13 + (name.len() as u32).wrapping_mul(5);
        Tag((mixed.wrapping_mul(0x9E37_79B9) >> 16) as u16)
    }

    /// As one of 64 bits.
    #[inline]
    pub fn bit(self) -> u64 {
        1 << (self.0 >> 10)
    }
}

/// The positions of the nodes in a document that was not JSON.
pub(super) struct Source {
    /// The bytes as received, including a byte order mark.
    pub bytes: Bytes,
    /// For each slot its byte offset in them.
    pub offsets: Vec<u32>,
}

/// A document that was read, shared by `Arc`. A node reaches its data in two steps, for which there are many nodes.
pub struct Tree {
    /// The JSON text that the spans refer to: the bytes as received, including a byte order mark, or the equivalent
    /// of the XML that was received.
    pub(super) text: ByteString,
    pub(super) slots: Vec<Slot>,
    /// Violations of FHIR's rules for JSON or XML that do not make the document unreadable (JSN-03, JSN-04, XML-01
    /// to XML-05), in document order.
    pub notes: Vec<Issue>,
    /// None if the JSON text itself was received.
    pub(super) source: Option<Source>,
}

impl fmt::Debug for Tree {
    /// Prints figures only: the content is patient data, and elements and messages print their tree.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tree {{ {} nodes, {} bytes }}", self.slots.len(), self.source_bytes().len())
    }
}

/// One value in a tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'t> {
    /// The document that it is part of.
    pub tree: &'t Tree,
    /// Its position in document order; the root is 0.
    pub index: u32,
}

impl PartialEq for Node<'_> {
    /// Whether it is the same node of the same tree, not an equal value.
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.tree, other.tree) && self.index == other.index
    }
}

impl Tree {
    /// The value of the document.
    #[inline]
    pub fn root(&self) -> Node<'_> {
        Node { tree: self, index: 0 }
    }

    /// The number of nodes, at least one.
    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the tree has no nodes, which no reader returns.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The bytes as received, JSON or XML, which offsets and positions refer to.
    #[inline]
    pub fn source_bytes(&self) -> &Bytes {
        self.source.as_ref().map_or(self.json(), |source| &source.bytes)
    }

    /// Whether it was received as XML, so that texts use the terms of XML.
    #[inline]
    pub fn is_xml(&self) -> bool {
        self.source.is_some()
    }

    /// The JSON text: as received, or the equivalent of the XML that was received.
    #[inline]
    pub fn json(&self) -> &Bytes {
        self.text.as_bytes()
    }

    /// Line and column of an offset in the received bytes, both from 1, the column in characters. Scans the bytes
    /// before it.
    #[inline]
    pub fn position(&self, offset: usize) -> (u32, u32) {
        scan::position(self.source_bytes(), offset)
    }

    #[inline]
    fn slice(&self, start: u32, end: u32) -> &[u8] {
        self.text.as_bytes().get(start as usize..end as usize).unwrap_or_default()
    }

    #[inline]
    fn str(&self, start: u32, end: u32) -> &str {
        self.text.get(start as usize..end as usize).unwrap_or_default()
    }

    fn decoded(&self, start: u32, end: u32, escaped: bool) -> Cow<'_, str> {
        match escaped {
            false => Cow::Borrowed(self.str(start, end)),
            true => Cow::Owned(scan::unescape(self.str(start, end))),
        }
    }
}

impl<'t> Node<'t> {
    #[inline]
    fn slot(self) -> &'t Slot {
        &self.tree.slots[self.index as usize]
    }

    /// The kind of value.
    #[inline]
    pub fn kind(self) -> Kind {
        self.slot().kind
    }

    /// Whether it is an object.
    #[inline]
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// Whether it is an array.
    #[inline]
    pub fn is_array(self) -> bool {
        self.kind() == Kind::Array
    }

    /// The member of an object with this decoded name; None for any other kind of node.
    #[inline]
    pub fn get(self, name: &str) -> Option<Node<'t>> {
        self.tagged(Tag::of(name.as_bytes()), name)
    }

    /// Several members of an object by their decoded names, in one pass; None for absent ones.
    #[inline]
    pub fn pick<const N: usize>(self, names: [&str; N]) -> [Option<Node<'t>>; N] {
        let tags = names.map(|name| Tag::of(name.as_bytes()));
        let mut found = [None; N];
        for child in self.members_of() {
            let slot = child.slot();
            for ((tag, name), place) in tags.iter().zip(names).zip(&mut found) {
                if slot.tag == *tag && child.is_named(slot, name) {
                    *place = Some(child);
                }
            }
        }
        found
    }

    fn tagged(self, tag: Tag, name: &str) -> Option<Node<'t>> {
        self.members_of().find(|child| {
            let slot = child.slot();
            slot.tag == tag && child.is_named(slot, name)
        })
    }

    #[inline]
    fn is_named(self, slot: &Slot, name: &str) -> bool {
        match slot.flags & KEY_ESCAPED {
            0 => is_same(self.tree.slice(slot.key_start, slot.key_end), name.as_bytes()),
            _ => self.tree.decoded(slot.key_start, slot.key_end, true) == name,
        }
    }

    /// The decoded text of a string; None for any other kind of node.
    #[inline]
    pub fn text(self) -> Option<Cow<'t, str>> {
        let slot = self.slot();
        (slot.kind == Kind::String).then(|| self.tree.decoded(slot.start, slot.end, slot.flags & ESCAPED != 0))
    }

    /// A number as it is written: `6.30` stays `6.30` (JSN-08).
    #[inline]
    pub fn number(self) -> Option<&'t str> {
        let slot = self.slot();
        (slot.kind == Kind::Number).then(|| self.tree.str(slot.start, slot.end))
    }

    /// The value of a boolean; None for any other kind of node.
    #[inline]
    pub fn boolean(self) -> Option<bool> {
        let slot = self.slot();
        (slot.kind == Kind::Boolean).then(|| self.tree.slice(slot.start, slot.end) == b"true")
    }

    /// The items of an array; none for any other kind of node.
    #[inline]
    pub fn items(self) -> impl Iterator<Item = Node<'t>> + use<'t> {
        let children = self.is_array().then(|| self.children());
        children.into_iter().flatten()
    }

    /// The members of an object with their decoded names, in document order; none for any other kind of node.
    #[inline]
    pub fn members(self) -> impl Iterator<Item = (Cow<'t, str>, Node<'t>)> + use<'t> {
        let children = self.is_object().then(|| self.children());
        children.into_iter().flatten().map(|child| (child.key().unwrap_or_default(), child))
    }

    /// The decoded name of this node in its object; empty in arrays, None at the root.
    #[inline]
    pub fn key(self) -> Option<Cow<'t, str>> {
        let slot = self.slot();
        (self.index > 0).then(|| self.tree.decoded(slot.key_start, slot.key_end, slot.flags & KEY_ESCAPED != 0))
    }

    /// Whether this node has a name in an object; compares the name as it is written, so an escaped one never
    /// matches.
    #[inline]
    pub fn has_key(self, name: &str) -> bool {
        let slot = self.slot();
        slot.tag == Tag::of(name.as_bytes())
            && is_same(self.tree.slice(slot.key_start, slot.key_end), name.as_bytes())
            && slot.key_end > slot.key_start
    }

    /// The items of an array or the members of an object, in document order.
    #[inline]
    pub fn children(self) -> Children<'t> {
        match self.kind() {
            Kind::Array | Kind::Object => Children { tree: self.tree, index: self.index + 1, end: self.slot().next },
            _ => Children { tree: self.tree, index: 0, end: 0 },
        }
    }

    /// The text of the value as it is written, including the quotes of a string and the brackets of a container.
    #[inline]
    pub fn raw(self) -> &'t str {
        let slot = self.slot();
        match slot.kind {
            Kind::String => self.tree.str(slot.start - 1, slot.end + 1),
            _ => self.tree.str(slot.start, slot.end),
        }
    }

    /// The bytes between the quotes of a string, or of a number as written, and whether they have escapes.
    #[inline]
    pub fn span(self) -> (&'t [u8], bool) {
        let slot = self.slot();
        (self.tree.slice(slot.start, slot.end), slot.flags & ESCAPED != 0)
    }

    /// Decodes the bytes of a string or number into a buffer, which is cleared first.
    #[inline]
    pub fn decode_into(self, buffer: &mut Vec<u8>) {
        buffer.clear();
        match self.span() {
            (span, false) => buffer.extend_from_slice(span),
            (span, true) => scan::unescape_into(span, buffer),
        }
    }

    /// The same for the key.
    #[inline]
    pub fn key_span(self) -> (&'t [u8], bool) {
        let slot = self.slot();
        (self.tree.slice(slot.key_start, slot.key_end), slot.flags & KEY_ESCAPED != 0)
    }

    /// The range of the value in the tree's bytes, including quotes and brackets.
    pub(super) fn range(self) -> std::ops::Range<usize> {
        let slot = self.slot();
        let quote = usize::from(slot.kind == Kind::String);
        slot.start as usize - quote..slot.end as usize + quote
    }

    /// The range of its name between the quotes, in the tree's bytes; empty outside objects.
    pub(super) fn key_range(self) -> std::ops::Range<usize> {
        let slot = self.slot();
        slot.key_start as usize..slot.key_end as usize
    }

    /// The members of an object; none for any other kind of node.
    #[inline]
    pub(super) fn members_of(self) -> Children<'t> {
        if self.is_object() { self.children() } else { Children { tree: self.tree, index: 0, end: 0 } }
    }

    /// The bytes of the key as written, and the flags.
    pub(super) fn key_bytes(self) -> (&'t [u8], u8) {
        let slot = self.slot();
        (self.tree.slice(slot.key_start, slot.key_end), slot.flags)
    }

    /// The bytes of a string that has no escapes.
    #[inline]
    pub fn plain(self) -> Option<&'t [u8]> {
        let slot = self.slot();
        (slot.kind == Kind::String && slot.flags & ESCAPED == 0).then(|| self.tree.slice(slot.start, slot.end))
    }

    /// The offset at which the value begins in the received bytes; for a string in JSON its opening quote, in XML
    /// the element's tag.
    #[inline]
    pub fn offset(self) -> usize {
        if let Some(source) = &self.tree.source {
            return source.offsets.get(self.index as usize).map_or(0, |offset| *offset as usize);
        }
        let slot = self.slot();
        slot.start as usize - usize::from(slot.kind == Kind::String)
    }

    /// The index after its subtree.
    #[inline]
    pub fn after(self) -> u32 {
        self.slot().next
    }

    /// Line and column of the value, both from 1.
    #[inline]
    pub fn position(self) -> (u32, u32) {
        self.tree.position(self.offset())
    }
}

/// Whether two names are equal. Inlined for names of up to 16 bytes, which nearly all are.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let ends = |name: &[u8]| Some((*name.first_chunk::<8>()?, *name.last_chunk::<8>()?));
    match other.len() {
        _ if one.len() != other.len() => false,
        8..=16 => ends(one) == ends(other),
        4..8 => one.first_chunk::<4>() == other.first_chunk() && one.last_chunk::<4>() == other.last_chunk(),
        _ => one == other,
    }
}

/// The direct children of a container.
#[derive(Clone, Debug)]
pub struct Children<'t> {
    tree: &'t Tree,
    index: u32,
    end: u32,
}

impl<'t> Children<'t> {
    /// Continues with this child, which must be one of the remaining ones.
    #[inline]
    pub fn skip_to(&mut self, child: Node<'t>) {
        self.index = child.index.clamp(self.index, self.end);
    }
}

impl<'t> Iterator for Children<'t> {
    type Item = Node<'t>;

    #[inline]
    fn next(&mut self) -> Option<Node<'t>> {
        if self.index >= self.end {
            return None;
        }
        let node = Node { tree: self.tree, index: self.index };
        self.index = node.slot().next;
        #[cfg(any(test, feature = "count-visits"))]
        visits::count();
        Some(node)
    }
}
