//! Constraints of error severity on types and elements: by presence, by hand, or by FHIRPath.

use super::native::{self, Native};
use super::place::Place;
use super::plan::{Constraints, Special};
use super::walk::{Member, Object, Walker};
use crate::fhir::IssueCode;
use crate::fhir::schema::Constraint;
use crate::fhir::tree::Node;

impl<'t> Walker<'t, '_, '_> {
    /// The rules of types that the walk knows by name, after their members.
    pub fn special(&mut self, object: Object<'t, '_>) {
        match object.plan.special {
            Special::Extension => self.extension(object),
            Special::Reference => self.reference(object, object.role),
            _ => {}
        }
        if let Some(bound) = object.role.and_then(|role| role.element.bound) {
            self.bound_object(bound, object);
        }
    }

    /// `present`: bits of the elements that are there.
    pub fn constraints(&mut self, object: Object<'t, '_>, present: u128) {
        self.hold(&object.plan.constraints, object.node, present, object.place);
        if let Some(role) = object.role.filter(|role| !role.of_type.constraints.is_empty()) {
            self.hold(&role.of_type.constraints, object.node, present, object.place);
        }
    }

    fn hold(&mut self, constraints: &'static Constraints, node: Node<'t>, present: u128, place: &Place) {
        for (presence, constraint) in &constraints.present {
            if !presence.holds(present) {
                self.broken(constraint, node, place);
            }
        }
        for (native, constraint) in &constraints.native {
            if !native::holds(*native, node, self.plan.schema.version) {
                self.broken(constraint, node, place);
            }
        }
    }

    /// Those of a primitive that has a value.
    pub fn primitive_constraints(&mut self, _: Object<'t, '_>, _: Member<'t>, _: Node<'t>, _: &Place) {}

    #[cold]
    fn broken(&mut self, constraint: &'static Constraint, node: Node<'t>, place: &Place) {
        if self.options.skip_root_bundle && self.holder.resource.index == 0 && constraint.key.starts_with("bdl-") {
            return;
        }
        self.fail(place, node, &constraint.key, IssueCode::Invariant, || constraint.human.to_string());
    }
}
