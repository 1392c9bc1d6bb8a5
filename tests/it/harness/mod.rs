//! What tests are written with: routers (`Node`), receivers (`Peer`), messages (`sample`), raw connections (`raw`), and for AMQP
//! brokers (`Broker`, `Cluster`), a bad network before them (`Proxy`) and another party on them (`Amqp`).
//!
//! Nothing here sleeps for luck: everything is waited for with a deadline and a name, and every process, thread and folder ends
//! with the value that stands for it. A node that panicked fails its test, whatever else the test looked at.

#![allow(dead_code, unused_imports, reason = "each test module uses its own part of the harness")]

/// Leaves a test that is about SQLite's files and locks, when the tests run on PostgreSQL.
macro_rules! sqlite_only {
    () => {
        if crate::harness::postgres::is_chosen() {
            return;
        }
    };
}
pub(crate) use sqlite_only;

pub mod amqp;
pub mod broker;
mod broker_home;
pub mod cluster;
pub mod config;
pub mod lines;
pub mod node;
pub mod peer;
pub mod postgres;
pub mod previous_release;
pub mod proxy;
pub mod raw;
pub mod raw_amqp;
pub mod reply;
pub mod sample;
pub mod script;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use amqp::{Amqp, Props, Taken};
pub use broker::Broker;
pub use cluster::Cluster;
pub use config::{NodeConfig, Party};
pub use lines::Lines;
pub use node::{Node, emberpost, program};
pub use peer::{Peer, Received};
pub use proxy::Proxy;
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

/// A loopback address that nobody listens on. Its port lies below those that the system gives to outgoing connections, so that
/// a node or peer that goes down finds it free when it comes up again.
pub fn free_address() -> SocketAddr {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Two test runs at the same time begin at different places.
    let begin = (std::process::id() % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset = (begin + TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {FIRST} on");
}
