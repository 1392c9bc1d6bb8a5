//! Runs the cases: which process runs when, and what is read before and after.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::children::{Channel, Folder, RoleProcess, RouterProcess, usages};
use super::message::{MAILBOX_ADDRESS, RECEIVER_ADDRESS, SLOW_ADDRESS};
use super::report::{Case, FsyncsBy, Report, Sample};
use super::roles::Measured;
use super::{fsync, proc};

/// The counter used in place of fsyncs where they cannot be counted: each commit of the store waits for the disk
/// once.
pub(super) const COMMITS_METRIC: &str = "emberpost_store_commits_total";
/// Duration of the pass that only counts fsyncs, in seconds.
const COUNTING_SECONDS: u64 = 2;
/// The number of senders that keep the slow receiver busy and its lanes full.
const SLOW_SENDERS: usize = 16;
/// Rows per commit of the bare SQLite baseline.
const ROWS_PER_COMMIT: [usize; 2] = [1, 64];

/// What to measure.
pub struct Plan {
    pub seconds: u64,
    pub runs: u32,
    pub senders: Vec<usize>,
    pub sizes_bytes: Vec<usize>,
    pub scenarios: Vec<Scenario>,
    pub server_binary: Option<PathBuf>,
    /// The URL of a running broker.
    pub broker: Option<String>,
}

/// The path that messages take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    All,
    /// A router that stores the message for a mailbox and answers 202.
    Accept,
    /// A router that delivers over HTTP and returns the receiver's answer.
    Inout,
    /// As inout, while 16 more senders send to another receiver that takes 30 s per message.
    Slow,
    /// The bare relay, to the same receiver.
    Relay,
    /// No messages: rows committed to SQLite.
    Sqlite,
    /// From queue to queue of the broker, through a program that only forwards.
    AmqpRelay,
    /// From queue to queue of the broker, through a router.
    AmqpInout,
}

impl Scenario {
    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub fn needs_broker(self) -> bool {
        matches!(self, Scenario::AmqpRelay | Scenario::AmqpInout)
    }
}

/// Runs everything in the plan. Errs if a process cannot be started, ends early, or cannot be stopped.
pub fn measure(plan: &Plan) -> Result<Report> {
    let bench = Bench::new(plan)?;
    let mut report = Report::begin(plan.seconds, plan.runs, bench.fsyncs_by);
    if bench.folder.is_in_memory() {
        report.notes.push("the temporary folder is in memory, where fsyncs cost nothing (set TMPDIR)".to_owned());
    }
    for &size_bytes in &plan.sizes_bytes {
        for &senders in &plan.senders {
            let cases = bench.http_cases(senders, size_bytes)?;
            report.note_slow(&cases);
            report.cases.extend(cases);
        }
        match &plan.broker {
            Some(broker) => report.cases.extend(bench.amqp_cases(broker, size_bytes)?),
            None if bench.chosen(Scenario::AmqpInout) => {
                let note = "without --broker URL nothing is measured over AMQP".to_owned();
                if !report.notes.contains(&note) {
                    report.notes.push(note);
                }
            }
            None => {}
        }
        if bench.chosen(Scenario::Sqlite) {
            report.cases.extend(bench.sqlite_cases(size_bytes)?);
        }
    }
    report.end();
    Ok(report)
}

pub(super) struct Bench<'a> {
    pub(super) plan: &'a Plan,
    folder: Folder,
    this_program: PathBuf,
    pub(super) server_program: PathBuf,
    pub(super) fsyncs_by: FsyncsBy,
}

