//! Checks the structure of a document against the base definitions of its version: elements and their types, JSON
//! structure, formats of primitives, required bindings, references, contained resources, extensions, narrative, and
//! invariants.
//!
//! One walk over the tree, guided by the tables of `emberpost_fhir::schema`. Allocates nothing unless something is
//! wrong.
//!
//! Reading order: `plan` and `member` (what is required of types and members), `walker` (the state of the walk), `walk`
//! (objects and their members),
//! `value` (the values of members), then the rules of single types: `attachment`, `binding`, `reference`,
//! `extension`, `contained`, `narrative`, `primitive`, and `constraint`.
//!
//! Checks any document, also one that is not a message. Relies on the reader to reject duplicate names and excessive
//! depth.

mod attachment;
mod binding;
mod compiled_constraint;
mod constraint;
mod contained;
mod element_path;
mod entries;
mod extension;
mod member;
mod narrative;
mod native;
mod plan;
mod primitive;
mod reference;
mod required_binding;
mod resources;
mod shortcut;
#[cfg(test)]
mod tests;
mod value;
mod walk;
mod walker;

use super::collector::IssueCollector;
use emberpost_fhir::schema::{Constraint, Schema};
use emberpost_fhir::tree::Tree;
use plan::Plan;
use rustc_hash::FxHashSet;
use walker::Walker;

pub(super) use extension::is_type;

/// The maximum number of steps that all expressions on one document may take together: ten times the limit of one
/// expression (`emberpost_fhirpath::STEP_LIMIT`).
const STEPS_LIMIT: u64 = 20_000_000;

/// Options of the structure check.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Whether the message rules report the bdl- rules of the outermost Bundle and the required elements of its
    /// MessageHeader.
    pub is_message: bool,
    pub steps_limit: u64,
    /// URLs of extensions whose definitions in the base packages do not apply, because loaded definitions override
    /// them.
    pub replaced: Option<&'a FxHashSet<Box<str>>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { is_message: false, steps_limit: STEPS_LIMIT, replaced: None }
    }
}

/// Reports every structural error with its rule, FHIRPath expression, and position. `schema` is one of `Schema::of`.
/// Time is linear in the size of the document, except for constraints whose expressions are not; those are limited
/// by `Options::steps_limit`, and a warning says from where on they were skipped.
pub fn check(tree: &Tree, schema: &'static Schema, options: Options<'_>, collector: &mut IssueCollector) {
    if tree.is_empty() {
        return;
    }
    Walker::new(tree, Plan::of(schema.version), options, collector).root();
}

/// The constraints of severity error that are not evaluated because their expressions cannot be parsed; none in R4,
/// R4B, and R5.
pub fn not_evaluated(schema: &'static Schema) -> Vec<&'static Constraint> {
    plan::not_evaluated(schema)
}
