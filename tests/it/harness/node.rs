//! A router: the real program on a free port, with a folder and a store of its own.
//!
//! Dropping a node kills it, shows the end of its log when the test failed, and fails the test when the log tells of a panic.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use fhir::Format;

use super::config::StandardError;
use super::{NodeConfig, Reply, SOON, free_address, wait_for, wait_until};

/// Where messages are posted.
pub const PROCESS_MESSAGE: &str = "/fhir/$process-message";

/// Lines of the log that are shown when a test fails.
const LOG_TAIL_LINES: usize = 40;
/// A reply that takes longer than this is a failure of the test.
const REPLY_LIMIT: Duration = Duration::from_secs(90);
/// Starts on another port when a port was taken between choosing and using it.
const PORT_TRIES: usize = 3;

/// A running (or killed) router.
pub struct Node {
    address: SocketAddr,
    config: NodeConfig,
    folder: TempDir,
    child: Option<Child>,
    client: Client,
}

/// A router that ended instead of becoming ready.
#[derive(Debug)]
pub struct NotStarted {
    pub exit_code: Option<i32>,
    pub log: String,
}

impl NodeConfig {
    /// Starts a node and waits until it is ready; panics with its log when it does not become so.
    pub async fn start(self) -> Node {
        self.try_start()
            .await
            .unwrap_or_else(|failure| panic!("the node ended: {:?}\n{}", failure.exit_code, failure.log))
    }

    /// Starts a node that may refuse to.
    pub async fn try_start(self) -> Result<Node, NotStarted> {
        for _ in 1..PORT_TRIES {
            match Node::new(self.clone()).run().await {
                Err(failure) if failure.log.contains("in use") => {}
                result => return result,
            }
        }
        Node::new(self).run().await
    }

    /// Starts a node that has a reason not to become ready, and waits until it says so.
    pub async fn start_unready(self) -> Node {
        let mut node = Node::new(self);
        node.write_config();
        node.restart_unready().await;
        node
    }
}

impl NodeConfig {}

impl Node {
    fn new(config: NodeConfig) -> Node {
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(REPLY_LIMIT)
            .build()
            .unwrap();
        Node {
            address: free_address(),
            config,
            folder: TempDir::with_prefix("emberpost-it-").unwrap(),
            child: None,
            client,
        }
    }

    async fn run(mut self) -> Result<Node, NotStarted> {
        self.write_config();
        self.child = Some(self.spawn());
        self.become_ready().await?;
        Ok(self)
    }

    /// In one step, as an operator's tools do: a router that reads it again meanwhile sees the whole old or new text.
    fn write_config(&self) {
        let new = self.folder().join("emberpost.toml.new");
        std::fs::write(&new, self.config.render(self.address, self.folder())).unwrap();
        std::fs::rename(new, self.config_path()).unwrap();
    }

