//! What several nodes that share a store agree on. Pure rules: the store reads and writes the tables, the courier and the exchange
//! act on the results.
//!
//! `lease`: which node delivers to which participant, runs which replay, and keeps the store. `feed`: how a node learns of
//! deliveries that other nodes have committed, without missing one.

pub mod feed;
pub mod lease;

/// The key of a node: one for each start of a router.
pub type NodeKey = i64;
