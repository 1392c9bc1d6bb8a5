//! Reads the answer to a message: a verdict, and for a failure its reason.

use crate::cli::table;
use bytes::Bytes;
use fhir::{FhirVersion, Format, format};
use serde_json::Value;

/// Longest quote of an answer's diagnostics in a line.
const DIAGNOSTICS_LIMIT_CHARS: usize = 400;

/// The result of sending one message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// A response message, by its code (MSG-35).
    Ok,
    TransientError,
    FatalError,
    /// 200 or 204 without a message, or confirmed by a broker with --async.
    Taken,
    /// 202: the endpoint has stored it, and the answer comes later.
    Custody,
    /// A broker has it, but the answer did not come within the timeout.
    Unanswered,
    /// 2xx with a body that is not an answer to a message.
    NotUnderstood,
    Refused(u16),
    /// Refused by a broker, or by the system behind it.
    Declined,
    /// No connection, or it was lost, or no answer within the timeout.
    Unreachable,
    /// The file could not be read; nothing was sent.
    Unreadable,
}

impl Verdict {
    pub fn is_success(&self) -> bool {
        matches!(self, Verdict::Ok | Verdict::Taken | Verdict::Custody | Verdict::Unanswered)
    }

    /// Its name in the summary.
    pub fn name(&self) -> String {
        match self {
            Verdict::Ok => "ok".into(),
            Verdict::TransientError => "transient-error".into(),
            Verdict::FatalError => "fatal-error".into(),
            Verdict::Taken => "taken".into(),
            Verdict::Custody => "in custody (202)".into(),
            Verdict::Unanswered => "in custody (no answer in time)".into(),
            Verdict::NotUnderstood => "not understood".into(),
            Verdict::Refused(status) => format!("refused with {status}"),
            Verdict::Declined => "refused".into(),
            Verdict::Unreachable => "unreachable".into(),
            Verdict::Unreadable => "unreadable".into(),
        }
    }

    /// The response code, if the answer is a response message.
    pub fn response_code(&self) -> Option<String> {
        matches!(self, Verdict::Ok | Verdict::TransientError | Verdict::FatalError).then(|| self.name())
    }
}

/// Reads an answer. For a failure the text has the diagnostics of the first error.
pub fn read(status: u16, body: &[u8]) -> (Verdict, Option<String>) {
    let document = document(body);
    let verdict = verdict(status, body, &document);
    let diagnostics = if verdict.is_success() { None } else { diagnostics(&document) };
    (verdict, diagnostics)
}

/// Reads an answer that came through a broker. There, an OperationOutcome instead of a message is a refusal, even if it
/// cannot be read: `is_outcome` says that the property `type` names one.
pub fn read_reply(is_outcome: bool, body: &[u8]) -> (Verdict, Option<String>) {
    let document = document(body);
    if is_outcome || document["resourceType"] == "OperationOutcome" {
        return (Verdict::Declined, diagnostics(&document));
    }
    read(200, body)
}

/// The body as JSON, whatever its media type; null if it is neither JSON nor XML.
fn document(body: &[u8]) -> Value {
    let json = match Format::detect(body) {
        Format::Json => None,
        Format::Xml => {
            let read = format::read(Bytes::copy_from_slice(body), Format::Xml, None, None);
            read.and_then(|tree| format::write(&tree, Format::Json, FhirVersion::R4)).ok()
        }
    };
    let json = json.as_deref().unwrap_or(body);
    serde_json::from_slice(json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json)).unwrap_or(Value::Null)
}

fn verdict(status: u16, body: &[u8], document: &Value) -> Verdict {
    if status == 202 {
        return Verdict::Custody;
    }
    if !(200..300).contains(&status) {
        return Verdict::Refused(status);
    }
    let response = document.pointer("/entry/0/resource/response/code").and_then(Value::as_str);
    match (document["resourceType"].as_str(), response) {
        (Some("Bundle"), Some("ok")) => Verdict::Ok,
        (Some("Bundle"), Some("transient-error")) => Verdict::TransientError,
        (Some("Bundle"), Some("fatal-error")) => Verdict::FatalError,
        (Some("OperationOutcome"), _) => Verdict::Taken,
        _ if body.trim_ascii().is_empty() => Verdict::Taken,
        _ => Verdict::NotUnderstood,
    }
}

