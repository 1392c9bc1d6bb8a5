//! The walk of a document by the rules of a profile.
//!
//! A profile is entered at an element by `conform`, which reports, or `verdict`, which only judges and remembers. Both
//! take a profile that is being judged already as met, so that definitions may lead in circles. Bounded in depth and
//! in work; what was cut off is told.

use super::notes::Notes;
use super::place::Place;
use super::rules::{Profile, ProfileId, ProfileRef, Rules};
use super::sink::{Found, Sink};
use super::world::{Target, World};
use super::{Profiles, binding};
use emberpost_fhir::IssueCode;
use emberpost_fhir::element::Element;
use emberpost_fhir::quoted::quote;
use emberpost_fhir::schema::Schema;
use emberpost_fhir::tree::{Node, Tree};
use emberpost_fhirpath::{Host, Scope};
use rustc_hash::{FxHashMap, FxHashSet};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};

/// How many elements may be judged within each other, profiles behind references included, and with them the levels of
/// expressions that ask for further profiles.
const DEPTH_LIMIT: u32 = 160;
/// Most elements and rules that one message's check looks at.
const WORK_LIMIT: u64 = 5_000_000;
/// So many steps of an expression, or of a search for a place, take as long as an element or rule.
pub(super) const STEPS_PER_WORK: u64 = 16;

pub(super) struct Checker<'t> {
    pub profiles: &'t Profiles,
    pub schema: &'static Schema,
    pub world: World<'t>,
    pub notes: Notes,
    now_us: i64,
    /// By node and profile.
    verdicts: RefCell<FxHashMap<(u32, u32), Verdict>>,
    /// What was reported, by node and profile.
    told: RefCell<FxHashSet<(u32, u32)>>,
    work: Cell<u64>,
    depth: Cell<u32>,
    /// The expression that is being evaluated asked something that cannot be known here.
    pub is_undecided: Cell<bool>,
}

#[derive(Clone)]
enum Verdict {
    /// It is being judged.
    Open,
    Fits,
    /// The first mistake as a sentence.
    Fails(String),
}

/// An element and what surrounds it.
#[derive(Clone, Copy)]
pub(super) struct At<'t> {
    pub element: Element<'t>,
    /// The resource that holds it.
    pub resource: Element<'t>,
    /// What contains that resource, else itself.
    pub root: Element<'t>,
    pub profile: &'t Profile,
    pub slice: Option<&'t str>,
}

impl<'t> At<'t> {
    /// A child of what stands here.
    pub fn child(self, element: Element<'t>, name: &str, schema: &Schema) -> At<'t> {
        match element.is_resource(schema) {
            true if name == "contained" => At { element, resource: element, root: self.root, ..self },
            true => At { element, resource: element, root: element, ..self },
            false => At { element, ..self },
        }
    }

    /// What a profile is held against here.
    pub fn target(self) -> Target<'t> {
        Target { element: self.element, resource: self.resource, root: self.root }
    }

