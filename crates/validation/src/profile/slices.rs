//! Slicing: which values belong to which slice, how many are allowed, in which order, and the rules of each slice.
//!
//! A value belongs to the first slice whose discriminators it matches. If that is unknown (a profile is not loaded,
//! a reference leads out of the message), the value counts for no slice, and minimums are not enforced because of
//! it.

use super::check::{Checker, ElementContext};
use super::named_path::NamedPath;
use super::resolver::reference_of;
use super::rules::{Matcher, Openness, Rules, Slice, Step, Test, ValueTest};
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use std::borrow::Cow;

/// The slice that a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Membership {
    Slice(usize),
    None,
    /// It is not known.
    Open,
}

/// The values that the path of a discriminator leads to.
struct Reached<'t> {
    values: Vec<ElementContext<'t>>,
    /// Whether a reference on the path leads out of the message.
    is_lost: bool,
}

type Item<'t, 'p> = (ElementContext<'t>, NamedPath<'p>);

/// The values of a sliced element with the slice of each.
#[derive(Clone, Copy)]
struct Assigned<'a, 't, 'p> {
    items: &'a [Item<'t, 'p>],
    membership: &'a [Membership],
}

impl<'a, 't, 'p> Assigned<'a, 't, 'p> {
    /// The values of one slice.
    fn of(self, membership: Membership) -> impl Iterator<Item = Item<'t, 'p>> + use<'a, 't, 'p> {
        self.items.iter().zip(self.membership).filter(move |(_, own)| **own == membership).map(|(item, _)| *item)
    }
}

impl<'t> Checker<'t> {
    /// Checks the values of a sliced element; `at` and `path` are those of the parent.
    pub(super) fn slices(
        &'t self,
        at: ElementContext<'t>,
        rules: &'t Rules,
        items: &[Item<'t, '_>],
        path: &NamedPath,
        sink: &mut Sink,
    ) {
        if sink.is_settled() || !self.spend((items.len() * rules.slices.len()) as u64) {
            return;
        }
        let membership: Vec<Membership> =
            (0u32..).zip(items).map(|(position, item)| self.membership(rules, position, item)).collect();
        let assigned = Assigned { items, membership: &membership };
        self.order(at, rules, assigned, sink);
        for (index, slice) in rules.slices.iter().enumerate() {
            let own: Vec<Item> = assigned.of(Membership::Slice(index)).collect();
            let is_known = !membership.contains(&Membership::Open);
            if is_known && own.len() < slice.rules.min as usize {
                self.too_few(at, slice, assigned, path, sink);
            }
            self.held(at, slice, &own, path, sink);
        }
    }

    /// Checks the values of a slice.
    fn held(
        &'t self,
        at: ElementContext<'t>,
        slice: &'t Slice,
        own: &[Item<'t, '_>],
        path: &NamedPath,
        sink: &mut Sink,
    ) {
        if let Some(max) = slice.rules.max.filter(|max| own.len() > *max as usize) {
            let (rule, child) = (Cow::Borrowed("profile-max"), Some(&*slice.rules.name));
            let found = Found { path, child, node: at.element.node(), rule, code: IssueCode::Structure };
            sink.error(found, || {
                let (profile, name, count) = (at.profile_name(), &slice.rules.name, own.len());
                format!("{profile} allows at most {max} {name} in the slice {}; found {count}", slice.name)
            });
        }
        let within = |at: ElementContext<'t>| ElementContext { slice: Some(&slice.name), ..at };
        for (item, spot) in own {
            self.walk(within(*item), &slice.rules, spot, sink);
        }
        if !slice.rules.slices.is_empty() {
            let own: Vec<Item> = own.iter().map(|(item, spot)| (within(*item), *spot)).collect();
            self.slices(within(at), &slice.rules, &own, path, sink);
        }
    }

