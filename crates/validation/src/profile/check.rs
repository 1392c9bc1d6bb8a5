//! The walk of a document by the rules of a profile.
//!
//! `conform` checks an element against a profile and reports; `verdict` only returns whether it conforms, and caches
//! that. Both assume that a profile which is already being evaluated is satisfied, so that definitions may be
//! recursive. Depth and work are limited; a check that was ended early is reported.

use super::Profiles;
use super::limitations::Limitations;
use super::membership::is_member;
use super::named_path::NamedPath;
use super::resolver::{Resolver, Target};
use super::rules::{Profile, ProfileId, ProfileRef, Rules};
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Node, Tree};
use emberpost_fhirpath::{Host, Scope};
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};

/// The maximum nesting of elements under evaluation, including profiles of referenced resources and expression
/// levels that evaluate further profiles.
const DEPTH_LIMIT: u32 = 160;
/// The maximum number of elements and rules that the check of one message evaluates.
const WORK_LIMIT: u64 = 5_000_000;
/// The number of steps, of an expression or of a search for a path, that cost as much as an element or rule.
pub(super) const STEPS_PER_WORK: u64 = 16;

/// A resource that was checked, the profile, and the resource's path.
pub(super) type Demanded<'t> = (Target<'t>, ProfileId, String);

pub(super) struct Checker<'t> {
    pub profiles: &'t Profiles,
    pub schema: &'static Schema,
    pub resolver: Resolver<'t>,
    pub limitations: Limitations,
    now_us: i64,
    /// By node and profile.
    verdicts: RefCell<FxHashMap<(u32, u32), Verdict>>,
    /// Node and profile of what was already reported.
    told: RefCell<FxHashSet<(u32, u32)>>,
    work: Cell<u64>,
    depth: Cell<u32>,
    /// Whether the current expression depends on something that is not known here.
    pub is_undecided: Cell<bool>,
}

#[derive(Clone)]
enum Verdict {
    /// Evaluation is in progress.
    Open,
    Fits,
    /// The first error, as a sentence.
    Fails(String),
}

/// An element with its context.
#[derive(Clone, Copy)]
pub(super) struct ElementContext<'t> {
    pub element: Element<'t>,
    /// The resource that contains it.
    pub resource: Element<'t>,
    /// The container of that resource, else the resource itself.
    pub root: Element<'t>,
    pub profile: &'t Profile,
    pub slice: Option<&'t str>,
}

impl<'t> ElementContext<'t> {
    /// A child of this element.
    pub fn child(self, element: Element<'t>, name: &str, schema: &Schema) -> ElementContext<'t> {
        match element.is_resource(schema) {
            true if name == "contained" => ElementContext { element, resource: element, root: self.root, ..self },
            true => ElementContext { element, resource: element, root: element, ..self },
            false => ElementContext { element, ..self },
        }
    }

    /// What a profile is checked against at this element.
    pub fn target(self) -> Target<'t> {
        Target { element: self.element, resource: self.resource, root: self.root }
    }

    /// `url|version` of the profile, and the name of the slice, if any.
    pub fn profile_name(self) -> String {
        match self.slice {
            Some(slice) => format!("{}, slice {slice}", self.profile.canonical),
            None => self.profile.canonical.to_string(),
        }
    }
}

