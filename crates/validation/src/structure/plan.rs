//! What the walk requires of each type, computed once per version from the tables: bits of required elements,
//! required value sets whose codes are known, and constraints, each in the cheapest exact representation.

use super::compiled_constraint::{Constraints, constraints};
use super::member::MemberPlan;
use super::native::Native;
use super::required_binding::{BindingCache, RequiredBinding};
use super::shortcut::bit;
use crate::prose::Subject;
use emberpost_fhir::schema::{
    Constraint, ConstraintId, ElementDef, ExtensionDef, Primitive, Schema, TypeDef, TypeId, TypeKind, ValueSetId,
};
use emberpost_fhir::version::{FhirVersion, PerVersion};
use emberpost_fhirpath::Expression;
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

pub(super) struct Plan {
    pub schema: &'static Schema,
    /// By `TypeId`.
    pub types: Vec<TypePlan>,
    pub extensions: FxHashMap<&'static str, ExtensionPlan>,
    bounds: BindingCache,
    /// The type that all elements with this name share.
    pub extension: Option<TypeId>,
    /// By `ConstraintId`. Parsed when first evaluated: most types never occur, and parsing all expressions takes
    /// longer than the rest.
    expressions: Vec<OnceLock<Option<Expression>>>,
}

/// Types with code of their own in the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    None,
    Attachment,
    Bundle,
    Extension,
    Reference,
    CodeableReference,
    Coding,
    CodeableConcept,
    Quantity,
    /// Any resource.
    Resource,
}

pub(super) struct TypePlan {
    pub type_id: TypeId,
    pub def: &'static TypeDef,
    pub primitive: Option<Primitive>,
    pub special: Special,
    /// The prose rules of the type.
    pub subject: Option<Subject>,
    /// Bits of the required elements.
    pub required: u128,
    /// Bit of the element `id`.
    pub id: u128,
    /// Whether ids of elements only need to be unique within the element.
    pub has_own_ids: bool,
    /// In the order of `Schema::members`.
    members: Vec<MemberPlan>,
    /// None: there are none.
    pub constraints: Option<&'static Constraints>,
}

/// An extension that the base packages define.
pub(super) struct ExtensionPlan {
    pub def: &'static ExtensionDef,
    /// Its own constraints, beyond those of every extension.
    pub constraints: Option<&'static Constraints>,
    /// Conditions on the element that contains it.
    pub invariants: Vec<Expression>,
}

impl ExtensionPlan {
    fn new(def: &'static ExtensionDef, schema: &'static Schema) -> ExtensionPlan {
        let of = schema.named("Extension").map(|id| schema.def(id));
        let constraints = of.and_then(|of| constraints(&def.constraints, of, schema));
        let invariants = def.context_invariants.iter().filter_map(|text| Expression::parse(text).ok()).collect();
        ExtensionPlan { def, constraints, invariants }
    }
}

static PLANS: PerVersion<Plan> = PerVersion::new(
    || Plan::new(Schema::of(FhirVersion::R4)),
    || Plan::new(Schema::of(FhirVersion::R4B)),
    || Plan::new(Schema::of(FhirVersion::R5)),
);

impl Plan {
    /// The plan of a version; made on first use.
    pub fn of(version: FhirVersion) -> &'static Plan {
        PLANS.of(version)
    }

    fn new(schema: &'static Schema) -> Plan {
        let mut bounds = BindingCache::default();
        let types = (0u16..).zip(&schema.types).map(|(id, def)| TypePlan::new(TypeId(id), def, schema, &mut bounds));
        let types = types.collect();
        schema.extensions.iter().for_each(|def| bounds.of_extension(def, schema));
        Plan {
            schema,
            types,
            bounds,
            extensions: schema.extensions.iter().map(|def| (&*def.url, ExtensionPlan::new(def, schema))).collect(),
            extension: schema.named("Extension"),
            expressions: std::iter::repeat_with(OnceLock::new).take(schema.constraints.len()).collect(),
        }
    }

    /// The parsed expression of a constraint; None: it cannot be parsed.
    pub fn expression(&self, id: ConstraintId) -> Option<&Expression> {
        let read = || Expression::parse(&self.schema.constraint(id).expression).ok();
        self.expressions.get(usize::from(id.0))?.get_or_init(read).as_ref()
    }

    #[inline]
    pub fn type_plan(&self, id: TypeId) -> &TypePlan {
        &self.types[usize::from(id.0)]
    }

    /// The required value set that an extension is bound to.
    pub fn bound(&self, id: ValueSetId) -> Option<&'static RequiredBinding> {
        self.bounds.get(id)
    }
}

/// HL7's own definitions repeat element ids in snapshot and differential, so ids only need to be unique within each
/// of the two.
const REPEATS_IDS: [&str; 2] = ["StructureDefinition.snapshot", "StructureDefinition.differential"];

impl TypePlan {
    fn new(type_id: TypeId, def: &'static TypeDef, schema: &'static Schema, bounds: &mut BindingCache) -> TypePlan {
        let primitive = match def.kind {
            TypeKind::Primitive(primitive) => Some(primitive),
            _ => None,
        };
        let special = match (&*def.code, def.kind) {
            ("Bundle", TypeKind::Resource) => Special::Bundle,
            (_, TypeKind::Resource) => Special::Resource,
            ("Attachment", _) => Special::Attachment,
            ("Extension", _) => Special::Extension,
            ("Reference", _) => Special::Reference,
            ("CodeableReference", _) => Special::CodeableReference,
            ("Coding", _) => Special::Coding,
            ("CodeableConcept", _) => Special::CodeableConcept,
            ("Quantity" | "Age" | "Duration" | "Count" | "Distance", _) => Special::Quantity,
            _ => Special::None,
        };
        let bits = |wanted: &dyn Fn(&ElementDef) -> bool| {
            let bit = |(index, element): (u32, &ElementDef)| if wanted(element) { bit(index) } else { 0 };
            (0u32..).zip(&def.elements).map(bit).fold(0, |bits, bit| bits | bit)
        };
        let (required, id) = (bits(&|element| element.min > 0), bits(&|element| &*element.name == "id"));
        let members = schema.members(def).iter().filter_map(|path| MemberPlan::new(def, *path, schema, bounds));
        let members = members.collect();
        let constraints = constraints(&def.constraints, def, schema);
        TypePlan {
            type_id,
            def,
            primitive,
            special,
            subject: Subject::of(&def.code),
            required,
            id,
            has_own_ids: def.kind == TypeKind::Resource || REPEATS_IDS.contains(&&*def.name),
            members,
            constraints,
        }
    }

    /// The member with this JSON name, without a leading `_`.
    #[inline]
    pub fn member(&'static self, schema: &Schema, name: &[u8]) -> Option<&'static MemberPlan> {
        self.members.get(usize::from(schema.member_position(self.def, name)?))
    }
}

/// The constraints of severity error that are not evaluated, for the documentation.
pub(super) fn not_evaluated(schema: &'static Schema) -> Vec<&'static Constraint> {
    let errors = schema.constraints.iter().filter(|constraint| constraint.is_error);
    errors.filter(|known| Native::of(known).is_none() && Expression::parse(&known.expression).is_err()).collect()
}
