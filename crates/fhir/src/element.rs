//! An element as FHIR sees it: a value with its `id` and extensions, which JSON writes as `x` and `_x`.
//!
//! A cursor over a tree by a schema, for FHIRPath and profiles. It passes over what the schema does not know: unknown
//! members, wrong shapes, padding nulls; telling of those is the business of the structure check. `steps` leads to
//! the children.

use super::schema::{Schema, TypeDef, TypeId, TypeKind};
use super::tree::{Node, Tree};
use std::borrow::Cow;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Element<'t> {
    /// An object, or the scalar of a primitive; None where only `_x` stands.
    pub value: Option<Node<'t>>,
    /// The object of `_x`.
    pub extra: Option<Node<'t>>,
    /// Of a resource the actual one.
    pub type_id: TypeId,
}

impl<'t> Element<'t> {
    /// The resource that the tree holds; None when its type is unknown to the schema.
    #[inline]
    pub fn root(tree: &'t Tree, schema: &Schema) -> Option<Element<'t>> {
        Element::resource(tree.root(), schema)
    }

    /// The resource that this object is.
    #[inline]
    pub fn resource(node: Node<'t>, schema: &Schema) -> Option<Element<'t>> {
        let type_id = schema.resource(&node.get("resourceType")?.text()?)?;
        Some(Element { value: Some(node), extra: None, type_id })
    }

    #[inline]
    pub fn def<'s>(&self, schema: &'s Schema) -> &'s TypeDef {
        schema.def(self.type_id)
    }

    #[inline]
    pub fn is_resource(&self, schema: &Schema) -> bool {
        self.def(schema).kind == TypeKind::Resource
    }

    /// Where its value stands, else its `_x`.
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
