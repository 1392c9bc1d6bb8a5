#![warn(missing_docs)]
#![doc = include_str!("../README.md")]

pub mod bridge;
pub mod cause;
mod content;
pub mod element;
mod envelope;
pub mod event;
mod finding;
pub mod format;
pub mod header;
pub mod identity;
pub mod issue;
pub mod json;
pub mod message;
pub mod quoted;
pub mod reference;
mod resolve;
pub mod scan;
pub mod schema;
mod spelling;
mod steps;
pub mod tree;
pub mod version;
pub mod xml;

pub use event::Event;

pub use cause::Cause;
pub use format::Format;
pub use header::MessageHeader;
pub use issue::{Issue, IssueCode, Severity};
pub use message::Message;
pub use version::FhirVersion;

#[cfg(test)]
mod corpus;
