//! The search parameters of the base specification: by which codes resources of a type are found, and where in them.
//!
//! For who searches resources; nothing in the message path does. They are read when first asked for.

use super::{Schema, TypeId};
use crate::version::{FhirVersion, PerVersion};
use serde::{Deserialize, Serialize};

/// What a search compares (SearchParameter.type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SearchKind {
    Number,
    Date,
    String,
    Token,
    Reference,
    Composite,
    Quantity,
    Uri,
    Special,
    /// A resource as a whole, `_has` and its like (R5).
    Resource,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct SearchParameter {
    pub url: Box<str>,
    /// What it is called in a search: `birthdate`.
    pub code: Box<str>,
    pub kind: SearchKind,
    /// The types that have it, with those that specialise them: `Resource` is all.
    pub bases: Vec<TypeId>,
    /// Of a reference the types that it may lead to; empty: not said.
    pub targets: Vec<TypeId>,
    /// FHIRPath from the resource; empty: it is no element that is searched, as for `_text`.
    pub expression: Box<str>,
    /// Of a composite its parts: the parameter's url, and FHIRPath from what `expression` finds.
    pub components: Vec<(Box<str>, Box<str>)>,
}

/// Those of one version.
#[derive(Debug, Serialize, Deserialize)]
pub struct SearchParameters {
    /// By code and then url, in ascending order.
    all: Vec<SearchParameter>,
}

static PARAMETERS: PerVersion<SearchParameters> = PerVersion::new(
    || super::embedded(include_bytes!("base/r4-search.bin")),
    || super::embedded(include_bytes!("base/r4b-search.bin")),
    || super::embedded(include_bytes!("base/r5-search.bin")),
);

/// Those of a version; the first call reads them, which takes about a millisecond.
pub fn search_parameters(version: FhirVersion) -> &'static SearchParameters {
    PARAMETERS.of(version)
}

impl SearchParameters {
    /// In any order.
    pub fn new(mut all: Vec<SearchParameter>) -> SearchParameters {
        all.sort_by(|left, right| (&left.code, &left.url).cmp(&(&right.code, &right.url)));
        SearchParameters { all }
    }

    /// The one of this code that resources of a type have; one of the type itself comes before one that it inherits.
    pub fn of(&self, schema: &Schema, type_id: TypeId, code: &str) -> Option<&SearchParameter> {
        let from = self.all.partition_point(|known| *known.code < *code);
        let same = || self.all.iter().skip(from).take_while(|known| *known.code == *code);
        let own = same().find(|known| known.bases.contains(&type_id));
        own.or_else(|| same().find(|known| known.bases.iter().any(|base| schema.is_a(type_id, *base))))
    }

    pub fn iter(&self) -> impl Iterator<Item = &SearchParameter> {
        self.all.iter()
    }
}
