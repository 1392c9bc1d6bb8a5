//! Slicing: which values belong to which slice, how many there may be, in which order, and what each slice asks.
//!
//! A value belongs to the first slice whose discriminators it meets. Where that cannot be told (a profile is not loaded,
//! a reference leads out of the message), the value counts for no slice and nothing is missed because of it.

use super::check::{At, Checker};
use super::place::Place;
use super::rules::{Matcher, Openness, Rules, Slice, Step, Test, ValueTest};
use super::sink::{Found, Sink};
use super::world::reference_of;
use emberpost_fhir::IssueCode;
use std::borrow::Cow;

/// Where a value belongs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Home {
    Slice(usize),
    None,
    /// It cannot be told.
    Open,
}

/// What the path of a discriminator leads to.
struct Reached<'t> {
    values: Vec<At<'t>>,
    /// A reference on the way leads out of the message.
    is_lost: bool,
}

type Item<'t, 'p> = (At<'t>, Place<'p>);

/// The values of a sliced element and where each belongs.
#[derive(Clone, Copy)]
struct Sorted<'a, 't, 'p> {
    items: &'a [Item<'t, 'p>],
    homes: &'a [Home],
}

impl<'a, 't, 'p> Sorted<'a, 't, 'p> {
    /// The values that belong there.
    fn of(self, home: Home) -> impl Iterator<Item = Item<'t, 'p>> + use<'a, 't, 'p> {
        self.items.iter().zip(self.homes).filter(move |(_, own)| **own == home).map(|(item, _)| *item)
    }
}

impl<'t> Checker<'t> {
    /// The values of a sliced element; `at` and `place` are what holds them.
    pub(super) fn slices(
        &'t self,
        at: At<'t>,
        rules: &'t Rules,
        items: &[Item<'t, '_>],
        place: &Place,
        sink: &mut Sink,
    ) {
        if sink.is_settled() || !self.spend((items.len() * rules.slices.len()) as u64) {
            return;
        }
        let homes: Vec<Home> = (0u32..).zip(items).map(|(position, item)| self.home(rules, position, item)).collect();
        let sorted = Sorted { items, homes: &homes };
        self.order(at, rules, sorted, sink);
        for (index, slice) in rules.slices.iter().enumerate() {
            let own: Vec<Item> = sorted.of(Home::Slice(index)).collect();
            let is_known = !homes.contains(&Home::Open);
            if is_known && own.len() < slice.rules.min as usize {
                self.too_few(at, slice, sorted, place, sink);
            }
            self.held(at, slice, &own, place, sink);
        }
    }

    /// What a slice asks of its values.
    fn held(&'t self, at: At<'t>, slice: &'t Slice, own: &[Item<'t, '_>], place: &Place, sink: &mut Sink) {
        if let Some(max) = slice.rules.max.filter(|max| own.len() > *max as usize) {
            let (rule, child) = (Cow::Borrowed("profile-max"), Some(&*slice.rules.name));
            let found = Found { place, child, node: at.element.node(), rule, code: IssueCode::Structure };
            sink.error(found, || {
                let (who, name, count) = (at.who(), &slice.rules.name, own.len());
                format!("{who} allows at most {max} {name} in the slice {}; there are {count}", slice.name)
            });
        }
        let within = |at: At<'t>| At { slice: Some(&slice.name), ..at };
        for (item, spot) in own {
            self.walk(within(*item), &slice.rules, spot, sink);
        }
        if !slice.rules.slices.is_empty() {
            let own: Vec<Item> = own.iter().map(|(item, spot)| (within(*item), *spot)).collect();
            self.slices(within(at), &slice.rules, &own, place, sink);
        }
    }

    fn too_few(&'t self, at: At<'t>, slice: &'t Slice, sorted: Sorted<'_, 't, '_>, place: &Place, sink: &mut Sink) {
        let rule = Cow::Borrowed("profile-min");
        let found = Found { place, child: None, node: at.element.node(), rule, code: IssueCode::Required };
        let near = sorted.of(Home::None).find_map(|(item, spot)| self.near(slice, item, &spot));
        let near = near.map(|near| format!(". {near}")).unwrap_or_default();
        sink.error(found, || {
            let (who, Rules { min, name, .. }) = (at.who(), &slice.rules);
            format!("{who} asks for at least {min} {name} in the slice {}; there are fewer{near}", slice.name)
        });
    }

    /// Why a value that nearly belongs to a slice does not: it is told by a profile, and this is its first mistake.
    fn near(&'t self, slice: &'t Slice, item: At<'t>, spot: &Place) -> Option<String> {
        for matcher in &slice.matchers {
            let Test::Profile(profiles) = &matcher.test else { continue };
            for value in self.reach(item, &matcher.path).values {
                let of = value.element.type_id;
                let mut fitting = profiles.iter().filter(|profile| self.profiles.is_for(profile, self.schema, of));
                let mistake = fitting.find_map(|profile| self.verdict(value.target(), profile, spot)?.err());
                if let Some(mistake) = mistake {
                    return Some(format!("{spot} comes near: {mistake}"));
                }
            }
        }
        None
    }