impl<'a> Bench<'a> {
    fn new(plan: &'a Plan) -> Result<Bench<'a>> {
        let this_program = std::env::current_exe().context("cannot find this program")?;
        let server_program = match &plan.server_binary {
            // Absolute, because the router runs in a folder of its own.
            Some(path) => std::fs::canonicalize(path).with_context(|| format!("no program at {}", path.display()))?,
            None => this_program.with_file_name("emberpost"),
        };
        let fsyncs_by = if fsync::can_count() { FsyncsBy::Strace } else { FsyncsBy::Commits };
        Ok(Bench { plan, folder: Folder::new("all")?, this_program, server_program, fsyncs_by })
    }

    pub(super) fn chosen(&self, scenario: Scenario) -> bool {
        self.plan.scenarios.iter().any(|chosen| matches!(chosen, Scenario::All) || *chosen == scenario)
    }

    /// The HTTP cases with this number of senders and this size, in alternating runs.
    fn http_cases(&self, senders: usize, size_bytes: usize) -> Result<Vec<Case>> {
        let scenarios = [Scenario::Relay, Scenario::Accept, Scenario::Inout, Scenario::Slow].into_iter();
        let mut cases: Vec<(Scenario, Case)> = scenarios
            .filter(|scenario| self.chosen(*scenario))
            .map(|scenario| (scenario, Case::new(scenario.name(), senders, size_bytes)))
            .collect();
        let load = Load { senders, size_bytes, seconds: self.plan.seconds };
        for run in 1..=self.plan.runs {
            for (scenario, case) in &mut cases {
                case.samples.push(self.http_run(*scenario, load)?);
                self.progress(case, run);
            }
        }
        if self.fsyncs_by == FsyncsBy::Strace {
            for (scenario, case) in cases.iter_mut().filter(|(scenario, _)| has_fsyncs(*scenario)) {
                let per_commit = self.count_router(*scenario, load)?;
                case.fsyncs_per_message =
                    per_commit.zip(case.commits_per_message()).map(|(fsyncs, commits)| fsyncs * commits);
            }
        }
        Ok(cases.into_iter().map(|(_, case)| case).collect())
    }

    fn http_run(&self, scenario: Scenario, load: Load) -> Result<Sample> {
        let mut receiver = self.role("receiver", &[])?;
        let receiver_address = receiver.address()?;
        if scenario == Scenario::Relay {
            let mut relay = self.role("relay", &["--peer", &receiver_address])?;
            let address = relay.address()?;
            let served_by = [relay.pid(), receiver.pid()];
            return Ok(self.send(load, &address, RECEIVER_ADDRESS, &served_by)?.sample());
        }
        let folder = Folder::new("run")?;
        let router =
            RouterProcess::start(&self.server_program, folder.path(), Channel::Http(&receiver_address), false)?;
        let served_by = [router.pid(), receiver.pid()];
        // These senders end with the run; their replies do not matter.
        let _slow = match scenario {
            Scenario::Slow => Some(self.slow_senders(load, router.address())?),
            _ => None,
        };
        let commits_before = router.metric(COMMITS_METRIC);
        let run = self.send(load, router.address(), destination(scenario), &served_by)?;
        let commits = commits_before.zip(router.metric(COMMITS_METRIC)).map(|(before, after)| after - before);
        // Attempts at the slow receiver would delay a stop, so that router is killed on drop.
        if scenario != Scenario::Slow {
            router.stop()?;
        }
        Ok(Sample { commits_per_message: commits.and_then(|commits| run.per_message_in_all(commits)), ..run.sample() })
    }

    /// Senders to the slow receiver; they stop when the value is dropped.
    fn slow_senders(&self, load: Load, address: &str) -> Result<RoleProcess> {
        let numbers = [SLOW_SENDERS, load.size_bytes].map(|number| number.to_string());
        let place = ["--peer", address, "--destination", SLOW_ADDRESS, "--seconds", "600"];
        let mut senders =
            self.role("sender", &[&place[..], &["--width", &numbers[0], "--size-bytes", &numbers[1]]].concat())?;
        expect_measuring(&senders.line()?)?;
        Ok(senders)
    }

    /// Repeats the case briefly with the router traced, and returns the fsyncs of its lifetime per commit. Tracing
    /// slows the router down so much that fewer messages share a commit, so commits per message are taken from the
    /// other runs.
    fn count_router(&self, scenario: Scenario, load: Load) -> Result<Option<f64>> {
        let mut receiver = self.role("receiver", &[])?;
        let receiver_address = receiver.address()?;
        let folder = Folder::new("run")?;
        let router = RouterProcess::start(&self.server_program, folder.path(), Channel::Http(&receiver_address), true)?;
        let load = Load { seconds: COUNTING_SECONDS, ..load };
        self.send(load, router.address(), destination(scenario), &[router.pid()])?;
        let commits = router.metric(COMMITS_METRIC).filter(|commits| *commits > 0.0);
        Ok(router.stop()?.zip(commits).map(|(fsyncs, commits)| fsyncs as f64 / commits))
    }

    /// Sends messages to `address` and measures what the processes in `served_by`, the server first, use meanwhile.
    fn send(&self, load: Load, address: &str, destination: &str, served_by: &[u32]) -> Result<Run> {
        let numbers = [load.senders, load.size_bytes].map(|number| number.to_string());
        let seconds = load.seconds.to_string();
        let mut sender = self.role(
            "sender",
            &[
                "--peer",
                address,
                "--destination",
                destination,
                "--width",
                &numbers[0],
                "--size-bytes",
                &numbers[1],
                "--seconds",
                &seconds,
            ],
        )?;
        expect_measuring(&sender.line()?)?;
        let before = usages(served_by)?;
        let measured: Measured = serde_json::from_str(&sender.line()?)?;
        let used = usages(served_by)?.into_iter().zip(before).map(|(after, before)| after.since(before)).collect();
        sender.ended()?;
        Ok(Run { measured, used })
    }

    /// Bare commits of rows of this size, one and many at a time, in alternating runs.
    fn sqlite_cases(&self, size_bytes: usize) -> Result<Vec<Case>> {
        let name = |rows| format!("sqlite, {rows} rows").replace(" 1 rows", " 1 row");
        let mut cases = ROWS_PER_COMMIT.map(|rows| (rows, Case::new(name(rows), 1, size_bytes)));
        for run in 1..=self.plan.runs {
            for (rows, case) in &mut cases {
                let program = Command::new(&self.this_program);
                case.samples.push(self.sqlite_run(program, *rows, (size_bytes, self.plan.seconds))?.sample());
                self.progress(case, run);
            }
        }
        if self.fsyncs_by == FsyncsBy::Strace {
            for (rows, case) in &mut cases {
                let table = self.folder.path().join(format!("sqlite-{rows}.txt"));
                let program = fsync::counted(&self.this_program, &table);
                let run = self.sqlite_run(program, *rows, (size_bytes, COUNTING_SECONDS))?;
                case.fsyncs_per_message = fsync::count(&table).and_then(|fsyncs| run.per_message_in_all(fsyncs as f64));
                std::fs::remove_file(table)?;
            }
        }
        Ok(cases.map(|(_, case)| case).into())
    }

    fn sqlite_run(&self, program: Command, rows: usize, (size_bytes, seconds): (usize, u64)) -> Result<Run> {
        let folder = Folder::new("run")?;
        let numbers = [rows, size_bytes].map(|number| number.to_string());
        let arguments = ["--role", "sqlite", "--width", &numbers[0], "--size-bytes", &numbers[1]].map(str::to_owned);
        let place = ["--seconds".to_owned(), seconds.to_string(), "--folder".to_owned(), text(folder.path())?];
        let mut process = RoleProcess::start(program, &[arguments.as_slice(), &place].concat())?;
        expect_measuring(&process.line()?)?;
        let mut measured: Measured = serde_json::from_str(&process.line()?)?;
        process.ended()?;
        // It is its own server, so its usage counts there and not again as the senders'.
        let cpu_us = std::mem::take(&mut measured.cpu_us);
        let used = vec![proc::Usage { cpu_us, written_bytes: measured.written_bytes }];
        Ok(Run { measured, used })
    }

    pub(super) fn role(&self, role: &str, arguments: &[&str]) -> Result<RoleProcess> {
        let arguments: Vec<_> = ["--role", role].iter().chain(arguments).map(|text| (*text).to_owned()).collect();
        RoleProcess::start(Command::new(&self.this_program), &arguments)
    }

    /// Prints a line to standard error after each run, to show progress.
    pub(super) fn progress(&self, case: &Case, run: u32) {
        let rate = case.samples.last().map_or(0.0, |sample| sample.messages_per_second);
        let Case { scenario, senders, size_bytes, .. } = case;
        eprintln!("{scenario}, {senders} senders, {size_bytes} bytes, run {run} of {}: {rate:.0}/s", self.plan.runs);
    }
}

#[derive(Clone, Copy)]
pub(super) struct Load {
    /// Concurrent senders over HTTP, messages in flight over AMQP.
    pub senders: usize,
    pub size_bytes: usize,
    pub seconds: u64,
}

/// The result of one run: the senders' figures, and what the processes serving them used, the server first.
pub(super) struct Run {
    pub measured: Measured,
    pub used: Vec<proc::Usage>,
}

impl Run {
    pub fn sample(self) -> Sample {
        let messages = self.measured.messages.max(1) as f64;
        let server = self.used.first().copied().unwrap_or_default();
        let served_us: u64 = self.used.iter().map(|usage| usage.cpu_us).sum();
        Sample {
            messages_per_second: self.measured.messages as f64 * 1e6 / self.measured.elapsed_us.max(1) as f64,
            p50_ms: self.measured.p50_us as f64 / 1e3,
            p99_ms: self.measured.p99_us as f64 / 1e3,
            server_cpu_us_per_message: server.cpu_us as f64 / messages,
            total_cpu_us_per_message: (served_us + self.measured.cpu_us) as f64 / messages,
            written_bytes_per_message: server.written_bytes as f64 / messages,
            commits_per_message: None,
            unexpected_replies: self.measured.unexpected,
            first_unexpected: self.measured.first_unexpected,
        }
    }

    pub fn per_message_in_all(&self, count: f64) -> Option<f64> {
        (self.measured.messages_in_all > 0).then(|| count / self.measured.messages_in_all as f64)
    }
}

fn has_fsyncs(scenario: Scenario) -> bool {
    matches!(scenario, Scenario::Accept | Scenario::Inout)
}

fn destination(scenario: Scenario) -> &'static str {
    if scenario == Scenario::Accept { MAILBOX_ADDRESS } else { RECEIVER_ADDRESS }
}

pub(super) fn expect_measuring(line: &str) -> Result<()> {
    if line != "measuring" {
        bail!("a process of the benchmark printed {line:?} instead of starting to measure");
    }
    Ok(())
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("the temporary folder's path is not UTF-8")
}
