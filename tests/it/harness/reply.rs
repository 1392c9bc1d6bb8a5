//! A reply over HTTP, and what tests ask of one.

use bytes::Bytes;
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Status, headers and the whole body.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// Reads a response to its end.
    pub async fn of(response: reqwest::Response) -> Reply {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.expect("the reply ends before its body does");
        Reply { status, headers, body }
    }

    /// A header's text, if it is there once at least.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header is not text"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is not.
    pub fn json(&self) -> Value {
        let unreadable = |error| panic!("{error}: status {}, body {:?}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(unreadable)
    }

    /// `MessageHeader.response.code` of a response message.
    pub fn response_code(&self) -> Option<String> {
        let code = self.message_header()?.pointer("/response/code")?.as_str()?.to_owned();
        Some(code)
    }

    /// `MessageHeader.response.identifier`: the id in R4, the Identifier's value in R5.
    pub fn response_identifier(&self) -> Option<String> {
        let header = self.message_header()?;
        let identifier = header.pointer("/response/identifier")?;
        Some(identifier.as_str().or_else(|| identifier["value"].as_str())?.to_owned())
    }

    /// The MessageHeader of a message; `None` when the body is something else.
    pub fn message_header(&self) -> Option<Value> {
        let bundle: Value = serde_json::from_slice(&self.body).ok()?;
        let header = bundle.pointer("/entry/0/resource")?;
        (bundle["type"] == "message" && header["resourceType"] == "MessageHeader").then(|| header.clone())
    }

    /// All issues: of an OperationOutcome that is the body, or of those in the body's Bundle.
    pub fn issues(&self) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let entries = body["entry"].as_array().cloned().unwrap_or_default();
        let resources = entries.into_iter().map(|entry| entry["resource"].clone()).chain([body]);
        let outcomes = resources.filter(|resource| resource["resourceType"] == "OperationOutcome");
        outcomes.flat_map(|outcome| outcome["issue"].as_array().cloned().unwrap_or_default()).collect()
    }

    /// `issue.code` of every issue.
    pub fn issue_codes(&self) -> Vec<String> {
        self.issues().iter().filter_map(|issue| Some(issue["code"].as_str()?.to_owned())).collect()
    }

    /// The codes of `urn:emberpost:fault`, in the issues' order.
    pub fn faults(&self) -> Vec<String> {
        let codings = self.issues().into_iter().flat_map(|issue| issue["details"]["coding"].as_array().cloned());
        let faults = codings.flatten().filter(|coding| coding["system"] == "urn:emberpost:fault");
        faults.filter_map(|coding| Some(coding["code"].as_str()?.to_owned())).collect()
    }

    /// A success without an answer: no body, or the OperationOutcome (information) that a FHIR client gets instead.
    pub fn is_plain_success(&self) -> bool {
        let issues = self.issues();
        let informs = !issues.is_empty() && issues.iter().all(|issue| issue["severity"] == "information");
        matches!(self.status, 200 | 202 | 204) && (self.body.is_empty() || informs)
    }

    /// The same reply, or a panic that shows what came instead.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "body: {}", self.text());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Sample, script::answer_to};

    fn reply(body: impl Into<Bytes>) -> Reply {
        Reply { status: 200, headers: HeaderMap::new(), body: body.into() }
    }

    #[test]
    fn the_codes_of_an_answer_are_found() {
        let request = Sample::new();
        let answer = reply(answer_to(&request.bytes(), "fatal-error"));
        assert_eq!(answer.response_code().as_deref(), Some("fatal-error"));
        assert_eq!(answer.response_identifier(), Some(request.header_id()));
        let request = Sample::new().r5();
        let answer = reply(answer_to(&request.bytes(), "ok"));
        assert_eq!(answer.response_identifier(), Some(request.identifier_value()));
    }

    #[test]
    fn the_faults_of_an_outcome_are_found_alone_and_in_a_message() {
        let outcome = r#"{"resourceType":"OperationOutcome","issue":[{"code":"not-found","details":{"coding":[{"system":"urn:emberpost:fault","code":"SEND_X"}]}}]}"#;
        let message = format!(r#"{{"resourceType":"Bundle","type":"message","entry":[{{"resource":{outcome}}}]}}"#);
        for body in [outcome.to_owned(), message] {
            let reply = reply(body);
            assert_eq!(reply.faults(), ["SEND_X"]);
            assert_eq!(reply.issue_codes(), ["not-found"]);
        }
        assert!(reply("no JSON").faults().is_empty());
    }
}
