//! A message broker: a private RabbitMQ node with ports, names, cookie and folder of its own.
//!
//! The servers end with the test process, however that ends (`broker_home`).

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::OnceCell;

use super::amqp::Amqp;
use super::broker_home::Home;
use super::{free_address, wait_for};

/// Erlang starts in seconds, on a machine that may be very busy.
pub const START_LIMIT: Duration = Duration::from_secs(90);
/// A clean stop writes what the queues hold.
const STOP_LIMIT: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 40;

/// A running (or stopped) node. Dropping it ends it and, when the test failed, shows the end of its log.
pub struct Broker {
    home: Arc<Home>,
    name: String,
    address: SocketAddr,
    distribution_port: u16,
    child: Option<Child>,
}

/// The node that all tests of this binary share: none of them may harm it.
pub struct SharedBroker(&'static Broker);

impl std::ops::Deref for SharedBroker {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        self.0
    }
}

impl Drop for SharedBroker {
    fn drop(&mut self) {
        self.0.show_log_of_failure();
    }
}

impl Broker {
    /// A node for one test, ready for connections. None when RabbitMQ is not installed.
    pub async fn start() -> Option<Broker> {
        let mut broker = Broker::new(Home::open()?, "emberpost", "");
        broker.run().await;
        Some(broker)
    }

    /// A node for one test with further lines of its configuration and plugins by name.
    pub async fn start_with(settings: &str, plugins: &[&str]) -> Option<Broker> {
        let mut broker = Broker::new(Home::open()?, "emberpost", settings);
        std::fs::write(broker.folder().join("plugins"), format!("[{}].", plugins.join(","))).unwrap();
        broker.run().await;
        Some(broker)
    }

    /// The node for every test that does not harm it; names of queues come from `Broker::name`.
    pub async fn shared() -> Option<SharedBroker> {
        static SHARED: OnceCell<Option<Broker>> = OnceCell::const_new();
        SHARED.get_or_init(Broker::start).await.as_ref().map(SharedBroker)
    }

    /// A name that no other test has.
    pub fn name(prefix: &str) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        format!("{prefix}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
    }

    /// Files of a node that is not started yet. `settings` are further lines of its configuration.
    pub(super) fn new(home: Arc<Home>, name: &str, settings: &str) -> Broker {
        let (address, distribution_port) = (free_address(), free_address().port());
        let broker = Broker { home, name: name.to_owned(), address, distribution_port, child: None };
        std::fs::create_dir(broker.folder()).unwrap();
        let config = format!(
            "listeners.tcp.1 = {address}\nloopback_users = none\ncollect_statistics_interval = 60000\n\
             disk_free_limit.absolute = 1MB\n{settings}"
        );
        for (file, text) in [("rabbitmq.conf", &*config), ("advanced.config", "[]."), ("plugins", "[]."), ("env", "")] {
            std::fs::write(broker.folder().join(file), text).unwrap();
        }
        broker
    }

    pub(super) async fn run(&mut self) {
        self.spawn();
        self.become_ready().await;
    }

    pub(super) fn spawn(&mut self) {
        let console = std::fs::File::options().create(true).append(true).open(self.folder().join("console.log"));
        let console = console.unwrap();
        // Every step replaces the one before, so that the id is the server's; the guard knows it before the server is there.
        let mut command = self.command("sh");
        command.args(["-c", "echo $$ > pid; exec \"$0\""]).arg(self.home.scripts.join("rabbitmq-server"));
        command.process_group(0).stdin(Stdio::null()).stdout(console.try_clone().unwrap()).stderr(console);
        self.child = Some(command.spawn().unwrap());
    }

