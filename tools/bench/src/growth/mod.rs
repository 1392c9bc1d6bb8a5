//! What a full store costs: accepting, lists, restart, memory, and retention with many stored messages, beside an
//! empty store in the same run.

mod aging;
mod lists;

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use self::lists::ListTime;
use super::cases::Bench;
use super::children::Folder;
use super::http::strings;
use super::message::{MAILBOX_ADDRESS, RECEIVER_ADDRESS};
use super::plan::{Load, Plan};
use super::proc;
use super::report::{Sample, median};
use super::router::{Channel, RouterProcess, Settings};

/// The address of a participant that cannot be reached, for which deliveries stay open.
const DOWN_ADDRESS: &str = "http://bench.example/down";
const SENDERS: usize = 64;
const SIZE_BYTES: usize = 2_048;
/// A limit for filling the store, far beyond what it takes.
const FILL_SECONDS: u64 = 7_200;
/// Retention deletes what is older than this, and the older half of the store is made to be older.
const RETENTION_DAYS: u32 = 100;
const AGE_DAYS: u32 = 200;

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct GrowthArgs {
    /// Messages to store before measuring; half of them are requests, half are their answers
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    pub messages: u64,
    /// Deliveries that stay open, for a participant that cannot be reached
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    pub open_deliveries: u64,
    /// Seconds of each run
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Runs of each case; the report gives medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// The program whose `serve` is measured [default: emberpost beside this program]
    #[arg(long, value_name = "PATH")]
    pub server_binary: Option<std::path::PathBuf>,
    /// Also writes the figures as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub out: Option<std::path::PathBuf>,
}

/// The figures of a full store.
#[derive(Debug, Default, Serialize)]
pub struct Growth {
    messages: u64,
    open_deliveries: u64,
    /// Messages stored per second while the store was filled.
    filled_per_second: f64,
    /// Size of the database in bytes.
    database_bytes: u64,
    /// Accepting with the empty and with the full store, in turns.
    empty: Vec<Sample>,
    full: Vec<Sample>,
    lists: Vec<ListTime>,
    /// From the start of the process to the first `/health/ready` that says 200, with all open deliveries.
    restart_ms: f64,
    /// Resident memory after the restart, and at most under load.
    memory_bytes_at_rest: u64,
    memory_bytes_at_most: u64,
    /// Accepting while retention deletes half of the store, in turns with an empty store.
    during_retention: Vec<Sample>,
    empty_beside_retention: Vec<Sample>,
    /// Old messages before and after, and the time in which retention ran.
    old_before_retention: u64,
    left_after_retention: u64,
    retention_seconds: f64,
}

/// Fills a store and measures. Errs if a process cannot be started or a figure cannot be taken.
pub fn measure(args: &GrowthArgs) -> Result<Growth> {
    let plan = Plan::of_growth(args);
    let bench = Bench::new(&plan)?;
    let folder = Folder::new("full")?;
    let mut growth = Growth { messages: args.messages, open_deliveries: args.open_deliveries, ..Growth::default() };
    fill(&bench, folder.path(), args, &mut growth)?;
    restart_and_lists(&bench, folder.path(), &mut growth)?;
    accept_in_turns(&bench, folder.path(), args, &mut growth)?;
    retention(&bench, folder.path(), args, &mut growth)?;
    Ok(growth)
}

