//! The base specification as tables: types, elements, bindings, constraints, extensions and search parameters of one FHIR
//! version.
//!
//! Made from the published definitions by the tool `emberpost-definitions` (tools/definitions), embedded in the program,
//! read once when a version is first asked for, and shared. Pure data: what it means is said by who walks it.

mod extension;
mod lookup;
mod more;
mod primitive;
mod search;
#[cfg(test)]
mod tests;
mod value_set;
pub mod vocabulary;

pub use extension::{Context, ExtensionDef};
pub use lookup::Names;
pub use more::{MoreSets, more_sets};
pub use primitive::Primitive;
pub use search::{SearchKind, SearchParameter, SearchParameters, search_parameters};
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

/// One version of FHIR.
#[derive(Debug, Serialize, Deserialize)]
pub struct Schema {
    pub version: FhirVersion,
    pub types: Vec<TypeDef>,
    pub value_sets: Vec<ValueSet>,
    pub constraints: Vec<Constraint>,
    /// The extensions that the base packages define, by url in ascending order.
    pub extensions: Vec<ExtensionDef>,
    #[serde(skip)]
    names: FxHashMap<Box<str>, TypeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TypeKind {
    Primitive(Primitive),
    /// A data type, such as HumanName.
    Complex,
    /// An element with elements of its own within a type: `Patient.contact`.
    Backbone,
    Resource,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct TypeDef {
    /// `Patient`, `HumanName`, `string`; of a backbone element its path, `Patient.contact`; of a constrained type that
    /// elements name, that type's own name, `SimpleQuantity`.
    pub name: Box<str>,
    /// What FHIRPath calls it and what the name of a choice ends with: `Quantity` for `SimpleQuantity`,
    /// `BackboneElement` or `Element` for backbone elements, else `name`.
    pub code: Box<str>,
    pub kind: TypeKind,
    pub is_abstract: bool,
    /// What it specialises or constrains.
    pub base: Option<TypeId>,
    /// Every element, inherited ones too, in the order of the snapshot, which is that of XML. Of a primitive: `id` and
    /// `extension`.
    pub elements: Vec<ElementDef>,
    /// On the type's root element, inherited ones too; without ele-1, which holds everywhere.
    pub constraints: Vec<ConstraintId>,
    #[serde(skip)]
    members: Members,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ElementDef {
    /// Without `[x]`.
    pub name: Box<str>,
    pub is_choice: bool,
    pub min: u16,
    /// Most values; `u16::MAX` is `*`.
    pub max: u16,
    /// Whether JSON writes an array: the element of the type that first defined it may repeat.
    pub is_array: bool,
    /// XML writes it as an attribute: `id` of data types, `Extension.url`.
    pub is_attribute: bool,
    pub is_modifier: bool,
    /// At least one; several only for choices.
    pub types: Vec<ElementType>,
    pub binding: Option<Binding>,
    /// Those of the element itself, beyond those of its type; without ele-1 and ext-1.
    pub constraints: Vec<ConstraintId>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ElementType {
    pub type_id: TypeId,
    /// The types that a Reference or canonical may lead to; empty: any.
    pub targets: Vec<TypeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strength {
    Required,
    Extensible,
    Preferred,
    Example,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Binding {
    pub strength: Strength,
    pub value_set: ValueSetId,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Constraint {
    /// `per-1`.
    pub key: Box<str>,
    /// Else it is a warning.
    pub is_error: bool,
    pub human: Box<str>,
    pub expression: Box<str>,
}

static SCHEMAS: PerVersion<Schema> = PerVersion::new(
    || embedded::<Schema>(include_bytes!("base/r4.bin")).indexed(),
    || embedded::<Schema>(include_bytes!("base/r4b.bin")).indexed(),
    || embedded::<Schema>(include_bytes!("base/r5.bin")).indexed(),
);

/// What the tool wrote: postcard, packed with zstd. The bytes are part of the program, and a test reads all of them.
#[expect(clippy::expect_used, reason = "the program's own data; a test reads every version")]
fn embedded<T: serde::de::DeserializeOwned>(packed: &[u8]) -> T {
    let bytes = zstd::decode_all(packed).expect("the embedded tables unpack");
    postcard::from_bytes(&bytes).expect("the embedded tables are read")
}

impl Schema {
    /// With nothing in it yet.
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

    /// The base definitions of a version; the first call reads them, which takes milliseconds.
    pub fn of(version: FhirVersion) -> &'static Schema {
        SCHEMAS.of(version)
    }

    /// With the look-ups that are not stored.
    pub fn indexed(mut self) -> Schema {
        self.names = (0u16..).zip(&self.types).map(|(index, found)| (found.name.clone(), TypeId(index))).collect();
        let members: Vec<Members> = self.types.iter().map(|found| Members::of(found, &self)).collect();
        for (found, members) in self.types.iter_mut().zip(members) {
            found.members = members;
        }
        self
    }

    pub fn def(&self, id: TypeId) -> &TypeDef {
        &self.types[usize::from(id.0)]
    }

    /// The type of this name: `Patient`, `Patient.contact`, `string`.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// A type that a resource can be of: no abstract one, no data type.
    pub fn resource(&self, name: &str) -> Option<TypeId> {
        let id = self.named(name)?;
        let found = self.def(id);
        (found.kind == TypeKind::Resource && !found.is_abstract).then_some(id)
    }

    /// Whether `id` is `of` or specialises it.
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

    /// The element and type that a JSON member of this name has: `valueQuantity` is `value`, as Quantity. Without `_`.
    pub fn member<'s>(&'s self, of: &'s TypeDef, name: &str) -> Option<(&'s ElementDef, &'s ElementType)> {
        let (element, of_type) = of.members.get(name.as_bytes())?;
        let element = &of.elements[usize::from(element)];
        Some((element, &element.types[usize::from(of_type)]))
    }

    /// The same as positions: in `TypeDef::elements` and in `ElementDef::types`. The name in UTF-8.
    pub fn member_index(&self, of: &TypeDef, name: impl AsRef<[u8]>) -> Option<(u16, u16)> {
        of.members.get(name.as_ref())
    }

    /// Every member that an object of the type may have, but `_x`: positions in `TypeDef::elements` and `ElementDef::types`.
    pub fn members<'s>(&'s self, of: &'s TypeDef) -> &'s [(u16, u16)] {
        &of.members.places
    }

    /// Position among `members` of what JSON calls so.
    #[inline]
    pub fn member_position(&self, of: &TypeDef, name: &[u8]) -> Option<u16> {
        of.members.position(name)
    }

    /// Position in `TypeDef::elements` of the element that paths call so: `value` for `value[x]`.
    pub fn element_index(&self, of: &TypeDef, name: &str) -> Option<u16> {
        of.members.element(name)
    }

    pub fn constraint(&self, id: ConstraintId) -> &Constraint {
        &self.constraints[usize::from(id.0)]
    }

    pub fn value_set(&self, id: ValueSetId) -> &ValueSet {
        &self.value_sets[usize::from(id.0)]
    }

    /// The value set of this url, with or without version, among all that the base packages have; `codes` is None when
    /// they cannot be enumerated. The first call for one that no element is bound to reads the further sets.
    pub fn value_set_named(&self, url: &str) -> Option<&ValueSet> {
        let url = url.split('|').next()?;
        let bound = self.value_sets.iter().find(|known| *known.url == *url);
        bound.or_else(|| more_sets(self.version).get(url))
    }

    pub fn extension(&self, url: &str) -> Option<&ExtensionDef> {
        let at = self.extensions.binary_search_by(|known| (*known.url).cmp(url)).ok()?;
        self.extensions.get(at)
    }
}

impl TypeDef {
    /// Concrete, without base, elements and constraints.
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
    /// The member's name in JSON, and the element's in XML, where it has this type.
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
