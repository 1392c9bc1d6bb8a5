//! Runs long computations (parsing, hashing, and decompressing large messages) without blocking the runtime's other tasks.
//!
//! Short computations run in place, because handing them off would cost more than they take.

use tokio::runtime::{Handle, RuntimeFlavor};

/// The size from which parsing and hashing take about a millisecond.
const OFFLOAD_FROM_BYTES: usize = 128 * 1024;

/// Runs `work`, whose cost is that of parsing about `bytes` bytes. From 128 KiB, the runtime moves the other tasks of this
/// thread to another thread first; a single-threaded runtime cannot, and runs everything in place.
pub fn offload<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let can_move_tasks =
        || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes >= OFFLOAD_FROM_BYTES && can_move_tasks() { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_run_while_a_large_message_is_parsed() {
        let (done, other_ran) = std::sync::mpsc::channel();
        let reading = tokio::spawn(async move {
            tokio::spawn(async move { done.send(()) });
            // Blocks the only worker thread until the other task has run.
            offload(OFFLOAD_FROM_BYTES, || other_ran.recv_timeout(Duration::from_secs(10)).is_ok())
        });
        assert!(reading.await.unwrap());
    }

    #[tokio::test]
    async fn a_single_threaded_runtime_computes_in_place() {
        let started = Instant::now();
        assert_eq!(offload(usize::MAX, || 7), 7);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