/// Half of the messages are requests that are delivered and answered; then those that nobody takes.
fn fill(bench: &Bench<'_>, folder: &Path, args: &GrowthArgs, growth: &mut Growth) -> Result<()> {
    let (_receiver, receiver_address) = bench.receiver("127.0.0.1:0")?;
    let channel = Channel::Http(&receiver_address);
    let router = RouterProcess::start(&bench.server_program, folder, &settings(channel, ""), false)?;
    let begun = Instant::now();
    let requests = args.messages.saturating_sub(args.open_deliveries) / 2;
    for (destination, messages) in [(RECEIVER_ADDRESS, requests), (DOWN_ADDRESS, args.open_deliveries)] {
        eprintln!("growth: sends {messages} messages to {destination}");
        let arguments = strings(&["--peer", router.address(), "--destination", destination]);
        let limit = ["--messages".to_owned(), messages.to_string()];
        // Nobody waits for an answer from a participant that cannot be reached.
        let later = (destination == DOWN_ADDRESS).then(|| "--respond-async".to_owned()).into_iter().collect();
        let load = load(FILL_SECONDS).arguments();
        bench.measured("sender", &[arguments, limit.into(), later, load].concat(), &[], || Ok(()))?;
    }
    growth.filled_per_second = args.messages as f64 / begun.elapsed().as_secs_f64();
    router.stop()?;
    growth.database_bytes = std::fs::metadata(folder.join("bench.db"))?.len();
    Ok(())
}

fn restart_and_lists(bench: &Bench<'_>, folder: &Path, growth: &mut Growth) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..bench.plan.runs {
        let begun = Instant::now();
        let router = RouterProcess::start(&bench.server_program, folder, &settings(NOBODY, ""), false)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        growth.memory_bytes_at_rest = proc::memory_bytes(router.pid()).0;
        router.stop()?;
    }
    growth.restart_ms = median(times.into_iter()).unwrap_or_default();
    let router = RouterProcess::start(&bench.server_program, folder, &settings(NOBODY, ""), false)?;
    growth.lists = lists::measure(router.address(), bench.plan.runs)?;
    growth.memory_bytes_at_most = proc::memory_bytes(router.pid()).1;
    router.stop()?;
    Ok(())
}

/// Two routers at once, one of which is idle while the other accepts.
fn accept_in_turns(bench: &Bench<'_>, folder: &Path, args: &GrowthArgs, growth: &mut Growth) -> Result<()> {
    let router = RouterProcess::start(&bench.server_program, folder, &settings(NOBODY, ""), false)?;
    for run in 1..=args.runs {
        growth.empty.push(accept_into_empty(bench, args)?);
        growth.full.push(accept(bench, &router, args)?);
        let rate = growth.full.last().map_or(0.0, |sample| sample.messages_per_second);
        eprintln!("growth: accept with a full store, run {run} of {}: {rate:.0}/s", args.runs);
    }
    growth.memory_bytes_at_most = growth.memory_bytes_at_most.max(proc::memory_bytes(router.pid()).1);
    router.stop()?;
    Ok(())
}

fn retention(bench: &Bench<'_>, folder: &Path, args: &GrowthArgs, growth: &mut Growth) -> Result<()> {
    let database = folder.join("bench.db");
    aging::make_older_half_old(&database, AGE_DAYS)?;
    growth.old_before_retention = aging::old_messages_left(&database, AGE_DAYS)?;
    let more = format!("\n[retention]\nbodies_days = {RETENTION_DAYS}\ntraces_days = {RETENTION_DAYS}\n");
    let begun = Instant::now();
    let router = RouterProcess::start(&bench.server_program, folder, &settings(NOBODY, &more), false)?;
    for run in 1..=args.runs {
        growth.during_retention.push(accept(bench, &router, args)?);
        growth.empty_beside_retention.push(accept_into_empty(bench, args)?);
        eprintln!("growth: accept during retention, run {run} of {}", args.runs);
    }
    growth.retention_seconds = begun.elapsed().as_secs_f64();
    router.stop()?;
    growth.left_after_retention = aging::old_messages_left(&database, AGE_DAYS)?;
    Ok(())
}

fn accept_into_empty(bench: &Bench<'_>, args: &GrowthArgs) -> Result<Sample> {
    let folder = Folder::new("empty")?;
    let router = RouterProcess::start(&bench.server_program, folder.path(), &settings(NOBODY, ""), false)?;
    let sample = accept(bench, &router, args)?;
    router.stop()?;
    Ok(sample)
}

fn accept(bench: &Bench<'_>, router: &RouterProcess, args: &GrowthArgs) -> Result<Sample> {
    Ok(bench.send(load(args.seconds), router.address(), MAILBOX_ADDRESS, &[router.pid()])?.sample())
}

