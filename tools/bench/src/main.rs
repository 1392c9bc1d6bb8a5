//! `emberpost-bench`: measures the throughput and cost of a router end to end, beside bare baselines on the same
//! machine.
//!
//! Senders, receiver, bare relay, and router are separate processes, all started from here, so that the CPU time of
//! each is known. This command starts its own program again with the hidden `--role` for all but the router. Runs of
//! relay and router alternate, because the speed of a shared machine may double within minutes, and only ratios of
//! adjacent runs are reliable. What does not depend on the machine is counted per message.
//!
//! It measures and reports. The only thing it checks is whether replies are what the case expects, and it never uses
//! a store other than the one in its own temporary folder.

mod amqp;
mod arrivals;
mod budget;
mod cases;
mod check;
mod children;
mod counting;
mod growth;
mod http;
mod latency;
mod message;
mod page;
mod plan;
mod plot;
mod postgres;
mod proc;
mod report;
mod roles;
mod router;
mod table;
mod trace;

use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use self::plan::{Plan, Scenario, Target};
use self::report::Report;
use self::roles::{Role, RoleArgs};

/// Measures a router end to end: messages per second, latency, and what one message costs.
#[derive(Debug, Parser)]
#[command(
    name = "emberpost bench",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  emberpost bench\n  emberpost bench --seconds 2 --runs 1 --senders 64 --sizes 2048 \
--scenario relay,inout\n  emberpost bench --senders 64 --sizes 2048 --scenario relay,inout --rate 1000,4000\n  \
emberpost bench --sizes 2048 --scenario amqp-relay,amqp-inout --broker amqp://127.0.0.1\n  emberpost bench --target \
127.0.0.1:8080 --target-destination http://lab.example.org/fhir --scenario target\n  emberpost bench --format json \
--out bench.json --plots plots\n\nTemporary files go to TMPDIR, else to ./target, else to the current folder: it \
should be on the disk that the store will use."
)]
struct BenchArgs {
    /// Seconds that each run is measured, after the warm-up
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Milliseconds of each run before measuring begins
    #[arg(long, value_name = "MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(0..=600_000))]
    warm_up_ms: u64,
    /// Runs of each case; the report gives medians
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Numbers of concurrent senders, each waiting for its reply before it sends again
    #[arg(long, value_delimiter = ',', default_values_t = [Bounded::<1024>(1), Bounded(16), Bounded(64)])]
    senders: Vec<Bounded<1024>>,
    /// Sizes of a message in bytes
    #[arg(long, value_delimiter = ',', default_values_t = [Bounded::<20_000_000>(2_048), Bounded(51_200)])]
    sizes: Vec<Bounded<20_000_000>>,
    /// Messages per second that become due whether or not earlier ones were answered (open loop); the time of a message counts from when it was due [default: a closed loop]
    #[arg(long, value_name = "MESSAGES_PER_SECOND", value_delimiter = ',')]
    rate: Vec<Bounded<1_000_000>>,
    /// What to measure: accept (stored for a mailbox), inout (delivered and answered), postgres-accept and postgres-inout (the same with a store in PostgreSQL, with --postgres), slow (inout beside a slow receiver), relay (bare HTTP), sqlite (bare commits), disk (bare fsyncs), amqp-relay and amqp-inout (queue to queue, with --broker; 64 and 256 messages in flight), target (a running router)
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::All])]
    scenario: Vec<Scenario>,
    /// The program whose `serve` is measured [default: emberpost beside this program]
    #[arg(long, value_name = "PATH")]
    server_binary: Option<PathBuf>,
    /// A build of it with `--features count-allocations`, with which allocations are counted
    #[arg(long, value_name = "PATH")]
    counting_binary: Option<PathBuf>,
    /// A running broker for the AMQP scenarios, amqp://user:password@host:port/vhost
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// A running PostgreSQL for the scenarios postgres-accept and postgres-inout, postgres://superuser@host:port/postgres; each run has a database of its own there
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
    /// A running router to send to, for the scenario target
    #[arg(long, value_name = "HOST:PORT")]
    target: Option<String>,
    /// The path of its $process-message
    #[arg(long, value_name = "PATH", default_value = "/fhir/$process-message")]
    target_path: String,
    /// The destination of messages to it: with a mailbox the reply must be 202, else 200 with the receiver's answer
    #[arg(long, value_name = "ADDRESS", default_value = message::RECEIVER_ADDRESS)]
    target_destination: String,
    /// Its process, if it runs on this machine, for CPU time and bytes written
    #[arg(long, value_name = "PID")]
    target_pid: Option<u32>,
    /// Also starts a receiver on this address, to which the running router delivers
    #[arg(long, value_name = "HOST:PORT")]
    target_receiver: Option<String>,
    /// Leaves out the passes that count system calls and pages (they need strace)
    #[arg(long)]
    no_counts: bool,
    /// How the report is printed on standard output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Also writes the report as JSON to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also draws the report as SVG files into this folder
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    #[command(flatten)]
    role: RoleArgs,
    #[command(subcommand)]
    command: Option<BenchCommand>,
}

