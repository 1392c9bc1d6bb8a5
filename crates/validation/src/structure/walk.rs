//! The walk: objects, their members, what must be there.

use super::Options;
use super::member::MemberPlan;
use super::place::{Place, SINGLE};
use super::plan::{Plan, Special, TypePlan, bit};
use super::reference::{ContainedIds, Local};
use super::resources::{Entries, Holder};
use super::value::Counterpart;
use crate::around::Around;
use crate::report::{Broken, Report};
use emberpost_fhir::IssueCode;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::TypeId;
use emberpost_fhir::tree::{Kind, Node, Tree};
use std::borrow::Cow;
use std::cell::{Cell, OnceCell};
use std::collections::HashSet;

pub(super) struct Walker<'t, 'r, 'm> {
    pub tree: &'t Tree,
    pub plan: &'static Plan,
    pub options: Options<'r>,
    pub report: &'r mut Report<'m>,
    /// The resource that is being walked.
    pub holder: Holder<'t>,
    /// References to contained resources that were met, for dom-3.
    pub locals: Vec<Local<'t>>,
    /// Of the containers that were asked for.
    pub contained_ids: ContainedIds<'t>,
    /// The ids of the elements of the resource that is walked, so far.
    pub ids: HashSet<Cow<'t, str>>,
    /// For decoding texts.
    pub buffer: Vec<u8>,
    /// The Bundles around, outermost first.
    pub bundles: Vec<Entries<'t>>,
    /// What expressions resolve references in; made when the first one asks.
    pub around: OnceCell<Around<'t>>,
    /// The objects that the walk is in, outermost first.
    pub open: Vec<Node<'t>>,
    /// That expressions have taken.
    pub steps: Cell<u64>,
    /// They have taken too many, and that was told.
    pub is_cut_off: bool,
}

/// An object, what it is, and where.
#[derive(Clone, Copy)]
pub(super) struct Object<'t, 'p> {
    pub node: Node<'t>,
    pub plan: &'static TypePlan,
    /// The element that it is; None: the root.
    pub role: Option<&'static MemberPlan>,
    pub place: &'p Place<'p>,
}

impl Object<'_, '_> {
    /// Of a resource the actual one.
    pub fn type_id(&self) -> TypeId {
        self.plan.type_id
    }
}

/// A member of an object that the object's type knows.
#[derive(Clone, Copy)]
pub(super) struct Member<'t> {
    pub node: Node<'t>,
    pub plan: &'static MemberPlan,
    /// `_x`: id and extensions of a primitive.
    pub is_sibling: bool,
}

impl<'t, 'r, 'm> Walker<'t, 'r, 'm> {
    pub fn new(tree: &'t Tree, plan: &'static Plan, options: Options<'r>, report: &'r mut Report<'m>) -> Self {
        let holder = Holder { resource: tree.root(), container: None, element: None, root: None };
        Walker {
            tree,
            plan,
            options,
            report,
            holder,
            locals: Vec::new(),
            contained_ids: ContainedIds::default(),
            ids: HashSet::new(),
            buffer: Vec::new(),
            bundles: Vec::new(),
            around: OnceCell::new(),
            open: Vec::new(),
            steps: Cell::new(0),
            is_cut_off: false,
        }
    }

    /// Members, minima and the rules of its type; what an object holds is walked on the way.
    pub fn object(&mut self, object: &Object<'t, '_>, has_value: bool) {
        let outer_ids = object.plan.has_own_ids.then(|| std::mem::take(&mut self.ids));
        self.open.push(object.node);
        let present = self.members(object);
        if let Some(outer) = outer_ids {
            self.ids = outer;
        }
        self.rules(object, present, has_value);
        self.open.pop();
    }

