//! Who gets a message: participants, addresses, routes, and the plan.
//!
//! Pure: configuration and a message go in, a plan or the reasons why not come out. Who carries, keeps or answers it
//! is decided elsewhere.

pub mod address;
pub mod lane;
pub mod participant;
pub mod plan;
pub mod sender;
pub mod table;

pub use participant::{Channel, EMBERPOST, Order, Participant, Rejections};
pub use plan::{Plan, Receiver, plan};
pub use sender::SenderFound;
pub use table::{Conflict, Entry, Route, Table};