impl<'t> Checker<'t> {
    pub fn new(tree: &'t Tree, profiles: &'t Profiles, now_us: i64) -> Checker<'t> {
        Checker {
            profiles,
            schema: profiles.schema,
            resolver: Resolver::new(tree, profiles.schema),
            limitations: Limitations::default(),
            now_us,
            verdicts: RefCell::default(),
            told: RefCell::default(),
            work: Cell::new(0),
            depth: Cell::new(0),
            is_undecided: Cell::new(false),
        }
    }

    /// Counts steps; returns whether the check may continue.
    pub fn spend(&self, steps: u64) -> bool {
        let work = self.work.get().saturating_add(steps);
        self.work.set(work);
        if work > WORK_LIMIT {
            self.limitations.cut_off();
        }
        work <= WORK_LIMIT
    }

    /// Reports how a value violates a profile, once per value and profile.
    pub fn conform(&'t self, target: Target<'t>, id: ProfileId, path: &NamedPath, sink: &mut Sink) {
        if let Sink::Verdict(first) = sink {
            if let (None, Some(Err(error))) = (&first, self.verdict(target, &ProfileRef::Known(id), path)) {
                *first = Some(error);
            }
            return;
        }
        let Some(node) = target.element.node() else { return };
        if self.told.borrow_mut().insert((node.index, id.0)) {
            self.enter(target, id, path, sink);
        }
    }

    /// Reports how a value violates the profile with a canonical; a profile that is not loaded is recorded as a
    /// limitation.
    pub fn demand(&'t self, target: Target<'t>, profile: &ProfileRef, path: &NamedPath, sink: &mut Sink) {
        match profile {
            ProfileRef::Known(id) => self.conform(target, *id, path, sink),
            other => {
                if let Some(Err(_)) = self.verdict(target, other, path) {
                    let found = Found {
                        path,
                        child: None,
                        node: target.element.node(),
                        rule: Cow::Borrowed("profile-type"),
                        code: IssueCode::Value,
                    };
                    let name = &target.element.def(self.schema).name;
                    sink.error(found, || format!("is a {name}; {} is required", self.profiles.name(other)));
                }
            }
        }
    }

    /// Whether a value conforms; the error is its first violation. None if the profile is not loaded, which is
    /// recorded.
    pub fn verdict(&'t self, target: Target<'t>, profile: &ProfileRef, path: &NamedPath) -> Option<Result<(), String>> {
        let id = match profile {
            ProfileRef::Known(id) => *id,
            ProfileRef::BuiltIn => return Some(Ok(())),
            ProfileRef::Base(id) => {
                let is_a = self.schema.is_a(target.element.type_id, *id);
                return Some(
                    is_a.then_some(()).ok_or_else(|| format!("{path}: is not a {}", self.schema.def(*id).name)),
                );
            }
            ProfileRef::Missing(canonical) => {
                let name = named_by(target.element, canonical);
                self.limitations.missing(&name, || self.profiles.why_missing(canonical), path, target.element.node());
                return None;
            }
        };
        let key = (target.element.node()?.index, id.0);
        if let Some(known) = self.verdicts.borrow().get(&key) {
            return Some(known.result());
        }
        self.verdicts.borrow_mut().insert(key, Verdict::Open);
        let mut sink = Sink::Verdict(None);
        self.enter(target, id, path, &mut sink);
        let verdict = match sink {
            Sink::Verdict(Some(error)) => Verdict::Fails(error),
            _ => Verdict::Fits,
        };
        let result = verdict.result();
        self.verdicts.borrow_mut().insert(key, verdict);
        Some(result)
    }

    fn enter(&'t self, target: Target<'t>, id: ProfileId, path: &NamedPath, sink: &mut Sink) {
        let Some(profile) = self.profiles.get(id) else { return };
        let Target { element, resource, root } = target;
        if !self.schema.is_a(element.type_id, profile.type_id) {
            let found = Found {
                path,
                child: None,
                node: element.node(),
                rule: Cow::Borrowed("profile-type"),
                code: IssueCode::Value,
            };
            let name = |id| &self.schema.def(id).name;
            return sink.error(found, || {
                format!("is a {}, but {} is for {}", name(element.type_id), profile.canonical, name(profile.type_id))
            });
        }
        if let Some(base) = &profile.missing_base {
            self.limitations.missing(base, || self.profiles.why_missing(base), path, element.node());
        }
        let at = ElementContext { element, resource, root, profile, slice: None };
        self.walk(at, &profile.root, path, sink);
    }

    /// Checks a value and everything below it.
    pub fn walk(&'t self, at: ElementContext<'t>, rules: &'t Rules, path: &NamedPath, sink: &mut Sink) {
        if sink.is_settled() || !self.spend(1) {
            return;
        }
        if self.depth.get() >= DEPTH_LIMIT {
            self.limitations.cut_off();
            return;
        }
        self.deeper(1, || {
            self.value(at, rules, path, sink);
            for child in &rules.children {
                self.child(at, child, path, sink);
            }
        });
    }

    /// Runs `act` that many levels deeper, unless the limit is reached.
    pub fn deeper<R>(&self, levels: u32, act: impl FnOnce() -> R) -> R {
        let outer = self.depth.get();
        self.depth.set(outer.saturating_add(levels));
        let result = act();
        self.depth.set(outer);
        result
    }

    /// Checks a child element: the number of values, each value, and their slices.
    fn child(&'t self, at: ElementContext<'t>, rules: &'t Rules, path: &NamedPath, sink: &mut Sink) {
        let def = at.element.def(self.schema);
        let index = self.schema.element_index(def, &rules.name);
        let Some(of) = index.and_then(|index| def.elements.get(usize::from(index))) else { return };
        let values: Vec<Element<'t>> = at.element.step(self.schema, &rules.name).collect();
        self.spend(values.len() as u64);
        self.count(at, rules, values.len(), path, sink);
        let spot = |index: u32, element: &Element<'t>| NamedPath {
            parent: Some(path),
            name: &of.name,
            of_type: of.is_choice.then(|| &*element.def(self.schema).code),
            index: of.is_array.then_some(index),
        };
        if rules.constrains_value() {
            for (index, element) in (0u32..).zip(&values) {
                self.walk(at.child(*element, &rules.name, self.schema), rules, &spot(index, element), sink);
            }
        }
        if !rules.slices.is_empty() {
            let item = |(index, element): (u32, &Element<'t>)| {
                (at.child(*element, &rules.name, self.schema), spot(index, element))
            };
            let items: Vec<_> = (0u32..).zip(&values).map(item).collect();
            self.slices(at, rules, &items, path, sink);
        }
    }

    fn count(&self, at: ElementContext<'t>, rules: &Rules, count: usize, path: &NamedPath, sink: &mut Sink) {
        let found = |rule, code, child| Found { path, child, node: at.element.node(), rule: Cow::Borrowed(rule), code };
        if count < rules.min as usize {
            sink.error(found("profile-min", IssueCode::Required, None), || {
                format!("{} requires at least {} {}; found {count}", at.profile_name(), rules.min, rules.name)
            });
        }
        if let Some(max) = rules.max.filter(|max| count > *max as usize) {
            sink.error(found("profile-max", IssueCode::Structure, Some(&rules.name)), || match max {
                0 => format!("{} does not allow {}", at.profile_name(), rules.name),
                max => format!("{} allows at most {max} {}; found {count}", at.profile_name(), rules.name),
            });
        }
    }

    pub fn scope(&'t self, at: ElementContext<'t>) -> Scope<'t> {
        Scope { schema: self.schema, resource: at.resource, root: at.root, host: self }
    }
}