    /// What is asked of an object as a whole.
    fn rules(&mut self, object: &Object<'t, '_>, present: u128, has_value: bool) {
        if object.node.children().next().is_none() {
            self.form(
                (object.place, object.node),
                ("JSN-03", "an object is empty; leave the property out"),
                ("XML-02", "an element is empty; fill it, or leave it out"),
            );
            return;
        }
        let is_resource = matches!(object.plan.special, Special::Resource | Special::Bundle);
        if present & !object.plan.id == 0 && !is_resource && !has_value {
            self.fail(object.place, object.node, "ele-1", IssueCode::Invariant, || {
                "an element must have a value or children beside its id".to_owned()
            });
        }
        // Parameters are what an operation is given, which may be nothing.
        let is_hollow = || object.node.children().all(|member| member.has_key("resourceType"));
        if present == 0 && is_resource && &*object.plan.def.name != "Parameters" && is_hollow() {
            self.form(
                (object.place, object.node),
                ("JSN-03", "a resource has nothing but its type; fill it, or leave it out"),
                ("XML-02", "a resource has no elements; fill it, or leave it out"),
            );
        }
        let missing = object.plan.required & !present;
        if missing != 0 {
            self.missing(object, missing);
        }
        self.special(object, present);
        self.constraints(object, present);
    }

    /// Every member; gives the bits of the elements that are there.
    fn members(&mut self, object: &Object<'t, '_>) -> u128 {
        let mut present = 0;
        for node in object.node.children() {
            let (key, escaped) = node.key_span();
            let name = match escaped {
                false => Cow::Borrowed(key),
                true => Cow::Owned(node.key().unwrap_or_default().into_owned().into_bytes()),
            };
            let (base, is_sibling) = match &*name {
                [b'_', base @ ..] => (base, true),
                base => (base, false),
            };
            let Some(member) = self.known(object, node, base, is_sibling) else {
                let is_type = base == b"resourceType" && !is_sibling;
                if !is_type || !matches!(object.plan.special, Special::Resource | Special::Bundle) {
                    self.unknown(object, node, &name);
                }
                continue;
            };
            let element = bit(u32::from(member.plan.element));
            if member.plan.is_choice && present & element != 0 {
                self.second_choice(object, &member, base);
            }
            present |= element;
            self.member(object, &member);
        }
        present
    }

    fn known(&self, object: &Object<'t, '_>, node: Node<'t>, name: &[u8], is_sibling: bool) -> Option<Member<'t>> {
        let plan = object.plan.member(self.plan.schema, name)?;
        (!is_sibling || plan.primitive.is_some()).then_some(Member { node, plan, is_sibling })
    }

    /// Arrays where the element repeats and only there (JSN-05); how many.
    fn member(&mut self, object: &Object<'t, '_>, member: &Member<'t>) {
        let node = member.node;
        if !member.plan.is_array {
            if node.is_array() {
                let place = object.place.element(member.plan, SINGLE);
                match self.tree.is_xml() {
                    true => self.too_many(&place, node, (&member.plan.def.name, node.items().count() as u32)),
                    false => self.wrong_shape(&place, node, "must be a single value and no array"),
                }
            } else {
                self.value(object, member, (node, SINGLE), &mut Counterpart::new(object.node, node));
            }
            return;
        }
        if !node.is_array() {
            let place = object.place.element(member.plan, SINGLE);
            let is_null = node.kind() == Kind::Null;
            match is_null {
                true => self.stray_null(&place, node),
                false => self.wrong_shape(&place, node, "must be an array, also of a single value"),
            }
            return;
        }
        let (mut count, mut other) = (0u32, Counterpart::new(object.node, node));
        for item in node.items() {
            self.value(object, member, (item, count), &mut other);
            count += 1;
        }
        self.count(object, member, count);
    }

    fn count(&mut self, object: &Object<'t, '_>, member: &Member<'t>, count: u32) {
        let plan = member.plan;
        if count == 0 {
            let place = object.place.element(plan, SINGLE);
            self.fail(&place, member.node, "JSN-03", IssueCode::Structure, || {
                "an array is empty; leave the property out".to_owned()
            });
        } else if plan.max != u16::MAX && count > u32::from(plan.max) {
            self.too_many(object.place, member.node, (&plan.def.name, count));
        } else if count < u32::from(plan.min) && !member.is_sibling {
            let (name, min) = (&plan.def.name, plan.min);
            self.fail(object.place, member.node, "min", IssueCode::Required, || {
                format!("{name} must stand at least {min} times and stands {count} times")
            });
        }
    }

    /// A choice holds one value: another member of the same element is another type.
    fn second_choice(&mut self, object: &Object<'t, '_>, member: &Member<'t>, name: &[u8]) {
        let of_element = |node: &Node<'t>| {
            let key = node.key().unwrap_or_default();
            let base = key.strip_prefix('_').unwrap_or(&key).as_bytes();
            let other = object.plan.member(self.plan.schema, base);
            base != name && other.is_some_and(|other| other.element == member.plan.element)
        };
        if object.node.children().take_while(|node| node.index < member.node.index).any(|node| of_element(&node)) {
            let place = object.place.element(member.plan, SINGLE);
            let name = &member.plan.def.name;
            self.fail(&place, member.node, "max", IssueCode::Structure, || {
                format!("{name}[x] holds one value of one type; a value of another type stands before")
            });
        }
    }

