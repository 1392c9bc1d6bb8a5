//! What a check could not find or do, each told once per message, with the first place that asked for it.

use super::super::report::{Broken, Report};
use super::place::Place;
use emberpost_fhir::IssueCode;
use emberpost_fhir::tree::{Node, Tree};
use std::cell::{Cell, RefCell};

/// Most things that are named of one message.
const NOTES_LIMIT: usize = 50;

#[derive(Default)]
pub(super) struct Notes {
    found: RefCell<Vec<Note>>,
    is_cut_off: Cell<bool>,
}

struct Note {
    about: About,
    name: String,
    reason: String,
    place: String,
    /// Where it stands in the document.
    node: Option<u32>,
}

#[derive(Clone, Copy, PartialEq)]
enum About {
    Profile,
    ValueSet,
    Constraint,
    Graph,
}

impl Notes {
    /// A profile that is not loaded, or cannot be used for this reason.
    pub fn missing(&self, canonical: &str, reason: impl FnOnce() -> Option<String>, place: &Place, node: Option<Node>) {
        self.note(About::Profile, canonical, || reason().unwrap_or_default(), place, node);
    }

    /// A graph that is not loaded.
    pub fn missing_graph(&self, canonical: &str, place: &Place, node: Option<Node>) {
        self.note(About::Graph, canonical, String::new, place, node);
    }

    /// A value set that cannot be enumerated.
    pub fn unchecked(&self, value_set: &str, reason: &str, place: &Place, node: Option<Node>) {
        self.note(About::ValueSet, value_set, || reason.to_owned(), place, node);
    }

    /// A constraint whose expression failed.
    pub fn failed(&self, key: &str, reason: &str, place: &Place, node: Option<Node>) {
        self.note(About::Constraint, key, || reason.to_owned(), place, node);
    }

    /// The check was ended before it was through.
    pub fn cut_off(&self) {
        self.is_cut_off.set(true);
    }

    fn note(&self, about: About, name: &str, reason: impl FnOnce() -> String, place: &Place, node: Option<Node>) {
        let mut found = self.found.borrow_mut();
        if found.len() >= NOTES_LIMIT || found.iter().any(|note| note.about == about && note.name == name) {
            return;
        }
        let node = node.map(|node| node.index);
        found.push(Note { about, name: name.to_owned(), reason: reason(), place: place.to_string(), node });
    }

    /// Warnings, in the order they were met.
    pub fn tell(&self, tree: &Tree, report: &mut Report) {
        for note in self.found.borrow().iter() {
            let Note { name, reason, .. } = note;
            let (rule, code, text) = match note.about {
                About::Profile if !reason.is_empty() => {
                    let text = format!("the profile {name} {reason}; what it asks was not checked");
                    ("profile-missing", IssueCode::NotFound, text)
                }
                About::Profile => {
                    let text = format!(
                        "the profile {name} is not loaded; what it asks was not checked. Load it, or have it loaded"
                    );
                    ("profile-missing", IssueCode::NotFound, text)
                }
                About::Graph => {
                    let text = format!(
                        "the graph {name} is not loaded; what it asks was not checked. Load it, or have it loaded"
                    );
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
            report.warning(note.place.as_str(), node, Broken::definition(rule, code, text));
        }
        if self.is_cut_off.get() {
            let text = "the check of profiles was ended early, as it would take too long; split the message";
            report.warning("Bundle", Some(tree.root()), Broken::definition("profile-limit", IssueCode::TooLong, text));
        }
    }
}
