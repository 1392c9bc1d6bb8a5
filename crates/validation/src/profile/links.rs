//! Checks a message against a graph: follows links from a resource and counts their targets.

use super::check::Checker;
use super::graph::{Graph, Link};
use super::resolver::{Target, reference_of};
use super::sink::{Found, Sink};
use emberpost_fhir::IssueCode;
use emberpost_fhirpath::Scope;
use rustc_hash::FxHashSet;
use std::borrow::Cow;

/// The maximum number of resources that one graph visits in a message.
const VISITS_LIMIT: usize = 10_000;

impl<'t> Checker<'t> {
    /// Checks a resource against a graph, if the graph starts with its type.
    pub(super) fn graph(&'t self, graph: &'t Graph, start: Target<'t>, sink: &mut Sink) {
        let Some(first) = graph.nodes.get(graph.start) else { return };
        if *first.type_name != *start.element.def(self.schema).name {
            return;
        }
        let mut visited = FxHashSet::default();
        let mut open = vec![(start, graph.start)];
        if let Some(profile) = &first.profile {
            self.resolver.with_target_path(start, |path| self.demand(start, profile, path, sink));
        }
        while let Some((target, at)) = open.pop() {
            let (Some(node), Some(index)) = (graph.nodes.get(at), target.element.node().map(|node| node.index)) else {
                continue;
            };
            if visited.len() >= VISITS_LIMIT {
                return self.limitations.cut_off();
            }
            if !visited.insert((index, at)) {
                continue;
            }
            for link in &node.links {
                if !self.spend(1) {
                    return;
                }
                open.extend(self.link(graph, link, target, sink));
            }
        }
    }

    /// The resources that a link leads to, with their nodes; reports if there are too few or too many.
    fn link(
        &'t self,
        graph: &'t Graph,
        link: &'t Link,
        source: Target<'t>,
        sink: &mut Sink,
    ) -> Vec<(Target<'t>, usize)> {
        let reached = match self.linked(link, source) {
            Ok(reached) => reached,
            Err(reason) => {
                self.resolver.with_target_path(source, |path| {
                    self.limitations.failed(&link.path, &reason, path, source.element.node())
                });
                return Vec::new();
            }
        };
        let mut found = Vec::new();
        let mut count = 0_u64;
        for target in reached {
            let name = &*target.element.def(self.schema).name;
            let of_type = |at: &&usize| {
                graph
                    .nodes
                    .get(**at)
                    .is_some_and(|node| matches!(&*node.type_name, any if any == name || any == "Resource"))
            };
            let nodes: Vec<usize> = link.targets.iter().filter(of_type).copied().collect();
            if nodes.is_empty() && !link.targets.is_empty() {
                continue;
            }
            count += 1;
            found.extend(self.node_of(graph, &nodes, target, sink).map(|at| (target, at)));
        }
        self.linked_count(graph, link, source, count, sink);
        found
    }

    fn linked(&'t self, link: &'t Link, source: Target<'t>) -> Result<Vec<Target<'t>>, String> {
        let scope = Scope { schema: self.schema, resource: source.resource, root: source.root, host: self };
        let elements = self.deeper(link.expression.levels(), || link.expression.elements(source.element, &scope))?;
        let mut reached = Vec::new();
        self.spend(elements.len() as u64);
        for element in elements {
            if element.is_resource(self.schema) {
                reached.push(Target::whole(element));
            } else if let Some(reference) = reference_of(element) {
                reached.extend(self.resolver.resolve(source.resource, &reference));
            } else {
                // A path may end at the element that contains the reference, such as `Encounter.location`.
                let mut leads = |inner| {
                    let reference = reference_of(inner).filter(|_| inner.value.is_some_and(|node| node.is_object()));
                    reached.extend(reference.and_then(|reference| self.resolver.resolve(source.resource, &reference)));
                };
                element.each_child(self.schema, &mut leads);
            }
        }
        let mut seen = FxHashSet::default();
        reached.retain(|target| target.element.node().is_some_and(|node| seen.insert(node.index)));
        Ok(reached)
    }

    /// The node that fits by profile among those that fit by type. If only one fits by type, its violations are
    /// reported.
    fn node_of(&'t self, graph: &'t Graph, nodes: &[usize], target: Target<'t>, sink: &mut Sink) -> Option<usize> {
        let profile = |at: usize| graph.nodes.get(at).and_then(|node| node.profile.as_ref());
        if let [only] = nodes {
            if let Some(profile) = profile(*only) {
                self.resolver.with_target_path(target, |path| self.demand(target, profile, path, sink));
            }
            return Some(*only);
        }
        let mut first = None;
        for &at in nodes {
            let Some(profile) = profile(at) else { return Some(at) };
            let verdict = self.resolver.with_target_path(target, |path| self.verdict(target, profile, path)).flatten();
            match verdict {
                Some(Err(error)) => first = first.or(Some(error)),
                _ => return Some(at),
            }
        }
        let error = first?;
        self.resolver.with_target_path(target, |path| {
            let found = Found {
                path,
                child: None,
                node: target.element.node(),
                rule: Cow::Borrowed("profile-type"),
                code: IssueCode::Structure,
            };
            sink.error(found, || {
                format!(
                    "does not fit any of the profiles that the graph {} has for its type. First: {error}",
                    graph.canonical
                )
            });
        });
        None
    }

    fn linked_count(&self, graph: &Graph, link: &Link, source: Target<'t>, count: u64, sink: &mut Sink) {
        let (rule, text) = match () {
            () if count < link.min => ("graph-min", format!("at least {}", link.min)),
            () if count > link.max => ("graph-max", format!("at most {}", link.max)),
            () => return,
        };
        let types = link.targets.iter().filter_map(|at| graph.nodes.get(*at)).map(|node| &*node.type_name);
        let types = types.collect::<Vec<_>>().join(", ");
        self.resolver.with_target_path(source, |path| {
            let node = source.element.node();
            let found = Found { path, child: None, node, rule: Cow::Borrowed(rule), code: IssueCode::BusinessRule };
            sink.error(found, || {
                format!(
                    "the graph {} requires that {} leads to {text} {types} in the message; found {count}",
                    graph.canonical, link.path
                )
            });
        });
    }
}
