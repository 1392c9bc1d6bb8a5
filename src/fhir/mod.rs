//! FHIR as data: reading messages, their identity, the outcomes and answers that Emberpost writes.
//!
//! Pure: no clock, no disk, no network. Bytes go in, values and issues come out.

pub mod answer;
pub mod bridge;
mod content;
pub mod element;
mod envelope;
pub mod event;
pub mod fault;
mod finding;
pub mod form;
pub mod header;
pub mod identity;
pub mod json;
pub mod message;
pub mod outcome;
pub mod quoted;
pub mod reference;
mod resolve;
pub(crate) mod scan;
pub mod schema;
mod shape;
mod steps;
pub mod tree;
pub mod version;
pub mod xml;

pub use event::Event;
pub use fault::Fault;
pub use form::Form;
pub use header::MessageHeader;
pub use message::Message;
pub use outcome::{Issue, IssueCode, Outcome, Severity};
pub use version::FhirVersion;

#[cfg(test)]
mod corpus;
