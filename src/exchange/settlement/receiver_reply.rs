//! Interprets the body of a receiver's 2xx: an answer, an OperationOutcome, something else, or a failed attempt.
//!
//! A 2xx means that the receiver has the message, whatever the body says. There are two exceptions: a web page comes from a
//! proxy (a login or maintenance page), and an answer to another message is not about this one.

use super::Settler;
use super::answer_rules::{disallowed_response, is_transient};
use super::correlation::is_addressed_elsewhere;
use crate::answer::printable;
use crate::delivery::{DeliveryKind, MessageState, Metadata, NewMessage, PendingDelivery, ReplyTo};
use crate::exchange::Rules;
use crate::exchange::intake::fill_metadata;
use bytes::Bytes;
use fhir::Cause;
use fhir::{FhirVersion, Format, Message, format};
use serde_json::Value;

/// At most this many issues of a receiver's OperationOutcome, and bytes of them as JSON, are stored and passed on.
const RECEIVER_ISSUES_LIMIT: usize = 50;
const RECEIVER_ISSUES_LIMIT_BYTES: usize = 64 * 1024;
/// Tags that begin a web page without a doctype (WHATWG MIME Sniffing, 7.1).
const PAGE_TAGS: [&str; 18] = [
    "html", "head", "script", "iframe", "h1", "div", "font", "table", "a", "style", "title", "b", "body", "br", "p",
    "meta", "center", "form",
];

