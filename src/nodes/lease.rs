//! Leases: each participant queue, each replay, and the upkeep of the store belongs to one node at a time.
//!
//! A node holds its leases while its own row is live, which it renews every `ROUND_INTERVAL`; a row lives `LEASE_SECONDS` by the
//! clock of the database. So a round costs one write, however many leases the node holds. The rounds of all nodes are serialized by
//! the database: each decides by what the ones before it have left.
//!
//! Each change of the holder raises the lease's epoch. A settlement carries the epoch under which its attempt began: if another
//! node has taken the queue meanwhile, a failure changes nothing, and a success still counts.

use super::NodeKey;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub const ROUND_INTERVAL: Duration = Duration::from_secs(2);
/// Four rounds may fail before another node takes over.
pub const LEASE: Duration = Duration::from_secs(8);
/// A node stops that much earlier than others may take over: for the difference in the speed of two clocks.
pub const MARGIN: Duration = Duration::from_secs(1);
/// Leases that a node gives up in one round, so that a node that joins moves only a part of the work at a time.
const MOVES_LIMIT: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LeaseKind {
    /// Deliveries to a participant.
    Queue,
    /// An inbound queue of the broker: its order needs a single consumer.
    Consumer,
    Replay,
    /// Retention, and other care for the store as a whole.
    Upkeep,
}

/// A lease: its kind, and the key of what it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    pub kind: LeaseKind,
    pub key: i64,
}

/// A node whose row is live.
#[derive(Clone, Debug, Default)]
pub struct LiveNode {
    /// It stops: it takes nothing more.
    pub leaving: bool,
    /// The leases that it can hold. Nodes may have different participants while a new configuration is rolled out.
    pub serves: BTreeSet<LeaseId>,
}

/// A row of the lease table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The node that took it last; it need not be live.
    pub holder: Option<NodeKey>,
    pub epoch: i64,
}

/// What a round reads, in a transaction that no other round overlaps.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub nodes: BTreeMap<NodeKey, LiveNode>,
    pub leases: BTreeMap<LeaseId, Lease>,
}

/// What a node does in its round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// The leases that it holds from now on, those that it takes included, with their epochs.
    pub held: BTreeMap<LeaseId, i64>,
    /// Leases to take: their holder becomes this node, and their epoch that in `held`.
    pub taken: Vec<LeaseId>,
    /// Leases that it should give up. It still holds them, starts nothing more under them, and releases them once what runs has
    /// ended.
    pub to_release: Vec<LeaseId>,
}

impl View {
    /// The round of the node `me`. `releasing`: what it is giving up since an earlier round.
    pub fn round(&self, me: NodeKey, releasing: &BTreeSet<LeaseId>) -> Round {
        let mut plan = Plan::new(self);
        let mut round = Round::default();
        for (id, lease) in self.leases.iter().filter(|(_, lease)| lease.holder == Some(me)) {
            round.held.insert(*id, lease.epoch);
            let is_leaving = self.nodes.get(&me).is_none_or(|node| node.leaving);
            if is_leaving || releasing.contains(id) || !plan.can_hold(me, *id) {
                round.to_release.push(*id);
                // Another node will take it.
                plan.assign(*id, Some(me));
            }
        }
        for id in self.free() {
            if plan.assign(id, None) == Some(me) {
                let epoch = self.leases.get(&id).map_or(1, |lease| lease.epoch + 1);
                round.held.insert(id, epoch);
                round.taken.push(id);
            }
        }
        self.balance(me, &mut plan, &mut round);
        round.to_release.retain(|id| !releasing.contains(id));
        round
    }

    /// Leases that no live node holds, in order.
    fn free(&self) -> Vec<LeaseId> {
        let served: BTreeSet<LeaseId> = self.nodes.values().flat_map(|node| node.serves.iter().copied()).collect();
        let is_held = |id: &LeaseId| {
            let holder = self.leases.get(id).and_then(|lease| lease.holder);
            holder.is_some_and(|holder| self.nodes.contains_key(&holder))
        };
        served.into_iter().filter(|id| !is_held(id)).collect()
    }

    /// Gives up what another node would hold in a more even distribution.
    fn balance(&self, me: NodeKey, plan: &mut Plan<'_>, round: &mut Round) {
        let mut moves = MOVES_LIMIT.saturating_sub(round.to_release.len());
        let kept: Vec<LeaseId> = round.held.keys().copied().filter(|id| !round.to_release.contains(id)).collect();
        for id in kept.into_iter().rev() {
            let Some(other) = plan.least_loaded(id, Some(me)).filter(|_| moves > 0) else { continue };
            if plan.load(other) + 1 < plan.load(me) {
                plan.move_one(me, other);
                round.to_release.push(id);
                moves -= 1;
            }
        }
    }
}

/// How many leases each node will hold.
struct Plan<'v> {
    view: &'v View,
    loads: BTreeMap<NodeKey, usize>,
}

