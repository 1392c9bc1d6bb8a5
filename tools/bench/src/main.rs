//! `emberpost-bench`: measures the throughput and cost of a router end to end, beside two baselines on the same
//! machine.
//!
//! Senders, receiver, bare relay, and router are separate processes, all started from here, so that the CPU time of
//! each is known. This command starts its own program again with the hidden `--role` for the first three. Runs of
//! relay and router alternate, because the speed of a shared machine may double within minutes, and only ratios of
//! adjacent runs are reliable.
//!
//! It measures and reports. The only thing it checks is whether replies are what the case expects, and it never uses
//! a store other than the one in its own temporary folder.

mod amqp;
mod children;
mod fsync;
mod measure;
mod message;
mod proc;
mod report;
mod roles;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use self::measure::{Plan, Scenario};
use self::roles::{Role, RoleArgs};

/// Measures a router end to end: messages per second, latency, CPU, fsyncs and bytes written per message.
#[derive(Debug, Parser)]
#[command(
    name = "emberpost bench",
    version,
    after_help = "Examples:\n  emberpost bench\n  emberpost bench --seconds 2 --runs 1 --senders 64 --sizes 2048 \
--scenario relay,inout\n  emberpost bench --sizes 2048 --scenario amqp-relay,amqp-inout --broker amqp://127.0.0.1\n  emberpost bench --format json --out bench.json\n\nTemporary files go to TMPDIR, else to ./target, \
else to the current folder: it should be on the disk that the store will use."
)]
struct BenchArgs {
    /// Seconds that each run is measured, after half a second of warming up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Runs of each case; the report gives medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Numbers of concurrent senders, each waiting for its reply before it sends again
    #[arg(long, value_delimiter = ',', default_values_t = [Bounded::<1024>(1), Bounded(16), Bounded(64)])]
    senders: Vec<Bounded<1024>>,
    /// Sizes of a message in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [Bounded::<20_000_000>(2_048), Bounded(51_200)])]
    sizes: Vec<Bounded<20_000_000>>,
    /// What to measure: accept (stored for a mailbox), inout (delivered and answered), slow (inout beside a slow receiver), relay (bare HTTP), sqlite (bare commits), amqp-relay and amqp-inout (queue to queue, with --broker; 64 and 256 messages in flight)
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::All])]
    scenario: Vec<Scenario>,
    /// The program whose `serve` is measured [default: emberpost beside this program]
    #[arg(long, value_name = "PATH")]
    server_binary: Option<PathBuf>,
    /// A running broker for the AMQP scenarios, amqp://user:password@host:port/vhost
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// How the report is printed on standard output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also writes the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    role: RoleArgs,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: 0 success; 1 some replies were not what their case expects, or the report could not be written; 2
/// wrong usage; 3 a process of the benchmark (usually the router) could not be started or reached.
fn main() -> ExitCode {
    let args = BenchArgs::parse();
    let code = match args.role.role {
        Some(role) => play(role, args),
        // This process only starts processes and waits for them, in plain blocking code.
        None => conduct(args),
    };
    ExitCode::from(code)
}

fn play(role: Role, args: BenchArgs) -> u8 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build();
    let played = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(roles::run(role, args.seconds, args.broker, args.role)));
    match played {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("bench: {error:#}");
            1
        }
    }
}

/// The same number as the router has, so that the comparison with the relay is fair.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

fn conduct(args: BenchArgs) -> u8 {
    let plan = Plan {
        seconds: args.seconds,
        runs: args.runs,
        senders: args.senders.iter().map(|bounded| bounded.0).collect(),
        sizes_bytes: args.sizes.iter().map(|bounded| bounded.0).collect(),
        scenarios: args.scenario,
        server_binary: args.server_binary,
        broker: args.broker,
    };
    if let Some(scenario) = plan.scenarios.iter().find(|scenario| scenario.needs_broker() && plan.broker.is_none()) {
        eprintln!("bench: the scenario {} needs a running broker: --broker amqp://…", scenario.name());
        return 2;
    }
    let report = match measure::measure(&plan) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("bench: {error:#}");
            return 3;
        }
    };
    match args.format {
        Format::Table => print!("{}", report.table()),
        Format::Json => println!("{}", report.json()),
    }
    let mut code = u8::from(report.unexpected_replies() > 0);
    if let Some(path) = args.out
        && let Err(error) = std::fs::write(&path, report.json() + "\n")
    {
        eprintln!("bench: cannot write {}: {error}", path.display());
        code = 1;
    }
    code
}

/// A whole number from 1 to `MOST`, read from the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounded<const MOST: usize>(usize);

impl<const MOST: usize> FromStr for Bounded<MOST> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (1..=MOST).contains(&number) => Ok(Bounded(number)),
            _ => Err(format!("use a whole number from 1 to {MOST}")),
        }
    }
}

impl<const MOST: usize> std::fmt::Display for Bounded<MOST> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_every_case_of_the_report_is_measured() {
        let bench = BenchArgs::try_parse_from(["bench"]).unwrap();
        assert_eq!(bench.seconds, 5);
        assert_eq!(bench.runs, 3);
        assert_eq!(bench.senders.iter().map(|number| number.0).collect::<Vec<_>>(), [1, 16, 64]);
        assert_eq!(bench.sizes.iter().map(|number| number.0).collect::<Vec<_>>(), [2_048, 51_200]);
        assert_eq!(bench.scenario, [Scenario::All]);
        assert!(bench.role.role.is_none());
    }

    #[test]
    fn numbers_beyond_their_bounds_are_wrong_usage() {
        for wrong in
            [["bench", "--senders=0"], ["bench", "--senders=1,2000"], ["bench", "--sizes=x"], ["bench", "--runs=0"]]
        {
            assert!(BenchArgs::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }
}
