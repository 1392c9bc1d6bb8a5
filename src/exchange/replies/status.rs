//! The status URL: the progress of a request, and at the end a batch-response Bundle with what the synchronous call would have
//! returned (ASY-21, 22).

use super::{Refusal, Replies, UnwantedAnswer, is_taken, unwanted};
use crate::delivery::{DeliveryState, MessageState, Metadata, ReplyTo};
use crate::fault::Fault;
use crate::offload::offload;
use crate::outcome::{Issue, IssueCode, Outcome};
use crate::store::{DeliveryStatus, MessageStatus, Unavailable};
use fhir::format::convert;
use fhir::{FhirVersion, Format};
use serde_json::{Value, json};
use uuid::Uuid;

/// What the status URL returns.
pub enum StatusPage {
    /// In progress: `done` of `all` receivers have answered or ended.
    Open {
        done: usize,
        all: usize,
        /// What receivers that accepted the message, but have not answered yet, reported about it: an OperationOutcome, JSON.
        reported: Option<Vec<u8>>,
    },
    /// The batch-response Bundle, JSON, and the version of the request.
    Done { bytes: Vec<u8>, version: Option<FhirVersion> },
    /// Unknown, expired, ended, or of another participant.
    Unknown,
}

impl Replies {
    /// `requester`: id of the participant that asks; None on open loopback, which may see all.
    pub async fn status(&self, id: Uuid, requester: Option<&str>) -> Result<StatusPage, Unavailable> {
        let Some(status) = self.owned(id, requester).await? else { return Ok(StatusPage::Unknown) };
        let (done, all) = progress(&status);
        if done < all {
            return Ok(StatusPage::Open { done, all, reported: reported_so_far(&status) });
        }
        let mut entries = Vec::with_capacity(all);
        if let Some(key) = status.router_answer {
            entries.push(self.entry_of_answer(&status.metadata, key).await?);
        }
        for delivery in &status.deliveries {
            entries.push(match delivery.answer {
                Some(key) => self.entry_of_answer(&status.metadata, key).await?,
                None => entry_without_answer(delivery),
            });
        }
        let head = r#"{"resourceType":"Bundle","type":"batch-response","entry":["#;
        let bytes = format!("{head}{}]}}", entries.join(",")).into_bytes();
        Ok(StatusPage::Done { bytes, version: status.metadata.version })
    }

    /// Ends the status URL; false if there is none. Deliveries in progress go on (ASY-42).
    pub async fn end_status(&self, id: Uuid, requester: Option<&str>) -> Result<bool, Unavailable> {
        match self.owned(id, requester).await? {
            Some(_) => self.store.end_status(id).await,
            None => Ok(false),
        }
    }

    async fn owned(&self, id: Uuid, requester: Option<&str>) -> Result<Option<MessageStatus>, Unavailable> {
        let status = self.store.message_status(id).await?;
        Ok(status.filter(|status| {
            status.state == MessageState::Accepted
                && !status.status_ended
                && status.metadata.reply_to != ReplyTo::Nobody
                && requester.is_none_or(|requester| requester == status.metadata.sender)
        }))
    }

    async fn entry_of_answer(&self, request: &Metadata, key: i64) -> Result<String, Unavailable> {
        let Some((metadata, bytes)) = self.store.content(key).await? else {
            let text = "The answer's content is no longer stored";
            let outcome: Outcome = Issue::error(IssueCode::NotFound, Fault::RouteNotFound, text).into();
            return Ok(json!({"response": {"status": "404 Not Found", "outcome": outcome.to_resource()}}).to_string());
        };
        let code = metadata.response.as_ref().and_then(|response| response.code);
        if let Some(unwanted) = unwanted(request.owed, code) {
            return Ok(entry_of_unwanted(&unwanted));
        }
        // JSON stays unchanged and XML is converted, so that numbers and texts stay as the receiver wrote them.
        let version = metadata.version.unwrap_or(FhirVersion::R4);
        let Ok(bytes) = offload(bytes.len(), || convert(bytes, Format::Json, version)) else {
            let text = "The answer is XML that cannot be converted to JSON; ask an operator for its content";
            let outcome: Outcome = Issue::error(IssueCode::NotSupported, Fault::RouteConversion, text).into();
            return Ok(json!({"response": {"status": "200 OK", "outcome": outcome.to_resource()}}).to_string());
        };
        let resource = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes));
        Ok(format!(r#"{{"resource":{resource},"response":{{"status":"200 OK"}}}}"#))
    }
}

/// As in the synchronous call: a status, without the message that the sender does not want.
fn entry_of_unwanted(unwanted: &UnwantedAnswer) -> String {
    let entry = match unwanted {
        UnwantedAnswer::Silent => json!({"response": {"status": "202 Accepted"}}),
        UnwantedAnswer::Failure(refusal, outcome) => {
            let status = match refusal {
                Refusal::Unavailable | Refusal::NoStore => "503 Service Unavailable",
                _ => "422 Unprocessable Content",
            };
            json!({"response": {"status": status, "outcome": outcome.to_resource()}})
        }
    };
    entry.to_string()
}

fn reported_so_far(status: &MessageStatus) -> Option<Vec<u8>> {
    let mut issues = Vec::new();
    for outcome in status.deliveries.iter().filter_map(reported) {
        issues.extend(outcome["issue"].as_array().into_iter().flatten().cloned());
    }
    let outcome = json!({ "resourceType": "OperationOutcome", "issue": issues });
    (!issues.is_empty()).then(|| outcome.to_string().into_bytes())
}

fn progress(status: &MessageStatus) -> (usize, usize) {
    let own = usize::from(status.router_answer.is_some());
    let complete = status.deliveries.iter().filter(|delivery| is_complete(&status.metadata, delivery)).count();
    (own + complete, own + status.deliveries.len())
}

fn is_complete(metadata: &Metadata, delivery: &DeliveryStatus) -> bool {
    match delivery.state {
        DeliveryState::Waiting | DeliveryState::Active => false,
        DeliveryState::Delivered => is_taken(metadata, delivery),
        DeliveryState::Answered | DeliveryState::Dead | DeliveryState::Discarded => true,
    }
}

/// What the receiver reported about the message when it accepted it, as an OperationOutcome.
fn reported(delivery: &DeliveryStatus) -> Option<Value> {
    let issues: Value = serde_json::from_str(delivery.receiver_issues.as_deref()?).ok()?;
    Some(json!({ "resourceType": "OperationOutcome", "issue": issues }))
}

fn entry_without_answer(delivery: &DeliveryStatus) -> String {
    let mut entry = match (delivery.state, delivery.fault) {
        (DeliveryState::Dead | DeliveryState::Discarded, fault) => {
            let fault = fault.unwrap_or(Fault::RecvRefused);
            let outcome: Outcome = Issue::error(IssueCode::Processing, fault, fault.cause()).into();
            json!({"response": {"status": "422 Unprocessable Content", "outcome": outcome.to_resource()}})
        }
        _ if matches!(delivery.status, Some(202) | None) => json!({"response": {"status": "202 Accepted"}}),
        _ => json!({"response": {"status": "204 No Content"}}),
    };
    if let Some(outcome) = reported(delivery)
        && entry["response"]["outcome"].is_null()
    {
        entry["response"]["outcome"] = outcome;
    }
    entry.to_string()
}
