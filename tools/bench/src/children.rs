//! Starts, observes, and stops the benchmark's processes, and manages their folder.
//!
//! Every process ends when the value that represents it is dropped, also when the benchmark fails.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::proc;

/// This program in one role.
pub struct RoleProcess {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl RoleProcess {
    /// Starts `command` (this program, possibly traced) with `arguments`.
    pub fn start(mut command: Command, arguments: &[String]) -> Result<RoleProcess> {
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start a process of the benchmark")?;
        let stdout = child.stdout.take().context("a process of the benchmark has no output")?;
        Ok(RoleProcess { child, lines: BufReader::new(stdout) })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints; errs if it ended instead.
    pub fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            bail!("a process of the benchmark ended early: {}", self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }

    /// The `host:port` on which a serving role listens.
    pub fn address(&mut self) -> Result<String> {
        let line = self.line()?;
        Ok(line.strip_prefix("listening ").with_context(|| format!("expected an address, got: {line}"))?.to_owned())
    }

    /// Waits until it has ended by itself.
    pub fn ended(mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("a process of the benchmark failed: {status}");
        }
        Ok(())
    }
}

impl Drop for RoleProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of the benchmark, removed with its content on drop.
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder in TMPDIR, else in `target`, else in the current folder: `/tmp` may be a file system in memory,
    /// where an fsync costs nothing.
    pub fn new(name: &str) -> Result<Folder> {
        let parent = match std::env::var_os("TMPDIR") {
            Some(parent) => PathBuf::from(parent),
            None if Path::new("target").is_dir() => PathBuf::from("target"),
            None => PathBuf::from("."),
        };
        let path = std::path::absolute(parent)?.join(format!("emberpost-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
        Ok(Folder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the folder is in memory, so that figures of durable writes are meaningless.
    pub fn is_in_memory(&self) -> bool {
        const TMPFS_MAGIC: rustix::fs::FsWord = 0x0102_1994;
        rustix::fs::statfs(&self.0).is_ok_and(|system| system.f_type == TMPFS_MAGIC)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What each of these processes has used so far, in the same order.
pub fn usages(pids: &[u32]) -> Result<Vec<proc::Usage>> {
    pids.iter().map(|pid| proc::Usage::of(*pid)).collect()
}

/// Sends a signal to a process of the benchmark.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process has no valid id")?;
    kill_process(pid, signal).context("a process of the benchmark could not be signalled")
}
