//! Constraints of error severity on types and elements: by hand, by a shortcut, or by FHIRPath.

use super::native;
use super::place::Place;
use super::plan::{By, Constraints, ExtensionPlan, Held, Special};
use super::walk::{Object, Walker};
use crate::around::Around;
use crate::prose;
use crate::report::Broken;
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Constraint, Schema};
use emberpost_fhir::tree::{Node, Tree};
use emberpost_fhirpath::{Expression, Failure, Host, Scope};
use std::cell::{Cell, OnceCell};

impl<'t> Walker<'t, '_, '_> {
    /// The rules of types that the walk knows by name, after their members.
    pub fn special(&mut self, object: &Object<'t, '_>, present: u128) {
        match object.plan.special {
            Special::Attachment => self.attachment(object),
            Special::Extension => self.extension(object, present),
            Special::Reference => self.reference(object, object.role),
            _ => {}
        }
        if let Some(subject) = object.plan.subject {
            let is_inner = object.place.parent.is_some_and(|parent| parent.type_id == self.plan.extension);
            prose::object(subject, object.node, is_inner, self.report);
        }
        if let Some(bound) = object.role.and_then(|role| role.bound) {
            self.bound_object(bound, object);
        }
    }

    /// `present`: bits of the elements that are there.
    pub fn constraints(&mut self, object: &Object<'t, '_>, present: u128) {
        let element = Element { value: Some(object.node), extra: None, type_id: object.type_id() };
        // Those of a primitive's type are among those of its member.
        let of_type = object.plan.constraints.filter(|_| object.plan.primitive.is_none());
        for constraints in of_type.into_iter().chain(object.role.and_then(|role| role.constraints)) {
            self.hold(constraints, element, present, object.place);
        }
    }

    /// Those that the definition of an extension adds.
    pub fn extension_constraints(&mut self, plan: &'static ExtensionPlan, object: &Object<'t, '_>, present: u128) {
        let Some(constraints) = plan.constraints else { return };
        let element = Element { value: Some(object.node), extra: None, type_id: object.type_id() };
        self.hold(constraints, element, present, object.place);
    }

    /// `present`: bits of the elements that an object has; of a primitive none.
    pub fn hold(&mut self, constraints: &'static Constraints, element: Element<'t>, present: u128, place: &Place) {
        let Some(node) = element.node() else { return };
        let skips_bundle = self.options.is_message && self.holder.resource.index == 0;
        for held in constraints {
            if skips_bundle && held.constraint.key.starts_with("bdl-") {
                continue;
            }
            let said = match &held.by {
                By::Hand(native) => native::says(*native, node, self.plan.schema.version),
                By::Shortcut(shortcut) => shortcut.says(present, node),
            };
            match said {
                Some(true) => {}
                Some(false) => self.broken(held.constraint, node, place),
                None => self.ask(held, element, (node, place)),
            }
        }
    }