    /// `url|version`, and the slice where it is one.
    pub fn who(self) -> String {
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
            world: World::new(tree, profiles.schema),
            notes: Notes::default(),
            now_us,
            verdicts: RefCell::default(),
            told: RefCell::default(),
            work: Cell::new(0),
            depth: Cell::new(0),
            is_undecided: Cell::new(false),
        }
    }

    /// Whether there is time for one more step.
    pub fn spend(&self, steps: u64) -> bool {
        let work = self.work.get().saturating_add(steps);
        self.work.set(work);
        if work > WORK_LIMIT {
            self.notes.cut_off();
        }
        work <= WORK_LIMIT
    }

    /// Reports how a value breaks a profile, once.
    pub fn conform(&'t self, target: Target<'t>, id: ProfileId, place: &Place, sink: &mut Sink) {
        if let Sink::Verdict(first) = sink {
            if let (None, Some(Err(mistake))) = (&first, self.verdict(target, &ProfileRef::Known(id), place)) {
                *first = Some(mistake);
            }
            return;
        }
        let Some(node) = target.element.node() else { return };
        if self.told.borrow_mut().insert((node.index, id.0)) {
            self.enter(target, id, place, sink);
        }
    }

    /// Reports how a value breaks what a canonical leads to; one that is not loaded is noted.
    pub fn demand(&'t self, target: Target<'t>, profile: &ProfileRef, place: &Place, sink: &mut Sink) {
        match profile {
            ProfileRef::Known(id) => self.conform(target, *id, place, sink),
            other => {
                if let Some(Err(_)) = self.verdict(target, other, place) {
                    let found = Found {
                        place,
                        child: None,
                        node: target.element.node(),
                        rule: Cow::Borrowed("profile-type"),
                        code: IssueCode::Value,
                    };
                    let name = &target.element.def(self.schema).name;
                    sink.error(found, || format!("is a {name}; {} is asked for", self.profiles.name(other)));
                }
            }
        }
    }

    /// Whether a value fits; the error is its first mistake. None: the profile is not loaded, which is noted.
    pub fn verdict(&'t self, target: Target<'t>, profile: &ProfileRef, place: &Place) -> Option<Result<(), String>> {
        let id = match profile {
            ProfileRef::Known(id) => *id,
            ProfileRef::BuiltIn => return Some(Ok(())),
            ProfileRef::Base(id) => {
                let is_a = self.schema.is_a(target.element.type_id, *id);
                return Some(is_a.then_some(()).ok_or_else(|| format!("{place}: is no {}", self.schema.def(*id).name)));
            }
            ProfileRef::Missing(canonical) => {
                let name = named_by(target.element, canonical);
                self.notes.missing(&name, || self.profiles.why_missing(canonical), place, target.element.node());
                return None;
            }
        };
        let key = (target.element.node()?.index, id.0);
        if let Some(known) = self.verdicts.borrow().get(&key) {
            return Some(known.result());
        }
        self.verdicts.borrow_mut().insert(key, Verdict::Open);
        let mut sink = Sink::Verdict(None);
        self.enter(target, id, place, &mut sink);
        let verdict = match sink {
            Sink::Verdict(Some(mistake)) => Verdict::Fails(mistake),
            _ => Verdict::Fits,
        };
        let result = verdict.result();
        self.verdicts.borrow_mut().insert(key, verdict);
        Some(result)
    }

    fn enter(&'t self, target: Target<'t>, id: ProfileId, place: &Place, sink: &mut Sink) {
        let Some(profile) = self.profiles.get(id) else { return };
        let Target { element, resource, root } = target;
        if !self.schema.is_a(element.type_id, profile.type_id) {
            let found = Found {
                place,
                child: None,
                node: element.node(),
                rule: Cow::Borrowed("profile-type"),
                code: IssueCode::Value,
            };
            let name = |id| &self.schema.def(id).name;
            return sink.error(found, || {
                format!("is a {}; {} is for {}", name(element.type_id), profile.canonical, name(profile.type_id))
            });
        }
        if let Some(base) = &profile.missing_base {
            self.notes.missing(base, || self.profiles.why_missing(base), place, element.node());
        }
        let at = At { element, resource, root, profile, slice: None };
        self.walk(at, &profile.root, place, sink);
    }

    /// A value and all below it.
    pub fn walk(&'t self, at: At<'t>, rules: &'t Rules, place: &Place, sink: &mut Sink) {
        if sink.is_settled() || !self.spend(1) {
            return;
        }
        if self.depth.get() >= DEPTH_LIMIT {
            self.notes.cut_off();
            return;
        }
        self.deeper(1, || {
            self.value(at, rules, place, sink);
            for child in &rules.children {
                self.child(at, child, place, sink);
            }
        });
    }

    /// Does something that takes so many levels of the stack.
    pub fn deeper<R>(&self, levels: u32, act: impl FnOnce() -> R) -> R {
        let outer = self.depth.get();
        self.depth.set(outer.saturating_add(levels));
        let result = act();
        self.depth.set(outer);
        result
    }

    /// The values of a child element: how many, each, and their slices.
    fn child(&'t self, at: At<'t>, rules: &'t Rules, place: &Place, sink: &mut Sink) {
        let def = at.element.def(self.schema);
        let index = self.schema.element_index(def, &rules.name);
        let Some(of) = index.and_then(|index| def.elements.get(usize::from(index))) else { return };
        let values: Vec<Element<'t>> = at.element.step(self.schema, &rules.name).collect();
        self.spend(values.len() as u64);
        self.count(at, rules, values.len(), place, sink);
        let spot = |index: u32, element: &Element<'t>| Place {
            parent: Some(place),
            name: &of.name,
            of_type: of.is_choice.then(|| &*element.def(self.schema).code),
            index: of.is_array.then_some(index),
        };
        if rules.asks_value() {
            for (index, element) in (0u32..).zip(&values) {
                self.walk(at.child(*element, &rules.name, self.schema), rules, &spot(index, element), sink);
            }
        }
        if !rules.slices.is_empty() {
            let item = |(index, element): (u32, &Element<'t>)| {
                (at.child(*element, &rules.name, self.schema), spot(index, element))
            };
            let items: Vec<_> = (0u32..).zip(&values).map(item).collect();
            self.slices(at, rules, &items, place, sink);
        }
    }

    fn count(&self, at: At<'t>, rules: &Rules, count: usize, place: &Place, sink: &mut Sink) {
        let found =
            |rule, code, child| Found { place, child, node: at.element.node(), rule: Cow::Borrowed(rule), code };
        if count < rules.min as usize {
            sink.error(found("profile-min", IssueCode::Required, None), || {
                format!("{} asks for at least {} {}; there are {count}", at.who(), rules.min, rules.name)
            });
        }
        if let Some(max) = rules.max.filter(|max| count > *max as usize) {
            sink.error(found("profile-max", IssueCode::Structure, Some(&rules.name)), || match max {
                0 => format!("{} does not allow {}", at.who(), rules.name),
                max => format!("{} allows at most {max} {}; there are {count}", at.who(), rules.name),
            });
        }
    }

    pub fn scope(&'t self, at: At<'t>) -> Scope<'t> {
        Scope { schema: self.schema, resource: at.resource, root: at.root, host: self }
    }
}