    /// Waits until a connection is accepted and a channel opens.
    pub(super) async fn become_ready(&mut self) {
        let (url, log) = (self.url(), self.log_path());
        let child = self.child.as_mut().unwrap();
        let ready = wait_for(START_LIMIT, "the broker takes connections", async || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            Amqp::try_connect(&url).await.ok().map(|_| true)
        });
        assert!(ready.await, "the broker ended\n{}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// A command with the environment of this node, and nothing of the environment that the tests run in.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        const LOOPBACK: &str = "-kernel inet_dist_use_interface {127,0,0,1}";
        let (home, folder) = (&self.home, self.folder());
        let mut command = Command::new(program);
        command.env_clear().current_dir(&folder).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("LANG", "C.UTF-8").env("HOME", &home.folder);
        command.env("ERL_EPMD_PORT", home.mapper_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", self.node_name());
        command.env("RABBITMQ_NODE_PORT", self.port().to_string()).env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_DIST_PORT", self.distribution_port.to_string());
        let files = [
            ("CONF_ENV_FILE", "env"),
            ("CONFIG_FILE", "rabbitmq.conf"),
            ("ADVANCED_CONFIG_FILE", "advanced.config"),
            ("ENABLED_PLUGINS_FILE", "plugins"),
            ("GENERATED_CONFIG_DIR", "generated"),
            ("SCHEMA_DIR", "schema"),
            ("MNESIA_BASE", "data"),
            ("LOG_BASE", "log"),
            ("LOGS", "server.log"),
        ];
        for (name, file) in files {
            command.env(format!("RABBITMQ_{name}"), folder.join(file));
        }
        // Not under systemd: but so the script becomes the server instead of waiting for it.
        command.env("RUNNING_UNDER_SYSTEMD", "true");
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", format!("+S 2:2 +sbwt none {LOOPBACK}"));
        command.env("RABBITMQ_CTL_ERL_ARGS", format!("+S 1:1 +sbwt none {LOOPBACK}"));
        command.env("RABBITMQ_CTL_DIST_PORT_MAX", "35772");
        command
    }

    fn folder(&self) -> PathBuf {
        self.home.folder.join(&self.name)
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    /// Its name among the nodes of a cluster.
    pub fn node_name(&self) -> String {
        format!("{}@localhost", self.name)
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        url_of(self.port())
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The id of the running server; panics when it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker is not running").id()
    }

    /// Ends it as a power cut would.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the broker is not running");
        child.kill().unwrap();
        child.wait().unwrap();
        std::fs::remove_file(self.folder().join("pid")).unwrap();
    }

    /// Sends a signal by name: `STOP` makes it silent without closing a connection, `CONT` lets it go on.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
    }

    /// Asks it to stop, and waits for its end.
    pub async fn stop(&mut self) {
        self.signal("TERM");
        let child = self.child.as_mut().unwrap();
        wait_for(STOP_LIMIT, "the broker stops", async || child.try_wait().unwrap()).await;
        self.child = None;
        std::fs::remove_file(self.folder().join("pid")).unwrap();
    }

    /// Starts it again with the same data and ports, killing it first when it still runs.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.run().await;
    }

    /// Runs `rabbitmqctl` on this node. Takes a second or two.
    pub async fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(self.home.scripts.join("rabbitmqctl"));
        command.args(["--node", &self.node_name()]).args(arguments).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// Runs `rabbitmqctl`; panics when it fails, else gives what it printed.
    pub async fn ctl_ok(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments).await;
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Writes its tables to disk: a confirm vouches for messages, and the declaration of a queue is written a moment later.
    pub async fn sync_tables(&self) {
        self.ctl_ok(&["eval", "mnesia:sync_log()."]).await;
    }

    /// With the alarm on it reads nothing more from connections that publish.
    pub async fn memory_alarm(&self, on: bool) {
        let limit: &[&str] = if on { &["absolute", "1"] } else { &["0.4"] };
        self.ctl_ok(&[&["set_vm_memory_high_watermark"], limit].concat()).await;
    }

    fn show_log_of_failure(&self) {
        if std::thread::panicking() {
            let log = tail(&self.log_path());
            eprintln!("--- the log of the broker {} ends:\n{log}", self.name);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.show_log_of_failure();
        if self.child.is_some() {
            self.kill9();
        }
    }
}

pub(super) fn url_of(port: u16) -> String {
    format!("amqp://guest:guest@127.0.0.1:{port}/%2f")
}

fn tail(path: &Path) -> String {
    let log = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}