    fn spawn(&self) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = match &self.config.program {
            Some(other) => in_folder(Command::new(other), self.folder()),
            None => program(self.folder()),
        };
        if let Some(prelude) = &self.config.prelude {
            let emberpost = command.get_program().to_owned();
            command = in_folder(Command::new("sh"), self.folder());
            command.args(["-c", &format!("{prelude}; exec \"$0\" \"$@\"")]).arg(emberpost);
        }
        command.args(["serve", "--config"]).arg(self.config_path()).envs(self.config.environment.clone());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap());
        match self.config.stderr {
            StandardError::Log => command.stderr(log),
            StandardError::ClosedPipe | StandardError::UnreadPipe => command.stderr(Stdio::piped()),
        };
        let mut child = command.spawn().unwrap();
        if self.config.stderr == StandardError::ClosedPipe {
            child.stderr = None;
        }
        child
    }

    async fn become_ready(&mut self) -> Result<(), NotStarted> {
        let (client, url) = (self.client.clone(), self.url("/health/ready"));
        let log_path = self.log_path();
        let child = self.child.as_mut().unwrap();
        let what = format!("the node is ready; log: {}", log_path.display());
        let ready = wait_for(SOON, &what, async || {
            if let Some(status) = child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let answer = client.get(&url).send().await;
            let ready = answer.is_ok_and(|answer| answer.status() == 200);
            // Another program may have taken the port and answer in its place: then this one ends, or has ended.
            (ready && child.try_wait().unwrap().is_none()).then_some(Ok(()))
        });
        let ended = match ready.await {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        self.child = None;
        Err(NotStarted { exit_code: ended.code(), log: self.log() })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder().join("emberpost.toml")
    }

    pub fn store_path(&self) -> PathBuf {
        self.folder().join("store.db")
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("node.log")
    }

    /// All that it wrote on standard output and error since its first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The id of the running process; panics when it was stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node is not running").id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request that a test makes up itself; `ask` sends it.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Sends a request and reads the whole reply; panics when there is none.
    pub async fn ask(&self, request: RequestBuilder) -> Reply {
        Reply::of(request.send().await.expect("no reply")).await
    }

    /// Posts a message as `application/fhir+json`.
    pub async fn post(&self, message: impl Into<Vec<u8>>) -> Reply {
        self.ask(self.posting(message)).await
    }

    /// Posts a message with a credential.
    pub async fn post_as(&self, token: &str, message: impl Into<Vec<u8>>) -> Reply {
        self.ask(self.posting(message).bearer_auth(token)).await
    }

    /// The request that `post` sends, for a test to add a query or headers to.
    pub fn posting(&self, message: impl Into<Vec<u8>>) -> RequestBuilder {
        let message = message.into();
        let request = self.request(Method::POST, PROCESS_MESSAGE);
        request.header("content-type", Format::detect(&message).media_type()).body(message)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.ask(self.request(Method::GET, path)).await
    }

    /// What the admin API says at a path below `/admin/v1/`; panics unless it says 200.
    pub async fn admin(&self, path: &str) -> Value {
        self.get(&format!("/admin/v1/{path}")).await.expect_status(200).json()
    }

    /// The one delivery of the message that a reply is about.
    pub async fn delivery_of(&self, reply: &Reply) -> Value {
        let id = reply.header("emberpost-message-id").expect("every reply names the message");
        self.admin(&format!("deliveries?message={id}")).await["items"][0].clone()
    }

    /// Posts a JSON value to a path below `/admin/v1/`.
    pub async fn admin_post(&self, path: &str, value: Value) -> Reply {
        let request = self.request(Method::POST, &format!("/admin/v1/{path}"));
        self.ask(request.header("content-type", "application/json").body(value.to_string())).await
    }

    /// Runs one of the commands that talk to this node.
    pub fn command(&self, arguments: &[&str]) -> Output {
        let server = format!("http://{}", self.address);
        program(self.folder()).args(arguments).args(["--server", &server]).output().unwrap()
    }

    /// Ends it as a power cut would: nothing of its own runs any more.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the node is not running");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal by name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        let script = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success(), "{script}");
    }

    /// Asks it to drain and stop, and waits for its end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        let mut child = self.child.take().unwrap();
        wait_for(SOON * 4, "the node stops after SIGTERM", async || child.try_wait().unwrap()).await
    }

    /// Waits until it ends by itself; its exit status.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        wait_for(SOON * 4, "the node ends by itself", async || child.try_wait().unwrap()).await
    }

    /// Starts it again on the same address and store, killing it first when it still runs.
    pub async fn restart(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.child = Some(self.spawn());
        if let Err(failure) = self.become_ready().await {
            panic!("the node did not start again: {:?}\n{}", failure.exit_code, failure.log);
        }
    }

    /// As `restart`, for a node that has a reason not to become ready.
    pub async fn restart_unready(&mut self) {
        if self.child.is_some() {
            self.kill9();
        }
        self.child = Some(self.spawn());
        let url = self.url("/health/ready");
        let answers = async || self.client.get(&url).send().await.is_ok();
        wait_until(SOON, "the node answers", answers).await;
    }

    /// Starts it again as another build of the program, once it has ended.
    pub async fn restart_as(&mut self, program: Option<&Path>) {
        self.config = self.config.clone().program(program);
        self.restart().await;
    }

    /// Writes another configuration and has it read again (SIGHUP). What it does then is for the test to wait for.
    pub fn reload(&mut self, config: NodeConfig) {
        self.config = config;
        self.write_config();
        self.signal("HUP");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = self.log();
        if std::thread::panicking() {
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the node's log ends:\n{}", lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n"));
        } else if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
            panic!("the node panicked: {line}\n{log}");
        }
    }
}

/// Runs the program to its end in a new folder, as a person would in a shell.
pub fn emberpost(arguments: &[&str]) -> Output {
    let folder = TempDir::with_prefix("emberpost-it-").unwrap();
    program(folder.path()).args(arguments).stdin(Stdio::from(File::open("/dev/null").unwrap())).output().unwrap()
}

/// The program, in `folder`, knowing nothing of the environment that the tests run in.
pub fn program(folder: &Path) -> Command {
    in_folder(Command::new(env!("CARGO_BIN_EXE_emberpost")), folder)
}

fn in_folder(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("EMBERPOST_") || text == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}
