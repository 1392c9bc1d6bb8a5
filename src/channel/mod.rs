//! Channels: how messages arrive and leave. They word what the exchange decides and know no SQL.

pub mod http_in;
pub mod http_out;
pub mod metadata;
