//! MessageHeader in R4 and R5 spelling, read into one type.

use super::event::{Event, Identifier, ResponseCode, ResponseRequired};

#[derive(Clone, Debug, Default)]
pub struct MessageHeader {
    pub id: Option<String>,
    pub event: Option<Event>,
    /// R4 `source.endpoint`, R5 `source.endpointUrl` or the address of `source.endpointReference`.
    pub source_endpoint: Option<String>,
    pub destinations: Vec<Destination>,
    /// The references as written.
    pub focus: Vec<String>,
    pub response: Option<Response>,
    pub definition: Option<String>,
    /// The extension of MSG-49.
    pub response_request: Option<ResponseRequired>,
}

#[derive(Clone, Debug, Default)]
pub struct Destination {
    pub endpoint: Option<String>,
    /// Addresses that `destination.target` stands for: the Device's identifiers as `system|value`, else the reference text.
    pub targets: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Response {
    pub identifier: Option<Identifier>,
    pub code: Option<ResponseCode>,
    pub details: Option<String>,
}
