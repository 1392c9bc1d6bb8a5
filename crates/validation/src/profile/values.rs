//! Rules of a single value: type and profiles of the type, targets, fixed values and patterns, limits, constraints.

use super::super::focus::type_in_reference;
use super::check::{Checker, ElementContext};
use super::named_path::NamedPath;
use super::resolver::reference_of;
use super::rules::{Aggregation, ConstraintRule, ProfileRef, Rules, TypeRule};
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::Node;
use std::borrow::Cow;
use std::cmp::Ordering;

/// The maximum number of profiles or types that an issue lists.
const LISTED_LIMIT: usize = 8;

fn found<'p, 't>(
    at: ElementContext<'t>,
    path: &'p NamedPath<'p>,
    rule: &'static str,
    code: IssueCode,
) -> Found<'p, 't> {
    Found { path, child: None, node: at.element.node(), rule: Cow::Borrowed(rule), code }
}

impl<'t> Checker<'t> {
    pub(super) fn value(&'t self, at: ElementContext<'t>, rules: &'t Rules, path: &NamedPath, sink: &mut Sink) {
        self.fixed(at, rules, path, sink);
        self.limits(at, rules, path, sink);
        if !rules.types.is_empty() {
            self.types(at, rules, path, sink);
        }
        for binding in &rules.bindings {
            self.binding(at, binding, path, sink);
        }
        for constraint in &rules.constraints {
            self.constraint(at, constraint, path, sink);
        }
    }

