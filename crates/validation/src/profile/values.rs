//! What is asked of one value: type and profiles of the type, targets, fixed values and patterns, limits, constraints.

use super::super::focus::type_in_reference;
use super::check::{At, Checker};
use super::place::Place;
use super::rules::{Aggregation, ConstraintRule, ProfileRef, Rules, TypeRule};
use super::sink::{Found, Sink};
use super::world::reference_of;
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;
use std::cmp::Ordering;

/// Most profiles or types that an issue lists.
const LISTED_LIMIT: usize = 8;

fn found<'p, 't>(at: At<'t>, place: &'p Place<'p>, rule: &'static str, code: IssueCode) -> Found<'p, 't> {
    Found { place, child: None, node: at.element.node(), rule: Cow::Borrowed(rule), code }
}

impl<'t> Checker<'t> {
    pub(super) fn value(&'t self, at: At<'t>, rules: &'t Rules, place: &Place, sink: &mut Sink) {
        self.fixed(at, rules, place, sink);
        self.limits(at, rules, place, sink);
        if !rules.types.is_empty() {
            self.types(at, rules, place, sink);
        }
        for binding in &rules.bindings {
            self.binding(at, binding, place, sink);
        }
        for constraint in &rules.constraints {
            self.constraint(at, constraint, place, sink);
        }
    }

    fn fixed(&self, at: At<'t>, rules: &Rules, place: &Place, sink: &mut Sink) {
        let node = at.element.value;
        if let Some(fixed) = rules.fixed.as_ref().filter(|fixed| !node.is_some_and(|node| fixed.is(node))) {
            sink.error(found(at, place, "fixed", IssueCode::Value), || {
                format!("{} fixes the value to: {}", at.who(), fixed.shown())
            });
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !node.is_some_and(|node| pattern.is_in(node))) {
            sink.error(found(at, place, "pattern", IssueCode::Value), || {
                format!("{} asks that the value has: {}", at.who(), pattern.shown())
            });
        }
    }

    fn limits(&self, at: At<'t>, rules: &Rules, place: &Place, sink: &mut Sink) {
        if rules.must_have_value && at.element.value.is_none() {
            sink.error(found(at, place, "profile-value", IssueCode::Required), || {
                format!("{} asks for a value, with or without extensions", at.who())
            });
        }
        if let Some(most) = rules.max_length
            && let Some(length) = at.element.text().map(|text| text.chars().count()).filter(|length| *length > most)
        {
            sink.error(found(at, place, "profile-length", IssueCode::TooLong), || {
                format!("{} allows at most {most} characters; there are {length}", at.who())
            });
        }
        let broken = |limit: &Option<super::limit::Limit>, wrong: Ordering| {
            limit.as_ref().filter(|limit| limit.compare(at.element) == Some(wrong)).map(|limit| limit.shown())
        };
        if let Some(least) = broken(&rules.min_value, Ordering::Less) {
            sink.error(found(at, place, "profile-value", IssueCode::Value), || {
                format!("{} allows no value below {least}", at.who())
            });
        }
        if let Some(most) = broken(&rules.max_value, Ordering::Greater) {
            sink.error(found(at, place, "profile-value", IssueCode::Value), || {
                format!("{} allows no value above {most}", at.who())
            });
        }
    }

    fn constraint(&'t self, at: At<'t>, rule: &ConstraintRule, place: &Place, sink: &mut Sink) {
        if !self.spend(1) {
            return;
        }
        let outer = self.is_undecided.replace(false);
        let holds = self.deeper(rule.expression.levels(), || rule.expression.holds(at.element, &self.scope(at)));
        let is_undecided = self.is_undecided.replace(outer);
        let holds = match holds {
            // A constraint must come to true, unless what it asks for cannot be known here.
            Ok(holds) => holds.unwrap_or(is_undecided),
            Err(reason) => return self.notes.failed(&rule.key, &reason, place, at.element.node()),
        };
        if holds {
            return;
        }
        let key = Cow::Owned(rule.key.to_string());
        let found = Found { rule: key, ..found(at, place, "", IssueCode::Invariant) };
        let text = || format!("{} ({} of {})", rule.human, rule.key, at.who());
        if rule.is_error { sink.error(found, text) } else { sink.warning(found, text) }
    }

    /// The value's type is listed, it conforms to a profile of that type, and a reference leads to a listed target.
    fn types(&'t self, at: At<'t>, rules: &'t Rules, place: &Place, sink: &mut Sink) {
        let fitting: Vec<&TypeRule> = rules.types.iter().filter(|rule| self.is_type(at, rule)).collect();
        if fitting.is_empty() {
            return sink.error(found(at, place, "profile-type", IssueCode::Structure), || {
                let names = rules.types.iter().map(|rule| &*self.schema.def(rule.type_id).name);
                let names = names.take(LISTED_LIMIT).collect::<Vec<_>>().join(", ");
                let own = &at.element.def(self.schema).code;
                format!("{} does not allow the type {own}; it allows {names}", at.who())
            });
        }
        if fitting.iter().all(|rule| !rule.profiles.is_empty()) {
            let profiles: Vec<&ProfileRef> = fitting.iter().flat_map(|rule| &rule.profiles).collect();
            self.one_of(at, &profiles, place, sink);
        }
        if fitting.iter().all(|rule| !rule.targets.is_empty()) {
            let targets: Vec<&ProfileRef> = fitting.iter().flat_map(|rule| &rule.targets).collect();
            self.leads_to(at, &targets, place, sink);
        }
        if fitting.iter().all(|rule| !rule.aggregation.is_empty()) {
            self.is_where(at, fitting.iter().flat_map(|rule| &rule.aggregation), place, sink);
        }
    }

