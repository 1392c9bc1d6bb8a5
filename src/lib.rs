//! Emberpost: a FHIR messaging endpoint and router. `ARCHITECTURE.md` follows one message through it.
//!
//! The modules in reading order, each with the modules that it may import. Imports point down this list only. A test
//! (`tests/structure.rs`) reads this table and checks every file against it.
//!
//! ```text
//! cli         app admin channel config store telemetry clock routing delivery outcome fault store_url
//! app         admin channel replay exchange courier config security metrics store admission supervisor telemetry clock
//!             routing delivery outcome fault
//! admin       channel replay exchange courier security metrics store clock routing delivery outcome fault secret
//! channel     exchange courier config security metrics store conversion admission turn supervisor clock offload routing
//!             delivery outcome fault
//! replay      exchange store supervisor clock offload routing delivery
//! simulation  exchange courier store nodes testing routing delivery
//! exchange    courier metrics store conversion answer admission turn clock offload routing delivery outcome fault
//! courier     metrics store clock routing delivery fault
//! config      routing store_url secret
//! security    routing outcome fault secret
//! metrics     store telemetry
//! store       nodes turn supervisor clock offload routing delivery outcome fault store_url secret
//! conversion  delivery
//! answer      outcome
//! admission
//! turn
//! supervisor
//! telemetry
//! clock
//! offload
//! testing     routing delivery store_url
//! routing     delivery outcome fault secret
//! delivery    nodes outcome fault
//! nodes
//! outcome     fault
//! fault
//! store_url   secret
//! secret
//! ```
//!
//! `cli` has the commands, `app` starts a router, `admin` is the operator API, `channel` speaks HTTP and AMQP, `exchange`
//! decides what happens to a message, `courier` delivers, and `store` holds everything. `routing`, `delivery`, `outcome`,
//! and `fault` are pure: no clock, disk, network, or async.

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
pub mod nodes;
pub mod offload;
pub mod outcome;
pub mod replay;
pub mod routing;
pub mod secret;
pub mod security;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod store_url;
pub mod supervisor;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod turn;