impl Verdict {
    fn result(&self) -> Result<(), String> {
        match self {
            Verdict::Open | Verdict::Fits => Ok(()),
            Verdict::Fails(mistake) => Err(mistake.clone()),
        }
    }
}

impl<'s, 't: 's> Host<'s> for Checker<'t> {
    fn resolve(&self, from: Element<'s>, reference: &str) -> Option<Element<'s>> {
        let world: &World<'s> = &self.world;
        world.resolve(from, reference).map(|target| target.element)
    }

    fn member_of(&self, element: Element<'s>, value_set: &str) -> Option<bool> {
        let codes = self.profiles.value_sets.ready(value_set)?;
        binding::is_member(self.schema, element, &codes)
    }

    fn conforms_to(&self, element: Element<'s>, profile: &str) -> Option<bool> {
        let place = Place::root(&element.def(self.schema).name);
        self.verdict(Target::whole(element), &self.profiles.find(profile), &place).map(|verdict| verdict.is_ok())
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

/// A canonical as an issue may name it: what a resource claims of itself is the message's own word, of which the end is quoted.
fn named_by<'c>(element: Element, canonical: &'c str) -> Cow<'c, str> {
    let meta = element.value.and_then(|value| value.get("meta"));
    let claims = meta.and_then(|meta| meta.get("profile")).into_iter().flat_map(Node::items);
    match claims.filter_map(Node::text).any(|claim| claim == canonical) {
        true => Cow::Owned(format!("…/{}", quote(canonical.rsplit('/').next().unwrap_or_default()))),
        false => Cow::Borrowed(canonical),
    }
}
