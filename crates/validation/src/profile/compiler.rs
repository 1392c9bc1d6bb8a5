//! What is known while profiles are compiled: the library, the drafts, and what was compiled before.

use super::codes::ValueSets;
use super::expression::Expression;
use super::library::{Drafted, Library};
use crate::definition::catalog::Catalog;
use emberpost_fhir::schema::Schema;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

pub(super) struct Compiler<'d> {
    pub schema: &'static Schema,
    pub library: &'d Library,
    /// One for each of the library's sources.
    pub drafts: &'d [Drafted],
    pub catalog: &'d Catalog,
    pub value_sets: ValueSets,
    pub expressions: FxHashMap<String, Result<Arc<Expression>, String>>,
    /// Keys and expressions of the base specification.
    pub base_constraints: FxHashSet<(&'static str, &'static str)>,
    /// Errors of the profile that is being compiled, without the file name.
    pub errors: Vec<String>,
    /// Whether all its bases are known, so that an undefined name is an error.
    pub is_whole: bool,
    /// The number of profiles under compilation, because discriminators may need the rules of another profile.
    pub depth: usize,
}

impl<'d> Compiler<'d> {
    pub fn new(library: &'d Library, drafts: &'d [Drafted], catalog: &'d Catalog) -> Self {
        let schema = library.schema;
        let base_constraints = schema.constraints.iter().map(|one| (&*one.key, &*one.expression)).collect();
        Compiler {
            schema,
            library,
            drafts,
            catalog,
            value_sets: ValueSets::new(schema),
            expressions: FxHashMap::default(),
            base_constraints,
            errors: Vec::new(),
            is_whole: true,
            depth: 0,
        }
    }
}