    /// Where the target of a literal reference is; a logical one is nowhere.
    fn is_where(
        &'t self,
        at: At<'t>,
        mut allowed: impl Iterator<Item = &'t Aggregation> + Clone,
        place: &Place,
        sink: &mut Sink,
    ) {
        let Some(reference) = reference_of(at.element) else { return };
        let is = match reference.starts_with('#') {
            true => Aggregation::Contained,
            false if self.world.resolve(at.resource, &reference).is_some() => Aggregation::Bundled,
            false => Aggregation::Referenced,
        };
        let listed = allowed.clone();
        let fits = |one: &Aggregation| *one == is || (*one, is) == (Aggregation::Referenced, Aggregation::Bundled);
        if !allowed.any(fits) {
            sink.error(found(at, place, "aggregation", IssueCode::Value), || {
                let names = listed.map(|one| one.name()).collect::<Vec<_>>().join(" or ");
                format!("what it refers to is {}; {} asks that it is {names}", is.name(), at.who())
            });
        }
    }

    fn is_type(&self, at: At<'t>, rule: &TypeRule) -> bool {
        let same_code = self.schema.def(rule.type_id).code == at.element.def(self.schema).code;
        same_code || self.schema.is_a(at.element.type_id, rule.type_id)
    }

    fn one_of(&'t self, at: At<'t>, profiles: &[&ProfileRef], place: &Place, sink: &mut Sink) {
        if let [ProfileRef::Known(only)] = profiles {
            return self.conform(at.target(), *only, place, sink);
        }
        let verdicts: Vec<_> = profiles.iter().map(|profile| self.verdict(at.target(), profile, place)).collect();
        if verdicts.iter().all(|verdict| matches!(verdict, Some(Err(_)))) {
            sink.error(found(at, place, "profile-type", IssueCode::Structure), || {
                let first = verdicts.into_iter().flatten().find_map(Result::err).unwrap_or_default();
                format!("{} asks for one of {}. First: {first}", at.who(), self.listed(profiles))
            });
        }
    }

    fn leads_to(&'t self, at: At<'t>, targets: &[&ProfileRef], place: &Place, sink: &mut Sink) {
        // Canonicals lead out of the message.
        let Some(node) = at.element.value.filter(|node| node.is_object()) else { return };
        let reference = reference_of(at.element);
        let resolved = reference.as_deref().and_then(|reference| self.world.resolve(at.resource, reference));
        let Some(target) = resolved else {
            let said = node.get("type").and_then(Node::text);
            if let Some(name) = reference.as_deref().and_then(type_in_reference).or(said.as_deref()) {
                self.leads_out(at, name, targets, place, sink);
            }
            return;
        };
        let verdicts: Vec<_> = targets.iter().map(|profile| self.verdict(target, profile, place)).collect();
        if verdicts.iter().all(|verdict| matches!(verdict, Some(Err(_)))) {
            sink.error(found(at, place, "profile-target", IssueCode::Value), || {
                let first = verdicts.into_iter().flatten().find_map(Result::err).unwrap_or_default();
                let name = &target.element.def(self.schema).name;
                format!("leads to a {name}; {} asks for {}. First: {first}", at.who(), self.listed(targets))
            });
        }
    }

    /// Of what is not in the message only the type is known, which the reference tells.
    fn leads_out(&self, at: At<'t>, name: &str, targets: &[&ProfileRef], place: &Place, sink: &mut Sink) {
        let Some(of) = self.schema.resource(name) else { return };
        let fits = |target: &&ProfileRef| match target {
            ProfileRef::Base(id) => self.schema.is_a(of, *id),
            ProfileRef::Known(id) => self.profiles.get(*id).is_none_or(|one| self.schema.is_a(of, one.type_id)),
            ProfileRef::BuiltIn | ProfileRef::Missing(_) => true,
        };
        if !targets.iter().any(fits) {
            sink.error(found(at, place, "profile-target", IssueCode::Value), || {
                format!("leads to a {}; {} asks for {}", self.schema.def(of).name, at.who(), self.listed(targets))
            });
        }
    }

    fn listed(&self, profiles: &[&ProfileRef]) -> String {
        let name = |profile: &&ProfileRef| self.profiles.name(profile);
        profiles.iter().take(LISTED_LIMIT).map(name).collect::<Vec<_>>().join(", ")
    }
}
