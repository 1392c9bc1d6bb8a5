//! The value sets of the base packages that no element is bound to by force, for profiles that bind to them.
//!
//! They are many and few profiles want them, so they are read when the first is asked for.

use super::ValueSet;
use crate::version::{FhirVersion, PerVersion};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub struct MoreSets {
    /// By url in ascending order; none of them is in `Schema::value_sets`, none has more than 5,000 codes.
    sets: Vec<ValueSet>,
}

static SETS: PerVersion<MoreSets> = PerVersion::new(
    || super::embedded(include_bytes!("base/r4-sets.bin")),
    || super::embedded(include_bytes!("base/r4b-sets.bin")),
    || super::embedded(include_bytes!("base/r5-sets.bin")),
);

/// The further value sets of a version; the first call reads them, which takes milliseconds. `Schema::value_set_named`
/// looks into both.
pub fn more_sets(version: FhirVersion) -> &'static MoreSets {
    SETS.of(version)
}

impl MoreSets {
    /// In any order.
    pub fn new(mut sets: Vec<ValueSet>) -> MoreSets {
        sets.sort_by(|left, right| left.url.cmp(&right.url));
        MoreSets { sets }
    }

    /// By its url without version.
    pub fn get(&self, url: &str) -> Option<&ValueSet> {
        let at = self.sets.binary_search_by(|known| (*known.url).cmp(url)).ok()?;
        self.sets.get(at)
    }

    /// In ascending order of their urls.
    pub fn iter(&self) -> impl Iterator<Item = &ValueSet> {
        self.sets.iter()
    }
}
