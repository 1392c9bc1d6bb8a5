//! GraphDefinitions: which resources a message holds, from one that it is about along links to others.
//!
//! R4 and R4B nest links in targets; R5 names nodes and links them. Both become nodes with links here. A link leads along
//! a FHIRPath; links by search parameters (`params`) and compartments are not followed. What lies outside of the message
//! counts for nothing.

use super::super::definition::age_of;
use super::check::Checker;
use super::compile::Compiler;
use super::draft::{count, shown};
use super::expression::Expression;
use super::rules::ProfileRef;
use super::sink::{Found, Sink};
use super::world::{Target, reference_of};
use crate::fhir::IssueCode;
use crate::fhirpath::Scope;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

/// Most nodes of one graph.
const NODES_LIMIT: usize = 1_000;
/// How deep R4's links may be nested.
const LINK_DEPTH_LIMIT: usize = 16;
/// Most resources that one graph visits in a message.
const VISITS_LIMIT: usize = 10_000;

#[derive(Debug)]
pub(super) struct Graph {
    canonical: Box<str>,
    nodes: Vec<Node>,
    /// Where it starts; the first node of all.
    start: usize,
}

#[derive(Debug)]
struct Node {
    /// The resource's type.
    type_name: Box<str>,
    profile: Option<ProfileRef>,
    links: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    path: Box<str>,
    expression: Arc<Expression>,
    min: u64,
    max: u64,
    /// Positions of nodes; empty: it leads to anything.
    targets: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Graphs {
    /// By url, the newest of each, and by `url|version`.
    by_canonical: FxHashMap<String, Arc<Graph>>,
}

impl Graphs {
    pub fn compile(compiler: &mut Compiler, mistakes: &mut Vec<String>) -> Graphs {
        let definitions = compiler.definitions;
        let mut listed: Vec<_> = definitions.resources.iter().zip(&definitions.files).collect();
        listed.retain(|(resource, _)| resource["resourceType"] == "GraphDefinition");
        // The newest is the last to be named by its url alone.
        listed.sort_by(|(a, _), (b, _)| age_of(a, b));
        let mut graphs = Graphs::default();
        for (resource, file) in listed {
            let Some(url) = resource["url"].as_str() else { continue };
            let mut reading = Reading { compiler, nodes: Vec::new(), mistakes: Vec::new() };
            let start = reading.graph(resource);
            let (nodes, found) = (reading.nodes, reading.mistakes);
            mistakes.extend(found.into_iter().map(|mistake| format!("{file}: {}: {mistake}", shown(url))));
            let Some(start) = start else { continue };
            let version = resource["version"].as_str();
            let canonical = version.map_or_else(|| url.to_owned(), |version| format!("{url}|{version}"));
            let graph = Arc::new(Graph { canonical: canonical.as_str().into(), nodes, start });
            graphs.by_canonical.insert(canonical, graph.clone());
            graphs.by_canonical.insert(url.to_owned(), graph);
        }
        graphs
    }

    pub fn find(&self, canonical: &str) -> Option<&Graph> {
        let whole = canonical.split_once('#').map_or(canonical, |(whole, _)| whole);
        self.by_canonical.get(whole).map(|graph| &**graph)
    }
}

struct Reading<'c, 'd> {
    compiler: &'c mut Compiler<'d>,
    nodes: Vec<Node>,
    mistakes: Vec<String>,
}

impl Reading<'_, '_> {
    fn graph(&mut self, resource: &Value) -> Option<usize> {
        let start = resource["start"].as_str();
        if resource["node"].is_array() {
            return self.named_nodes(resource, start);
        }
        let Some(start) = start else {
            self.mistakes.push("the graph has no start".to_owned());
            return None;
        };
        let profile = resource["profile"].as_str();
        self.node(start, profile, resource, 0)
    }

    fn node(&mut self, type_name: &str, profile: Option<&str>, links: &Value, depth: usize) -> Option<usize> {
        if self.nodes.len() >= NODES_LIMIT || depth >= LINK_DEPTH_LIMIT {
            self.mistakes.push(format!("more than {NODES_LIMIT} nodes, or more than {LINK_DEPTH_LIMIT} deep"));
            return None;
        }
        let profile = profile.map(|profile| self.compiler.library.find(profile));
        let at = self.nodes.len();
        self.nodes.push(Node { type_name: type_name.into(), profile, links: Vec::new() });
        let mut found = Vec::new();
        for link in list(links, "link") {
            let mut targets = Vec::new();
            for target in list(link, "target") {
                let name = target["type"].as_str().unwrap_or("Resource");
                targets.extend(self.node(name, target["profile"].as_str(), target, depth + 1));
            }
            found.extend(self.link(link, targets));
        }
        self.nodes[at].links = found;
        Some(at)
    }

    /// None: it has no path, or one that cannot be read.
    fn link(&mut self, link: &Value, targets: Vec<usize>) -> Option<Link> {
        let path = link["path"].as_str()?;
        let expression = match Expression::parse(path) {
            Ok(expression) => Arc::new(expression),
            Err(error) => {
                self.mistakes.push(format!("the path {} cannot be read: {error}", shown(path)));
                return None;
            }
        };
        let min = count(&link["min"]).unwrap_or(0);
        let max = count(&link["max"]).unwrap_or(u64::MAX);
        Some(Link { path: shown(path).into(), expression, min, max, targets })
    }

