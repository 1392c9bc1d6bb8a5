//! What a batch is decided with besides the stored state, and what it asks its backend for.

use super::participants::ParticipantKeys;
use super::prepare::{BatchJob, Prepared, ROUTER};
use super::stored::{BatchQuery, IdentityLookup, LaneId};
use crate::clock::Clock;
use crate::delivery::NewDelivery;
use crate::nodes::NodeKey;
use crate::routing::lane::UNORDERED;
use fhir::identity::KeyKind;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The participants, the time, and how far back duplicates are recognized.
#[derive(Clone)]
pub(super) struct Context {
    /// Keys by participant id. The participants of all jobs are added before the batch begins.
    pub participants: ParticipantKeys,
    pub now_us: i64,
    /// Copies of messages received before this time count as new.
    pub identities_from_us: i64,
    /// This node, if senders' waits are stored: other nodes may store the answers. None where a store belongs to one process.
    pub node: Option<NodeKey>,
    /// The nodes that run, this one included.
    pub live_nodes: Arc<BTreeSet<NodeKey>>,
}

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

impl Context {
    /// Copies count as new after `identities_days`; 0: never.
    pub fn new(participants: ParticipantKeys, clock: &Clock, identities_days: u32) -> Context {
        let now_us = clock.now_us();
        let identities_from_us = match identities_days {
            // While the clock may be wrong, nothing counts as too old.
            _ if clock.jump().is_some() => i64::MIN,
            0 => i64::MIN,
            days => now_us.saturating_sub(i64::from(days) * MICROSECONDS_PER_DAY),
        };
        Context { participants, now_us, identities_from_us, node: None, live_nodes: Arc::default() }
    }

    /// What must be read to decide these jobs.
    pub fn query(&self, jobs: &[BatchJob]) -> BatchQuery {
        let mut query = BatchQuery::default();
        for job in jobs {
            query.deliveries.extend(job.delivery_key());
            query.leases.extend(job.lease().map(|lease| self.participant_key(&lease.participant)));
            let Some(message) = job.message() else { continue };
            query.assigned.extend(message.assigns.map(|(key, _)| key));
            query.lookups.extend(self.lookups(message));
            for message in message.with_answers() {
                query.new_messages += 1;
                query.new_deliveries += message.all_deliveries().count();
                query.lanes.extend(message.all_deliveries().filter_map(|delivery| self.lane_of(delivery)));
            }
        }
        query
    }

    /// What must be read to compare a message with what is stored. None for an unknown sender, which has no identities: its key would
    /// be 0, that of released identities.
    pub fn identity_query(&self, message: &Prepared) -> Option<Vec<IdentityLookup>> {
        let is_known = self.participant_key(&message.metadata.sender) != 0;
        is_known.then(|| self.lookups(message).collect())
    }

    pub fn participant_key(&self, id: &str) -> i64 {
        self.participants.get(id).copied().unwrap_or_default()
    }

    /// None in the lane without order.
    pub fn lane_of(&self, delivery: &NewDelivery) -> Option<LaneId> {
        (delivery.lane != UNORDERED).then(|| (self.participant_key(&delivery.participant), delivery.lane))
    }

    fn lookups(&self, message: &Prepared) -> impl Iterator<Item = IdentityLookup> {
        let keys = [&message.identity.transmission, &message.identity.message];
        keys.into_iter().flatten().filter_map(|(kind, _)| self.lookup(message, *kind))
    }

    pub fn lookup(&self, message: &Prepared, kind: KeyKind) -> Option<IdentityLookup> {
        let reference = message.references.iter().find(|reference| reference.kind == kind as i64)?;
        let sender = self.participant_key(&message.metadata.sender);
        let lookup = || IdentityLookup::new(reference.hash, sender, kind, &message.identity.content);
        (&*message.metadata.sender != ROUTER).then(lookup)
    }
}