    fn too_few(
        &'t self,
        at: ElementContext<'t>,
        slice: &'t Slice,
        assigned: Assigned<'_, 't, '_>,
        path: &NamedPath,
        sink: &mut Sink,
    ) {
        let rule = Cow::Borrowed("profile-min");
        let found = Found { path, child: None, node: at.element.node(), rule, code: IssueCode::Required };
        let near = assigned.of(Membership::None).find_map(|(item, spot)| self.near(slice, item, &spot));
        let near = near.map(|near| format!(". {near}")).unwrap_or_default();
        sink.error(found, || {
            let (profile, Rules { min, name, .. }) = (at.profile_name(), &slice.rules);
            format!("{profile} requires at least {min} {name} in the slice {}; found fewer{near}", slice.name)
        });
    }

    /// Explains why a value that almost belongs to a slice does not: a profile is the discriminator, and this is its
    /// first violation.
    fn near(&'t self, slice: &'t Slice, item: ElementContext<'t>, spot: &NamedPath) -> Option<String> {
        for matcher in &slice.matchers {
            let Test::Profile(profiles) = &matcher.test else { continue };
            for value in self.reach(item, &matcher.path).values {
                let of = value.element.type_id;
                let mut fitting = profiles.iter().filter(|profile| self.profiles.is_for(profile, self.schema, of));
                let error = fitting.find_map(|profile| self.verdict(value.target(), profile, spot)?.err());
                if let Some(error) = error {
                    return Some(format!("{spot} almost belongs to it: {error}"));
                }
            }
        }
        None
    }

    /// Closed slicings allow no other values, open-at-end slicings only at the end; ordered slicings keep the order
    /// of the slices.
    fn order(&self, at: ElementContext<'t>, rules: &Rules, assigned: Assigned<'_, 't, '_>, sink: &mut Sink) {
        let Some(slicing) = &rules.slicing else { return };
        let Assigned { items, membership } = assigned;
        let last_sliced = membership.iter().rposition(|membership| matches!(membership, Membership::Slice(_)));
        let mut reached = 0;
        for (position, ((item, spot), membership)) in items.iter().zip(membership).enumerate() {
            let wrong = match (membership, slicing.openness) {
                (Membership::None, Openness::Closed) => {
                    Some("does not belong to a slice, and no other values are allowed")
                }
                (Membership::None, Openness::OpenAtEnd) if last_sliced > Some(position) => {
                    Some("does not belong to a slice but precedes a value that does")
                }
                (Membership::Slice(index), _) if slicing.ordered && *index < reached => {
                    Some("follows a value of a later slice")
                }
                _ => None,
            };
            if let Membership::Slice(index) = membership {
                reached = reached.max(*index);
            }
            let Some(wrong) = wrong else { continue };
            let node = item.element.node();
            let found =
                Found { path: spot, child: None, node, rule: Cow::Borrowed("slicing"), code: IssueCode::Structure };
            sink.error(found, || {
                let names = rules.slices.iter().map(|slice| &*slice.name).take(8).collect::<Vec<_>>().join(", ");
                format!("{wrong}: {} slices {} into {names}", at.profile_name(), rules.name)
            });
        }
    }

    fn membership(&'t self, rules: &'t Rules, position: u32, (item, spot): &Item<'t, '_>) -> Membership {
        let mut membership = Membership::None;
        for (index, slice) in rules.slices.iter().enumerate() {
            match self.belongs(*item, slice, position, spot) {
                Some(true) => return Membership::Slice(index),
                Some(false) => {}
                None => membership = Membership::Open,
            }
        }
        membership
    }