impl<'v> Plan<'v> {
    fn new(view: &'v View) -> Plan<'v> {
        let mut loads: BTreeMap<NodeKey, usize> = view.nodes.keys().map(|node| (*node, 0)).collect();
        for load in view.leases.values().filter_map(|lease| lease.holder) {
            if let Some(load) = loads.get_mut(&load) {
                *load += 1;
            }
        }
        Plan { view, loads }
    }

    fn load(&self, node: NodeKey) -> usize {
        self.loads.get(&node).copied().unwrap_or_default()
    }

    fn can_hold(&self, node: NodeKey, id: LeaseId) -> bool {
        self.view.nodes.get(&node).is_some_and(|node| !node.leaving && node.serves.contains(&id))
    }

    /// The node that should take this lease: of those that can, the one with the fewest.
    fn least_loaded(&self, id: LeaseId, except: Option<NodeKey>) -> Option<NodeKey> {
        let can = self.loads.iter().filter(|(node, _)| Some(**node) != except && self.can_hold(**node, id));
        can.min_by_key(|(node, load)| (**load, **node)).map(|(node, _)| *node)
    }

    /// Counts the lease for the node that should take it, which it returns. `from`: the node that holds it so far.
    fn assign(&mut self, id: LeaseId, from: Option<NodeKey>) -> Option<NodeKey> {
        let to = self.least_loaded(id, from)?;
        if let Some(load) = from.and_then(|from| self.loads.get_mut(&from)) {
            *load = load.saturating_sub(1);
        }
        *self.loads.entry(to).or_default() += 1;
        Some(to)
    }

    fn move_one(&mut self, from: NodeKey, to: NodeKey) {
        if let Some(load) = self.loads.get_mut(&from) {
            *load = load.saturating_sub(1);
        }
        *self.loads.entry(to).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(key: i64) -> LeaseId {
        LeaseId { kind: LeaseKind::Queue, key }
    }

    fn serving(keys: std::ops::Range<i64>) -> LiveNode {
        LiveNode { leaving: false, serves: keys.map(queue).collect() }
    }

    /// The rounds of all live nodes, in turn, until nothing moves any more; what is to be released is released at once.
    fn settle(view: &mut View) -> usize {
        for rounds in 0..100 {
            let before = view.leases.clone();
            for me in view.nodes.keys().copied().collect::<Vec<_>>() {
                let round = view.round(me, &BTreeSet::new());
                for (id, epoch) in &round.held {
                    view.leases.insert(*id, Lease { holder: Some(me), epoch: *epoch });
                }
                for id in &round.to_release {
                    view.leases.entry(*id).and_modify(|lease| lease.holder = None);
                }
            }
            if view.leases == before {
                return rounds;
            }
        }
        panic!("leases move forever: {:?}", view.leases);
    }

    fn loads(view: &View) -> Vec<usize> {
        let holds = |node| view.leases.values().filter(|lease| lease.holder == Some(node)).count();
        view.nodes.keys().map(|node| holds(*node)).collect()
    }

    #[test]
    fn leases_are_spread_evenly_and_move_only_as_far_as_needed_when_a_node_joins() {
        let mut view = View::default();
        view.nodes.insert(1, serving(0..10));
        settle(&mut view);
        assert_eq!(loads(&view), [10]);
        view.nodes.insert(2, serving(0..10));
        view.nodes.insert(3, serving(0..10));
        settle(&mut view);
        assert_eq!(loads(&view), [4, 3, 3]);
        let moved = view.leases.values().filter(|lease| lease.epoch > 1).count();
        assert!(moved <= 8, "{moved} of 10 moved");
    }

    #[test]
    fn the_leases_of_a_dead_node_are_taken_with_the_next_epoch_and_those_of_others_stay() {
        let mut view = View::default();
        for node in 1..=3 {
            view.nodes.insert(node, serving(0..9));
        }
        settle(&mut view);
        let before = view.leases.clone();
        view.nodes.remove(&2);
        settle(&mut view);
        for (id, lease) in &view.leases {
            let was = before[id];
            let expected = if was.holder == Some(2) { was.epoch + 1 } else { was.epoch };
            assert_eq!(lease.epoch, expected, "{id:?}");
            assert_ne!(lease.holder, Some(2));
        }
    }

    #[test]
    fn a_node_that_leaves_gives_everything_up_and_takes_nothing() {
        let mut view = View::default();
        view.nodes.insert(1, serving(0..4));
        view.nodes.insert(2, serving(0..4));
        settle(&mut view);
        view.nodes.get_mut(&1).unwrap().leaving = true;
        let round = view.round(1, &BTreeSet::new());
        assert_eq!((round.taken.len(), round.to_release.len()), (0, 2));
        settle(&mut view);
        assert_eq!(loads(&view), [0, 4]);
    }

    #[test]
    fn what_only_one_node_serves_is_never_stranded() {
        let mut view = View::default();
        view.nodes.insert(1, serving(0..6));
        view.nodes.insert(2, serving(4..6));
        settle(&mut view);
        assert_eq!(loads(&view), [4, 2]);
        assert!((0..4).all(|key| view.leases[&queue(key)].holder == Some(1)));
        // The last node that has these participants gets a configuration without them: nobody can deliver.
        view.nodes.insert(1, serving(3..6));
        settle(&mut view);
        assert!((0..3).all(|key| view.leases[&queue(key)].holder.is_none()));
        view.nodes.insert(2, serving(0..6));
        settle(&mut view);
        assert!(view.leases.values().all(|lease| lease.holder.is_some()));
        assert_eq!(loads(&view), [3, 3]);
    }

    #[test]
    fn what_is_being_released_is_not_released_twice_and_not_balanced_again() {
        let mut view = View::default();
        view.nodes.insert(1, serving(0..6));
        settle(&mut view);
        view.nodes.insert(2, serving(0..6));
        let first = view.round(1, &BTreeSet::new());
        assert_eq!(first.to_release.len(), 3);
        let second = view.round(1, &first.to_release.iter().copied().collect());
        assert_eq!(second.to_release, []);
        assert_eq!(second.held.len(), 6, "it holds them until they are released");
    }

    #[test]
    fn a_node_whose_row_has_expired_and_whose_leases_nobody_took_keeps_them() {
        let mut view = View::default();
        view.nodes.insert(1, serving(0..3));
        settle(&mut view);
        // It renews its row at the beginning of its round.
        let round = view.round(1, &BTreeSet::new());
        assert!(round.taken.is_empty());
        assert_eq!(round.held.values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    }
}
