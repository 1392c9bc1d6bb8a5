//! A JSON document as a tree over its bytes: spans, raw numbers, duplicate keys and positions are kept.

use bytes::Bytes;
use std::borrow::Cow;

/// Placeholder of the reader's public shape.
#[derive(Clone, Debug)]
pub struct Tree {
    pub bytes: Bytes,
}

#[derive(Clone, Copy, Debug)]
pub struct Node<'t> {
    pub tree: &'t Tree,
    pub index: u32,
}

impl<'t> Node<'t> {
    /// Member of an object by its decoded name.
    pub fn get(self, _name: &str) -> Option<Node<'t>> {
        None
    }
    /// A string, decoded.
    pub fn text(self) -> Option<Cow<'t, str>> {
        None
    }
    pub fn items(self) -> impl Iterator<Item = Node<'t>> {
        std::iter::empty()
    }
}

impl Tree {
    pub fn root(&self) -> Node<'_> {
        Node { tree: self, index: 0 }
    }
}
