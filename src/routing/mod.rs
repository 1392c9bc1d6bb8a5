//! Decides who receives a message: participants, addresses, routes, and the plan.
//!
//! Pure: takes the configuration and a message, and returns a plan or the reasons against one. It does not store, send, or
//! answer anything.

pub mod address;
#[cfg(test)]
pub(crate) mod fixture;
pub mod lane;
pub mod participant;
pub mod plan;
pub mod sender;
pub mod table;

pub use participant::{Channel, EMBERPOST, Order, Participant, Rejections};
pub use plan::{Plan, Receiver, plan};
pub use sender::SenderFound;
pub use table::{Conflict, Entry, Route, Table};
