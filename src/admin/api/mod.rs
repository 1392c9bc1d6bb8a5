//! The JSON of the admin API: its own types, made from the store's views. The server writes them, and the client commands read
//! them.
//!
//! The names of members are public (`openapi.json`), so they change only on purpose: a renamed field of the store does not
//! change them. Events, identifiers, and kinds of deliveries have the same form as in the store.

mod delivery;
mod message;
mod participant;
mod replay;
mod system;

pub use delivery::{Delivery, Ordered};
pub use message::{Attempt, Message, MessageShown, TimelineEntry};
pub use participant::Participant;
pub use replay::{Replay, ReplayCount};
pub use system::{ClockState, Explanation, ParticipantFigures, StoreFigures};

use crate::store::view;
use serde::{Deserialize, Serialize};

/// A page of a list, newest first. `next` is the cursor of the following page, absent on the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    pub fn of<V>(page: view::Page<V>) -> Page<T>
    where
        T: From<V>,
    {
        Page { items: page.items.into_iter().map(T::from).collect(), next: page.next }
    }
}
