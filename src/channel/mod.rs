//! Channels: how messages arrive and leave, over HTTP and AMQP. They translate the exchange's decisions into the
//! protocol's terms and know no SQL.

pub mod amqp;
pub mod caller;
pub mod edge;
pub mod http_in;
pub mod http_out;
pub mod media;
pub mod metadata;
mod outgoing;
mod transport;
mod unpack;

pub use transport::ChannelTransport;

use crate::delivery::{AttemptResult, Metadata};
use crate::fault::Fault;

/// The `Via` header as received, with our own entry appended (RFC 9110, 7.6.3).
fn via(metadata: &Metadata, name: &str) -> String {
    match metadata.via.as_deref().filter(|via| !via.trim().is_empty()) {
        Some(via) => format!("{via}, 1.1 {name}"),
        None => format!("1.1 {name}"),
    }
}

fn retryable(fault: Fault, detail: impl Into<String>) -> AttemptResult {
    AttemptResult::Retryable { fault, retry_after: None, detail: detail.into() }
}