    #[cold]
    fn missing(&mut self, object: &Object<'t, '_>, missing: u128) {
        for (index, element) in (0u32..).zip(&object.plan.def.elements) {
            if missing & bit(index) != 0 && !self.is_told_of_headers(object, &element.name) {
                let choice = if element.is_choice { "[x]" } else { "" };
                self.fail(object.place, object.node, "min", IssueCode::Required, || {
                    format!(
                        "{}{choice} is missing; {} must have at least {}",
                        element.name, object.plan.def.name, element.min
                    )
                });
            }
        }
    }

    /// What the message rules say of the message's own header: MSG-03, MSG-35, MSG-37.
    fn is_told_of_headers(&self, object: &Object<'t, '_>, element: &str) -> bool {
        let header = match (&*object.plan.def.name, element) {
            ("MessageHeader", "event") => Some(object.place),
            ("MessageHeader.response", "code" | "identifier") => object.place.parent,
            _ => None,
        };
        let entry = header.filter(|_| self.options.is_message).and_then(|header| header.parent);
        entry.is_some_and(|entry| entry.index == 0 && entry.parent.is_some_and(|root| root.member.is_none()))
    }

    #[cold]
    fn unknown(&mut self, object: &Object<'t, '_>, node: Node<'t>, name: &[u8]) {
        // At the object: FHIRPath has no place for what no type has. Line and column are the member's.
        self.fail(object.place, node, "unknown-element", IssueCode::Structure, || {
            format!("'{}' is no element of {}", quote(&String::from_utf8_lossy(name)), object.plan.def.name)
        });
    }

    pub fn wrong_shape(&mut self, place: &Place, node: Node<'t>, text: &'static str) {
        self.fail(place, node, "JSN-05", IssueCode::Structure, || format!("{} {text}", named(place)));
    }

    pub fn stray_null(&mut self, place: &Place, node: Node<'t>) {
        self.form(
            (place, node),
            ("JSN-04", "null stands where a value is expected; leave the property out, or give its _ sibling a value"),
            ("XML-02", "an element has neither a value nor extensions; give it one, or leave it out"),
        );
    }

    /// A break of the form that was sent: rule and text in the terms of JSON and of XML.
    #[cold]
    pub fn form(
        &mut self,
        (place, node): (&Place, Node<'t>),
        json: (&'static str, &'static str),
        xml: (&'static str, &'static str),
    ) {
        let (rule, text) = if self.tree.is_xml() { xml } else { json };
        self.fail(place, node, rule, IssueCode::Structure, || text.to_owned());
    }

    fn too_many(&mut self, place: &Place, node: Node<'t>, (name, count): (&str, u32)) {
        self.fail(place, node, "max", IssueCode::Structure, || {
            format!("{name} stands {count} times, more often than it may")
        });
    }

    /// An error; its text is made only where it is listed.
    #[cold]
    pub fn fail(
        &mut self,
        place: &Place,
        node: Node<'t>,
        rule: &'static str,
        code: IssueCode,
        text: impl FnOnce() -> String,
    ) {
        match self.report.is_full() {
            true => self.report.count_error(),
            false => {
                let path = place.path(self.plan.schema);
                self.report.error(path, Some(node), Broken::new(rule, code, text()));
            }
        }
    }
}

/// How a text calls the element.
pub(super) fn named<'p>(place: &Place<'p>) -> &'p str {
    place.name().unwrap_or("the resource")
}
