//! The processes of a benchmark, each one this program started again with `--role`.
//!
//! A serving role prints `listening ADDRESS` and ends when its standard input closes, so that none outlives the
//! benchmark. A measuring role prints `measuring` after its warm-up, then one line of JSON, and ends.

mod amqp_load;
mod amqp_relay;
mod disk;
mod receiver;
mod relay;
mod sender;
mod sqlite;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::latency::Summary;

/// The role of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    Sender,
    Receiver,
    Relay,
    Sqlite,
    Disk,
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
    /// Sender, AmqpLoad: messages per second that become due, whether or not earlier ones were answered; 0 for a closed
    /// loop.
    #[arg(long, hide = true, default_value_t = 0.0)]
    pub due_per_second: f64,
    /// Sender: stops after about this many messages.
    #[arg(long, hide = true, default_value_t = u64::MAX)]
    pub messages: u64,
    /// The duration of the warm-up, after which connections are open and caches are warm.
    #[arg(long, hide = true, default_value_t = 500)]
    pub warm_ms: u64,
    /// Sender: the path to post to.
    #[arg(long, hide = true, default_value = "/fhir/$process-message")]
    pub path: String,
    /// Sender: asks for the answer later (`Prefer: respond-async`).
    #[arg(long, hide = true)]
    pub respond_async: bool,
    /// Receiver: the `host:port` to listen on.
    #[arg(long, hide = true, default_value = "127.0.0.1:0")]
    pub listen: String,
    /// Sqlite, Disk: the folder of the database or file.
    #[arg(long, hide = true, default_value = ".")]
    pub folder: PathBuf,
}

impl RoleArgs {
    fn warm_up(&self) -> Duration {
        Duration::from_millis(self.warm_ms)
    }
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
    /// The times of replies (or commits).
    pub latency: Summary,
    /// CPU time of this process in the measured time, in microseconds.
    pub cpu_us: u64,
    /// Bytes that this process wrote to disk in the measured time.
    pub written_bytes: u64,
    /// Messages that were due in an open loop, and not sent before it ended.
    pub unsent: u64,
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
        Role::Receiver => alone(move || receiver::run(args.listen)).await,
        // The relay runs as the router does: on a runtime with as many threads as cores.
        Role::Relay => relay::run(&args.peer).await,
        Role::AmqpLoad => alone(move || amqp_load::run(broker.unwrap_or_default(), args, time)).await,
        Role::AmqpRelay => amqp_relay::run(&broker.unwrap_or_default(), &args.queue, &args.peer).await,
        Role::Sqlite => alone(move || sqlite::run(args, time)).await,
        Role::Disk => disk::run(&args, time),
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
