//! Resource usage of processes, and the load of the machine, from Linux' `/proc`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// Linux counts CPU time in hundredths of a second on every supported architecture (`USER_HZ`).
const TICK_US: u64 = 10_000;

/// The usage of one process since it started. The difference of two readings is the cost of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time, all threads, in microseconds and steps of 10,000.
    pub cpu_us: u64,
    /// Bytes that it caused to be written to disk: whole pages, including pages written back on its behalf.
    pub written_bytes: u64,
    /// How often each thread gave up the processor to wait, by the thread's id; with the thread's name.
    switches: BTreeMap<u32, (String, u64)>,
}

impl Usage {
    /// Reads the usage of a process. Errs if it has ended, or belongs to another user.
    pub fn of(pid: u32) -> Result<Usage> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
        };
        Ok(Usage {
            cpu_us: cpu_us(&read("stat")?)?,
            written_bytes: written_bytes(&read("io")?)?,
            switches: switches(pid),
        })
    }

    /// The usage that a process says itself it had, without switches.
    pub fn reported(cpu_us: u64, written_bytes: u64) -> Usage {
        Usage { cpu_us, written_bytes, switches: BTreeMap::new() }
    }

    /// What was used between `earlier` and this reading. Threads that ended in between are missing.
    pub fn since(self, earlier: &Usage) -> Usage {
        let before = |thread: &u32| earlier.switches.get(thread).map_or(0, |(_, count)| *count);
        let switches = self.switches.iter().map(|(thread, (name, count))| {
            let change = count.saturating_sub(before(thread));
            (*thread, (name.clone(), change))
        });
        Usage {
            cpu_us: self.cpu_us.saturating_sub(earlier.cpu_us),
            written_bytes: self.written_bytes.saturating_sub(earlier.written_bytes),
            switches: switches.collect(),
        }
    }

    /// For each name of a thread, the switches of the one that has most of them.
    pub fn switches_by_thread(&self) -> BTreeMap<String, u64> {
        let mut most = BTreeMap::new();
        for (name, count) in self.switches.values() {
            let entry = most.entry(name.clone()).or_insert(0);
            *entry = (*entry).max(*count);
        }
        most
    }
}

/// Resident memory of a process in bytes, now and at most so far; zeros if it has ended.
pub fn memory_bytes(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kilobytes = |key: &str| field(&status, key).unwrap_or(0);
    (kilobytes("VmRSS:") * 1024, kilobytes("VmHWM:") * 1024)
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
    field(io, "write_bytes:").context("/proc/…/io has no number of write_bytes")
}

/// Voluntary context switches of each thread; threads that end meanwhile are left out.
fn switches(pid: u32) -> BTreeMap<u32, (String, u64)> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| {
        let thread = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        Some((thread, (name.trim_end().to_owned(), field(&status, "voluntary_ctxt_switches:")?)))
    };
    threads.filter_map(of).collect()
}

/// The number after `key` at the start of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    rest.split_whitespace().next()?.parse().ok()
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
    fn voluntary_switches_are_distinguished_from_others() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t5\n";
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(12));
    }

    #[test]
    fn of_threads_with_one_name_the_busiest_counts() {
        let usage = |first, second| Usage {
            switches: [(1, ("worker".to_owned(), first)), (2, ("worker".to_owned(), second))].into(),
            ..Usage::default()
        };
        let used = usage(10, 30).since(&usage(4, 4));
        assert_eq!(used.switches_by_thread(), [("worker".to_owned(), 26)].into());
    }

    #[test]
    fn a_process_can_read_its_own_usage() {
        let usage = Usage::of(std::process::id()).unwrap();
        let none = usage.clone().since(&usage);
        assert_eq!((none.cpu_us, none.written_bytes), (0, 0));
        assert!(!usage.switches_by_thread().is_empty());
        assert!(memory_bytes(std::process::id()).0 > 0);
    }
}
