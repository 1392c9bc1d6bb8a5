//! Counts of this process, over all routers in it.

use crate::telemetry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::sync::OnceLock;

static ALLOCATIONS: OnceLock<fn() -> u64> = OnceLock::new();

/// Sets the function that returns how many allocations this process has made. Only a build for the benchmark counts
/// them, because counting costs time; without it `/metrics` does not show them.
pub fn set_allocation_counter(counter: fn() -> u64) {
    // A second call changes nothing: there is one allocator.
    let _ = ALLOCATIONS.set(counter);
}

/// A registry for one rendering.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::with_prefix("emberpost");
    registry.register(
        "log_lines_dropped",
        "Log lines dropped because they could not be written, or not fast enough",
        counter(telemetry::dropped_lines()),
    );
    if let Some(allocations) = ALLOCATIONS.get() {
        registry.register("allocations", "Allocations of memory, in a build that counts them", counter(allocations()));
    }
    registry
}

fn counter(value: u64) -> Counter {
    let counter = Counter::<u64>::default();
    counter.inc_by(value);
    counter
}