/// The first error of the OperationOutcome that is the answer or an entry of it; else the first issue.
fn diagnostics(document: &Value) -> Option<String> {
    let resources = document["entry"].as_array().into_iter().flatten().map(|entry| &entry["resource"]);
    let outcome = std::iter::once(document).chain(resources).find(|it| it["resourceType"] == "OperationOutcome")?;
    let issues = outcome["issue"].as_array()?;
    let is_error = |issue: &&Value| matches!(issue["severity"].as_str(), Some("error" | "fatal"));
    let issue = issues.iter().find(is_error).or_else(|| issues.first())?;
    let texts = [&issue["diagnostics"], &issue["details"]["text"], &issue["code"]];
    let text = texts.into_iter().find_map(Value::as_str)?;
    Some(table::plain(&text.chars().take(DIAGNOSTICS_LIMIT_CHARS).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_kind_of_answer_has_its_verdict() {
        let message = |code: &str| {
            json!({"resourceType": "Bundle", "type": "message", "entry": [
                {"resource": {"resourceType": "MessageHeader", "response": {"code": code}}},
                {"resource": {"resourceType": "OperationOutcome", "issue": [
                    {"severity": "warning", "code": "value", "diagnostics": "a hint"},
                    {"severity": "error", "code": "value", "diagnostics": "the\nreason"}]}}]})
            .to_string()
        };
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "login"}]});
        let outcome = outcome.to_string();
        for (status, body, verdict, said) in [
            (200, message("ok"), Verdict::Ok, None),
            (200, message("transient-error"), Verdict::TransientError, Some("the reason")),
            (200, message("fatal-error"), Verdict::FatalError, Some("the reason")),
            (200, outcome.clone(), Verdict::Taken, None),
            (200, " ".into(), Verdict::Taken, None),
            (204, String::new(), Verdict::Taken, None),
            (202, outcome.clone(), Verdict::Custody, None),
            (200, "<html/>".into(), Verdict::NotUnderstood, None),
            (200, message("perhaps"), Verdict::NotUnderstood, Some("the reason")),
            (302, String::new(), Verdict::Refused(302), None),
            (401, outcome, Verdict::Refused(401), Some("login")),
        ] {
            assert_eq!(read(status, body.as_bytes()), (verdict, said.map(String::from)), "{status} {body}");
        }
    }

    #[test]
    fn an_answer_is_read_in_either_format() {
        let message = |code: &str| {
            let header = format!(
                "<MessageHeader><eventUri value=\"urn:e\"/><source><endpoint value=\"urn:s\"/></source>\
                 <response><identifier value=\"1\"/><code value=\"{code}\"/></response></MessageHeader>"
            );
            format!(
                "<?xml version=\"1.0\"?><Bundle xmlns=\"http://hl7.org/fhir\"><type value=\"message\"/>\
                 <entry><resource>{header}</resource></entry></Bundle>"
            )
        };
        let outcome = "<OperationOutcome xmlns=\"http://hl7.org/fhir\"><issue><severity value=\"error\"/>\
                       <code value=\"login\"/><diagnostics value=\"who are you\"/></issue></OperationOutcome>";
        for (status, body, verdict, said) in [
            (200, message("ok"), Verdict::Ok, None),
            (200, message("fatal-error"), Verdict::FatalError, None),
            (200, format!("\u{feff}{}", message("ok")), Verdict::Ok, None),
            (200, outcome.to_owned(), Verdict::Taken, None),
            (401, outcome.to_owned(), Verdict::Refused(401), Some("who are you")),
            (200, "<html><body/></html>".to_owned(), Verdict::NotUnderstood, None),
            (200, "\u{feff}{\"resourceType\":\"OperationOutcome\"}".to_owned(), Verdict::Taken, None),
        ] {
            assert_eq!(read(status, body.as_bytes()), (verdict, said.map(String::from)), "{status} {body}");
        }
    }

    #[test]
    fn an_outcome_that_came_through_a_broker_is_a_refusal() {
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "error", "code": "structure", "diagnostics": "not readable"}]});
        let message = json!({"resourceType": "Bundle", "entry": [{"resource": {"response": {"code": "ok"}}}]});
        let said = Some("not readable".to_owned());
        for (is_outcome, body, expected) in [
            (true, outcome.to_string(), (Verdict::Declined, said.clone())),
            (false, outcome.to_string(), (Verdict::Declined, said)),
            (true, "<OperationOutcome/>".into(), (Verdict::Declined, None)),
            (false, message.to_string(), (Verdict::Ok, None)),
            (false, "<Bundle/>".into(), (Verdict::NotUnderstood, None)),
            (false, String::new(), (Verdict::Taken, None)),
        ] {
            assert_eq!(read_reply(is_outcome, body.as_bytes()), expected, "{is_outcome} {body}");
        }
    }
}
