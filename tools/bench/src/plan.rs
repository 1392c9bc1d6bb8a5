//! What to measure: scenarios, and the numbers of a run.

use std::path::PathBuf;

use clap::ValueEnum;

/// What one call of the benchmark measures.
pub struct Plan {
    pub seconds: u64,
    pub warm_ms: u64,
    pub runs: u32,
    pub senders: Vec<usize>,
    pub sizes_bytes: Vec<usize>,
    /// Messages per second offered in an open loop; empty for a closed one.
    pub rates: Vec<f64>,
    pub scenarios: Vec<Scenario>,
    pub server_binary: Option<PathBuf>,
    /// A build of the same router with the feature `count-allocations`.
    pub counting_binary: Option<PathBuf>,
    /// The URL of a running broker.
    pub broker: Option<String>,
    /// The URL of a running PostgreSQL.
    pub postgres: Option<String>,
    /// A running router to measure instead of one started here.
    pub target: Option<Target>,
    /// Whether system calls and pages are counted in passes of their own.
    pub counts: bool,
}

/// A running router.
#[derive(Debug, Clone)]
pub struct Target {
    /// The `host:port` that it listens on.
    pub address: String,
    /// The path to post messages to.
    pub path: String,
    /// The destination of the messages.
    pub destination: String,
    /// Its process, if it runs on this machine and its usage is wanted.
    pub pid: Option<u32>,
    /// Where the benchmark's receiver listens, if the messages are routed to it.
    pub receiver: Option<String>,
}

/// The path that messages take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    All,
    /// A router that stores the message for a mailbox and answers 202.
    Accept,
    /// A router that delivers over HTTP and returns the receiver's answer.
    Inout,
    /// As accept, with a store in PostgreSQL.
    PostgresAccept,
    /// As inout, with a store in PostgreSQL.
    PostgresInout,
    /// As inout, while 16 more senders send to another receiver that takes 30 s per message.
    Slow,
    /// The bare relay, to the same receiver.
    Relay,
    /// No messages: rows committed to SQLite.
    Sqlite,
    /// No messages: pages written to a file, with a wait for the disk after each.
    Disk,
    /// From queue to queue of the broker, through a program that only forwards.
    AmqpRelay,
    /// From queue to queue of the broker, through a router.
    AmqpInout,
    /// A running router (--target).
    Target,
}

impl Scenario {
    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn needs_broker(self) -> bool {
        matches!(self, Scenario::AmqpRelay | Scenario::AmqpInout)
    }

    pub fn needs_postgres(self) -> bool {
        matches!(self, Scenario::PostgresAccept | Scenario::PostgresInout)
    }

    /// Whether the server is a router that this program starts.
    pub fn has_router(self) -> bool {
        self.needs_postgres()
            || matches!(self, Scenario::Accept | Scenario::Inout | Scenario::Slow | Scenario::AmqpInout)
    }

    /// Whether a pass that counts system calls is worthwhile.
    pub fn is_counted(self) -> bool {
        self.has_router() && self != Scenario::Slow
    }

    /// What this scenario is compared with.
    pub fn baseline(self) -> Option<Scenario> {
        match self {
            Scenario::Accept
            | Scenario::Inout
            | Scenario::PostgresAccept
            | Scenario::PostgresInout
            | Scenario::Slow
            | Scenario::Target => Some(Scenario::Relay),
            Scenario::AmqpInout => Some(Scenario::AmqpRelay),
            _ => None,
        }
    }
}

impl Plan {
    pub fn has(&self, scenario: Scenario) -> bool {
        let is_in_all = scenario != Scenario::Target && (self.postgres.is_some() || !scenario.needs_postgres());
        self.scenarios.iter().any(|chosen| *chosen == scenario || (*chosen == Scenario::All && is_in_all))
    }

    /// The loops to run: open ones at the rates given, else a closed one.
    pub fn loops(&self) -> Vec<Option<f64>> {
        if self.rates.is_empty() { vec![None] } else { self.rates.iter().copied().map(Some).collect() }
    }
}

/// The load of one case.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Concurrent senders over HTTP, messages in flight over AMQP.
    pub senders: usize,
    pub size_bytes: usize,
    pub seconds: u64,
    pub warm_ms: u64,
    /// Messages per second of an open loop.
    pub rate: Option<f64>,
}

impl Load {
    /// The arguments of a role that makes this load.
    pub fn arguments(&self) -> Vec<String> {
        let pairs = [
            ("--width", self.senders.to_string()),
            ("--size-bytes", self.size_bytes.to_string()),
            ("--seconds", self.seconds.to_string()),
            ("--warm-ms", self.warm_ms.to_string()),
            ("--due-per-second", self.rate.unwrap_or(0.0).to_string()),
        ];
        pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }
}