    /// Closed slicings have no other values, open-at-end ones only at the end, ordered ones keep the order of slices.
    fn order(&self, at: At<'t>, rules: &Rules, sorted: Sorted<'_, 't, '_>, sink: &mut Sink) {
        let Some(slicing) = &rules.slicing else { return };
        let Sorted { items, homes } = sorted;
        let last_sliced = homes.iter().rposition(|home| matches!(home, Home::Slice(_)));
        let mut reached = 0;
        for (position, ((item, spot), home)) in items.iter().zip(homes).enumerate() {
            let wrong = match (home, slicing.openness) {
                (Home::None, Openness::Closed) => Some("belongs to no slice, and there are no others"),
                (Home::None, Openness::OpenAtEnd) if last_sliced > Some(position) => {
                    Some("belongs to no slice and stands before one that does")
                }
                (Home::Slice(index), _) if slicing.ordered && *index < reached => {
                    Some("stands after a value of a later slice")
                }
                _ => None,
            };
            if let Home::Slice(index) = home {
                reached = reached.max(*index);
            }
            let Some(wrong) = wrong else { continue };
            let node = item.element.node();
            let found =
                Found { place: spot, child: None, node, rule: Cow::Borrowed("slicing"), code: IssueCode::Structure };
            sink.error(found, || {
                let names = rules.slices.iter().map(|slice| &*slice.name).take(8).collect::<Vec<_>>().join(", ");
                format!("{wrong}: {} slices {} into {names}", at.who(), rules.name)
            });
        }
    }

    fn home(&'t self, rules: &'t Rules, position: u32, (item, spot): &Item<'t, '_>) -> Home {
        let mut home = Home::None;
        for (index, slice) in rules.slices.iter().enumerate() {
            match self.belongs(*item, slice, position, spot) {
                Some(true) => return Home::Slice(index),
                Some(false) => {}
                None => home = Home::Open,
            }
        }
        home
    }

    /// None: it cannot be told.
    fn belongs(&'t self, item: At<'t>, slice: &'t Slice, position: u32, place: &Place) -> Option<bool> {
        if slice.matchers.is_empty() {
            return Some(self.obeys(item, &slice.rules, place));
        }
        let mut is_known = true;
        for matcher in &slice.matchers {
            match self.meets(item, matcher, position, place) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => is_known = false,
            }
        }
        is_known.then_some(true)
    }

    fn obeys(&'t self, item: At<'t>, rules: &'t Rules, place: &Place) -> bool {
        let mut sink = Sink::Verdict(None);
        self.walk(item, rules, place, &mut sink);
        !sink.is_settled()
    }

    fn meets(&'t self, item: At<'t>, matcher: &'t Matcher, position: u32, place: &Place) -> Option<bool> {
        if let Test::Position(from, to) = &matcher.test {
            return Some((*from..*to).contains(&position));
        }
        let Reached { values, is_lost } = self.reach(item, &matcher.path);
        let found = match &matcher.test {
            Test::Unknown => return None,
            Test::Exists(_) if values.is_empty() && is_lost => return None,
            Test::Exists(wanted) => return Some(values.is_empty() != *wanted),
            Test::Value(tests) => values.iter().any(|at| tests.iter().any(|test| self.is_value(*at, test, place))),
            Test::Type(types) => {
                values.iter().any(|at| types.iter().any(|id| self.schema.is_a(at.element.type_id, *id)))
            }
            Test::Profile(profiles) => {
                let verdict = |at: &At<'t>| {
                    let mut verdicts = profiles.iter().map(|profile| self.verdict(at.target(), profile, place));
                    verdicts.try_fold(false, |fits, verdict| Some(fits | verdict?.is_ok()))
                };
                let verdicts: Option<Vec<bool>> = values.iter().map(verdict).collect();
                verdicts?.contains(&true)
            }
            Test::Position(..) => false,
        };
        // What the reference leads to might have met it.
        if found || !is_lost { Some(found) } else { None }
    }

    fn is_value(&'t self, at: At<'t>, test: &'t ValueTest, place: &Place) -> bool {
        match test {
            ValueTest::Fixed(fixed) => at.element.value.is_some_and(|node| fixed.is(node)),
            ValueTest::Pattern(pattern) => at.element.value.is_some_and(|node| pattern.is_in(node)),
            ValueTest::Binding(rule) => match &rule.codes {
                Ok(codes) => super::binding::is_member(self.schema, at.element, codes) == Some(true),
                Err(unlisted) => {
                    self.notes.unchecked(&rule.value_set, &unlisted.reason, place, at.element.node());
                    false
                }
            },
            ValueTest::Rules(rules) => self.obeys(at, rules, place),
        }
    }

    fn reach(&'t self, item: At<'t>, path: &[Step]) -> Reached<'t> {
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
                        // By its identifier or a text, or by a literal that leads out of the message.
                        None => reached.is_lost |= at.element.value.is_some(),
                    },
                }
            }
            reached.values = next;
        }
        reached
    }

    fn children(&'t self, at: At<'t>, name: &str) -> impl Iterator<Item = At<'t>> + use<'t> {
        let schema = self.schema;
        let is_contained = name == "contained";
        let of = if is_contained { "contained" } else { "" };
        at.element.step(schema, name).map(move |inner| at.child(inner, of, schema))
    }

    fn followed(&self, at: At<'t>) -> Option<At<'t>> {
        let target = self.world.resolve(at.resource, &reference_of(at.element)?)?;
        Some(At { element: target.element, resource: target.resource, root: target.root, ..at })
    }
}

fn has_url(at: At, url: &str) -> bool {
    at.element.value.and_then(|node| node.get("url")?.text()).as_deref() == Some(url)
}
