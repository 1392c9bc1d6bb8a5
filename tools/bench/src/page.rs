//! The page of performance: runs every section and writes it, with its plots, so that no figure is copied by hand.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::growth::{self, GrowthArgs};
use super::plan::{Plan, Scenario};
use super::report::Report;
use super::{budget, cases, plot, table};

/// What to measure, and where to write it.
#[derive(Debug, clap::Args)]
pub struct PageArgs {
    /// The page
    #[arg(long, value_name = "FILE", default_value = "docs/performance.md")]
    out: PathBuf,
    /// Seconds of each run
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Runs of each case; the page gives medians
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Messages of the full store; 0 leaves that section out
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// The program whose `serve` is measured [default: emberpost beside this program]
    #[arg(long, value_name = "PATH")]
    server_binary: Option<PathBuf>,
    /// A build of it with `--features count-allocations`
    #[arg(long, value_name = "PATH")]
    counting_binary: Option<PathBuf>,
    /// A running broker; without it nothing is measured over AMQP
    #[arg(long, value_name = "URL")]
    broker: Option<String>,
    /// A running PostgreSQL; without it nothing is measured with a store there
    #[arg(long, value_name = "URL")]
    postgres: Option<String>,
}

/// One measured section.
struct Section {
    title: &'static str,
    /// The first part of its plots' names.
    name: &'static str,
    text: &'static str,
    senders: &'static [usize],
    sizes_bytes: &'static [usize],
    rates: &'static [f64],
    scenarios: &'static [Scenario],
    counts: bool,
}

const BUDGETS: Section = Section {
    title: "The budgets",
    name: "budgets",
    text: "A message of 2 KB, checked and stored, HTTP in to HTTP out, 64 senders, SQLite. The relay is a program of the same \
           HTTP libraries that forwards the message and returns the answer, without checking or storing anything; it runs \
           alternately with the router, with the same senders and receiver.",
    senders: &[64],
    sizes_bytes: &[2_048],
    rates: &[],
    scenarios: &[Scenario::Relay, Scenario::Accept, Scenario::Inout, Scenario::AmqpRelay, Scenario::AmqpInout],
    counts: true,
};

const ONE_SENDER: Section = Section {
    title: "One sender alone",
    name: "one",
    text: "Every message waits for its own two commits. `disk` is one page written and one wait for the disk.",
    senders: &[1],
    sizes_bytes: &[2_048],
    rates: &[],
    scenarios: &[Scenario::Relay, Scenario::Accept, Scenario::Inout, Scenario::Disk, Scenario::Sqlite],
    counts: false,
};

const POSTGRES: Section = Section {
    title: "With a store in PostgreSQL",
    name: "postgres",
    text: "As the budgets, with PostgreSQL on the same cores. The notes below the tables give what its write-ahead log (WAL) \
           grows by, from `pg_stat_wal`.",
    senders: &[64],
    sizes_bytes: &[2_048],
    rates: &[],
    scenarios: &[Scenario::Relay, Scenario::PostgresAccept, Scenario::PostgresInout],
    counts: true,
};

const SIZES: Section = Section {
    title: "Larger messages",
    name: "sizes",
    text: "Bodies are compressed before they are stored; these hold random text, which compresses by a quarter at most.",
    senders: &[16, 64],
    sizes_bytes: &[51_200],
    rates: &[],
    scenarios: &[Scenario::Relay, Scenario::Accept, Scenario::Inout, Scenario::AmqpRelay, Scenario::AmqpInout],
    counts: false,
};

const OPEN_LOOP: Section = Section {
    title: "At a fixed rate",
    name: "rates",
    text: "Messages become due at a fixed rate, whether or not earlier ones were answered, and the time of each counts from \
           when it was due (no coordinated omission). Due times have a resolution of 1 ms, so that much is in every figure.",
    senders: &[64],
    sizes_bytes: &[2_048],
    rates: &[500.0, 2_000.0, 4_000.0],
    scenarios: &[Scenario::Relay, Scenario::Accept, Scenario::Inout],
    counts: false,
};

const SLOW_RECEIVER: Section = Section {
    title: "Beside a slow receiver",
    name: "slow",
    text: "`slow` is `inout` while another receiver takes 30 s for each message that 16 more senders have for it.",
    senders: &[16],
    sizes_bytes: &[2_048],
    rates: &[],
    scenarios: &[Scenario::Relay, Scenario::Inout, Scenario::Slow],
    counts: false,
};

/// Measures all sections and writes the page and its plots, which lie in a folder beside it.
pub fn write(args: &PageArgs) -> Result<()> {
    let mut page = String::from(INTRODUCTION);
    let budgets = args.measure(&BUDGETS)?;
    let one = args.measure(&ONE_SENDER)?;
    let medians = [budgets.medians(), one.medians()].concat();
    args.begin(&mut page, &BUDGETS);
    let _ = writeln!(page, "{}", budget::table(&medians));
    args.end(&mut page, &BUDGETS, &budgets)?;
    page += LIMITS;
    args.begin(&mut page, &ONE_SENDER);
    args.end(&mut page, &ONE_SENDER, &one)?;
    let postgres = args.postgres.as_ref().map(|_| &POSTGRES);
    for section in postgres.into_iter().chain([&SIZES, &OPEN_LOOP, &SLOW_RECEIVER]) {
        let report = args.measure(section)?;
        args.begin(&mut page, section);
        args.end(&mut page, section, &report)?;
    }
    if args.messages > 0 {
        let _ = writeln!(page, "## A full store\n\n`emberpost bench growth --messages {}`:\n", args.messages);
        page += &growth::measure(&args.growth(None))?.table();
        if args.postgres.is_some() {
            let _ = writeln!(
                page,
                "\n{FULL_POSTGRES}\n\n`emberpost bench growth --messages {} --postgres URL`:\n",
                args.messages
            );
            page += &growth::measure(&args.growth(args.postgres.clone()))?.table();
        }
    }
    let _ = writeln!(page, "\n{CHECK}\n\n{}", check()?);
    std::fs::write(&args.out, page).with_context(|| format!("cannot write {}", args.out.display()))
}

