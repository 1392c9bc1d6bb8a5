//! What a check could not find or evaluate, each reported once per message, with the path that first needed it.

use super::super::collector::{IssueCollector, Violation};
use super::named_path::NamedPath;
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::{Node, Tree};
use std::cell::{Cell, RefCell};

/// The maximum number of limitations reported per message.
const NOTES_LIMIT: usize = 50;

#[derive(Default)]
pub(super) struct Limitations {
    found: RefCell<Vec<Note>>,
    is_cut_off: Cell<bool>,
}

struct Note {
    about: About,
    name: String,
    reason: String,
    path: String,
    /// The position in the document.
    node: Option<u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum About {
    Profile,
    ValueSet,
    Constraint,
    Graph,
}

impl Limitations {
    /// Records a profile that is not loaded, or that cannot be used for this reason.
    pub fn missing(
        &self,
        canonical: &str,
        reason: impl FnOnce() -> Option<String>,
        path: &NamedPath,
        node: Option<Node>,
    ) {
        self.note(About::Profile, canonical, || reason().unwrap_or_default(), path, node);
    }

    /// Records a graph that is not loaded.
    pub fn missing_graph(&self, canonical: &str, path: &NamedPath, node: Option<Node>) {
        self.note(About::Graph, canonical, String::new, path, node);
    }

    /// Records a value set that cannot be enumerated.
    pub fn unchecked(&self, value_set: &str, reason: &str, path: &NamedPath, node: Option<Node>) {
        self.note(About::ValueSet, value_set, || reason.to_owned(), path, node);
    }

    /// Records a constraint whose expression failed.
    pub fn failed(&self, key: &str, reason: &str, path: &NamedPath, node: Option<Node>) {
        self.note(About::Constraint, key, || reason.to_owned(), path, node);
    }

    /// Records that the check was ended early.
    pub fn cut_off(&self) {
        self.is_cut_off.set(true);
    }

    fn note(&self, about: About, name: &str, reason: impl FnOnce() -> String, path: &NamedPath, node: Option<Node>) {
        let mut found = self.found.borrow_mut();
        if found.len() >= NOTES_LIMIT || found.iter().any(|note| note.about == about && note.name == name) {
            return;
        }
        let node = node.map(|node| node.index);
        found.push(Note { about, name: name.to_owned(), reason: reason(), path: path.to_string(), node });
    }

    /// Reports the limitations as warnings, in the order in which they were recorded.
    pub fn report(&self, tree: &Tree, collector: &mut IssueCollector) {
        for note in self.found.borrow().iter() {
            let Note { name, reason, .. } = note;
            let (rule, code, text) = match note.about {
                About::Profile if !reason.is_empty() => {
                    let text = format!("the profile {name} {reason}; its rules were not checked");
                    ("profile-missing", IssueCode::NotFound, text)
                }
                About::Profile => {
                    let text = format!("the profile {name} is not loaded; its rules were not checked. Load it");
                    ("profile-missing", IssueCode::NotFound, text)
                }
                About::Graph => {
                    let text = format!("the graph {name} is not loaded; its rules were not checked. Load it");
                    ("graph-missing", IssueCode::NotFound, text)
                }
                About::ValueSet => {
                    let text = format!("codes of the value set {name} could not be checked: {reason}");
                    ("binding", IssueCode::NotSupported, text)
                }
                About::Constraint => {
                    let text = format!("the constraint {name} could not be evaluated: {reason}");
                    ("profile-constraint", IssueCode::NotSupported, text)
                }
            };
            let node = note.node.map(|index| Node { tree, index });
            collector.warning(note.path.as_str(), node, Violation::definition(rule, code, text));
        }
        if self.is_cut_off.get() {
            let text = "the check of profiles was ended early because it would take too long; split the message";
            collector.warning(
                "Bundle",
                Some(tree.root()),
                Violation::definition("profile-limit", IssueCode::TooLong, text),
            );
        }
    }
}
