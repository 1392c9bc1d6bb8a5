//! (being built)

pub mod metadata;
