//! The state of the walk, and how it reports.

use super::Options;
use super::element_path::ElementPath;
use super::entries::Entries;
use super::member::MemberPlan;
use super::plan::{Plan, TypePlan};
use crate::collector::{IssueCollector, Violation};
use crate::contained::ContainedIndex;
use crate::document_index::DocumentIndex;
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::schema::TypeId;
use emberpost_fhir::tree::{Node, Tree};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::HashSet;

pub(super) struct Walker<'t, 'r, 'm> {
    pub tree: &'t Tree,
    pub plan: &'static Plan,
    pub options: Options<'r>,
    pub collector: &'r mut IssueCollector<'m>,
    /// The resource that is being walked.
    pub holder: Holder<'t>,
    /// References to contained resources seen so far, for dom-3.
    pub locals: Vec<Local<'t>>,
    /// Ids of contained resources, for the containers that were asked for.
    pub contained_index: ContainedIndex,
    /// Ids of the elements of the current resource seen so far.
    pub ids: HashSet<Cow<'t, str>>,
    /// Buffer for decoded texts.
    pub buffer: Vec<u8>,
    /// The Bundles around the current node, outermost first.
    pub bundles: Vec<Entries<'t>>,
    /// The index in which expressions resolve references; built on first use.
    pub document: OnceCell<DocumentIndex<'t>>,
    /// Steps that expressions have taken.
    pub steps: Cell<u64>,
    /// Whether expressions have used up their steps, which was reported.
    pub is_cut_off: bool,
}

/// An object with its type and path.
#[derive(Clone, Copy)]
pub(super) struct Object<'t, 'p> {
    pub node: Node<'t>,
    /// The object around it; None for resources and for `_x`.
    pub holder: Option<Node<'t>>,
    pub plan: &'static TypePlan,
    /// The member that holds it; None: the root.
    pub member: Option<&'static MemberPlan>,
    pub path: &'p ElementPath<'p>,
}

impl Object<'_, '_> {
    /// The type; for a resource its actual type.
    pub fn type_id(&self) -> TypeId {
        self.plan.type_id
    }
}

/// A member of an object that the object's type defines.
#[derive(Clone, Copy)]
pub(super) struct Member<'t> {
    pub node: Node<'t>,
    pub plan: &'static MemberPlan,
    /// Whether it is `_x`: id and extensions of a primitive.
    pub is_sibling: bool,
}

/// The resource that is being walked.
#[derive(Clone, Copy)]
pub(super) struct Holder<'t> {
    pub resource: Node<'t>,
    /// The container of a contained resource.
    pub container: Option<Node<'t>>,
    /// `%resource` and `%rootResource` of its invariants, looked up once; None before the walk begins.
    pub element: Option<Element<'t>>,
    pub root: Option<Element<'t>>,
}

impl<'t> Holder<'t> {
    /// The resource that has `contained`: `%rootResource`.
    pub fn container(&self) -> Node<'t> {
        self.container.unwrap_or(self.resource)
    }
}

/// A reference to a contained resource.
pub(super) struct Local<'t> {
    /// The id after `#`; empty: the container.
    pub id: Cow<'t, str>,
    /// The index of the node that has the reference.
    pub from: u32,
}

/// Marks where the references of a container begin.
#[derive(Clone, Copy)]
pub(super) struct Locals {
    pub from: usize,
}

impl<'t, 'r, 'm> Walker<'t, 'r, 'm> {
    pub fn new(
        tree: &'t Tree,
        plan: &'static Plan,
        options: Options<'r>,
        collector: &'r mut IssueCollector<'m>,
    ) -> Self {
        let holder = Holder { resource: tree.root(), container: None, element: None, root: None };
        Walker {
            tree,
            plan,
            options,
            collector,
            holder,
            locals: Vec::new(),
            contained_index: ContainedIndex::default(),
            ids: HashSet::new(),
            buffer: Vec::new(),
            bundles: Vec::new(),
            document: OnceCell::new(),
            steps: Cell::new(0),
            is_cut_off: false,
        }
    }

    pub fn wrong_shape(&mut self, path: &ElementPath, node: Node<'t>, text: &'static str) {
        self.fail(path, node, "JSN-05", IssueCode::Structure, || format!("{} {text}", named(path)));
    }

    pub fn stray_null(&mut self, path: &ElementPath, node: Node<'t>) {
        self.format_error(
            (path, node),
            ("JSN-04", "null occurs where a value is expected; leave the property out, or give its _ sibling a value"),
            ("XML-02", "an element has neither a value nor extensions; give it one, or leave it out"),
        );
    }

    /// A syntactic error: rule and text depend on whether the document is JSON or XML.
    #[cold]
    pub fn format_error(
        &mut self,
        (path, node): (&ElementPath, Node<'t>),
        json: (&'static str, &'static str),
        xml: (&'static str, &'static str),
    ) {
        let (rule, text) = if self.tree.is_xml() { xml } else { json };
        self.fail(path, node, rule, IssueCode::Structure, || text.to_owned());
    }

    /// Adds an error; its text is only formatted if the error will be listed.
    #[cold]
    pub fn fail<T: Into<Cow<'static, str>>>(
        &mut self,
        path: &ElementPath,
        node: Node<'t>,
        rule: &'static str,
        code: IssueCode,
        text: impl FnOnce() -> T,
    ) {
        match self.collector.is_full() {
            true => self.collector.count_error(),
            false => {
                let expression = path.expression(self.plan.schema);
                self.collector.error(expression, Some(node), Violation::new(rule, code, text()));
            }
        }
    }
}

/// How issues name the element.
pub(super) fn named<'p>(path: &ElementPath<'p>) -> &'p str {
    path.name().unwrap_or("the resource")
}
