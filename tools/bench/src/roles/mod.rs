//! The processes of a benchmark, each one this program started again with `--role`.
//!
//! A serving role prints `listening ADDRESS` and ends when its standard input closes, so that none outlives the
//! benchmark. A measuring role prints `measuring` after its warm-up, then one line of JSON, and ends.

mod amqp_load;
mod amqp_relay;
mod receiver;
mod relay;
mod sender;
mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// The duration of the warm-up, after which connections are open and caches are warm.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// The role of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Sender,
    Receiver,
    Relay,
    Sqlite,
    AmqpLoad,
    AmqpRelay,
}

/// The arguments of a role; hidden from the help, because only `bench` itself uses them.
#[derive(Debug, Clone, clap::Args)]
pub struct RoleArgs {
    #[arg(long, hide = true, value_enum)]
    pub role: Option<Role>,
    /// Sender: the `host:port` to post messages to. Relay: the `host:port` to forward them to.
    #[arg(long, hide = true, default_value = "")]
    pub peer: String,
    /// Sender: concurrent connections. Sqlite: rows per commit.
    #[arg(long, hide = true, default_value_t = 1)]
    pub width: usize,
    #[arg(long, hide = true, default_value_t = 2_048)]
    pub size_bytes: usize,
    /// Sender: the destination of its messages.
    #[arg(long, hide = true, default_value = "")]
    pub destination: String,
    /// AmqpLoad: the queue to publish to; `peer` is the queue to consume. AmqpRelay: the queue to consume.
    #[arg(long, hide = true, default_value = "")]
    pub queue: String,
    /// Sqlite: the folder of the database.
    #[arg(long, hide = true, default_value = ".")]
    pub folder: PathBuf,
}

/// What a measuring role prints at the end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Messages (or rows) completed within the measured time.
    pub messages: u64,
    /// Messages (or rows) completed in total, including the warm-up.
    pub messages_in_all: u64,
    /// The measured time in microseconds.
    pub elapsed_us: u64,
    /// The median time of replies (or commits), in microseconds.
    pub p50_us: u64,
    /// The 99th percentile of the time of replies (or commits), in microseconds.
    pub p99_us: u64,
    /// CPU time of this process in the measured time, in microseconds.
    pub cpu_us: u64,
    /// Bytes that this process wrote to disk in the measured time.
    pub written_bytes: u64,
    /// Replies that were not what the case expects, and requests without a reply.
    pub unexpected: u64,
    /// The first of them, in a few words.
    pub first_unexpected: Option<String>,
}

/// Runs one role to its end.
pub async fn run(role: Role, seconds: u64, broker: Option<String>, args: RoleArgs) -> Result<()> {
    let time = Duration::from_secs(seconds);
    match role {
        Role::Sender => alone(move || sender::run(args, time)).await,
        Role::Receiver => alone(receiver::run).await,
        // The relay runs as the router does: on a runtime with as many threads as cores.
        Role::Relay => relay::run(&args.peer).await,
        Role::AmqpLoad => alone(move || amqp_load::run(broker.unwrap_or_default(), args, time)).await,
        Role::AmqpRelay => amqp_relay::run(&broker.unwrap_or_default(), &args.queue, &args.peer).await,
        Role::Sqlite => alone(move || sqlite::run(args, time)).await,
    }
}

/// Runs a role on a single thread: sending and receiving cost least without hand-over between threads.
async fn alone<F>(role: impl FnOnce() -> F + Send + 'static) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(role())
    })
    .await?
}

/// Ends this process when its standard input closes, because the benchmark has ended.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// The 50th and 99th percentile of `latencies_us`, which are sorted in place; zero if there are none.
fn percentiles(latencies_us: &mut [u32]) -> (u64, u64) {
    latencies_us.sort_unstable();
    let at = |part: usize| {
        let rank = (latencies_us.len() * part).div_ceil(100);
        latencies_us.get(rank.saturating_sub(1)).copied().map_or(0, u64::from)
    };
    (at(50), at(99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_ranks() {
        assert_eq!(percentiles(&mut []), (0, 0));
        assert_eq!(percentiles(&mut [7]), (7, 7));
        let mut hundred: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentiles(&mut hundred), (50, 99));
    }
}
