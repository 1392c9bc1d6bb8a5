//! The search parameters of the base specification: their codes, the types they apply to, and the elements they
//! search.
//!
//! For programs that search resources; validation and messaging do not use them. Decoded on first use.

use super::{Schema, TypeId};
use crate::version::{FhirVersion, PerVersion};
use serde::{Deserialize, Serialize};

/// The kind of value that a search compares (SearchParameter.type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SearchKind {
    /// `number`.
    Number,
    /// `date`.
    Date,
    /// `string`.
    String,
    /// `token`.
    Token,
    /// `reference`.
    Reference,
    /// `composite`.
    Composite,
    /// `quantity`.
    Quantity,
    /// `uri`.
    Uri,
    /// `special`.
    Special,
    /// The resource as a whole, such as `_has` (R5).
    Resource,
}

/// A search parameter.
#[derive(Debug, Serialize, Deserialize)]
pub struct SearchParameter {
    /// The canonical of its SearchParameter.
    pub url: Box<str>,
    /// Its name in a search: `birthdate`.
    pub code: Box<str>,
    /// Its type, which says how values are compared.
    pub kind: SearchKind,
    /// The types that have it, including their specializations: `Resource` is all.
    pub bases: Vec<TypeId>,
    /// The types that a reference may refer to; empty: unspecified.
    pub targets: Vec<TypeId>,
    /// FHIRPath from the resource; empty: it does not search an element, as for `_text`.
    pub expression: Box<str>,
    /// The parts of a composite: the parameter's url, and FHIRPath from the result of `expression`.
    pub components: Vec<(Box<str>, Box<str>)>,
}

/// The search parameters of one version.
#[derive(Debug, Serialize, Deserialize)]
pub struct SearchParameters {
    /// Sorted by code and then url.
    all: Vec<SearchParameter>,
}

static PARAMETERS: PerVersion<SearchParameters> = PerVersion::new(
    || super::embedded(include_bytes!("base/r4-search.bin")),
    || super::embedded(include_bytes!("base/r4b-search.bin")),
    || super::embedded(include_bytes!("base/r5-search.bin")),
);

/// The search parameters of a version. The first call decodes them, which takes about a millisecond.
pub fn search_parameters(version: FhirVersion) -> &'static SearchParameters {
    PARAMETERS.of(version)
}

impl SearchParameters {
    /// `all` may be in any order.
    pub fn new(mut all: Vec<SearchParameter>) -> SearchParameters {
        all.sort_by(|left, right| (&left.code, &left.url).cmp(&(&right.code, &right.url)));
        SearchParameters { all }
    }

    /// The parameter with this code for resources of a type; one of the type itself takes precedence over an
    /// inherited one.
    pub fn of(&self, schema: &Schema, type_id: TypeId, code: &str) -> Option<&SearchParameter> {
        let from = self.all.partition_point(|known| *known.code < *code);
        let same = || self.all.iter().skip(from).take_while(|known| *known.code == *code);
        let own = same().find(|known| known.bases.contains(&type_id));
        own.or_else(|| same().find(|known| known.bases.iter().any(|base| schema.is_a(type_id, *base))))
    }

    /// All search parameters, sorted by code and url.
    pub fn iter(&self) -> impl Iterator<Item = &SearchParameter> {
        self.all.iter()
    }
}
