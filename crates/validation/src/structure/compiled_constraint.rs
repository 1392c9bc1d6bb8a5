//! Constraints as the walk evaluates them, each in the cheapest exact representation.

use super::native::Native;
use super::shortcut::Shortcut;
use emberpost_fhir::schema::{Constraint, ConstraintId, Schema, TypeDef};

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
