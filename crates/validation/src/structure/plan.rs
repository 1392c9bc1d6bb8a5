//! What the walk asks of each type, made once per version from the tables: bits of what must be there, required value
//! sets that can be enumerated, and the constraints, each in the cheapest form that is exact.

use super::member::MemberPlan;
use super::native::Native;
use super::shortcut::Shortcut;
use crate::prose::Subject;
use emberpost_fhir::schema::{
    Codes, Constraint, ConstraintId, ElementDef, ExtensionDef, Names, Primitive, Schema, Strength, TypeDef, TypeId,
    TypeKind, ValueSet, ValueSetId,
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
    bounds: Bounds,
    /// The type that every element of this name shares.
    pub extension: Option<TypeId>,
    /// By `ConstraintId`. Read when first evaluated: most types never occur, and reading all takes longer than the rest.
    expressions: Vec<OnceLock<Option<Expression>>>,
}

/// Types whose members mean more to the walk than their definitions say.
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
    /// What prose says of the type.
    pub subject: Option<Subject>,
    /// Bits of the elements with a minimum.
    pub required: u128,
    /// Bit of the element `id`.
    pub id: u128,
    /// The ids of elements need only differ within it.
    pub has_own_ids: bool,
    /// As `Schema::members` has them.
    members: Vec<MemberPlan>,
    /// None: there are none.
    pub constraints: Option<&'static Constraints>,
}

/// An extension that the base packages define.
pub(super) struct ExtensionPlan {
    pub def: &'static ExtensionDef,
    /// Its own, beyond those of every extension.
    pub constraints: Option<&'static Constraints>,
    /// What must hold of the element that has it.
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

/// A required value set.
pub(super) struct Bound {
    pub url: &'static str,
    /// None: they cannot be enumerated.
    pub codes: Option<&'static Codes>,
    /// The code systems that it takes codes from; empty: not known.
    pub systems: &'static [Box<str>],
    /// Code to its first position in `codes`.
    names: Names<u32>,
}

impl Bound {
    pub fn new(set: &'static ValueSet) -> Bound {
        let codes = set.codes.as_ref().filter(|codes| !codes.codes.is_empty());
        let listed = codes.map(|codes| codes.codes.as_slice()).unwrap_or_default();
        let mut names: Vec<_> = listed.iter().map(|(code, _)| code.to_string()).zip(0u32..).collect();
        names.dedup_by(|later, first| later.0 == first.0);
        Bound { url: &set.url, codes, systems: &set.systems, names: Names::of(names) }
    }

    /// Whether the code is in it, whatever its system; true where that cannot be said.
    pub fn has_code(&self, code: &[u8]) -> bool {
        self.codes.is_none() || self.names.get(code).is_some()
    }

