//! The structure of a document by the base definitions of its version: elements and their types, JSON's shapes, formats
//! of primitives, required bindings, references, contained resources, extensions, narrative and invariants.
//!
//! One walk over the tree with the tables of `emberpost_fhir::schema` beside it. Nothing is allocated while nothing is wrong.
//! Reading order: `plan` and `member` (what is asked of types and members), `walk` (objects and their members), `value` (what
//! a member holds), then the rules of single types:
//! `attachment`, `binding`, `reference`, `extension`, `contained`, `narrative`, `primitive`, and `constraint`.
//!
//! Every document is walked, also one that is no message. It relies on the reader for duplicate names and depth.

mod attachment;
mod binding;
mod constraint;
mod contained;
mod extension;
mod member;
mod narrative;
mod native;
mod place;
mod plan;
mod primitive;
mod reference;
mod resources;
mod shortcut;
#[cfg(test)]
mod tests;
mod value;
mod walk;

use super::report::Report;
use emberpost_fhir::schema::{Constraint, Schema};
use emberpost_fhir::tree::Tree;
use plan::Plan;
use rustc_hash::FxHashSet;
use walk::Walker;

pub(super) use extension::is_type;

/// Most steps that the expressions of one document take together: ten times what one may (`emberpost_fhirpath::STEP_LIMIT`).
const STEPS_LIMIT: u64 = 20_000_000;

/// How a document is checked.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The bdl- rules of the outermost Bundle, and what a MessageHeader must have, are told by the message rules.
    pub is_message: bool,
    pub steps_limit: u64,
    /// Urls of the extensions whose definitions in the base packages are not held, as others were loaded.
    pub replaced: Option<&'a FxHashSet<Box<str>>>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options { is_message: false, steps_limit: STEPS_LIMIT, replaced: None }
    }
}

/// Reports every break of the structure, each with rule, FHIRPath expression and place. `schema` is one of
/// `Schema::of`. Time is linear in the size of the document, but for constraints whose expressions are not: those are
/// bounded by `Options::steps_limit`, and a warning says where they were left out.
pub fn check(tree: &Tree, schema: &'static Schema, options: Options<'_>, report: &mut Report) {
    if tree.is_empty() {
        return;
    }
    Walker::new(tree, Plan::of(schema.version), options, report).root();
}

/// The constraints of error severity that are not evaluated, as their expressions cannot be read: none in R4, R4B and R5.
pub fn not_evaluated(schema: &'static Schema) -> Vec<&'static Constraint> {
    plan::not_evaluated(schema)
}
