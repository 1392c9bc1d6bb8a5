//! Starts, observes, and stops the benchmark's processes, and manages their folder.
//!
//! Every process ends when the value that represents it is dropped, also when the benchmark fails.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::message::{MAILBOX_ADDRESS, RECEIVER_ADDRESS, SENDER_ADDRESS, SLOW_ADDRESS};
use super::{fsync, proc};

/// The time limit for the router's first successful `/health/ready`.
const READY_WAIT: Duration = Duration::from_secs(15);
/// The time limit for the router to drain before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(20);
/// The interval for polling a process.
const POLL: Duration = Duration::from_millis(20);
/// The time limit for one HTTP request to the router.
const QUESTION_WAIT: Duration = Duration::from_secs(2);
/// The number of lines of the router's log that are shown when it fails.
const LOG_TAIL_LINES: usize = 15;

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

/// A router with a new store and its log in the same folder. Logging has its default settings, because it is part of
/// the cost.
pub struct RouterProcess {
    child: Child,
    address: String,
    fsync_table: Option<PathBuf>,
}

impl RouterProcess {
    /// Starts `program serve` with a store in `folder` and waits until it is ready. With `counting`, fsyncs are
    /// counted until it stops.
    pub fn start(program: &Path, folder: &Path, channel: Channel<'_>, counting: bool) -> Result<RouterProcess> {
        let address = free_address()?;
        let config = folder.join("emberpost.toml");
        std::fs::write(&config, configuration(folder, &address, channel))?;
        let log_path = folder.join("router.log");
        let log = File::create(&log_path)?;
        let fsync_table = counting.then(|| folder.join("fsync.txt"));
        let mut command = match &fsync_table {
            Some(table) => fsync::counted(program, table),
            None => Command::new(program),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("EMBERPOST_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").arg("--config").arg(&config).current_dir(folder);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start the router: {}", program.display()))?;
        let mut router = RouterProcess { child, address, fsync_table };
        if let Err(error) = router.wait_until_ready() {
            bail!(
                "the router did not start: {error:#}; its log ends:
{}",
                tail(&log_path)
            );
        }
        Ok(router)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The `host:port` on which it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The value of a counter or gauge without labels on its `/metrics`, if it has one.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = get(&self.address, "/metrics").ok()?;
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        value.trim().parse().ok()
    }

    /// Stops it by SIGTERM and waits for it. Returns the fsyncs of its lifetime if they were counted.
    pub fn stop(mut self) -> Result<Option<u64>> {
        let pid = self.child.id().to_string();
        let signalled = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &pid]).status();
        if !signalled.is_ok_and(|status| status.success()) {
            bail!("the router could not be signalled to stop");
        }
        let deadline = Instant::now() + STOP_WAIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("the router did not stop within {STOP_WAIT:?} of SIGTERM");
            }
            std::thread::sleep(POLL);
        }
        Ok(self.fsync_table.take().and_then(|table| fsync::count(&table)))
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WAIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            let answer = get(&self.address, "/health/ready");
            match answer {
                Ok((200, _)) => return Ok(()),
                _ if Instant::now() < deadline => std::thread::sleep(POLL),
                Ok((status, _)) => bail!("/health/ready still says {status} after {READY_WAIT:?}"),
                Err(error) => bail!("/health/ready cannot be reached after {READY_WAIT:?}: {error}"),
            }
        }
    }
}

impl Drop for RouterProcess {
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

/// The receiving end of what is measured.
#[derive(Clone, Copy)]
pub enum Channel<'a> {
    /// The `host:port` of the HTTP receiver.
    Http(&'a str),
    /// The queues of the run.
    Amqp { broker: &'a str, inbound: &'a str, outbound: &'a str, answers: &'a str },
}

impl Channel<'_> {
    /// One lane per sender, and as many concurrent attempts as messages in flight.
    fn configuration(self) -> String {
        match self {
            Channel::Http(receiver) => format!(
                r#"
[[participant]]
id = "receiver"
addresses = ["{RECEIVER_ADDRESS}"]
channel = {{ type = "http", url = "http://{receiver}/fhir" }}
order = "sender"
concurrency = 64

[[participant]]
id = "slow"
addresses = ["{SLOW_ADDRESS}"]
channel = {{ type = "http", url = "http://{receiver}/slow" }}
concurrency = 8
"#
            ),
            Channel::Amqp { broker, inbound, outbound, answers } => format!(
                r#"
[[participant]]
id = "receiver"
addresses = ["{RECEIVER_ADDRESS}"]
channel = {{ type = "amqp", exchange = "", routing_key = "{outbound}" }}
order = "sender"
concurrency = 256

[amqp]
url = {}
inbound_queues = ["{inbound}"]
answer_queue = "{answers}"
prefetch = 256
"#,
                toml::Value::String(broker.to_owned())
            ),
        }
    }
}

fn configuration(folder: &Path, address: &str, channel: Channel<'_>) -> String {
    let database = toml::Value::String(format!("sqlite:{}", folder.join("bench.db").display()));
    format!(
        r#"[server]
listen = "{address}"
base_url = "http://{address}/fhir"

[store]
url = {database}
min_free_bytes = 0

[definitions]
paths = []
unknown_events = "route"

[[participant]]
id = "senders"
addresses = ["{SENDER_ADDRESS}*"]

[[participant]]
id = "mailbox"
addresses = ["{MAILBOX_ADDRESS}"]
channel = {{ type = "mailbox" }}
{}"#,
        channel.configuration()
    )
}

/// A loopback address whose port was free a moment ago.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// One GET on a connection of its own; returns status and body.
fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(QUESTION_WAIT))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).context("the answer is not HTTP")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
