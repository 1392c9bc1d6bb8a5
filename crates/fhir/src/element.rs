//! An element as FHIR defines it: a value with its `id` and extensions, which JSON writes as `x` and `_x`.
//!
//! A cursor over a tree by a schema, for FHIRPath and profiles. Skips what the schema does not define: unknown
//! members, wrong kinds of values, padding nulls; the structure check reports those. `steps` iterates over the
//! children.

use super::schema::{Schema, TypeDef, TypeId, TypeKind};
use super::tree::{Node, Tree};
use std::borrow::Cow;

/// An element of a document with its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element<'t> {
    /// An object, or the scalar of a primitive; None if only `_x` is present.
    pub value: Option<Node<'t>>,
    /// The object of `_x`.
    pub extra: Option<Node<'t>>,
    /// The type; for a resource its actual type.
    pub type_id: TypeId,
}

impl<'t> Element<'t> {
    /// The resource in the tree; None if the schema does not define its type.
    #[inline]
    pub fn root(tree: &'t Tree, schema: &Schema) -> Option<Element<'t>> {
        Element::resource(tree.root(), schema)
    }

    /// The resource in this object; None if the schema does not define its type.
    #[inline]
    pub fn resource(node: Node<'t>, schema: &Schema) -> Option<Element<'t>> {
        let type_id = schema.resource(&node.get("resourceType")?.text()?)?;
        Some(Element { value: Some(node), extra: None, type_id })
    }

    /// The definition of its type.
    #[inline]
    pub fn def<'s>(&self, schema: &'s Schema) -> &'s TypeDef {
        schema.def(self.type_id)
    }

    /// Whether it is a resource.
    #[inline]
    pub fn is_resource(&self, schema: &Schema) -> bool {
        self.def(schema).kind == TypeKind::Resource
    }

    /// The node of its value, else of its `_x`.
    #[inline]
    pub fn node(&self) -> Option<Node<'t>> {
        self.value.or(self.extra)
    }

    /// The text of a primitive that JSON writes as a string.
    #[inline]
    pub fn text(&self) -> Option<Cow<'t, str>> {
        self.value.and_then(Node::text)
    }
}