    fn fixed(&self, at: ElementContext<'t>, rules: &Rules, path: &NamedPath, sink: &mut Sink) {
        let node = at.element.value;
        if let Some(fixed) = rules.fixed.as_ref().filter(|fixed| !node.is_some_and(|node| fixed.is(node))) {
            sink.error(found(at, path, "fixed", IssueCode::Value), || {
                format!("{} fixes the value to: {}", at.profile_name(), fixed.shown())
            });
        }
        if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !node.is_some_and(|node| pattern.is_in(node))) {
            sink.error(found(at, path, "pattern", IssueCode::Value), || {
                format!("{} requires that the value has: {}", at.profile_name(), pattern.shown())
            });
        }
    }

    fn limits(&self, at: ElementContext<'t>, rules: &Rules, path: &NamedPath, sink: &mut Sink) {
        if rules.must_have_value && at.element.value.is_none() {
            sink.error(found(at, path, "profile-value", IssueCode::Required), || {
                format!("{} requires a value, with or without extensions", at.profile_name())
            });
        }
        if let Some(most) = rules.max_length
            && let Some(length) = at.element.text().map(|text| text.chars().count()).filter(|length| *length > most)
        {
            sink.error(found(at, path, "profile-length", IssueCode::TooLong), || {
                format!("{} allows at most {most} characters; found {length}", at.profile_name())
            });
        }
        let broken = |limit: &Option<super::limit::Limit>, wrong: Ordering| {
            limit.as_ref().filter(|limit| limit.compare(at.element) == Some(wrong)).map(|limit| limit.shown())
        };
        if let Some(least) = broken(&rules.min_value, Ordering::Less) {
            sink.error(found(at, path, "profile-value", IssueCode::Value), || {
                format!("{} does not allow a value below {least}", at.profile_name())
            });
        }
        if let Some(most) = broken(&rules.max_value, Ordering::Greater) {
            sink.error(found(at, path, "profile-value", IssueCode::Value), || {
                format!("{} does not allow a value above {most}", at.profile_name())
            });
        }
    }

    fn constraint(&'t self, at: ElementContext<'t>, rule: &ConstraintRule, path: &NamedPath, sink: &mut Sink) {
        if !self.spend(1) {
            return;
        }
        let outer = self.is_undecided.replace(false);
        let holds = self.deeper(rule.expression.levels(), || rule.expression.holds(at.element, &self.scope(at)));
        let is_undecided = self.is_undecided.replace(outer);
        let holds = match holds {
            // A constraint must be true, unless it depends on something that is not known here.
            Ok(holds) => holds.unwrap_or(is_undecided),
            Err(reason) => return self.limitations.failed(&rule.key, &reason, path, at.element.node()),
        };
        if holds {
            return;
        }
        let key = Cow::Owned(rule.key.to_string());
        let found = Found { rule: key, ..found(at, path, "", IssueCode::Invariant) };
        let text = || format!("{} ({} of {})", rule.human, rule.key, at.profile_name());
        if rule.is_error { sink.error(found, text) } else { sink.warning(found, text) }
    }

    /// The value's type is listed, it conforms to a profile of that type, and a reference has a listed target.
    fn types(&'t self, at: ElementContext<'t>, rules: &'t Rules, path: &NamedPath, sink: &mut Sink) {
        let fitting: Vec<&TypeRule> = rules.types.iter().filter(|rule| self.is_type(at, rule)).collect();
        if fitting.is_empty() {
            return sink.error(found(at, path, "profile-type", IssueCode::Structure), || {
                let names = rules.types.iter().map(|rule| &*self.schema.def(rule.type_id).name);
                let names = names.take(LISTED_LIMIT).collect::<Vec<_>>().join(", ");
                let own = &at.element.def(self.schema).code;
                format!("{} does not allow the type {own}; it allows {names}", at.profile_name())
            });
        }
        if fitting.iter().all(|rule| !rule.profiles.is_empty()) {
            let profiles: Vec<&ProfileRef> = fitting.iter().flat_map(|rule| &rule.profiles).collect();
            self.one_of(at, &profiles, path, sink);
        }
        if fitting.iter().all(|rule| !rule.targets.is_empty()) {
            let targets: Vec<&ProfileRef> = fitting.iter().flat_map(|rule| &rule.targets).collect();
            self.leads_to(at, &targets, path, sink);
        }
        if fitting.iter().all(|rule| !rule.aggregation.is_empty()) {
            self.is_where(at, fitting.iter().flat_map(|rule| &rule.aggregation), path, sink);
        }
    }

    /// Where the target of a literal reference is; None for a logical one.
    fn is_where(
        &'t self,
        at: ElementContext<'t>,
        mut allowed: impl Iterator<Item = &'t Aggregation> + Clone,
        path: &NamedPath,
        sink: &mut Sink,
    ) {
        let Some(reference) = reference_of(at.element) else { return };
        let is = match reference.starts_with('#') {
            true => Aggregation::Contained,
            false if self.resolver.resolve(at.resource, &reference).is_some() => Aggregation::Bundled,
            false => Aggregation::Referenced,
        };
        let listed = allowed.clone();
        let fits = |one: &Aggregation| *one == is || (*one, is) == (Aggregation::Referenced, Aggregation::Bundled);
        if !allowed.any(fits) {
            sink.error(found(at, path, "aggregation", IssueCode::Value), || {
                let names = listed.map(|one| one.name()).collect::<Vec<_>>().join(" or ");
                format!(
                    "the target of the reference is {}; {} requires that it is {names}",
                    is.name(),
                    at.profile_name()
                )
            });
        }
    }

    fn is_type(&self, at: ElementContext<'t>, rule: &TypeRule) -> bool {
        let same_code = self.schema.def(rule.type_id).code == at.element.def(self.schema).code;
        same_code || self.schema.is_a(at.element.type_id, rule.type_id)
    }

    fn one_of(&'t self, at: ElementContext<'t>, profiles: &[&ProfileRef], path: &NamedPath, sink: &mut Sink) {
        if let [ProfileRef::Known(only)] = profiles {
            return self.conform(at.target(), *only, path, sink);
        }
        let verdicts: Vec<_> = profiles.iter().map(|profile| self.verdict(at.target(), profile, path)).collect();
        if verdicts.iter().all(|verdict| matches!(verdict, Some(Err(_)))) {
            sink.error(found(at, path, "profile-type", IssueCode::Structure), || {
                let first = verdicts.into_iter().flatten().find_map(Result::err).unwrap_or_default();
                format!("{} requires one of {}. First: {first}", at.profile_name(), self.listed(profiles))
            });
        }
    }

    fn leads_to(&'t self, at: ElementContext<'t>, targets: &[&ProfileRef], path: &NamedPath, sink: &mut Sink) {
        // The target of a canonical is not in the message.
        let Some(node) = at.element.value.filter(|node| node.is_object()) else { return };
        let reference = reference_of(at.element);
        let resolved = reference.as_deref().and_then(|reference| self.resolver.resolve(at.resource, reference));
        let Some(target) = resolved else {
            let said = node.get("type").and_then(Node::text);
            if let Some(name) = reference.as_deref().and_then(type_in_reference).or(said.as_deref()) {
                self.leads_out(at, name, targets, path, sink);
            }
            return;
        };
        let verdicts: Vec<_> = targets.iter().map(|profile| self.verdict(target, profile, path)).collect();
        if verdicts.iter().all(|verdict| matches!(verdict, Some(Err(_)))) {
            sink.error(found(at, path, "profile-target", IssueCode::Value), || {
                let first = verdicts.into_iter().flatten().find_map(Result::err).unwrap_or_default();
                let name = &target.element.def(self.schema).name;
                format!("refers to a {name}; {} requires {}. First: {first}", at.profile_name(), self.listed(targets))
            });
        }
    }

    /// For a target outside of the message only the type is known, from the reference itself.
    fn leads_out(
        &self,
        at: ElementContext<'t>,
        name: &str,
        targets: &[&ProfileRef],
        path: &NamedPath,
        sink: &mut Sink,
    ) {
        let Some(of) = self.schema.resource(name) else { return };
        let fits = |target: &&ProfileRef| match target {
            ProfileRef::Base(id) => self.schema.is_a(of, *id),
            ProfileRef::Known(id) => self.profiles.get(*id).is_none_or(|one| self.schema.is_a(of, one.type_id)),
            ProfileRef::BuiltIn | ProfileRef::Missing(_) => true,
        };
        if !targets.iter().any(fits) {
            sink.error(found(at, path, "profile-target", IssueCode::Value), || {
                format!(
                    "refers to a {}; {} requires {}",
                    self.schema.def(of).name,
                    at.profile_name(),
                    self.listed(targets)
                )
            });
        }
    }

    fn listed(&self, profiles: &[&ProfileRef]) -> String {
        let name = |profile: &&ProfileRef| self.profiles.name(profile);
        profiles.iter().take(LISTED_LIMIT).map(name).collect::<Vec<_>>().join(", ")
    }
}
