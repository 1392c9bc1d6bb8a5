//! What a full store costs: accepting, lists, restart, memory, and retention with many stored messages, beside an
//! empty store in the same run.

mod aging;
mod lists;
mod store;
mod table;

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use self::lists::ListTime;
use self::store::Store;
use super::cases::Bench;
use super::http::strings;
use super::message::{MAILBOX_ADDRESS, RECEIVER_ADDRESS};
use super::plan::{Load, Plan};
use super::postgres::Wal;
use super::proc;
use super::report::{Sample, median};
use super::router::{Channel, RouterProcess};

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
    /// A running PostgreSQL for the stores, postgres://superuser@host:port/postgres [default: SQLite]
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
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
    let store = Store::new("full", args.postgres.as_deref())?;
    let mut growth = Growth { messages: args.messages, open_deliveries: args.open_deliveries, ..Growth::default() };
    let mut empties = Empties { postgres: args.postgres.as_deref(), stores: Vec::new() };
    fill(&bench, &store, args, &mut growth)?;
    restart_and_lists(&bench, &store, &mut growth)?;
    accept_in_turns(&bench, (&store, &mut empties), args, &mut growth)?;
    retention(&bench, (&store, &mut empties), args, &mut growth)?;
    Ok(growth)
}

/// Half of the messages are requests that are delivered and answered; then those that nobody takes.
fn fill(bench: &Bench<'_>, store: &Store, args: &GrowthArgs, growth: &mut Growth) -> Result<()> {
    let (_receiver, receiver_address) = bench.receiver("127.0.0.1:0")?;
    let router = store.start(bench, Channel::Http(&receiver_address), "")?;
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
    growth.database_bytes = store.size_bytes()?;
    Ok(())
}

fn restart_and_lists(bench: &Bench<'_>, store: &Store, growth: &mut Growth) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..bench.plan.runs {
        let begun = Instant::now();
        let router = store.start(bench, NOBODY, "")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        growth.memory_bytes_at_rest = proc::memory_bytes(router.pid()).0;
        router.stop()?;
    }
    growth.restart_ms = median(times.into_iter()).unwrap_or_default();
    eprintln!("growth: restart to ready in {:.0} ms", growth.restart_ms);
    let router = store.start(bench, NOBODY, "")?;
    growth.lists = lists::measure(router.address(), bench.plan.runs)?;
    growth.memory_bytes_at_most = proc::memory_bytes(router.pid()).1;
    router.stop()?;
    Ok(())
}

/// Two routers at once, one of which is idle while the other accepts.
fn accept_in_turns(
    bench: &Bench<'_>,
    (store, empties): Stores<'_, '_>,
    args: &GrowthArgs,
    growth: &mut Growth,
) -> Result<()> {
    let router = store.start(bench, NOBODY, "")?;
    for run in 1..=args.runs {
        growth.empty.push(empties.accept(bench, args)?);
        growth.full.push(accept(bench, store, &router, args)?);
        let rate = growth.full.last().map_or(0.0, |sample| sample.messages_per_second);
        eprintln!("growth: accept with a full store, run {run} of {}: {rate:.0}/s", args.runs);
    }
    growth.memory_bytes_at_most = growth.memory_bytes_at_most.max(proc::memory_bytes(router.pid()).1);
    router.stop()?;
    Ok(())
}

fn retention(
    bench: &Bench<'_>,
    (store, empties): Stores<'_, '_>,
    args: &GrowthArgs,
    growth: &mut Growth,
) -> Result<()> {
    store.make_older_half_old(AGE_DAYS)?;
    growth.old_before_retention = store.old_messages_left(AGE_DAYS)?;
    let more = format!("\n[retention]\nbodies_days = {RETENTION_DAYS}\ntraces_days = {RETENTION_DAYS}\n");
    let begun = Instant::now();
    let router = store.start(bench, NOBODY, &more)?;
    for run in 1..=args.runs {
        growth.during_retention.push(accept(bench, store, &router, args)?);
        growth.empty_beside_retention.push(empties.accept(bench, args)?);
        eprintln!("growth: accept during retention, run {run} of {}", args.runs);
    }
    growth.retention_seconds = begun.elapsed().as_secs_f64();
    router.stop()?;
    growth.left_after_retention = store.old_messages_left(AGE_DAYS)?;
    Ok(())
}

/// Stores that were empty when they were measured. They are kept until the end: to drop a database is a checkpoint for its server,
/// after which the next one to be measured would write images of all its pages.
struct Empties<'a> {
    postgres: Option<&'a str>,
    stores: Vec<Store>,
}

/// The full store, and the empty ones.
type Stores<'s, 'a> = (&'s Store, &'s mut Empties<'a>);

impl Empties<'_> {
    fn accept(&mut self, bench: &Bench<'_>, args: &GrowthArgs) -> Result<Sample> {
        let store = Store::new(&format!("empty-{}", self.stores.len()), self.postgres)?;
        let router = store.start(bench, NOBODY, "")?;
        let sample = accept(bench, &store, &router, args)?;
        router.stop()?;
        self.stores.push(store);
        Ok(sample)
    }
}

/// With a store in PostgreSQL, what is written is what the server's log grows by.
fn accept(bench: &Bench<'_>, store: &Store, router: &RouterProcess, args: &GrowthArgs) -> Result<Sample> {
    let before = store.wal()?;
    let run = bench.send(load(args.seconds), router.address(), MAILBOX_ADDRESS, &[router.pid()])?;
    let wal = store.wal()?.zip(before).map(|(wal, before)| wal.since(before));
    let per_message = |count: fn(&Wal) -> f64| wal.and_then(|wal| run.per_message_in_all(count(&wal)));
    let (bytes, images) = (per_message(|wal| wal.bytes), per_message(|wal| wal.full_page_images));
    let sample = run.sample();
    Ok(Sample {
        written_bytes_per_message: bytes.unwrap_or(sample.written_bytes_per_message),
        full_page_images_per_message: images,
        ..sample
    })
}

fn load(seconds: u64) -> Load {
    Load { senders: SENDERS, size_bytes: SIZE_BYTES, seconds, warm_ms: 500, rate: None }
}

/// Port 9 of loopback, where nobody listens.
const NOBODY: Channel<'static> = Channel::Http("127.0.0.1:9");

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
