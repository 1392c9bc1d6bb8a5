//! The base specification as tables: types, elements, bindings, constraints, extensions, and search parameters of
//! one FHIR version.
//!
//! Generated from the published definitions by the tool `emberpost-definitions` (tools/definitions), embedded in the
//! program, decoded when a version is first used, and shared. Pure data; the structure check and FHIRPath interpret
//! it.

mod extension;
mod lookup;
mod primitive;
mod search;
#[cfg(test)]
mod tests;
mod unbound;
mod value_set;
pub mod vocabulary;

pub use extension::{Context, ExtensionDef};
pub use lookup::Names;
pub use primitive::Primitive;
pub use search::{SearchKind, SearchParameter, SearchParameters, search_parameters};
pub use unbound::{UnboundValueSets, unbound_value_sets};
pub use value_set::{Codes, ValueSet};

use super::version::{FhirVersion, PerVersion};
use lookup::Members;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

/// Position in `Schema::types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TypeId(pub u16);

/// Position in `Schema::value_sets`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ValueSetId(pub u16);

/// Position in `Schema::constraints`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConstraintId(pub u16);

/// The definitions of one FHIR version.
#[derive(Debug, Serialize, Deserialize)]
pub struct Schema {
    /// The version that the tables describe.
    pub version: FhirVersion,
    /// By `TypeId`.
    pub types: Vec<TypeDef>,
    /// By `ValueSetId`.
    pub value_sets: Vec<ValueSet>,
    /// By `ConstraintId`.
    pub constraints: Vec<Constraint>,
    /// The extensions that the base packages define, sorted by url.
    pub extensions: Vec<ExtensionDef>,
    #[serde(skip)]
    names: FxHashMap<Box<str>, TypeId>,
}

/// The kind of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TypeKind {
    /// A primitive type, with its format.
    Primitive(Primitive),
    /// A data type, such as HumanName.
    Complex,
    /// An element with elements of its own within a type: `Patient.contact`.
    Backbone,
    /// A type of resource.
    Resource,
}

/// The definition of a type.
#[derive(Debug, Serialize, Deserialize)]
pub struct TypeDef {
    /// `Patient`, `HumanName`, `string`; for a backbone element its path, `Patient.contact`; for a constrained type
    /// that elements refer to, its own name, `SimpleQuantity`.
    pub name: Box<str>,
    /// The name in FHIRPath, and the end of the name of a choice: `Quantity` for `SimpleQuantity`, `BackboneElement`
    /// or `Element` for backbone elements, else `name`.
    pub code: Box<str>,
    /// Which kind of type it is.
    pub kind: TypeKind,
    /// Whether no value has exactly this type.
    pub is_abstract: bool,
    /// The type that it specializes or constrains.
    pub base: Option<TypeId>,
    /// All elements, including inherited ones, in the order of the snapshot, which is that of XML. For a primitive:
    /// `id` and `extension`.
    pub elements: Vec<ElementDef>,
    /// Constraints of the type's root element, including inherited ones, without ele-1, which applies everywhere.
    pub constraints: Vec<ConstraintId>,
    #[serde(skip)]
    members: Members,
}

/// The definition of an element.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementDef {
    /// Without `[x]`.
    pub name: Box<str>,
    /// Whether it is written `x[x]`: one value of one of several types.
    pub is_choice: bool,
    /// The minimum number of values.
    pub min: u16,
    /// The maximum number of values; `u16::MAX` is `*`.
    pub max: u16,
    /// Whether JSON writes an array: whether the element may repeat in the type that first defined it.
    pub is_array: bool,
    /// Whether XML writes it as an attribute: `id` of data types, `Extension.url`.
    pub is_attribute: bool,
    /// Whether it changes the meaning of the element that contains it.
    pub is_modifier: bool,
    /// At least one; more than one only for choices.
    pub types: Vec<ElementType>,
    /// The value set of its codes, if it has one.
    pub binding: Option<Binding>,
    /// Constraints of the element itself, beyond those of its type, without ele-1 and ext-1.
    pub constraints: Vec<ConstraintId>,
}

/// A type that an element may have.
#[derive(Debug, Serialize, Deserialize)]
pub struct ElementType {
    /// The type.
    pub type_id: TypeId,
    /// The types that a Reference or canonical may refer to; empty: any.
    pub targets: Vec<TypeId>,
}

/// The strength of a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strength {
    /// Codes must be from the value set.
    Required,
    /// Codes must be from the value set if it has one for the concept.
    Extensible,
    /// Codes should be from the value set.
    Preferred,
    /// The value set shows what is meant.
    Example,
}

/// A binding to a value set.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Binding {
    /// How strictly it applies.
    pub strength: Strength,
    /// The value set.
    pub value_set: ValueSetId,
}

/// An invariant.
#[derive(Debug, Serialize, Deserialize)]
pub struct Constraint {
    /// For example `per-1`.
    pub key: Box<str>,
    /// Whether it is an error; otherwise it is a warning.
    pub is_error: bool,
    /// The rule as a sentence.
    pub human: Box<str>,
    /// The rule in FHIRPath.
    pub expression: Box<str>,
}

static SCHEMAS: PerVersion<Schema> = PerVersion::new(
    || embedded::<Schema>(include_bytes!("base/r4.bin")).indexed(),
    || embedded::<Schema>(include_bytes!("base/r4b.bin")).indexed(),
    || embedded::<Schema>(include_bytes!("base/r5.bin")).indexed(),
);

