//! Constraints of severity error on types and elements, evaluated by hand-written code, by a shortcut, or by
//! FHIRPath.

use super::compiled_constraint::{CompiledConstraint, Constraints, Evaluator};
use super::element_path::ElementPath;
use super::native;
use super::plan::{ExtensionPlan, Special};
use super::walker::{Object, Walker};
use crate::collector::Violation;
use crate::document_index::DocumentIndex;
use crate::prose;
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::{Constraint, Schema};
use emberpost_fhir::tree::{Node, Tree};
use emberpost_fhirpath::{Expression, Failure, Host, Scope};
use std::cell::{Cell, OnceCell};

impl<'t> Walker<'t, '_, '_> {
    /// Rules of the types that have code of their own in the walk. Runs after the members.
    pub fn special(&mut self, object: &Object<'t, '_>, present: u128) {
        match object.plan.special {
            Special::Attachment => self.attachment(object),
            Special::Extension => self.extension(object, present),
            Special::Reference => self.reference(object, object.member),
            _ => {}
        }
        if let Some(subject) = object.plan.subject {
            let is_inner = object.path.parent.is_some_and(|parent| parent.type_id == self.plan.extension);
            prose::object(subject, object.node, is_inner, self.collector);
        }
        if let Some(bound) = object.member.and_then(|member| member.bound) {
            self.bound_object(bound, object);
        }
    }

    /// `present`: the bits of the elements that the object has.
    pub fn constraints(&mut self, object: &Object<'t, '_>, present: u128) {
        let element = Element { value: Some(object.node), extra: None, type_id: object.type_id() };
        // The constraints of a primitive's type are included in those of its member.
        let of_type = object.plan.constraints.filter(|_| object.plan.primitive.is_none());
        for constraints in of_type.into_iter().chain(object.member.and_then(|member| member.constraints)) {
            self.check_constraints(constraints, element, present, object.path);
        }
    }

    /// Constraints that the definition of an extension adds.
    pub fn extension_constraints(&mut self, plan: &'static ExtensionPlan, object: &Object<'t, '_>, present: u128) {
        let Some(constraints) = plan.constraints else { return };
        let element = Element { value: Some(object.node), extra: None, type_id: object.type_id() };
        self.check_constraints(constraints, element, present, object.path);
    }

    /// `present`: the bits of the elements that an object has; none for a primitive.
    pub fn check_constraints(
        &mut self,
        constraints: &'static Constraints,
        element: Element<'t>,
        present: u128,
        path: &ElementPath,
    ) {
        let Some(node) = element.node() else { return };
        let skips_bundle = self.options.is_message && self.holder.resource.index == 0;
        for compiled in constraints {
            if skips_bundle && compiled.constraint.key.starts_with("bdl-") {
                continue;
            }
            let result = match &compiled.by {
                Evaluator::Hand(native) => native::evaluate(*native, node, self.plan.schema.version),
                Evaluator::Shortcut(shortcut) => shortcut.evaluate(present, node),
            };
            match result {
                Some(true) => {}
                Some(false) => self.broken(compiled.constraint, node, path),
                None => self.evaluate_expression(compiled, element, (node, path)),
            }
        }
    }