pub(super) enum ReceiverReply {
    /// It accepted the message, and its body is an OperationOutcome without errors or not expected to be read.
    Accepted,
    /// It accepted the message and reported errors about it: the issues.
    Reported(Vec<Value>),
    Answer(Box<NewMessage>),
    /// It accepted the message; why its body is ignored.
    NotFhir(&'static str),
    /// The attempt failed, and why.
    Failed(&'static str),
}

impl Settler {
    /// Interprets the body of a 2xx (MSG-37, MSG-90).
    pub(super) fn interpret(
        &self,
        pending: &PendingDelivery,
        bytes: Bytes,
        media_type: &str,
        rules: &Rules,
    ) -> ReceiverReply {
        let format = Format::detect(&bytes);
        let read = format::read(bytes.clone(), format, None, pending.metadata.version);
        let Ok(tree) = read else {
            return match is_page(&bytes, media_type) {
                true => ReceiverReply::Failed("the answer is a web page, not the receiver's"),
                false => ReceiverReply::NotFhir("its answer is neither readable JSON nor XML"),
            };
        };
        let resource_type = tree.root().get("resourceType").and_then(|name| name.text());
        match resource_type.as_deref() {
            Some("OperationOutcome") => {
                let issues = receiver_issues(&bytes, pending.metadata.version);
                return if issues.iter().any(is_error) {
                    ReceiverReply::Reported(issues)
                } else {
                    ReceiverReply::Accepted
                };
            }
            None => return ReceiverReply::NotFhir("its answer is not a FHIR resource"),
            // The reply to a delivered answer is not interpreted (MSG-41).
            Some(_) if !may_be_answered(pending) => return ReceiverReply::Accepted,
            Some("Bundle") => {}
            Some(_) => return ReceiverReply::NotFhir("its answer is a resource that answers nothing"),
        }
        // The request's version is only expected: the receiver may answer in another one.
        let read = Message::read_within(tree, None, pending.metadata.version, Some(self.settings.bounds));
        let message = match read {
            Ok(message) => message,
            Err(issues) if issues.iter().any(|issue| issue.cause == Cause::Limit) => {
                let why = "an address, identifier, or list of destinations of the answer is beyond our limits";
                return ReceiverReply::Failed(why);
            }
            Err(_) => return ReceiverReply::NotFhir("its answer is a Bundle that is not a message"),
        };
        let Some(response) = message.header.response.as_ref() else {
            return ReceiverReply::NotFhir("its answer is a message without MessageHeader.response");
        };
        let identifier = response.identifier.as_ref().map(|identifier| identifier.value.as_str());
        if !identifier.is_some_and(|identifier| pending.metadata.is_named_by(identifier)) {
            return ReceiverReply::Failed("response.identifier of the answer names another request");
        }
        let answer = self.answer_to_store(&message, pending, bytes, format.media_type().to_owned(), rules);
        if is_addressed_elsewhere(&answer.metadata, &pending.metadata, &pending.participant, &rules.table) {
            return ReceiverReply::Failed("the answer is addressed to another participant than the one that asked");
        }
        ReceiverReply::Answer(Box::new(answer))
    }

    /// The record of an answer. Its own issues do not hold it back; they are stored with it.
    fn answer_to_store(
        &self,
        message: &Message,
        pending: &PendingDelivery,
        bytes: Bytes,
        media_type: String,
        rules: &Rules,
    ) -> NewMessage {
        let now_us = self.clock.now_us();
        let writer = rules.table.participant(&pending.participant).map(|known| &**known);
        let validation = self.intake.validate(message, writer, rules);
        let disallowed = disallowed_response(&pending.metadata, &validation, message.header.event.as_ref(), rules);
        let mut issues = validation.issues;
        issues.extend(disallowed);
        let mut metadata = Metadata {
            id: self.clock.new_id(),
            sender: pending.participant.to_string(),
            media_type,
            size_bytes: bytes.len() as u64,
            reply_to: ReplyTo::Nobody,
            in_reply_to: Some(pending.metadata.id),
            request_format: pending.metadata.request_format(),
            owed: None,
            category: None,
            definition: message.header.definition.clone(),
            via: None,
            received_at_us: now_us,
            checked_at_us: Some(now_us),
            planned_at_us: None,
            ..(*pending.metadata).clone()
        };
        fill_metadata(&mut metadata, message);
        let transient = is_transient(&metadata);
        NewMessage {
            metadata,
            state: MessageState::Accepted,
            bytes,
            outcome: (!issues.is_empty()).then(|| issues.into()),
            identity: message.identity(),
            deliveries: Vec::new(),
            answer: None,
            closes: None,
            further: None,
            assigns: None,
            releases_request: transient && pending.kind == DeliveryKind::Request,
        }
    }
}

/// Whether a reply to this delivery may be an answer: answers themselves are never answered (MSG-41).
fn may_be_answered(pending: &PendingDelivery) -> bool {
    pending.metadata.response.is_none() && matches!(pending.kind, DeliveryKind::Request | DeliveryKind::Replay { .. })
}

/// The issues of a receiver's OperationOutcome, JSON or XML, unchanged; empty if it is something else.
pub(super) fn receiver_issues(bytes: &Bytes, version: Option<FhirVersion>) -> Vec<Value> {
    let Ok(json) = format::convert(bytes.clone(), Format::Json, version.unwrap_or(FhirVersion::R4)) else {
        return Vec::new();
    };
    let json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&json);
    let Ok(mut outcome) = serde_json::from_slice::<Value>(json) else { return Vec::new() };
    if outcome["resourceType"] != "OperationOutcome" {
        return Vec::new();
    }
    let Some(Value::Array(issues)) = outcome.get_mut("issue").map(Value::take) else { return Vec::new() };
    let mut bytes_left = RECEIVER_ISSUES_LIMIT_BYTES;
    let fits = |issue: &Value| {
        let size = issue.to_string().len();
        let fits = size <= bytes_left;
        bytes_left = bytes_left.saturating_sub(size);
        fits
    };
    // Errors first, so that no number of warnings crowds them out.
    let (errors, others): (Vec<Value>, Vec<Value>) = issues.into_iter().partition(is_error);
    errors.into_iter().chain(others).take(RECEIVER_ISSUES_LIMIT).filter(fits).map(printable).collect()
}

fn is_error(issue: &Value) -> bool {
    matches!(issue["severity"].as_str(), Some("error" | "fatal"))
}

/// Whether a body that is not FHIR is a web page. The media type alone does not show it: common frameworks label any text
/// `text/html`.
fn is_page(bytes: &[u8], media_type: &str) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = after_prolog(text);
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let is_labeled_page =
        ["text/html", "application/xhtml+xml"].iter().any(|known| essence.eq_ignore_ascii_case(known));
    match text {
        [b'<', rest @ ..] => is_labeled_page || begins_page(rest),
        _ => false,
    }
}

