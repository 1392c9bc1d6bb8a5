//! What the walk requires of each type, computed once per version from the tables: bits of required elements,
//! required value sets whose codes are known, and constraints, each in the cheapest exact representation.

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

/// A required value set.
pub(super) struct RequiredBinding {
    pub url: &'static str,
    /// None: the codes cannot be enumerated.
    pub codes: Option<&'static Codes>,
    /// The code systems that it includes codes from; empty: not known.
    pub systems: &'static [Box<str>],
    /// Code to its first position in `codes`.
    names: Names<u32>,
}

impl RequiredBinding {
    pub fn new(set: &'static ValueSet) -> RequiredBinding {
        let codes = set.codes.as_ref().filter(|codes| !codes.codes.is_empty());
        let listed = codes.map(|codes| codes.codes.as_slice()).unwrap_or_default();
        let mut names: Vec<_> = listed.iter().map(|(code, _)| code.to_string()).zip(0u32..).collect();
        names.dedup_by(|later, first| later.0 == first.0);
        RequiredBinding { url: &set.url, codes, systems: &set.systems, names: Names::of(names) }
    }

    /// Whether the value set has the code, of any system; true if that is not known.
    pub fn has_code(&self, code: &[u8]) -> bool {
        self.codes.is_none() || self.names.get(code).is_some()
    }

    /// If the codes cannot be enumerated: whether the value set may include codes of the system.
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

/// The constraints of a type or element that have severity error, without those that the walk checks. They live as
/// long as the tables.
pub(super) type Constraints = Vec<CompiledConstraint>;

pub(super) struct CompiledConstraint {
    pub id: ConstraintId,
    pub constraint: &'static Constraint,
    pub by: Evaluator,
}

/// What is tried before the engine.
pub(super) enum Evaluator {
    Hand(Native),
    Shortcut(Shortcut),
}

impl CompiledConstraint {
    /// None: the walk checks it.
    fn new(
        id: ConstraintId,
        constraint: &'static Constraint,
        of: &TypeDef,
        schema: &Schema,
    ) -> Option<CompiledConstraint> {
        let by = match Native::of(constraint) {
            Some(Native::ByWalk) => return None,
            Some(native) => Evaluator::Hand(native),
            None => Evaluator::Shortcut(Shortcut::compile(&constraint.expression, of, schema)),
        };
        Some(CompiledConstraint { id, constraint, by })
    }
}

/// None: there are none.
pub(super) fn constraints(ids: &[ConstraintId], of: &TypeDef, schema: &'static Schema) -> Option<&'static Constraints> {
    let known = ids.iter().map(|id| (*id, schema.constraint(*id))).filter(|(_, constraint)| constraint.is_error);
    let compiled: Constraints =
        known.filter_map(|(id, constraint)| CompiledConstraint::new(id, constraint, of, schema)).collect();
    (!compiled.is_empty()).then(|| &*Box::leak(Box::new(compiled)))
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
        self.bounds.0.get(&id.0).copied()
    }
}

/// Many elements share a value set; each is made once and lives as long as the tables.
#[derive(Default)]
pub(super) struct BindingCache(FxHashMap<u16, &'static RequiredBinding>);

impl BindingCache {
    pub fn of(&mut self, element: &ElementDef, schema: &'static Schema) -> Option<&'static RequiredBinding> {
        let binding = element.binding.filter(|binding| binding.strength == Strength::Required)?;
        Some(self.of_set(binding.value_set, schema))
    }

    fn of_set(&mut self, id: ValueSetId, schema: &'static Schema) -> &'static RequiredBinding {
        self.0.entry(id.0).or_insert_with(|| Box::leak(Box::new(RequiredBinding::new(schema.value_set(id)))))
    }

    fn of_extension(&mut self, def: &ExtensionDef, schema: &'static Schema) {
        def.binding.map(|id| self.of_set(id, schema));
        def.nested.iter().for_each(|nested| self.of_extension(nested, schema));
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

/// The bit of an element's position. A test asserts that no type of any version has more elements than bits.
pub(super) fn bit(index: u32) -> u128 {
    1u128.checked_shl(index).unwrap_or(0)
}
