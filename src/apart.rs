//! Long computations, kept from holding up the runtime's threads: reading, hashing and unpacking large messages.
//!
//! Small ones are done in place, because moving them away would cost more than they take.

use tokio::runtime::{Handle, RuntimeFlavor};

/// About a millisecond of reading and hashing.
const APART_FROM_BYTES: usize = 128 * 1024;

/// Does `work` on about so many `bytes`. From 128 KiB on, the other tasks of this thread go on elsewhere meanwhile.
pub fn apart<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = || Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes >= APART_FROM_BYTES && others() { tokio::task::block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_go_on_while_a_large_message_is_read() {
        let (done, beside) = std::sync::mpsc::channel();
        let reading = tokio::spawn(async move {
            tokio::spawn(async move { done.send(()) });
            // The only thread is held here until the other task has run.
            apart(APART_FROM_BYTES, || beside.recv_timeout(Duration::from_secs(10)).is_ok())
        });
        assert!(reading.await.unwrap());
    }

    #[tokio::test]
    async fn a_runtime_of_one_thread_reads_in_place() {
        let started = Instant::now();
        assert_eq!(apart(usize::MAX, || 7), 7);
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
