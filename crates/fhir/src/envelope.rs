//! Checks whether a document is a message: a Bundle of type message whose first entry is a MessageHeader.
//!
//! Reports everything that is wrong at once. The content of the message is checked by `message` and `validation`.

use super::cause::Cause;
use super::issue::{Issue, IssueCode};
use super::resolve::entries;
use super::tree::{Node, Tree};
use std::borrow::Cow;

/// Every reason why the document is not a message Bundle (MSG-01, MSG-02, MSG-83); empty if it is one.
pub(super) fn check(tree: &Tree) -> Vec<Issue> {
    let root = tree.root();
    if !root.is_object() {
        let text =
            "The body is JSON but not a FHIR resource, because it is not an object; send one Bundle of type message";
        return vec![issue(IssueCode::Structure, text, "MSG-01", "$this", Some(root))];
    }
    let resource_type = root.get("resourceType");
    let name = resource_type.and_then(Node::text);
    match name.as_deref() {
        Some("Bundle") => {}
        Some("Parameters") => {
            let text = "$process-message takes the message Bundle itself as its body, not Parameters around it";
            return vec![issue(IssueCode::Structure, text, "MSG-83", "Parameters", resource_type)];
        }
        Some(name) if !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphabetic()) => {
            let text = "The body is a resource of another type; a message is a Bundle of type message";
            return vec![issue(IssueCode::Structure, text, "MSG-01", name, resource_type)];
        }
        _ => {
            let text = "The body is JSON but not a FHIR resource, because it has no resourceType; send one Bundle of type message";
            return vec![issue(IssueCode::Structure, text, "MSG-01", "$this", resource_type.or(Some(root)))];
        }
    }
    bundle_type(root).into_iter().chain(first_entry(tree)).collect()
}

fn bundle_type(root: Node<'_>) -> Option<Issue> {
    let node = root.get("type");
    let (code, text) = match node.map(|node| (node, node.text())) {
        Some((_, Some(text))) if text == "message" => return None,
        Some((_, Some(_))) => (IssueCode::Value, "The Bundle is of another type; a message has type \"message\""),
        Some((node, None)) if node.tree.is_xml() => {
            (IssueCode::Structure, "Bundle.type must have the attribute value; a message has type \"message\"")
        }
        Some((_, None)) => (IssueCode::Structure, "Bundle.type must be a string; a message has type \"message\""),
        None => (IssueCode::Required, "The Bundle has no type; a message has type \"message\""),
    };
    Some(issue(code, text, "MSG-01", "Bundle.type", node))
}

fn first_entry(tree: &Tree) -> Option<Issue> {
    let Some(list) = tree.root().get("entry") else {
        let text = "The Bundle has no entries; the first entry of a message holds its MessageHeader";
        return Some(issue(IssueCode::Required, text, "MSG-02", "Bundle.entry", None));
    };
    if !list.is_array() {
        let text = "Bundle.entry must be an array; its first entry holds the MessageHeader";
        return Some(issue(IssueCode::Structure, text, "MSG-02", "Bundle.entry", Some(list)));
    }
    let Some(first) = list.items().next() else {
        let text = "The Bundle has no entries; the first entry of a message holds its MessageHeader";
        return Some(issue(IssueCode::Required, text, "MSG-02", "Bundle.entry", Some(list)));
    };
    if is_header(first) {
        return None;
    }
    let at = "Bundle.entry[0].resource";
    let resource = first.get("resource");
    let text = match entries(tree).position(is_header) {
        Some(index) => format!("The MessageHeader is in Bundle.entry[{index}]; it must be the first entry"),
        None if !first.is_object() => "The first entry must be an object that holds the MessageHeader".to_owned(),
        None if resource.is_none() => "The first entry has no resource; it must hold the MessageHeader".to_owned(),
        None => "The Bundle has no MessageHeader; the first entry of a message must hold it".to_owned(),
    };
    Some(issue(IssueCode::Structure, text, "MSG-02", at, resource.or(Some(first))))
}

fn is_header(entry: Node<'_>) -> bool {
    let name = entry.get("resource").and_then(|resource| resource.get("resourceType")).and_then(Node::text);
    name.as_deref() == Some("MessageHeader")
}

fn issue(
    code: IssueCode,
    text: impl Into<Cow<'static, str>>,
    rule: &'static str,
    at: &str,
    node: Option<Node<'_>>,
) -> Issue {
    let issue = Issue::error(code, Cause::NotMessage, text).rule(rule).at(at);
    match node.map(Node::position) {
        Some((line, column)) => issue.position(line, column),
        None => issue,
    }
}
