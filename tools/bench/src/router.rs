//! The router that is measured: its configuration, its start and stop, and what it says of itself.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::message::{MAILBOX_ADDRESS, RECEIVER_ADDRESS, SENDER_ADDRESS, SLOW_ADDRESS};
use super::trace::Writes;

const COMMITS_METRIC: &str = "emberpost_store_commits_total";
const ALLOCATIONS_METRIC: &str = "emberpost_allocations_total";
/// The time limit for the router's first successful `/health/ready`.
const READY_WAIT: Duration = Duration::from_secs(60);
/// The time limit for the router to drain before it is killed.
const STOP_WAIT: Duration = Duration::from_secs(60);
/// The interval for polling a process.
const POLL: Duration = Duration::from_millis(5);
/// The time limit for one HTTP request to the router.
const QUESTION_WAIT: Duration = Duration::from_secs(60);
/// The number of lines of the router's log that are shown when it fails.
const LOG_TAIL_LINES: usize = 15;

/// A router with a new store and its log in the same folder. Logging has its default settings, because it is part of
/// the cost.
pub struct RouterProcess {
    child: Child,
    address: String,
    writes_list: Option<PathBuf>,
}

impl RouterProcess {
    /// Starts `program serve` with a store in `folder` and waits until it is ready. With `counting`, what it writes is
    /// counted until it stops.
    pub fn start(program: &Path, folder: &Path, settings: &Settings<'_>, counting: bool) -> Result<RouterProcess> {
        let address = free_address()?;
        let config = folder.join("emberpost.toml");
        std::fs::write(&config, settings.configuration(folder, &address))?;
        let log_path = folder.join("router.log");
        let log = File::create(&log_path)?;
        let writes_list = counting.then(|| folder.join("writes.txt"));
        let mut command = match &writes_list {
            Some(list) => Writes::traced(program, list),
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
        let mut router = RouterProcess { child, address, writes_list };
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

    /// What it has counted so far.
    pub fn figures(&self) -> Figures {
        let text = get(&self.address, "/metrics").map(|(_, body)| body).unwrap_or_default();
        Figures { commits: metric(&text, COMMITS_METRIC), allocations: metric(&text, ALLOCATIONS_METRIC) }
    }

    /// Stops it by SIGTERM and waits for it. Returns what it wrote in its lifetime if that was counted.
    pub fn stop(mut self) -> Result<Option<Writes>> {
        super::children::signal(self.child.id(), Signal::TERM)?;
        let deadline = Instant::now() + STOP_WAIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() >= deadline {
                bail!("the router did not stop within {STOP_WAIT:?} of SIGTERM");
            }
            std::thread::sleep(POLL);
        }
        Ok(self.writes_list.take().and_then(|list| Writes::read(&list)))
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

/// What a router counts on its `/metrics`; `None` where it does not count.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Transactions of the store.
    pub commits: Option<f64>,
    /// Allocations of memory, counted by a build with the feature `count-allocations` only.
    pub allocations: Option<f64>,
}

impl Figures {
    pub fn since(self, before: Figures) -> Figures {
        let change = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        Figures {
            commits: change(self.commits, before.commits),
            allocations: change(self.allocations, before.allocations),
        }
    }
}

/// The value of a counter or gauge without labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

/// The parts of a router's configuration that differ between cases.
pub struct Settings<'a> {
    pub channel: Channel<'a>,
    /// The address of a participant that cannot be reached.
    pub down: Option<&'a str>,
    /// Further tables, as TOML.
    pub more: &'a str,
    /// The URL of its store [default: a file of SQLite in its folder].
    pub store: Option<&'a str>,
}

impl<'a> From<Channel<'a>> for Settings<'a> {
    fn from(channel: Channel<'a>) -> Self {
        Settings { channel, down: None, more: "", store: None }
    }
}

impl Settings<'_> {
    fn configuration(&self, folder: &Path, address: &str) -> String {
        let file = || format!("sqlite:{}", folder.join("bench.db").display());
        let database = toml::Value::String(self.store.map_or_else(file, str::to_owned));
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
{}{}{}"#,
            self.channel.configuration(),
            self.down.map(unreachable).unwrap_or_default(),
            self.more
        )
    }
}

/// A participant on a port where nobody listens.
fn unreachable(address: &str) -> String {
    format!(
        r#"
[[participant]]
id = "down"
addresses = ["{address}"]
channel = {{ type = "http", url = "http://127.0.0.1:9/fhir" }}
order = "sender"
"#
    )
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

/// A loopback address whose port was free a moment ago.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// One GET on a connection of its own; returns status and body.
pub fn get(address: &str, path: &str) -> Result<(u16, String)> {
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
