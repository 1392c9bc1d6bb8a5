//! The straight path of a message: read, identify, authorise, check, plan, commit, answer or wait.

use crate::clock::Clock;
use crate::courier::Handle;
use crate::fhir::Outcome;
use crate::metrics::Metrics;
use crate::routing::Table;
use crate::store::view::DeliveryFilter;
use crate::store::{Store, Unavailable};
use crate::validation::Checks;
use crate::validation::definition::Definitions;
use arc_swap::ArcSwap;
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

/// What SIGHUP replaces as a whole.
pub struct Rules {
    pub table: Table,
    pub definitions: Definitions,
    pub checks: Checks,
}

pub struct Exchange {
    pub store: Store,
    pub courier: Handle,
    pub rules: ArcSwap<Rules>,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// The plan of a message that is not kept, for people: who sends, what governs, who would get it and why.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Explanation {
    pub sender: Option<String>,
    pub event: Option<String>,
    pub definition: Option<String>,
    pub accepted: bool,
    pub receivers: Vec<String>,
    pub to_self: bool,
    pub reasons: Vec<String>,
    #[serde(skip)]
    pub outcome: Outcome,
}

impl Exchange {
    /// Where this message would go, and why; nothing is stored. `sender`: the participant to take as the sender.
    pub fn explain(&self, _bytes: Bytes, _media_type: Option<&str>, _sender: Option<&str>) -> Explanation {
        Explanation {
            sender: None,
            event: None,
            definition: None,
            accepted: false,
            receivers: Vec::new(),
            to_self: false,
            reasons: Vec::new(),
            outcome: Outcome::default(),
        }
    }

    /// Dead-letters a waiting delivery now; its sender is told. False when it is not waiting or not known.
    pub async fn discard(&self, _delivery: Uuid) -> Result<bool, Unavailable> {
        Ok(false)
    }

    /// Puts dead or discarded deliveries back at their lane's end; how many (at most `limit`).
    pub async fn retry(&self, _filter: &DeliveryFilter, _limit: u32) -> Result<u64, Unavailable> {
        Ok(0)
    }
}
