//! Resource usage of processes, and the load of the machine, from Linux' `/proc`.

use anyhow::{Context, Result, bail};

/// Linux counts CPU time in hundredths of a second on every supported architecture (`USER_HZ`).
const TICK_US: u64 = 10_000;

/// The usage of one process since it started. The difference of two readings is the cost of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time, all threads, in microseconds and steps of 10,000.
    pub cpu_us: u64,
    /// Bytes that it caused to be written to disk: whole pages, including pages written back on its behalf.
    pub written_bytes: u64,
}

impl Usage {
    /// Reads the usage of a process. Errs if it has ended, or belongs to another user.
    pub fn of(pid: u32) -> Result<Usage> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        Ok(Usage { cpu_us: cpu_us(&read("stat")?)?, written_bytes: written_bytes(&read("io")?)? })
    }

    /// What was used between `earlier` and this reading.
    pub fn since(self, earlier: Usage) -> Usage {
        Usage {
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
        }
    }
}

/// The load averages of the last 1, 5, and 15 minutes, as text; empty if the system does not provide them.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// The number of processors that this process may use; 0 if unknown.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn cpu_us(stat: &str) -> Result<u64> {
    // The name in parentheses may contain anything, so the fields are counted from the last parenthesis.
    let Some((_, fields)) = stat.rsplit_once(')') else { bail!("/proc/…/stat has no name in parentheses") };
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    match (times.next(), times.next()) {
        (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) * TICK_US),
        _ => bail!("/proc/…/stat has no CPU times"),
    }
}

fn written_bytes(io: &str) -> Result<u64> {
    let line =
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).context("/proc/…/io has no write_bytes")?;
    line.trim().parse().context("/proc/…/io has no number of write_bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_behind_a_name_with_spaces_and_parentheses() {
        let stat = "17 (a ) b) S 1 17 17 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 1 0 99";
        assert_eq!(cpu_us(stat).unwrap(), 3_000_000);
    }

    #[test]
    fn bytes_written_are_read_and_cancelled_ones_are_not_taken_for_them() {
        assert_eq!(written_bytes("read_bytes: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 5\n").unwrap(), 4096);
        assert!(written_bytes("cancelled_write_bytes: 5\n").is_err());
    }

    #[test]
    fn a_process_can_read_its_own_usage() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert_eq!(usage.since(usage), Usage::default());
    }
}