    /// The engine.
    fn ask(&mut self, held: &'static Held, element: Element<'t>, (node, place): (Node<'t>, &Place)) {
        let Some(expression) = self.plan.expression(held.id) else { return };
        match self.evaluate(expression, element, (node, place)) {
            None => {}
            Some(Ok(truth)) if truth.is_met(&held.constraint.expression) => {}
            Some(Ok(_)) => self.broken(held.constraint, node, place),
            Some(Err(failure)) => self.not_checked(&held.constraint.key, &failure, node, place),
        }
    }

    /// An invariant over an element of the resource that is walked. The only way to the engine, so that every
    /// evaluation counts: None where the document has taken its steps, which is told with this place.
    pub fn evaluate(
        &mut self,
        expression: &Expression,
        element: Element<'t>,
        (node, place): (Node<'t>, &Place),
    ) -> Option<Result<Truth, Failure>> {
        let steps_left = self.options.steps_limit.saturating_sub(self.steps.get());
        if steps_left == 0 {
            self.cut_off(node, place);
            return None;
        }
        Some(self.evaluated(expression, element, steps_left))
    }

    fn evaluated(&self, expression: &Expression, element: Element<'t>, steps_left: u64) -> Result<Truth, Failure> {
        let schema = self.plan.schema;
        let resource = self.holder.element.unwrap_or(element);
        let root = self.holder.root.unwrap_or(resource);
        let is_undecided = Cell::new(false);
        let asked = Asked {
            schema,
            tree: self.tree,
            around: &self.around,
            steps: &self.steps,
            steps_left: u32::try_from(steps_left).unwrap_or(u32::MAX),
            is_undecided: &is_undecided,
        };
        let scope = Scope { schema, resource, root, host: &asked };
        let holds = expression.holds(&scope, element)?;
        Ok(Truth { holds, is_undecided: is_undecided.get() })
    }

    /// Told once.
    #[cold]
    fn cut_off(&mut self, node: Node<'t>, place: &Place) {
        if !std::mem::replace(&mut self.is_cut_off, true) {
            let text = "from here on constraints were left out that take long to check, as the document has too many; split it";
            let path = place.path(self.plan.schema);
            self.report.warning(path, Some(node), Broken::new("constraint-limit", IssueCode::TooLong, text));
        }
    }

    #[cold]
    pub fn not_checked(&mut self, rule: &'static str, failure: &Failure, node: Node<'t>, place: &Place) {
        let text = format!("{rule} could not be checked here: {failure}");
        let path = place.path(self.plan.schema);
        self.report.warning(path, Some(node), Broken::new(rule, IssueCode::Processing, text));
    }

    #[cold]
    fn broken(&mut self, constraint: &'static Constraint, node: Node<'t>, place: &Place) {
        self.fail(place, node, &constraint.key, IssueCode::Invariant, || constraint.human.to_string());
    }
}

/// How invariants end (mdd-1, and inv-1 of Task) that come to no result where nothing is wrong: two dates of different
/// precision have no order, although a day may well hold the moment that should follow it. per-1, which compares such
/// dates too, is decided without the engine.
const MAY_LACK_A_RESULT: [&str; 2] = ["whenHandedOver >= whenPrepared", "lastModified >= authoredOn"];

/// What an invariant came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Truth {
    /// None: no result.
    holds: Option<bool>,
    /// On the way, something was asked that cannot be known here, such as what a reference leads to.
    is_undecided: bool,
}

impl Truth {
    /// An invariant must come to true: one without a result is broken, unless what it asks for cannot be known here.
    pub fn is_met(self, expression: &str) -> bool {
        let may_lack = || MAY_LACK_A_RESULT.iter().any(|end| expression.ends_with(end));
        self.holds.unwrap_or_else(|| self.is_undecided || may_lack())
    }
}

/// What expressions may ask.
struct Asked<'a, 't> {
    schema: &'static Schema,
    tree: &'t Tree,
    around: &'a OnceCell<Around<'t>>,
    /// Those that were taken so far.
    steps: &'a Cell<u64>,
    /// That this evaluation may take.
    steps_left: u32,
    is_undecided: &'a Cell<bool>,
}

impl<'a, 't: 'a> Host<'a> for Asked<'a, 't> {
    fn resolve(&self, from: Element<'a>, reference: &str) -> Option<Element<'a>> {
        let around: &Around<'a> = self.around.get_or_init(|| Around::new(self.tree, self.schema));
        around.resolve(from, reference).map(|led| led.resource)
    }

    fn member_of(&self, element: Element<'a>, value_set: &str) -> Option<bool> {
        let codes = self.schema.value_set_named(value_set)?.codes.as_ref()?;
        let node = element.value?;
        if let Some(code) = node.text() {
            return Some(codes.has_code(&code));
        }
        let is_in = |coding: Node| {
            let [system, code] = coding.pick(["system", "code"]).map(|member| member.and_then(Node::text));
            system.zip(code).is_some_and(|(system, code)| codes.has(&system, &code))
        };
        match node.get("coding") {
            Some(codings) => Some(codings.items().any(is_in)),
            None => Some(is_in(node)),
        }
    }

    fn undecided(&self) {
        self.is_undecided.set(true);
    }

    fn steps_left(&self) -> u32 {
        self.steps_left
    }

    fn spent(&self, steps: u32) {
        self.steps.set(self.steps.get().saturating_add(u64::from(steps)));
    }

    /// No base constraint asks for the time.
    fn now_us(&self) -> i64 {
        0
    }
}
