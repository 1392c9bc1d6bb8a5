//! (being built)

pub mod http_out;
