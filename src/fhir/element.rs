//! An element as FHIR sees it: a value with its `id` and extensions, which JSON writes as `x` and `_x`.
//!
//! A cursor over a tree by a schema, for FHIRPath and profiles. It passes over what the schema does not know: unknown
//! members, wrong shapes, padding nulls; telling of those is the business of the structure check.

use super::schema::{ElementDef, Schema, TypeDef, TypeId, TypeKind};
use super::tree::{Kind, Node, Tree};
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
    pub fn root(tree: &'t Tree, schema: &Schema) -> Option<Element<'t>> {
        Element::resource(tree.root(), schema)
    }

    /// The resource that this object is.
    pub fn resource(node: Node<'t>, schema: &Schema) -> Option<Element<'t>> {
        let type_id = schema.resource(&node.get("resourceType")?.text()?)?;
        Some(Element { value: Some(node), extra: None, type_id })
    }

    pub fn def<'s>(&self, schema: &'s Schema) -> &'s TypeDef {
        schema.def(self.type_id)
    }

    pub fn is_resource(&self, schema: &Schema) -> bool {
        self.def(schema).kind == TypeKind::Resource
    }

    /// Where its value stands, else its `_x`.
    pub fn node(&self) -> Option<Node<'t>> {
        self.value.or(self.extra)
    }

    /// The text of a primitive that JSON writes as a string.
    pub fn text(&self) -> Option<Cow<'t, str>> {
        self.value.and_then(Node::text)
    }

    /// The children of this FHIRPath name: `value` is `valueQuantity` and the others. In document order.
    pub fn child<'s>(self, schema: &'s Schema, name: &str) -> Vec<Element<'t>> {
        let def = schema.def(self.type_id);
        let Some(element) = def.elements.iter().find(|element| *element.name == *name) else { return Vec::new() };
        let mut found = Vec::new();
        for of_type in &element.types {
            let member = match element.is_choice {
                false => Cow::Borrowed(&*element.name),
                true => Cow::Owned(element.member_name(schema, of_type)),
            };
            self.collect(schema, &member, of_type.type_id, &mut found);
        }
        found
    }

    /// Every child with its definition, in the order of the definitions.
    pub fn children<'s>(self, schema: &'s Schema) -> Vec<(&'s ElementDef, Element<'t>)> {
        let def = schema.def(self.type_id);
        let mut found = Vec::new();
        for element in &def.elements {
            let children = self.child(schema, &element.name);
            found.extend(children.into_iter().map(|child| (element, child)));
        }
        found
    }

    /// What stands under a JSON name and its `_` sibling.
    fn collect(self, schema: &Schema, member: &str, type_id: TypeId, found: &mut Vec<Element<'t>>) {
        let is_primitive = matches!(schema.def(type_id).kind, TypeKind::Primitive(_));
        // `id` and `extension` of a primitive stand in its `_x`.
        let holder =
            if matches!(schema.def(self.type_id).kind, TypeKind::Primitive(_)) { self.extra } else { self.value };
        let Some(holder) = holder else { return };
        let value = holder.get(member);
        let extra = if is_primitive { holder.get(&format!("_{member}")) } else { None };
        let mut push = |value: Option<Node<'t>>, extra: Option<Node<'t>>| {
            let value = value.filter(|node| match node.kind() {
                Kind::Null | Kind::Array => false,
                Kind::Object => !is_primitive,
                _ => is_primitive,
            });
            let extra = extra.filter(|node| node.is_object());
            let Some(node) = value.or(extra) else { return };
            match schema.def(type_id).kind {
                TypeKind::Resource => found.extend(Element::resource(node, schema)),
                _ => found.push(Element { value, extra, type_id }),
            }
        };
        if value.is_some_and(Node::is_array) || extra.is_some_and(Node::is_array) {
            let mut values = value.into_iter().flat_map(Node::items);
            let mut extras = extra.into_iter().flat_map(Node::items);
            loop {
                match (values.next(), extras.next()) {
                    (None, None) => break,
                    (value, extra) => push(value, extra),
                }
            }
        } else {
            push(value, extra);
        }
    }
}
