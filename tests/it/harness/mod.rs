//! What tests are written with: routers (`Node`), receivers (`Peer`), messages (`sample`), raw connections (`raw`).
//!
//! Nothing here sleeps for luck: everything is waited for with a deadline and a name, and every process, thread and folder ends
//! with the value that stands for it. A node that panicked fails its test, whatever else the test looked at.

#![allow(dead_code, unused_imports, reason = "each test module uses its own part of the harness")]

pub mod config;
pub mod node;
pub mod peer;
pub mod raw;
pub mod reply;
pub mod sample;
pub mod script;

use std::time::{Duration, Instant};

pub use config::{NodeConfig, Party};
pub use node::{Node, emberpost};
pub use peer::{Peer, Received};
pub use reply::Reply;
pub use sample::Sample;
pub use script::{Answer, Gate};

/// A deadline for what should take milliseconds, on a machine that may be very busy.
pub const SOON: Duration = Duration::from_secs(10);

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds; panics with `what` when it does not within `limit`.
pub async fn wait_until(limit: Duration, what: &str, mut condition: impl AsyncFnMut() -> bool) {
    wait_for(limit, what, async || condition().await.then_some(())).await;
}

/// Waits until `look` finds something, and returns it; panics with `what` when it does not within `limit`.
pub async fn wait_for<T>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}
