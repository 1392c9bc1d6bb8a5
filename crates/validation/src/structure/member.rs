//! What the walk asks of a member of an object, all in one place: it is asked for every value of every message.

use super::plan::{self, Bound, Bounds, Constraints};
use emberpost_fhir::schema::{ElementDef, ElementType, Primitive, Schema, TypeDef, TypeId, TypeKind};

/// One name that a type knows in JSON: `valueQuantity` of `value[x]`. Its `_x` is the same.
pub(super) struct MemberPlan {
    pub def: &'static ElementDef,
    pub of_type: &'static ElementType,
    /// The value set of a required binding; of a primitive only where its codes are known.
    pub bound: Option<&'static Bound>,
    /// Those of the element, and of a primitive those of its type, too. None: there are none.
    pub constraints: Option<&'static Constraints>,
    pub type_id: TypeId,
    /// Position in `TypeDef::elements`.
    pub element: u16,
    pub min: u16,
    /// `u16::MAX` is `*`.
    pub max: u16,
    /// The format that its values have.
    pub primitive: Option<Primitive>,
    pub is_array: bool,
    pub is_choice: bool,
    pub is_resource: bool,
    /// The `id` of an element, which is no resource's.
    pub is_element_id: bool,
}

impl MemberPlan {
    pub fn new(
        holder: &'static TypeDef,
        (element, choice): (u16, u16),
        schema: &'static Schema,
        bounds: &mut Bounds,
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
            constraints: plan::constraints(&ids, target, schema),
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

/// What a primitive is held to. In a resource itself `id` is an id, and the `url` that names a definition to the world is a
/// canonical.
fn format(holder: &TypeDef, def: &ElementDef, of: Primitive, schema: &Schema) -> Primitive {
    match &*def.name {
        _ if holder.kind != TypeKind::Resource => of,
        "id" => Primitive::Id,
        "url" if of == Primitive::Uri && schema.member(holder, "publisher").is_some() => Primitive::Canonical,
        _ => of,
    }
}