/// The text after white space, comments, and an XML declaration.
fn after_prolog(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let ending = match text {
            [b'<', b'!', b'-', b'-', ..] => &b"-->"[..],
            [b'<', b'?', ..] => b"?>",
            _ => return text,
        };
        let Some(end) = memchr::memmem::find(text, ending) else { return text };
        text = &text[end + ending.len()..];
    }
}

/// `text`: what follows the first `<`.
fn begins_page(text: &[u8]) -> bool {
    let word = |text: &[u8], wanted: &str| {
        let end = text.get(wanted.len()).copied();
        text.get(..wanted.len()).is_some_and(|start| start.eq_ignore_ascii_case(wanted.as_bytes()))
            && end.is_none_or(|end| end.is_ascii_whitespace() || end == b'>' || end == b'/')
    };
    match text {
        [b'!', rest @ ..] => {
            rest.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"doctype"))
                && word(rest[7..].trim_ascii_start(), "html")
        }
        _ => PAGE_TAGS.iter().any(|tag| word(text, tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_is_known_by_its_text_and_not_by_its_media_type_alone() {
        const HTML: &str = "text/html; charset=utf-8";
        for (body, media_type, wanted) in [
            ("<!DOCTYPE html><html><body>Log in</body></html>", HTML, true),
            ("<!doctype HTML PUBLIC \"-//W3C//DTD HTML 4.01//EN\">", "", true),
            ("\u{feff} \n<HTML lang=en>", "application/json", true),
            ("<?xml version=\"1.0\"?><!-- maintenance --><!DOCTYPE html><html/>", "application/xml", true),
            ("<html xmlns=\"http://www.w3.org/1999/xhtml\"/>", "application/fhir+xml", true),
            ("<h1>502 Bad Gateway</h1>", "", true),
            ("<center>closed</center>", "text/plain", true),
            ("<status>ok</status>", "Text/HTML", true),
            ("<status>ok</status>", "application/xml", false),
            ("<htmlish/>", "application/xml", false),
            ("<!-- unended", "", false),
            ("<!DOCTYPE htmlish>", "", false),
            ("OK", HTML, false),
            ("{\"status\":\"accepted\"}", HTML, false),
            ("", HTML, false),
        ] {
            assert_eq!(is_page(body.as_bytes(), media_type), wanted, "{body} as {media_type}");
        }
    }

    #[test]
    fn issues_are_read_in_both_formats_and_bounded_with_errors_first() {
        let issues = |text: &str| receiver_issues(&Bytes::from(text.to_owned()), None);
        let json = r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"value"}]}"#;
        let xml = r#"<OperationOutcome xmlns="http://hl7.org/fhir"><issue><severity value="error"/><code value="value"/></issue></OperationOutcome>"#;
        for text in [json.to_owned(), format!("\u{feff}{json}"), xml.to_owned(), format!("\u{feff}{xml}")] {
            let found = issues(&text);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!((&found[0]["severity"], &found[0]["code"]), (&"error".into(), &"value".into()), "{text}");
        }
        for text in ["", "no", "null", "[]", r#"{"issue":[{"severity":"error"}]}"#, r#"{"resourceType":"Patient"}"#] {
            assert!(issues(text).is_empty(), "{text}");
        }
        let remark = r#"{"severity":"information"},"#.repeat(60);
        let many = format!(r#"{{"resourceType":"OperationOutcome","issue":[{remark}{{"severity":"fatal"}}]}}"#);
        let found = issues(&many);
        assert_eq!((found.len(), &found[0]["severity"]), (RECEIVER_ISSUES_LIMIT, &"fatal".into()));
        let long = format!(r#"{{"severity":"error","diagnostics":"{}"}},"#, "x".repeat(40_000)).repeat(3);
        let long = format!(r#"{{"resourceType":"OperationOutcome","issue":[{long}{{"severity":"error"}}]}}"#);
        assert_eq!(issues(&long).len(), 1, "64 KiB permit one of them, and nothing behind the second");
    }
}
