//! Who gets a message: participants, addresses, routes, and the plan. Pure.

pub mod address;
pub mod participant;
pub mod plan;

pub use participant::{Channel, Order, Participant, Rejections};
pub use plan::{Plan, Receiver, Table, plan};
