//! Emberpost: a FHIR messaging endpoint and router. `ARCHITECTURE.md` tells the life of a message.
//!
//! Modules in reading order; imports point down this list only.

pub mod admin;
pub mod admission;
pub mod answer;
pub mod app;
pub mod channel;
pub mod cli;
pub mod clock;
pub mod config;
pub mod conversion;
pub mod courier;
pub mod delivery;
pub mod exchange;
pub mod fault;
pub mod metrics;
pub mod offload;
pub mod outcome;
pub mod replay;
pub mod routing;
pub mod secret;
pub mod security;
pub mod store;
pub mod supervisor;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod turn;