fn load(seconds: u64) -> Load {
    Load { senders: SENDERS, size_bytes: SIZE_BYTES, seconds, warm_ms: 500, rate: None }
}

/// Port 9 of loopback, where nobody listens.
const NOBODY: Channel<'static> = Channel::Http("127.0.0.1:9");

fn settings<'a>(channel: Channel<'a>, more: &'a str) -> Settings<'a> {
    Settings { channel, down: Some(DOWN_ADDRESS), more, store: None }
}

impl Growth {
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The figures as a Markdown table, each with its baseline.
    pub fn table(&self) -> String {
        let of = |samples: &[Sample], value: fn(&Sample) -> f64| median(samples.iter().map(value)).unwrap_or_default();
        let ratio = |some: &[Sample], base: &[Sample], value: fn(&Sample) -> f64| {
            median(some.iter().zip(base).map(|(one, base)| value(one) / value(base).max(1e-9))).unwrap_or_default()
        };
        let rate: fn(&Sample) -> f64 = |sample| sample.messages_per_second;
        let p99: fn(&Sample) -> f64 = |sample| sample.latency.p99_us as f64 / 1e3;
        let written: fn(&Sample) -> f64 = |sample| sample.written_bytes_per_message;
        let mut table = format!(
            "{} stored messages, {} open deliveries, database of {:.0} MB, filled at {:.0} messages/s\n\n| what | empty store | full store | ratio |\n|---|---|---|---|\n",
            self.messages,
            self.open_deliveries,
            self.database_bytes as f64 / 1e6,
            self.filled_per_second
        );
        for (name, value, digits) in [
            ("accept, messages/s", rate, 0),
            ("accept, p99 ms", p99, 1),
            ("accept, bytes written per message", written, 0),
        ] {
            let (empty, full) = (of(&self.empty, value), of(&self.full, value));
            let ratio = ratio(&self.full, &self.empty, value);
            let _ = writeln!(table, "| {name} | {empty:.digits$} | {full:.digits$} | {ratio:.2} |");
        }
        for (name, value, digits) in [("during retention, messages/s", rate, 0), ("during retention, p99 ms", p99, 1)] {
            let (empty, full) = (of(&self.empty_beside_retention, value), of(&self.during_retention, value));
            let ratio = ratio(&self.during_retention, &self.empty_beside_retention, value);
            let _ = writeln!(table, "| {name} | {empty:.digits$} | {full:.digits$} | {ratio:.2} |");
        }
        let _ = writeln!(
            table,
            "\n| restart to ready | memory after the restart | memory at most | old messages left after {:.0} s of retention |\n|---|---|---|---|\n| {:.0} ms | {:.0} MB | {:.0} MB | {} of {} |",
            self.retention_seconds,
            self.restart_ms,
            self.memory_bytes_at_rest as f64 / 1e6,
            self.memory_bytes_at_most as f64 / 1e6,
            self.left_after_retention,
            self.old_before_retention,
        );
        table += "\n| list of | first page, ms | entries |\n|---|---|---|\n";
        for list in &self.lists {
            let _ = writeln!(table, "| `{}` | {:.1} | {} |", list.filter, list.median_ms, list.entries);
        }
        table
    }
}

impl Plan {
    fn of_growth(args: &GrowthArgs) -> Plan {
        Plan {
            seconds: args.seconds,
            warm_ms: 500,
            runs: args.runs,
            senders: vec![SENDERS],
            sizes_bytes: vec![SIZE_BYTES],
            rates: Vec::new(),
            scenarios: Vec::new(),
            server_binary: args.server_binary.clone(),
            counting_binary: None,
            broker: None,
            postgres: None,
            target: None,
            counts: false,
        }
    }
}

/// Runs the command: prints the table, and writes the file if one is wanted.
pub fn run(args: &GrowthArgs) -> Result<()> {
    let growth = measure(args)?;
    print!("{}", growth.table());
    if let Some(path) = &args.out {
        std::fs::write(path, growth.json() + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
