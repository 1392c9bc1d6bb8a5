//! Channels: how messages arrive and leave. They word what the exchange decides and know no SQL.

pub mod amqp;
pub mod caller;
mod carriers;
pub mod edge;
pub mod http_in;
pub mod http_out;
pub mod media;
pub mod metadata;
mod outgoing;

pub use carriers::Carriers;

use crate::delivery::{AttemptResult, Metadata};
use crate::fault::Fault;

/// `Via` as it came, and ourselves behind it (RFC 9110, 7.6.3).
fn via(metadata: &Metadata, name: &str) -> String {
    match metadata.via.as_deref().filter(|via| !via.trim().is_empty()) {
        Some(via) => format!("{via}, 1.1 {name}"),
        None => format!("1.1 {name}"),
    }
}

fn later(fault: Fault, detail: impl Into<String>) -> AttemptResult {
    AttemptResult::Retryable { fault, retry_after: None, detail: detail.into() }
}