    /// None if it is not known.
    fn belongs(&'t self, item: ElementContext<'t>, slice: &'t Slice, position: u32, path: &NamedPath) -> Option<bool> {
        if slice.matchers.is_empty() {
            return Some(self.obeys(item, &slice.rules, path));
        }
        let mut is_known = true;
        for matcher in &slice.matchers {
            match self.meets(item, matcher, position, path) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => is_known = false,
            }
        }
        is_known.then_some(true)
    }

    fn obeys(&'t self, item: ElementContext<'t>, rules: &'t Rules, path: &NamedPath) -> bool {
        let mut sink = Sink::Verdict(None);
        self.walk(item, rules, path, &mut sink);
        !sink.is_settled()
    }

    fn meets(
        &'t self,
        item: ElementContext<'t>,
        matcher: &'t Matcher,
        position: u32,
        path: &NamedPath,
    ) -> Option<bool> {
        if let Test::Position(from, to) = &matcher.test {
            return Some((*from..*to).contains(&position));
        }
        let Reached { values, is_lost } = self.reach(item, &matcher.path);
        let found = match &matcher.test {
            Test::Unknown => return None,
            Test::Exists(_) if values.is_empty() && is_lost => return None,
            Test::Exists(wanted) => return Some(values.is_empty() != *wanted),
            Test::Value(tests) => values.iter().any(|at| tests.iter().any(|test| self.is_value(*at, test, path))),
            Test::Type(types) => {
                values.iter().any(|at| types.iter().any(|id| self.schema.is_a(at.element.type_id, *id)))
            }
            Test::Profile(profiles) => {
                let verdict = |at: &ElementContext<'t>| {
                    let mut verdicts = profiles.iter().map(|profile| self.verdict(at.target(), profile, path));
                    verdicts.try_fold(false, |fits, verdict| Some(fits | verdict?.is_ok()))
                };
                let verdicts: Option<Vec<bool>> = values.iter().map(verdict).collect();
                verdicts?.contains(&true)
            }
            Test::Position(..) => false,
        };
        // The target of the reference might match.
        if found || !is_lost { Some(found) } else { None }
    }

    fn is_value(&'t self, at: ElementContext<'t>, test: &'t ValueTest, path: &NamedPath) -> bool {
        match test {
            ValueTest::Fixed(fixed) => at.element.value.is_some_and(|node| fixed.is(node)),
            ValueTest::Pattern(pattern) => at.element.value.is_some_and(|node| pattern.is_in(node)),
            ValueTest::Binding(rule) => match &rule.codes {
                Ok(codes) => super::membership::is_member(self.schema, at.element, codes) == Some(true),
                Err(unlisted) => {
                    self.limitations.unchecked(&rule.value_set, &unlisted.reason, path, at.element.node());
                    false
                }
            },
            ValueTest::Rules(rules) => self.obeys(at, rules, path),
        }
    }

    fn reach(&'t self, item: ElementContext<'t>, path: &[Step]) -> Reached<'t> {
        let mut reached = Reached { values: vec![item], is_lost: false };
        for step in path {
            let mut next = Vec::new();
            for at in std::mem::take(&mut reached.values) {
                match step {
                    Step::Child(name) => next.extend(self.children(at, name)),
                    Step::Extension(url) => {
                        next.extend(self.children(at, "extension").filter(|inner| has_url(*inner, url)))
                    }
                    Step::OfType(id) => next.extend(self.schema.is_a(at.element.type_id, *id).then_some(at)),
                    Step::Resolve => match self.followed(at) {
                        Some(target) => next.push(target),
                        // A logical reference, or a literal one that leads out of the message.
                        None => reached.is_lost |= at.element.value.is_some(),
                    },
                }
            }
            reached.values = next;
        }
        reached
    }

    fn children(&'t self, at: ElementContext<'t>, name: &str) -> impl Iterator<Item = ElementContext<'t>> + use<'t> {
        let schema = self.schema;
        let is_contained = name == "contained";
        let of = if is_contained { "contained" } else { "" };
        at.element.step(schema, name).map(move |inner| at.child(inner, of, schema))
    }

    fn followed(&self, at: ElementContext<'t>) -> Option<ElementContext<'t>> {
        let target = self.resolver.resolve(at.resource, &reference_of(at.element)?)?;
        Some(ElementContext { element: target.element, resource: target.resource, root: target.root, ..at })
    }
}

fn has_url(at: ElementContext, url: &str) -> bool {
    at.element.value.and_then(|node| node.get("url")?.text()).as_deref() == Some(url)
}
