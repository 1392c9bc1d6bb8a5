//! GraphDefinitions: which resources a message contains, starting from a focus and following links to others.
//!
//! R4 and R4B nest links in targets; R5 names nodes and links them. Both are compiled to nodes with links. A link
//! follows a FHIRPath; links by search parameters (`params`) and compartments are ignored. Resources outside the
//! message do not count.

use super::compiler::Compiler;
use super::draft::{count, shown};
use super::expression::Expression;
use super::rules::ProfileRef;
use crate::definition::canonical::age_of;
use rustc_hash::FxHashMap;
use serde_json::Value;
use std::sync::Arc;

/// The maximum number of nodes in one graph.
const NODES_LIMIT: usize = 1_000;
/// The maximum nesting of R4's links.
const LINK_DEPTH_LIMIT: usize = 16;

#[derive(Debug)]
pub(super) struct Graph {
    pub canonical: Box<str>,
    pub nodes: Vec<Node>,
    /// The start node, a position in `nodes`.
    pub start: usize,
}

#[derive(Debug)]
pub(super) struct Node {
    /// The type of the resource.
    pub type_name: Box<str>,
    pub profile: Option<ProfileRef>,
    pub links: Vec<Link>,
}

#[derive(Debug)]
pub(super) struct Link {
    pub path: Box<str>,
    pub expression: Arc<Expression>,
    pub min: u64,
    pub max: u64,
    /// Positions of nodes; empty: any resource.
    pub targets: Vec<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Graphs {
    /// By url (the newest of each) and by `url|version`.
    by_canonical: FxHashMap<String, Arc<Graph>>,
}

impl Graphs {
    pub fn compile(compiler: &mut Compiler, errors: &mut Vec<String>) -> Graphs {
        let catalog = compiler.catalog;
        let mut listed: Vec<_> = catalog.resources.iter().zip(&catalog.files).collect();
        listed.retain(|(resource, _)| resource["resourceType"] == "GraphDefinition");
        // The newest comes last, so it is the one found by url alone.
        listed.sort_by(|(a, _), (b, _)| age_of(a, b));
        let mut graphs = Graphs::default();
        for (resource, file) in listed {
            let Some(url) = resource["url"].as_str() else { continue };
            let mut reading = Reading { compiler, nodes: Vec::new(), errors: Vec::new() };
            let start = reading.graph(resource);
            let (nodes, found) = (reading.nodes, reading.errors);
            errors.extend(found.into_iter().map(|error| format!("{file}: {}: {error}", shown(url))));
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
    errors: Vec<String>,
}

impl Reading<'_, '_> {
    fn graph(&mut self, resource: &Value) -> Option<usize> {
        let start = resource["start"].as_str();
        if resource["node"].is_array() {
            return self.named_nodes(resource, start);
        }
        let Some(start) = start else {
            self.errors.push("the graph has no start".to_owned());
            return None;
        };
        let profile = resource["profile"].as_str();
        self.node(start, profile, resource, 0)
    }

    fn node(&mut self, type_name: &str, profile: Option<&str>, links: &Value, depth: usize) -> Option<usize> {
        if self.nodes.len() >= NODES_LIMIT || depth >= LINK_DEPTH_LIMIT {
            self.errors.push(format!("more than {NODES_LIMIT} nodes, or more than {LINK_DEPTH_LIMIT} deep"));
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

    /// None if it has no path, or one that cannot be parsed.
    fn link(&mut self, link: &Value, targets: Vec<usize>) -> Option<Link> {
        let path = link["path"].as_str()?;
        let expression = match Expression::parse(path) {
            Ok(expression) => Arc::new(expression),
            Err(error) => {
                self.errors.push(format!("the path {} cannot be parsed: {error}", shown(path)));
                return None;
            }
        };
        let min = count(&link["min"]).unwrap_or(0);
        let max = count(&link["max"]).unwrap_or(u64::MAX);
        Some(Link { path: shown(path).into(), expression, min, max, targets })
    }

    /// R5: nodes by id, and the links between them.
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
                self.errors.push("a link names a node that the graph does not define".to_owned());
                continue;
            };
            if let Some(link) = self.link(link, vec![target]) {
                self.nodes[source].links.push(link);
            }
        }
        let start = start.and_then(|id| ids.get(id).copied());
        if start.is_none() {
            self.errors.push("the graph's start is not one of its nodes".to_owned());
        }
        start
    }
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}
