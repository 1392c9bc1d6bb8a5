//! The plan: where a message goes and why, or why it is refused.

use super::participant::Participant;
use crate::fhir::event::Category;
use crate::fhir::{Issue, Message};
use std::sync::Arc;

/// A route of the configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Route {
    pub event: Option<String>,
    pub source: Option<String>,
    pub destination: Option<String>,
    pub to: Vec<String>,
}

/// Participants, addresses and routes, built and checked once.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub participants: Vec<Arc<Participant>>,
    pub routes: Vec<Route>,
    pub fan_out: Vec<String>,
    /// Our own base, as others address it.
    pub base_url: String,
}

/// Where a message goes.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub receivers: Vec<Receiver>,
    /// Emberpost itself receives it.
    pub to_self: bool,
    /// One sentence per decision, for people.
    pub reasons: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Receiver {
    pub participant: Arc<Participant>,
    /// The first destination that led here; None for a route without destination.
    pub destination: Option<String>,
    /// Lane key: 0 where the participant asks for no order.
    pub lane: i64,
}

impl Table {
    /// Errs with every mistake: an address claimed twice, a route to nobody.
    pub fn build(
        participants: Vec<Participant>,
        routes: Vec<Route>,
        fan_out: Vec<String>,
        base_url: String,
    ) -> Result<Table, Vec<String>> {
        Ok(Table { participants: participants.into_iter().map(Arc::new).collect(), routes, fan_out, base_url })
    }

    pub fn participant(&self, id: &str) -> Option<&Arc<Participant>> {
        self.participants.iter().find(|participant| &*participant.id == id)
    }

    /// The participant that owns an address.
    pub fn owner(&self, _address: &str) -> Option<&Arc<Participant>> {
        None
    }

    /// Whether two addresses are the same after normalising.
    pub fn is_own_base(&self, _address: &str) -> bool {
        false
    }
}

/// Plans a request (or an unmatched response). `sender` is the sending participant's id.
/// Errs with one issue per destination that cannot be served: the message is refused as a whole.
pub fn plan(
    _message: &Message,
    _sender: &str,
    _category: Option<Category>,
    _table: &Table,
) -> Result<Plan, Vec<Issue>> {
    Ok(Plan::default())
}
