//! Selects what is checked in a message: the profiles of its definition, its graphs, and the profiles that resources
//! claim.

use super::super::collector::IssueCollector;
use super::super::focus::{self, Focus};
use super::check::{Checker, Demanded};
use super::named_path::NamedPath;
use super::resolver::Target;
use super::rules::ProfileRef;
use super::sink::{Found, Sink};
use super::support;
use super::{ProfileOptions, Profiles};
use crate::definition::catalog::Catalog;
use crate::definition::message_definition::Definition;
use emberpost_fhir::element::Element;
use emberpost_fhir::message::{Resolved, entries_of};
use emberpost_fhir::tree::Node;
use emberpost_fhir::{IssueCode, Message};
use std::borrow::Cow;
use std::sync::Arc;

/// The maximum number of definitions between a definition and its first base.
const BASES_LIMIT: usize = 8;
/// The maximum number of claimed profiles per resource; further ones are ignored.
const CLAIMS_LIMIT: usize = 50;
/// The maximum number of resources in a message whose claims are read.
const RESOURCES_LIMIT: usize = 20_000;

/// Checks a message against the profiles and graphs of its definition, and each resource against the profiles that
/// it claims. Reports errors with `Cause::Definition`; what is not loaded or cannot be checked is reported as a
/// warning, once.
pub(crate) fn check_message(
    message: &Message,
    definition: Option<&Arc<Definition>>,
    (catalog, profiles): (&Catalog, &Profiles),
    options: ProfileOptions,
    collector: &mut IssueCollector,
) {
    let checker = Checker::new(&message.tree, profiles, options.now_us);
    let mut demands = Demands { checker: &checker, checked: Vec::new(), left: RESOURCES_LIMIT };
    let focus = focus::read(message);
    let mut next = definition;
    for _ in 0..BASES_LIMIT {
        let Some(definition) = next else { break };
        demands.definition(definition, &focus, collector);
        next = definition.resource["base"].as_str().and_then(|base| catalog.by_canonical(base));
    }
    if let Some(bundle) = Element::root(&message.tree, profiles.schema) {
        demands.claims(Target::whole(bundle), &NamedPath::root("Bundle"), collector);
    }
    checker.extensions(&message.tree, &mut Sink::Issues(collector));
    if options.must_support {
        support::report(&checker, &demands.checked, collector);
    }
    checker.limitations.report(&message.tree, collector);
}

struct Demands<'t> {
    checker: &'t Checker<'t>,
    checked: Vec<Demanded<'t>>,
    /// The number of resources that may still be read for claims.
    left: usize,
}