#[derive(Debug, clap::Subcommand)]
enum BenchCommand {
    /// Measures with a store that is full: accepting, lists, restart, memory, retention
    Growth(growth::GrowthArgs),
    /// Measures everything and writes docs/performance.md with its plots
    Page(page::PageArgs),
    /// The cost of checking messages of the folder EMBERPOST_CORPUS
    Check,
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
        None if args.command.is_some() => command(args.command),
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

fn command(command: Option<BenchCommand>) -> u8 {
    let done = match command {
        Some(BenchCommand::Growth(args)) => growth::run(&args),
        Some(BenchCommand::Page(args)) => page::write(&args),
        Some(BenchCommand::Check) => {
            check::run();
            Ok(())
        }
        None => Ok(()),
    };
    done.map_or_else(
        |error| {
            eprintln!("bench: {error:#}");
            3
        },
        |()| 0,
    )
}

fn conduct(args: BenchArgs) -> u8 {
    let plan = args.plan();
    if let Err(missing) = complete(&plan) {
        eprintln!("bench: {missing}");
        return 2;
    }
    let report = match cases::measure(&plan) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("bench: {error:#}");
            return 3;
        }
    };
    match args.format {
        Format::Table => print!("{}", table::text(&report)),
        Format::Json => println!("{}", report.json()),
    }
    let mut code = u8::from(report.unexpected_replies() > 0);
    if let Err(error) = write_files(&report, args.out.as_deref(), args.plots.as_deref()) {
        eprintln!("bench: {error:#}");
        code = 1;
    }
    code
}

/// Errs in a sentence if a scenario was chosen that lacks an argument.
fn complete(plan: &Plan) -> Result<(), String> {
    for scenario in &plan.scenarios {
        if scenario.needs_broker() && plan.broker.is_none() {
            return Err(format!("the scenario {} needs a running broker: --broker amqp://…", scenario.name()));
        }
        if scenario.needs_postgres() && plan.postgres.is_none() {
            return Err(format!("the scenario {} needs a running server: --postgres postgres://…", scenario.name()));
        }
        if *scenario == Scenario::Target && plan.target.is_none() {
            return Err("the scenario target needs a running router: --target HOST:PORT".to_owned());
        }
    }
    Ok(())
}

fn write_files(report: &Report, out: Option<&Path>, plots: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = out {
        std::fs::write(path, report.json() + "\n")
            .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", path.display()))?;
    }
    if let Some(folder) = plots {
        plot::draw(report, folder, "bench")?;
    }
    Ok(())
}

impl BenchArgs {
    fn plan(&self) -> Plan {
        Plan {
            seconds: self.seconds,
            warm_ms: self.warm_up_ms,
            runs: self.runs,
            senders: self.senders.iter().map(|bounded| bounded.0).collect(),
            sizes_bytes: self.sizes.iter().map(|bounded| bounded.0).collect(),
            rates: self.rate.iter().map(|bounded| bounded.0 as f64).collect(),
            scenarios: self.scenario.clone(),
            server_binary: self.server_binary.clone(),
            counting_binary: self.counting_binary.clone(),
            broker: self.broker.clone(),
            postgres: self.postgres.clone(),
            target: self.target.clone().map(|address| Target {
                address,
                path: self.target_path.clone(),
                destination: self.target_destination.clone(),
                pid: self.target_pid,
                receiver: self.target_receiver.clone(),
            }),
            counts: !self.no_counts,
        }
    }
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
        assert_eq!(bench.plan().loops(), [None]);
    }

    #[test]
    fn a_scenario_that_lacks_an_argument_is_wrong_usage() {
        for (scenario, word) in [("amqp-inout", "--broker"), ("postgres-inout", "--postgres"), ("target", "--target")] {
            let plan = BenchArgs::try_parse_from(["bench", "--scenario", scenario]).unwrap().plan();
            assert!(complete(&plan).unwrap_err().contains(word));
        }
        let plan = BenchArgs::try_parse_from(["bench", "--rate", "100,200"]).unwrap().plan();
        assert!(complete(&plan).is_ok());
        assert_eq!(plan.loops(), [Some(100.0), Some(200.0)]);
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