impl Verdict {
    fn result(&self) -> Result<(), String> {
        match self {
            Verdict::Open | Verdict::Fits => Ok(()),
            Verdict::Fails(error) => Err(error.clone()),
        }
    }
}

impl<'s, 't: 's> Host<'s> for Checker<'t> {
    fn resolve(&self, from: Element<'s>, reference: &str) -> Option<Element<'s>> {
        let resolver: &Resolver<'s> = &self.resolver;
        resolver.resolve(from, reference).map(|target| target.element)
    }

    fn member_of(&self, element: Element<'s>, value_set: &str) -> Option<bool> {
        let codes = self.profiles.value_sets.ready(value_set)?;
        is_member(self.schema, element, &codes)
    }

    fn conforms_to(&self, element: Element<'s>, profile: &str) -> Option<bool> {
        let path = NamedPath::root(&element.def(self.schema).name);
        self.verdict(Target::whole(element), &self.profiles.find(profile), &path).map(|verdict| verdict.is_ok())
    }

    fn undecided(&self) {
        self.is_undecided.set(true);
    }

    fn steps_left(&self) -> u32 {
        u32::try_from(WORK_LIMIT.saturating_sub(self.work.get()).saturating_mul(STEPS_PER_WORK)).unwrap_or(u32::MAX)
    }

    fn spent(&self, steps: u32) {
        self.spend(u64::from(steps).div_ceil(STEPS_PER_WORK));
    }

    fn now_us(&self) -> i64 {
        self.now_us
    }
}

/// A canonical as an issue may name it. What a resource claims about itself is message content, so only its end is
/// quoted.
fn named_by<'c>(element: Element, canonical: &'c str) -> Cow<'c, str> {
    let meta = element.value.and_then(|value| value.get("meta"));
    let claims = meta.and_then(|meta| meta.get("profile")).into_iter().flat_map(Node::items);
    match claims.filter_map(Node::text).any(|claim| claim == canonical) {
        true => Cow::Owned(format!("…/{}", quote(canonical.rsplit('/').next().unwrap_or_default()))),
        false => Cow::Borrowed(canonical),
    }
}