impl PageArgs {
    fn measure(&self, section: &Section) -> Result<Report> {
        let (has_broker, has_postgres) = (self.broker.is_some(), self.postgres.is_some());
        let is_possible = |scenario: &Scenario| {
            (has_broker || !scenario.needs_broker()) && (has_postgres || !scenario.needs_postgres())
        };
        let scenarios = section.scenarios.iter().copied().filter(is_possible);
        cases::measure(&Plan {
            seconds: self.seconds,
            warm_ms: 500,
            runs: self.runs,
            senders: section.senders.to_vec(),
            sizes_bytes: section.sizes_bytes.to_vec(),
            rates: section.rates.to_vec(),
            scenarios: scenarios.collect(),
            server_binary: self.server_binary.clone(),
            counting_binary: self.counting_binary.clone(),
            broker: self.broker.clone(),
            postgres: self.postgres.clone(),
            target: None,
            counts: section.counts,
        })
    }

    fn growth(&self, postgres: Option<String>) -> GrowthArgs {
        GrowthArgs {
            messages: self.messages,
            open_deliveries: 10_000.min(self.messages / 10),
            seconds: self.seconds,
            runs: self.runs,
            server_binary: self.server_binary.clone(),
            postgres,
            out: None,
        }
    }

    fn begin(&self, page: &mut String, section: &Section) {
        let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let scenarios: Vec<_> = section.scenarios.iter().map(|scenario| scenario.name()).collect();
        let rates: Vec<_> = section.rates.iter().map(f64::to_string).collect();
        let rates = if rates.is_empty() { String::new() } else { format!(" --rate {}", rates.join(",")) };
        let _ = writeln!(
            page,
            "## {}\n\n{}\n\n`emberpost bench --seconds {} --runs {} --senders {} --sizes {}{rates} --scenario {}`:\n",
            section.title,
            section.text,
            self.seconds,
            self.runs,
            list(section.senders),
            list(section.sizes_bytes),
            scenarios.join(",")
        );
    }

    /// The tables, and the plots in the folder named like the page.
    fn end(&self, page: &mut String, section: &Section, report: &Report) -> Result<()> {
        let folder = self.out.with_extension("");
        let beside = folder.file_name().map(Path::new).context("the page has no name")?;
        let _ = writeln!(page, "```text\n{}```\n", table::text(report));
        for plot in plot::draw(report, &folder, section.name)? {
            let file = plot.file_name().map(|name| beside.join(name)).unwrap_or_default();
            let _ = writeln!(page, "![{}]({})\n", section.title, file.display());
        }
        Ok(())
    }
}

/// The table of the check, measured in an empty process.
fn check() -> Result<String> {
    let output = Command::new(std::env::current_exe()?).arg("check").output().context("cannot measure the check")?;
    if !output.status.success() {
        bail!("the check could not be measured: {}", output.status);
    }
    String::from_utf8(output.stdout).context("the figures of the check are not text")
}

const INTRODUCTION: &str = "# Performance

Made by `emberpost bench page`, which measures everything on this page in one go. Senders, receiver, relay, and router are \
separate processes on one machine, whose cores they share. The machine's speed changes from minute to minute: compare only \
figures of one table, whose cases took turns, and rather the ratios and counts per message than rates.

";

const LIMITS: &str = "What limits the budgets that are missed, or met only when the machine is calm:

- **Bytes.** A message from in to out stores two messages and a delivery. At 64 senders a commit has about 15 of them and writes \
45 pages into SQLite's log: 16 with messages and bodies, and 29 that are the last leaves and the inner pages of 16 trees, \
written again with each commit. These pages go into the database file once more, and references and search terms follow \
later. Waiting for larger batches writes 13 % less and delivers a quarter fewer messages a second; pages of 1 KiB write a \
quarter less and take 18 % more CPU time. Both were measured and left.
- **Switches.** The client library returns the result of each statement to the thread that writes, which therefore wakes once for \
each of about a dozen statements of a batch. With 15 messages in a batch that is more than one for each message.
- **Rates.** Router, relay, senders, and receiver share the cores, so a share of the relay's rate is a ratio of CPU times: it \
changes with the speed at which the machine happens to run. Over AMQP the broker takes its part, too.
- **One sender.** A message takes two transactions, each of a few calls to SQLite's thread; the thread that writes gives up the \
processor 15 times for each message.

";

const FULL_POSTGRES: &str = "## A full store in PostgreSQL

As above. The bytes written per message are what the server's log (WAL) grows by, with images of full pages; memory is the router's.";

const CHECK: &str = "## The check of a message

`EMBERPOST_CORPUS=<folder> emberpost bench check`: of the folder's JSON messages those nearest to 4 KB and 50 KB and the \
largest; the whole check (reading, message rules, structure with every invariant), beside `serde_json::Value` parsing the \
same JSON in the same run; medians of five rounds in turns.";