/// Decodes what the tool wrote: postcard, compressed with zstd. The bytes are part of the program, and a test
/// decodes all of them.
#[expect(clippy::expect_used, reason = "the program's own data; a test reads every version")]
fn embedded<T: serde::de::DeserializeOwned>(packed: &[u8]) -> T {
    let bytes = zstd::decode_all(packed).expect("the embedded tables unpack");
    postcard::from_bytes(&bytes).expect("the embedded tables are read")
}

impl Schema {
    /// A schema without content.
    pub fn empty(version: FhirVersion) -> Schema {
        Schema {
            version,
            types: Vec::new(),
            value_sets: Vec::new(),
            constraints: Vec::new(),
            extensions: Vec::new(),
            names: FxHashMap::default(),
        }
    }

    /// The base definitions of a version. The first call decodes them, which takes milliseconds.
    pub fn of(version: FhirVersion) -> &'static Schema {
        SCHEMAS.of(version)
    }

    /// Builds the look-ups that are not stored.
    pub fn indexed(mut self) -> Schema {
        self.names = (0u16..).zip(&self.types).map(|(index, found)| (found.name.clone(), TypeId(index))).collect();
        let members: Vec<Members> = self.types.iter().map(|found| Members::of(found, &self)).collect();
        for (found, members) in self.types.iter_mut().zip(members) {
            found.members = members;
        }
        self
    }

    /// The type with this id, which must be of this schema.
    pub fn def(&self, id: TypeId) -> &TypeDef {
        &self.types[usize::from(id.0)]
    }

    /// The type with this name: `Patient`, `Patient.contact`, `string`.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// The type with this name, if a resource can have it: neither abstract nor a data type.
    pub fn resource(&self, name: &str) -> Option<TypeId> {
        let id = self.named(name)?;
        let found = self.def(id);
        (found.kind == TypeKind::Resource && !found.is_abstract).then_some(id)
    }

    /// Whether `id` is `of` or specializes it.
    pub fn is_a(&self, id: TypeId, of: TypeId) -> bool {
        let mut next = Some(id);
        while let Some(id) = next {
            if id == of {
                return true;
            }
            next = self.def(id).base;
        }
        false
    }

    /// The element and type of a JSON member: `valueQuantity` is `value` as Quantity. Names do not begin with `_`.
    pub fn member<'s>(&'s self, of: &'s TypeDef, name: &str) -> Option<(&'s ElementDef, &'s ElementType)> {
        let (element, of_type) = of.members.get(name.as_bytes())?;
        let element = &of.elements[usize::from(element)];
        Some((element, &element.types[usize::from(of_type)]))
    }

    /// The same as positions in `TypeDef::elements` and `ElementDef::types`. The name is UTF-8.
    pub fn member_index(&self, of: &TypeDef, name: impl AsRef<[u8]>) -> Option<(u16, u16)> {
        of.members.get(name.as_ref())
    }

    /// Every member that an object of the type may have, except `_x`: positions in `TypeDef::elements` and
    /// `ElementDef::types`.
    pub fn members<'s>(&'s self, of: &'s TypeDef) -> &'s [(u16, u16)] {
        &of.members.places
    }

    /// Position among `members` of a JSON name.
    #[inline]
    pub fn member_position(&self, of: &TypeDef, name: &[u8]) -> Option<u16> {
        of.members.position(name)
    }

    /// Position in `TypeDef::elements` of the element with this name in paths: `value` for `value[x]`.
    pub fn element_index(&self, of: &TypeDef, name: &str) -> Option<u16> {
        of.members.element(name)
    }

    /// The constraint with this id, which must be of this schema.
    pub fn constraint(&self, id: ConstraintId) -> &Constraint {
        &self.constraints[usize::from(id.0)]
    }

    /// The value set with this id, which must be of this schema.
    pub fn value_set(&self, id: ValueSetId) -> &ValueSet {
        &self.value_sets[usize::from(id.0)]
    }

    /// The value set with this url, with or without version, among all in the base packages; `codes` is None if they
    /// cannot be enumerated. The first call for one that no element is bound to decodes the further sets.
    pub fn value_set_named(&self, url: &str) -> Option<&ValueSet> {
        let url = url.split('|').next()?;
        let bound = self.value_sets.iter().find(|known| *known.url == *url);
        bound.or_else(|| unbound_value_sets(self.version).get(url))
    }

    /// The extension with this url.
    pub fn extension(&self, url: &str) -> Option<&ExtensionDef> {
        let at = self.extensions.binary_search_by(|known| (*known.url).cmp(url)).ok()?;
        self.extensions.get(at)
    }
}

impl TypeDef {
    /// A concrete type without base, elements, and constraints.
    pub fn new(name: &str, code: &str, kind: TypeKind) -> TypeDef {
        TypeDef {
            name: name.into(),
            code: code.into(),
            kind,
            is_abstract: false,
            base: None,
            elements: Vec::new(),
            constraints: Vec::new(),
            members: Members::default(),
        }
    }
}

impl ElementDef {
    /// The name of the member in JSON, and of the element in XML, if it has this type.
    pub fn member_name(&self, schema: &Schema, of: &ElementType) -> String {
        match self.is_choice {
            false => self.name.to_string(),
            true => format!("{}{}", self.name, capitalized(&schema.def(of.type_id).code)),
        }
    }
}

fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