    /// Evaluates a constraint by its expression.
    fn evaluate_expression(
        &mut self,
        compiled: &'static CompiledConstraint,
        element: Element<'t>,
        (node, path): (Node<'t>, &ElementPath),
    ) {
        let Some(expression) = self.plan.expression(compiled.id) else { return };
        match self.evaluate(expression, element, (node, path)) {
            None => {}
            Some(Ok(truth)) if truth.is_met(&compiled.constraint.expression) => {}
            Some(Ok(_)) => self.broken(compiled.constraint, node, path),
            Some(Err(failure)) => self.not_checked(&compiled.constraint.key, &failure, node, path),
        }
    }

    /// Evaluates an invariant on an element of the resource that is being walked. Every evaluation goes through
    /// here, so that all steps count. None if the document has used up its steps, which is reported once with this
    /// path.
    pub fn evaluate(
        &mut self,
        expression: &Expression,
        element: Element<'t>,
        (node, path): (Node<'t>, &ElementPath),
    ) -> Option<Result<ConstraintResult, Failure>> {
        let steps_left = self.options.steps_limit.saturating_sub(self.steps.get());
        if steps_left == 0 {
            self.cut_off(node, path);
            return None;
        }
        Some(self.evaluated(expression, element, steps_left))
    }

    fn evaluated(
        &self,
        expression: &Expression,
        element: Element<'t>,
        steps_left: u64,
    ) -> Result<ConstraintResult, Failure> {
        let schema = self.plan.schema;
        let resource = self.holder.element.unwrap_or(element);
        let root = self.holder.root.unwrap_or(resource);
        let is_undecided = Cell::new(false);
        let host = ConstraintHost {
            schema,
            tree: self.tree,
            document: &self.document,
            steps: &self.steps,
            steps_left: u32::try_from(steps_left).unwrap_or(u32::MAX),
            is_undecided: &is_undecided,
        };
        let scope = Scope { schema, resource, root, host: &host };
        let holds = expression.holds(&scope, element)?;
        Ok(ConstraintResult { holds, is_undecided: is_undecided.get() })
    }

    /// Reported once per document.
    #[cold]
    fn cut_off(&mut self, node: Node<'t>, path: &ElementPath) {
        if !std::mem::replace(&mut self.is_cut_off, true) {
            let text = "from here on, constraints that take long to check were skipped, because the document has too many of them; split it";
            let expression = path.expression(self.plan.schema);
            self.collector.warning(
                expression,
                Some(node),
                Violation::new("constraint-limit", IssueCode::TooLong, text),
            );
        }
    }

    #[cold]
    pub fn not_checked(&mut self, rule: &'static str, failure: &Failure, node: Node<'t>, path: &ElementPath) {
        let text = format!("{rule} could not be checked here: {failure}");
        let expression = path.expression(self.plan.schema);
        self.collector.warning(expression, Some(node), Violation::new(rule, IssueCode::Processing, text));
    }

    #[cold]
    fn broken(&mut self, constraint: &'static Constraint, node: Node<'t>, path: &ElementPath) {
        self.fail(path, node, &constraint.key, IssueCode::Invariant, || &*constraint.human);
    }
}

/// Ends of the expressions of invariants (mdd-1, and inv-1 of Task) that have no result although nothing is wrong:
/// two dates of different precision cannot be ordered, although a day may well include the later moment. per-1
/// compares such dates as well, but has code of its own.
const MAY_LACK_A_RESULT: [&str; 2] = ["whenHandedOver >= whenPrepared", "lastModified >= authoredOn"];

/// The result of an invariant.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConstraintResult {
    /// None: the expression has no result.
    holds: Option<bool>,
    /// Whether the evaluation needed something that is not known here, such as the target of a reference.
    is_undecided: bool,
}

impl ConstraintResult {
    /// An invariant must be true. One without a result is violated, unless it depends on something that is not known
    /// here.
    pub fn is_met(self, expression: &str) -> bool {
        let may_lack = || MAY_LACK_A_RESULT.iter().any(|end| expression.ends_with(end));
        self.holds.unwrap_or_else(|| self.is_undecided || may_lack())
    }
}

/// What expressions need from outside the element.
struct ConstraintHost<'a, 't> {
    schema: &'static Schema,
    tree: &'t Tree,
    document: &'a OnceCell<DocumentIndex<'t>>,
    /// Steps taken in the document so far.
    steps: &'a Cell<u64>,
    /// Steps that this evaluation may take.
    steps_left: u32,
    is_undecided: &'a Cell<bool>,
}

impl<'a, 't: 'a> Host<'a> for ConstraintHost<'a, 't> {
    fn resolve(&self, from: Element<'a>, reference: &str) -> Option<Element<'a>> {
        let document: &DocumentIndex<'a> = self.document.get_or_init(|| DocumentIndex::new(self.tree, self.schema));
        document.resolve(from, reference).map(|target| target.resource)
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

    /// No constraint of the base specification uses the current time.
    fn now_us(&self) -> i64 {
        0
    }
}
