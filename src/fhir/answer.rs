//! The answers that Emberpost itself writes: response messages in R4 and R5 form (MSG-36 to MSG-38, design 2.2).

use super::event::{Event, Identifier, ResponseCode};
use super::outcome::Outcome;
use super::version::FhirVersion;
use serde_json::Value;
use uuid::Uuid;

/// What an answer is made of; all ids and the time come from the caller.
#[derive(Clone, Debug)]
pub struct OwnAnswer<'a> {
    pub version: FhirVersion,
    pub bundle_id: Uuid,
    pub header_id: Uuid,
    /// UTC microseconds since 1970, for Bundle.timestamp.
    pub now_us: i64,
    /// Our address, the answer's source.
    pub base_url: &'a str,
    /// The request's source, the answer's destination.
    pub destination: Option<&'a str>,
    /// The single allowed response's event, else the request's.
    pub event: Option<&'a Event>,
    /// Canonical of the response definition, where there is one.
    pub definition: Option<&'a str>,
    pub request_header_id: Option<&'a str>,
    pub request_bundle_id: Option<&'a str>,
    pub request_identifier: Option<&'a Identifier>,
    pub code: ResponseCode,
    pub outcome: Option<&'a Outcome>,
    /// The data of a pull event's answer.
    pub focus: Option<Value>,
}

impl OwnAnswer<'_> {
    /// The response message's bytes, JSON.
    pub fn write(&self) -> Vec<u8> {
        Vec::new()
    }
}