impl<'t> Demands<'t> {
    fn definition(&mut self, definition: &Definition, focus: &[Focus<'t>], collector: &mut IssueCollector) {
        for item in focus {
            let Some(Resolved::Found(node, _)) = item.found else { continue };
            let Some(element) = Element::resource(node, self.checker.schema) else { continue };
            self.focus(definition, element, node, collector);
        }
        self.graphs(definition, focus, collector);
    }

    /// The profiles of the focus rules for the resource's type; if there are several rules, it must fit one.
    fn focus(&mut self, definition: &Definition, element: Element<'t>, node: Node<'t>, collector: &mut IssueCollector) {
        let checker = self.checker;
        let name = &*element.def(checker.schema).name;
        let rules = || definition.focus.iter().filter(|rule| rule.code == name);
        if rules().any(|rule| rule.profile.is_none()) {
            return;
        }
        let profiles: Vec<ProfileRef> =
            rules().filter_map(|rule| rule.profile.as_deref()).map(|one| checker.profiles.find(one)).collect();
        let target = Target::whole(element);
        checker.resolver.with_path(node, |path| match profiles.as_slice() {
            [] => {}
            [only] => self.demand(target, only, path, collector),
            several => self.one_of(definition, target, several, path, collector),
        });
    }

    fn one_of(
        &mut self,
        definition: &Definition,
        target: Target<'t>,
        profiles: &[ProfileRef],
        path: &NamedPath,
        collector: &mut IssueCollector,
    ) {
        let verdicts: Vec<_> = profiles.iter().map(|one| self.checker.verdict(target, one, path)).collect();
        if !verdicts.iter().all(|verdict| matches!(verdict, Some(Err(_)))) {
            return;
        }
        let node = target.element.node();
        let found = Found { path, child: None, node, rule: Cow::Borrowed("profile-type"), code: IssueCode::Structure };
        Sink::Issues(collector).error(found, || {
            let names = profiles.iter().map(|one| self.checker.profiles.name(one)).collect::<Vec<_>>().join(", ");
            let first = verdicts.into_iter().flatten().find_map(Result::err).unwrap_or_default();
            format!("{} requires that this focus fits one of {names}. First: {first}", definition.canonical())
        });
    }

    fn demand(&mut self, target: Target<'t>, profile: &ProfileRef, path: &NamedPath, collector: &mut IssueCollector) {
        self.checker.demand(target, profile, path, &mut Sink::Issues(collector));
        if let ProfileRef::Known(id) = profile {
            self.checked.push((target, *id, path.to_string()));
        }
    }

    /// Every graph of the definition, starting at the header or at each focus with the graph's first type.
    fn graphs(&mut self, definition: &Definition, focus: &[Focus<'t>], collector: &mut IssueCollector) {
        let checker = self.checker;
        let listed = &definition.resource["graph"];
        let listed = listed.as_array().map_or(std::slice::from_ref(listed), Vec::as_slice);
        for canonical in listed.iter().filter_map(|one| one.as_str()) {
            let Some(graph) = checker.profiles.graphs.find(canonical) else {
                checker.limitations.missing_graph(canonical, &NamedPath::root("Bundle"), None);
                continue;
            };
            let found = focus.iter().filter_map(|item| match item.found {
                Some(Resolved::Found(node, _)) => Some(node),
                _ => None,
            });
            for node in checker.resolver.header().into_iter().chain(found) {
                if let Some(element) = Element::resource(node, checker.schema) {
                    checker.graph(graph, Target::whole(element), &mut Sink::Issues(collector));
                }
            }
        }
    }

    /// What a resource claims in `meta.profile`, and what the resources within it claim. The reader limits the depth
    /// of the document, and with it this recursion.
    fn claims(&mut self, target: Target<'t>, path: &NamedPath, collector: &mut IssueCollector) {
        if self.left == 0 {
            return self.checker.limitations.cut_off();
        }
        self.left -= 1;
        let Some(node) = target.element.value else { return };
        for profile in self.claimed(node) {
            self.demand(target, &profile, path, collector);
        }
        for (index, inner) in (0u32..).zip(node.get("contained").into_iter().flat_map(Node::items)) {
            if let Some(element) = Element::resource(inner, self.checker.schema) {
                let target = Target { element, resource: element, root: target.element };
                self.claims(target, &path.member("contained", Some(index)), collector);
            }
        }
        if &*target.element.def(self.checker.schema).name != "Bundle" {
            return;
        }
        for (index, entry) in (0u32..).zip(entries_of(node)) {
            let resource = entry.get("resource").and_then(|inner| Element::resource(inner, self.checker.schema));
            if let Some(resource) = resource {
                let entry = path.member("entry", Some(index));
                self.claims(Target::whole(resource), &entry.member("resource", None), collector);
            }
        }
    }

    /// Without profiles from which another claimed one is derived: the derived one requires at least as much.
    fn claimed(&self, node: Node<'t>) -> Vec<ProfileRef> {
        let listed = node.get("meta").and_then(|meta| meta.get("profile")).into_iter().flat_map(Node::items);
        let profiles = &self.checker.profiles;
        let found: Vec<ProfileRef> =
            listed.take(CLAIMS_LIMIT).filter_map(Node::text).map(|one| profiles.find(&one)).collect();
        let is_base_of_other = |one: &ProfileRef| {
            let ProfileRef::Known(id) = one else { return false };
            let derives = |other: &ProfileRef| matches!(other, ProfileRef::Known(other) if profiles.get(*other).is_some_and(|other| other.ancestors.contains(id)));
            found.iter().any(derives)
        };
        found.iter().filter(|one| !is_base_of_other(one)).cloned().collect()
    }
}
