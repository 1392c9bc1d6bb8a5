//! Runs the cases of a plan: which process runs when, and what is read before and after.
//!
//! Runs of the cases that are compared take turns, because the speed of a shared machine may double within minutes:
//! only ratios of adjacent runs are reliable.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::children::{Folder, RoleProcess, usages};
use super::plan::{Load, Plan, Scenario};
use super::proc;
use super::report::{Case, Report, Run, Sample};
use super::roles::Measured;
use super::trace;

/// Rows per commit of the bare SQLite baseline.
const ROWS_PER_COMMIT: [usize; 2] = [1, 64];

/// Runs everything in the plan. Errs if a process cannot be started, ends early, or cannot be stopped.
pub fn measure(plan: &Plan) -> Result<Report> {
    let bench = Bench::new(plan)?;
    let mut report = Report::begin(plan.seconds, plan.runs, bench.counts);
    if bench.folder.is_in_memory() {
        report.note("the temporary folder is in memory, where fsyncs cost nothing (set TMPDIR)");
    }
    for &size_bytes in &plan.sizes_bytes {
        for rate in plan.loops() {
            for &senders in &plan.senders {
                let load = Load { senders, size_bytes, seconds: plan.seconds, warm_ms: plan.warm_ms, rate };
                let cases = bench.http_cases(load)?;
                report.note_slow(&cases);
                report.note_wal(&cases);
                report.cases.extend(cases);
            }
            match &plan.broker {
                Some(broker) => report.cases.extend(bench.amqp_cases(broker, size_bytes, rate)?),
                None if plan.has(Scenario::AmqpInout) => {
                    report.note("without --broker URL nothing is measured over AMQP");
                }
                None => {}
            }
        }
        report.cases.extend(bench.baseline_cases(size_bytes)?);
    }
    report.end();
    Ok(report)
}

pub(super) struct Bench<'a> {
    pub(super) plan: &'a Plan,
    pub(super) folder: Folder,
    this_program: PathBuf,
    pub(super) server_program: PathBuf,
    pub(super) counting_program: Option<PathBuf>,
    /// Whether system calls are counted.
    pub(super) counts: bool,
}

impl<'a> Bench<'a> {
    pub(super) fn new(plan: &'a Plan) -> Result<Bench<'a>> {
        let this_program = std::env::current_exe().context("cannot find this program")?;
        // Absolute, because the router runs in a folder of its own.
        let absolute =
            |path: &PathBuf| std::fs::canonicalize(path).with_context(|| format!("no program at {}", path.display()));
        let sibling = this_program.with_file_name("emberpost");
        let server_program = plan.server_binary.as_ref().map_or(Ok(sibling), absolute)?;
        let counting_program = plan.counting_binary.as_ref().map(absolute).transpose()?;
        let counts = plan.counts && trace::is_possible();
        let folder = Folder::new("all")?;
        Ok(Bench { plan, folder, this_program, server_program, counting_program, counts })
    }

    /// Runs of these cases in turns, then the passes that count.
    pub(super) fn in_turns(
        &self,
        scenarios: &[Scenario],
        load: Load,
        run: impl Fn(Scenario, Load) -> Result<Sample>,
        count: impl Fn(Scenario, Load, &mut Case) -> Result<()>,
    ) -> Result<Vec<Case>> {
        let chosen = scenarios.iter().filter(|scenario| self.plan.has(**scenario));
        let mut cases: Vec<_> = chosen.map(|scenario| (*scenario, Case::new(scenario.name(), load))).collect();
        for number in 1..=self.plan.runs {
            for (scenario, case) in &mut cases {
                case.samples.push(run(*scenario, load)?);
                self.progress(case, number);
            }
        }
        if self.counts {
            for (scenario, case) in cases.iter_mut().filter(|(scenario, _)| scenario.is_counted()) {
                count(*scenario, load, case)?;
            }
        }
        Ok(cases.into_iter().map(|(_, case)| case).collect())
    }

    /// Bare commits of rows of this size, one and many at a time, and bare waits for the disk, in turns.
    fn baseline_cases(&self, size_bytes: usize) -> Result<Vec<Case>> {
        let load =
            |senders| Load { senders, size_bytes, seconds: self.plan.seconds, warm_ms: self.plan.warm_ms, rate: None };
        let mut cases = Vec::new();
        if self.plan.has(Scenario::Sqlite) {
            for rows in ROWS_PER_COMMIT {
                let name = format!("sqlite, {rows} rows").replace(" 1 rows", " 1 row");
                cases.push(("sqlite", rows, Case::new(name, load(1))));
            }
        }
        if self.plan.has(Scenario::Disk) {
            cases.push(("disk", 1, Case::new(Scenario::Disk.name(), load(1))));
        }
        for number in 1..=self.plan.runs {
            for (role, rows, case) in &mut cases {
                case.samples.push(self.baseline_run(role, load(*rows))?);
                self.progress(case, number);
            }
        }
        Ok(cases.into_iter().map(|(_, _, case)| case).collect())
    }

    fn baseline_run(&self, role: &str, load: Load) -> Result<Sample> {
        let folder = Folder::new("run")?;
        let place = folder.path().to_str().context("the temporary folder's path is not UTF-8")?;
        let mut process = self.role(role, &[&load.arguments()[..], &["--folder".into(), place.into()]].concat())?;
        process.expect_measuring()?;
        let mut measured: Measured = serde_json::from_str(&process.line()?)?;
        process.ended()?;
        // It is its own server, so its usage counts there and not again as the senders'.
        let cpu_us = std::mem::take(&mut measured.cpu_us);
        let used = proc::Usage::reported(cpu_us, measured.written_bytes);
        Ok(Run { measured, used: vec![used] }.sample())
    }

    pub(super) fn role(&self, role: &str, arguments: &[String]) -> Result<RoleProcess> {
        let arguments: Vec<_> = ["--role".to_owned(), role.to_owned()].iter().chain(arguments).cloned().collect();
        RoleProcess::start(Command::new(&self.this_program), &arguments)
    }

    /// Starts a role that measures, and returns its figures with what the processes in `served_by`, the server first,
    /// used meanwhile. `during` is called when measuring has begun; its value lives until the end.
    pub(super) fn measured<T>(
        &self,
        role: &str,
        arguments: &[String],
        served_by: &[u32],
        during: impl FnOnce() -> Result<T>,
    ) -> Result<(Run, T)> {
        let mut process = self.role(role, arguments)?;
        process.expect_measuring()?;
        let during = during()?;
        let before = usages(served_by)?;
        let measured: Measured = serde_json::from_str(&process.line()?)?;
        let after = usages(served_by)?;
        let used = after.into_iter().zip(&before).map(|(after, before)| after.since(before)).collect();
        process.ended()?;
        Ok((Run { measured, used }, during))
    }

    /// Prints a line to standard error after each run, to show progress.
    fn progress(&self, case: &Case, run: u32) {
        let rate = case.samples.last().map_or(0.0, |sample| sample.messages_per_second);
        let Case { scenario, senders, size_bytes, .. } = case;
        eprintln!("{scenario}, {senders} senders, {size_bytes} bytes, run {run} of {}: {rate:.0}/s", self.plan.runs);
    }
}

impl RoleProcess {
    pub(super) fn expect_measuring(&mut self) -> Result<()> {
        let line = self.line()?;
        if line != "measuring" {
            bail!("a process of the benchmark printed {line:?} instead of starting to measure");
        }
        Ok(())
    }
}
