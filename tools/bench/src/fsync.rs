//! Counts how often a process waits for the disk (`fsync`, `fdatasync`), with `strace` if it is installed.
//!
//! Tracing slows a process down, so it is done in a short pass whose other figures are discarded. With
//! `--seccomp-bpf` only the counted calls stop the process, which keeps its speed and the size of batches close to
//! normal. `-D` makes the traced program our own child, so that it can be signalled by its id.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The time limit for the tracer to write its table after the traced process ended.
const TABLE_WAIT: Duration = Duration::from_secs(5);

/// Whether this machine can trace a process: strace is installed, knows the options, and is permitted.
pub fn can_count() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-f", "--seccomp-bpf", "-c", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "true"]);
    probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// The command that runs `program` and writes the counts of its calls to `table` when it ends.
pub fn counted(program: &Path, table: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "--seccomp-bpf", "-c", "-e", "trace=fsync,fdatasync", "-o"]).arg(table).arg(program);
    command
}

/// The calls counted in `table`. Waits for it, because the tracer writes it after the process ended. `None` if there
/// is none.
pub fn count(table: &Path) -> Option<u64> {
    let deadline = Instant::now() + TABLE_WAIT;
    loop {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        if let Some(calls) = calls_in(&text) {
            return Some(calls);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The sum over both calls in strace's summary, once that is complete.
fn calls_in(table: &str) -> Option<u64> {
    table.lines().find(|line| line.ends_with(" total"))?;
    let calls = |line: &str| -> Option<u64> { line.split_whitespace().nth(3)?.parse().ok() };
    let counted = |line: &&str| line.ends_with(" fsync") || line.ends_with(" fdatasync");
    Some(table.lines().filter(counted).filter_map(calls).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 97.00    0.000065           9       107           fdatasync
  3.00    0.000005           9         7         1 fsync
------ ----------- ----------- --------- --------- ----------------
100.00    0.000070           9       114           total
";

    #[test]
    fn both_calls_are_counted_once_the_table_is_complete() {
        assert_eq!(calls_in(TABLE), Some(114));
        assert_eq!(calls_in(&TABLE[..200]), None);
        assert_eq!(calls_in(""), None);
    }
}
