//! The processes that a benchmark consists of, each one this program started again with `--role`.
//!
//! A role that serves prints `listening ADDRESS` and ends when its standard input closes, so that none outlives the benchmark.
//! A role that measures prints `measuring` when its warming up is over, then one line of JSON, and ends.

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

/// How long senders send before counting begins: connections are open and caches warm then.
pub const WARM_UP: Duration = Duration::from_millis(500);

/// Which process this is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Sender,
    Receiver,
    Relay,
    Sqlite,
    AmqpLoad,
    AmqpRelay,
}

/// What a role is told; hidden from the help, for only `bench` itself uses it.
#[derive(Debug, Clone, clap::Args)]
pub struct RoleArgs {
    #[arg(long, hide = true, value_enum)]
    pub role: Option<Role>,
    /// Sender: the `host:port` that messages are posted to. Relay: the `host:port` that it passes them on to.
    #[arg(long, hide = true, default_value = "")]
    pub peer: String,
    /// Sender: concurrent connections. Sqlite: rows in one commit.
    #[arg(long, hide = true, default_value_t = 1)]
    pub width: usize,
    #[arg(long, hide = true, default_value_t = 2_048)]
    pub size_bytes: usize,
    /// Sender: the destination that its messages name.
    #[arg(long, hide = true, default_value = "")]
    pub destination: String,
    /// AmqpLoad: the queue that it publishes to, and `peer` the one at the far end. AmqpRelay: the queue that it takes from.
    #[arg(long, hide = true, default_value = "")]
    pub queue: String,
    /// Sqlite: the folder of the database.
    #[arg(long, hide = true, default_value = ".")]
    pub folder: PathBuf,
}

/// What a measuring role prints at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Messages (or rows) that were done within the measured time.
    pub messages: u64,
    /// Messages (or rows) done in all, warming up included.
    pub messages_in_all: u64,
    /// The measured time in microseconds.
    pub elapsed_us: u64,
    /// Microseconds that half of the replies (or commits) took at most.
    pub p50_us: u64,
    /// Microseconds that 99 of a hundred replies (or commits) took at most.
    pub p99_us: u64,
    /// CPU time of this process in the measured time, in microseconds.
    pub cpu_us: u64,
    /// Bytes that this process wrote to disk in the measured time.
    pub written_bytes: u64,
    /// Replies that were not what the case expects, and requests that got none.
    pub unexpected: u64,
    /// The first of them, in a few words.
    pub first_unexpected: Option<String>,
}

/// Plays one role until it is done.
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

/// Runs a role on one thread of its own: sending and receiving cost least without the hand-over between threads.
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

/// Ends this process when its standard input closes: the benchmark is over, or gone.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
}

/// The values that half and 99 of a hundred `latencies_us` do not exceed; sorts them. Zero when there are none.
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