    /// R5: nodes by id, links between them.
    fn named_nodes(&mut self, resource: &Value, start: Option<&str>) -> Option<usize> {
        let mut ids = FxHashMap::default();
        for node in list(resource, "node").take(NODES_LIMIT) {
            let profile = node["profile"].as_str().map(|profile| self.compiler.library.find(profile));
            let type_name = node["type"].as_str().unwrap_or("Resource").into();
            ids.insert(node["nodeId"].as_str().unwrap_or_default(), self.nodes.len());
            self.nodes.push(Node { type_name, profile, links: Vec::new() });
        }
        for link in list(resource, "link").take(NODES_LIMIT) {
            let end = |name: &str| link[name].as_str().and_then(|id| ids.get(id).copied());
            let (Some(source), Some(target)) = (end("sourceId"), end("targetId")) else {
                self.mistakes.push("a link names a node that is not there".to_owned());
                continue;
            };
            if let Some(link) = self.link(link, vec![target]) {
                self.nodes[source].links.push(link);
            }
        }
        let start = start.and_then(|id| ids.get(id).copied());
        if start.is_none() {
            self.mistakes.push("the graph's start names no node".to_owned());
        }
        start
    }
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

impl<'t> Checker<'t> {
    /// Holds a resource against a graph, if the graph starts with its type.
    pub(super) fn graph(&'t self, graph: &'t Graph, start: Target<'t>, sink: &mut Sink) {
        let Some(first) = graph.nodes.get(graph.start) else { return };
        if *first.type_name != *start.element.def(self.schema).name {
            return;
        }
        let mut visited = FxHashSet::default();
        let mut open = vec![(start, graph.start)];
        if let Some(profile) = &first.profile {
            self.world.at_target(start, |place| self.demand(start, profile, place, sink));
        }
        while let Some((target, at)) = open.pop() {
            let (Some(node), Some(index)) = (graph.nodes.get(at), target.element.node().map(|node| node.index)) else {
                continue;
            };
            if visited.len() >= VISITS_LIMIT || !visited.insert((index, at)) {
                continue;
            }
            for link in &node.links {
                open.extend(self.link(graph, link, target, sink));
            }
        }
    }

    /// The resources that a link leads to, with their nodes; reports how many are missing or too many.
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
                self.world
                    .at_target(source, |place| self.notes.failed(&link.path, &reason, place, source.element.node()));
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
        let elements = link.expression.elements(source.element, &scope)?;
        let mut reached = Vec::new();
        for element in elements {
            if element.is_resource(self.schema) {
                reached.push(Target::whole(element));
            } else if let Some(reference) = reference_of(element) {
                reached.extend(self.world.resolve(source.resource, &reference));
            } else {
                // A path may end at the element that holds the reference: `Encounter.location`.
                let mut leads = |inner| {
                    let reference = reference_of(inner).filter(|_| inner.value.is_some_and(|node| node.is_object()));
                    reached.extend(reference.and_then(|reference| self.world.resolve(source.resource, &reference)));
                };
                element.each_child(self.schema, &mut leads);
            }
        }
        let mut seen = FxHashSet::default();
        reached.retain(|target| target.element.node().is_some_and(|node| seen.insert(node.index)));
        Ok(reached)
    }

    /// Of the nodes that fit by type the one that fits by profile; a single one's mistakes are reported.
    fn node_of(&'t self, graph: &'t Graph, nodes: &[usize], target: Target<'t>, sink: &mut Sink) -> Option<usize> {
        let profile = |at: usize| graph.nodes.get(at).and_then(|node| node.profile.as_ref());
        if let [only] = nodes {
            if let Some(profile) = profile(*only) {
                self.world.at_target(target, |place| self.demand(target, profile, place, sink));
            }
            return Some(*only);
        }
        let mut first = None;
        for &at in nodes {
            let Some(profile) = profile(at) else { return Some(at) };
            let verdict = self.world.at_target(target, |place| self.verdict(target, profile, place)).flatten();
            match verdict {
                Some(Err(mistake)) => first = first.or(Some(mistake)),
                _ => return Some(at),
            }
        }
        let mistake = first?;
        self.world.at_target(target, |place| {
            let found = Found {
                place,
                child: None,
                node: target.element.node(),
                rule: Cow::Borrowed("profile-type"),
                code: IssueCode::Structure,
            };
            sink.error(found, || {
                format!(
                    "fits none of the profiles that the graph {} has for its type. First: {mistake}",
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
        self.world.at_target(source, |place| {
            let node = source.element.node();
            let found = Found { place, child: None, node, rule: Cow::Borrowed(rule), code: IssueCode::BusinessRule };
            sink.error(found, || {
                format!(
                    "the graph {} asks that {} leads to {text} {types} in the message; there are {count}",
                    graph.canonical, link.path
                )
            });
        });
    }
}
