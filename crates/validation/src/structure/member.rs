//! The properties of a member that the walk needs, in one place because they are read for every value of every
//! message.

use super::compiled_constraint::{Constraints, constraints};
use super::required_binding::{BindingCache, RequiredBinding};
use emberpost_fhir::schema::{ElementDef, ElementType, Primitive, Schema, TypeDef, TypeId, TypeKind};

/// A member that a type defines in JSON: `valueQuantity` of `value[x]`. Its `_x` shares this plan.
pub(super) struct MemberPlan {
    pub def: &'static ElementDef,
    pub of_type: &'static ElementType,
    /// The value set of a required binding. For a primitive, only if its codes are known.
    pub bound: Option<&'static RequiredBinding>,
    /// Constraints of the element and, for a primitive, of its type. None: there are none.
    pub constraints: Option<&'static Constraints>,
    pub type_id: TypeId,
    /// Position in `TypeDef::elements`.
    pub element: u16,
    pub min: u16,
    /// The maximum number of values; `u16::MAX` is `*`.
    pub max: u16,
    /// The primitive type whose format its values must have.
    pub primitive: Option<Primitive>,
    pub is_array: bool,
    pub is_choice: bool,
    pub is_resource: bool,
    /// Whether it is the `id` of an element (not of a resource).
    pub is_element_id: bool,
}

impl MemberPlan {
    pub fn new(
        holder: &'static TypeDef,
        (element, choice): (u16, u16),
        schema: &'static Schema,
        bounds: &mut BindingCache,
    ) -> Option<MemberPlan> {
        let def = holder.elements.get(usize::from(element))?;
        let of_type = def.types.get(usize::from(choice))?;
        let target = schema.def(of_type.type_id);
        let (primitive, of_its_type) = match target.kind {
            TypeKind::Primitive(of) => (Some(format(holder, def, of, schema)), &*target.constraints),
            _ => (None, &[][..]),
        };
        let ids: Vec<_> = of_its_type.iter().chain(&def.constraints).copied().collect();
        Some(MemberPlan {
            def,
            of_type,
            bound: bounds.of(def, schema).filter(|bound| bound.codes.is_some() || primitive.is_none()),
            constraints: constraints(&ids, target, schema),
            type_id: of_type.type_id,
            element,
            min: def.min,
            max: def.max,
            primitive,
            is_array: def.is_array,
            is_choice: def.is_choice,
            is_resource: target.kind == TypeKind::Resource,
            is_element_id: &*def.name == "id" && holder.kind != TypeKind::Resource,
        })
    }
}

/// The primitive type whose format the values must have. In a resource itself, `id` is an id, and the `url` that
/// identifies a definition is a canonical.
fn format(holder: &TypeDef, def: &ElementDef, of: Primitive, schema: &Schema) -> Primitive {
    match &*def.name {
        _ if holder.kind != TypeKind::Resource => of,
        "id" => Primitive::Id,
        "url" if of == Primitive::Uri && schema.member(holder, "publisher").is_some() => Primitive::Canonical,
        _ => of,
    }
}
