//! Counts a process's system calls, with `strace` if it is installed.
//!
//! Tracing slows a process down, so it is done in short passes whose other figures are discarded:
//!
//! - `Writes`: calls that write and wait for the disk. With `--seccomp-bpf` only these calls stop the process, which
//!   keeps its speed and the size of batches close to normal. `-D` makes the traced program our own child, so that it
//!   can be signalled by its id.
//! - `Calls`: every call by name, of a running process. This slows it down several times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

/// The time limit for the tracer to attach, and to write its result after the traced process ended.
const TRACER_WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);
/// The size of a page of the store, in bytes: shorter writes into its log are the headers of pages.
const PAGE_BYTES: u64 = 4096;

/// Whether this machine can trace a process: strace is installed, knows the options, and is permitted.
pub fn is_possible() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-f", "--seccomp-bpf", "-c", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "true"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// What a process wrote to a store of SQLite, over its lifetime.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Writes {
    pub fsyncs: u64,
    /// Pages written into the write-ahead log.
    pub log_pages: u64,
    /// Pages written from the log into the database, at checkpoints.
    pub database_pages: u64,
}

impl Writes {
    /// The command that runs `program` and lists its writes in `list`.
    pub fn traced(program: &Path, list: &Path) -> Command {
        let mut command = Command::new("strace");
        command.args(["-D", "-f", "--seccomp-bpf", "-y", "-s", "0", "-e", "trace=fsync,fdatasync,pwrite64", "-o"]);
        command.arg(list).arg(program);
        command
    }

    /// Reads the list of a process that has ended. Waits until the tracer has written its end. `None` if there is no
    /// list.
    pub fn read(list: &Path) -> Option<Writes> {
        let deadline = Instant::now() + TRACER_WAIT;
        loop {
            let text = std::fs::read_to_string(list).unwrap_or_default();
            if text.lines().next_back().is_some_and(|line| line.contains("+++")) {
                return Some(Writes::of(&text));
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }

    fn of(list: &str) -> Writes {
        let mut writes = Writes::default();
        for line in list.lines().filter_map(|line| line.split_once(' ').map(|(_, call)| call.trim_start())) {
            if line.starts_with("fsync(") || line.starts_with("fdatasync(") {
                writes.fsyncs += 1;
            } else if line.starts_with("pwrite64(") && written_bytes(line) >= Some(PAGE_BYTES) {
                // An unfinished call has no result; the line of its end has no arguments, so each counts once.
                if line.contains("-wal>") {
                    writes.log_pages += 1;
                } else if line.contains(".db>") {
                    writes.database_pages += 1;
                }
            }
        }
        writes
    }
}

/// The number of bytes that a `pwrite64` was asked to write: the last argument but one.
fn written_bytes(call: &str) -> Option<u64> {
    let arguments = call.split_once("\"\"...").or_else(|| call.split_once("\"\""))?.1;
    arguments.split(',').nth(1)?.trim().trim_end_matches([')', ' ']).parse().ok()
}

/// A tracer that counts every system call of a running process.
pub struct Calls {
    tracer: Child,
    table: PathBuf,
}

impl Calls {
    /// Attaches to all threads of the process.
    pub fn attach(pid: u32, table: PathBuf) -> Result<Calls> {
        let mut command = Command::new("strace");
        command.args(["-f", "-c", "-o"]).arg(&table).args(["-p", &pid.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let tracer = command.spawn().context("cannot start strace")?;
        let calls = Calls { tracer, table };
        let deadline = Instant::now() + TRACER_WAIT;
        while !is_traced(pid) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        Ok(calls)
    }

    /// Detaches, and returns the calls by name. Empty if they could not be counted.
    pub fn detach(mut self) -> Result<BTreeMap<String, u64>> {
        super::children::signal(self.tracer.id(), Signal::INT)?;
        self.tracer.wait()?;
        Ok(calls_in(&std::fs::read_to_string(&self.table).unwrap_or_default()))
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let _ = self.tracer.kill();
        let _ = self.tracer.wait();
    }
}

fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|tracer| tracer.trim() != "0"))
}

/// The calls in strace's summary, by name.
fn calls_in(table: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let cells: Vec<_> = line.split_whitespace().collect();
        let name = *cells.last()?;
        (cells.len() >= 5 && name != "total").then(|| cells[3].parse().ok().map(|calls| (name.to_owned(), calls)))?
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_log_and_database_and_waits_for_the_disk_are_counted() {
        let list = "\
12 pwrite64(9</x/bench.db-wal>, \"\"..., 24, 32) = 24
12 pwrite64(9</x/bench.db-wal>, \"\"..., 4096, 56) = 4096
13 pwrite64(9</x/bench.db-wal>, \"\"..., 4096, 4176 <unfinished ...>
12 fdatasync(9</x/bench.db-wal>) = 0
13 <... pwrite64 resumed>) = 4096
12 pwrite64(8</x/bench.db>, \"\"..., 4096, 0) = 4096
12 fsync(8</x/bench.db> <unfinished ...>
12 <... fsync resumed>) = 0
12 +++ exited with 0 +++
";
        assert_eq!(Writes::of(list), Writes { fsyncs: 2, log_pages: 2, database_pages: 1 });
    }

    #[test]
    fn calls_are_counted_by_name_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 97.00    0.000065           9       107           fdatasync
  3.00    0.000005           9         7         1 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.000070           9       114         1 total
";
        assert_eq!(calls_in(table), [("fdatasync".to_owned(), 107), ("futex".to_owned(), 7)].into());
        assert!(calls_in("").is_empty());
    }
}