    /// Where its codes cannot be enumerated, whether it may have codes of the system.
    pub fn has(&self, system: &str, code: &str) -> bool {
        let Some(codes) = self.codes else {
            return self.systems.is_empty() || self.systems.iter().any(|known| **known == *system);
        };
        let first = self.names.get(code.as_bytes());
        let same = first.and_then(|at| codes.codes.get(at as usize..)).unwrap_or_default();
        let of = same.iter().take_while(|(known, _)| **known == *code);
        of.into_iter().any(|(_, of)| codes.systems.get(usize::from(*of)).is_some_and(|known| **known == *system))
    }
}

/// Of a type or element, those of error severity but those that the walk tells. They live as long as the tables.
pub(super) type Constraints = Vec<Held>;

pub(super) struct Held {
    pub id: ConstraintId,
    pub constraint: &'static Constraint,
    pub by: By,
}

/// What answers before the engine is asked.
pub(super) enum By {
    Hand(Native),
    Shortcut(Shortcut),
}

impl Held {
    /// None: the walk tells it.
    fn new(id: ConstraintId, constraint: &'static Constraint, of: &TypeDef, schema: &Schema) -> Option<Held> {
        let by = match Native::of(constraint) {
            Some(Native::ByWalk) => return None,
            Some(native) => By::Hand(native),
            None => By::Shortcut(Shortcut::compile(&constraint.expression, of, schema)),
        };
        Some(Held { id, constraint, by })
    }
}

/// None: there are none.
pub(super) fn constraints(ids: &[ConstraintId], of: &TypeDef, schema: &'static Schema) -> Option<&'static Constraints> {
    let known = ids.iter().map(|id| (*id, schema.constraint(*id))).filter(|(_, constraint)| constraint.is_error);
    let held: Constraints = known.filter_map(|(id, constraint)| Held::new(id, constraint, of, schema)).collect();
    (!held.is_empty()).then(|| &*Box::leak(Box::new(held)))
}

static PLANS: PerVersion<Plan> = PerVersion::new(
    || Plan::new(Schema::of(FhirVersion::R4)),
    || Plan::new(Schema::of(FhirVersion::R4B)),
    || Plan::new(Schema::of(FhirVersion::R5)),
);

impl Plan {
    /// Of a version; made when it is first asked for.
    pub fn of(version: FhirVersion) -> &'static Plan {
        PLANS.of(version)
    }

    fn new(schema: &'static Schema) -> Plan {
        let mut bounds = Bounds::default();
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

    /// The expression of a constraint; None: it cannot be read.
    pub fn expression(&self, id: ConstraintId) -> Option<&Expression> {
        let read = || Expression::parse(&self.schema.constraint(id).expression).ok();
        self.expressions.get(usize::from(id.0))?.get_or_init(read).as_ref()
    }

    #[inline]
    pub fn type_plan(&self, id: TypeId) -> &TypePlan {
        &self.types[usize::from(id.0)]
    }

    /// A required value set that an extension is bound to.
    pub fn bound(&self, id: ValueSetId) -> Option<&'static Bound> {
        self.bounds.0.get(&id.0).copied()
    }
}

/// Value sets are many elements' own; each is made once and lives as long as the tables.
#[derive(Default)]
pub(super) struct Bounds(FxHashMap<u16, &'static Bound>);

impl Bounds {
    pub fn of(&mut self, element: &ElementDef, schema: &'static Schema) -> Option<&'static Bound> {
        let binding = element.binding.filter(|binding| binding.strength == Strength::Required)?;
        Some(self.of_set(binding.value_set, schema))
    }

    fn of_set(&mut self, id: ValueSetId, schema: &'static Schema) -> &'static Bound {
        self.0.entry(id.0).or_insert_with(|| Box::leak(Box::new(Bound::new(schema.value_set(id)))))
    }

    fn of_extension(&mut self, def: &ExtensionDef, schema: &'static Schema) {
        def.binding.map(|id| self.of_set(id, schema));
        def.nested.iter().for_each(|nested| self.of_extension(nested, schema));
    }
}

/// HL7's own definitions have the same ids in both, each being a whole of its own.
const REPEATS_IDS: [&str; 2] = ["StructureDefinition.snapshot", "StructureDefinition.differential"];

impl TypePlan {
    fn new(type_id: TypeId, def: &'static TypeDef, schema: &'static Schema, bounds: &mut Bounds) -> TypePlan {
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
        let members = schema.members(def).iter().filter_map(|place| MemberPlan::new(def, *place, schema, bounds));
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

    /// What JSON calls so, without `_`.
    #[inline]
    pub fn member(&'static self, schema: &Schema, name: &[u8]) -> Option<&'static MemberPlan> {
        self.members.get(usize::from(schema.member_position(self.def, name)?))
    }
}

/// The constraints of error severity that are not evaluated, for the documentation.
pub(super) fn not_evaluated(schema: &'static Schema) -> Vec<&'static Constraint> {
    let errors = schema.constraints.iter().filter(|constraint| constraint.is_error);
    errors.filter(|known| Native::of(known).is_none() && Expression::parse(&known.expression).is_err()).collect()
}

/// The bit of an element's position. No type has more elements than bits, which a test holds every version to.
pub(super) fn bit(index: u32) -> u128 {
    1u128.checked_shl(index).unwrap_or(0)
}
