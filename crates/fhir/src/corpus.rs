//! Reads real messages: each file of the corpus is read, or refused with issues that name a rule.
//!
//! The corpus is not part of the repository. `EMBERPOST_CORPUS` names its folder; without it, nothing is tested.

use super::message::{Message, Resolved};
use super::{Issue, json};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The JSON messages in all folders named `messages`, sorted.
fn messages(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let is_json = path.extension().is_some_and(|end| end == "json" || end == "fhir");
        if path.is_dir() {
            files.extend(messages(&path));
        } else if is_json && folder.ends_with("messages") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> Result<Message, Vec<Issue>> {
    let tree = json::parse(Bytes::from(fs::read(file).unwrap()))?;
    Message::read(tree, None, None)
}

#[test]
fn every_message_of_the_corpus_is_read_or_refused_by_a_rule() {
    let Some(root) = std::env::var_os("EMBERPOST_CORPUS") else {
        println!("EMBERPOST_CORPUS is not set: no real messages are read");
        return;
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut count = |what: String| *counts.entry(what).or_default() += 1;
    let files = messages(Path::new(&root));
    for file in &files {
        match read(file) {
            Ok(message) => {
                count(format!("read as {}", message.version.short()));
                for (what, holds) in traits(&message) {
                    if holds {
                        count(format!("  {what}"));
                    }
                }
                for note in &message.notes {
                    assert!(note.rule.is_some() && note.expression.is_some(), "{}: {note:?}", file.display());
                    count(format!("  note {}", note.rule.as_deref().unwrap_or_default()));
                }
            }
            Err(issues) => {
                for issue in issues {
                    assert!(issue.rule.is_some(), "{}: {issue:?}", file.display());
                    let at = issue.expression.as_deref().unwrap_or("-");
                    let rule = issue.rule.as_deref().unwrap_or_default();
                    println!("{} {rule} {at} {:?} {}", file.display(), issue.position, issue.diagnostics);
                    count(format!("refused by {rule}"));
                }
            }
        }
    }
    for (what, number) in &counts {
        println!("{number:6} {what}");
    }
    assert!(!files.is_empty());
}

fn traits(message: &Message) -> [(&'static str, bool); 8] {
    let header = &message.header;
    let focus = |wanted: fn(Resolved<'_>) -> bool| header.focus.iter().any(|focus| wanted(message.resolve(focus)));
    [
        ("without event", header.event.is_none()),
        ("without source endpoint", header.source_endpoint.is_none()),
        ("without identity", !message.has_identity()),
        ("with a response", header.response.is_some()),
        ("focus found leniently", focus(|found| matches!(found, Resolved::Found(_, true)))),
        ("focus ambiguous", focus(|found| found == Resolved::Ambiguous)),
        ("focus missing", focus(|found| found == Resolved::Missing)),
        ("with a subject", message.subject_key().is_some()),
    ]
}
