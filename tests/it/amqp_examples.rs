//! The programs of `examples/amqp`, in every language, as their readers run them: against a broker and a router with the
//! configuration that stands beside them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::harness::{Broker, Node, NodeConfig, SOON, wait_for};

/// Interpreters and clients that are missing fail the tests when this variable is set.
const REQUIRE: &str = "EMBERPOST_REQUIRE_BROKER";

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Language {
    Rust,
    Python,
    Node,
}

/// A broker's queues, a router between them, and the variables that tell the examples of both.
struct Hub {
    broker_url: String,
    node: Node,
    inbound_queue: String,
    lab_queue: String,
    folder: TempDir,
}

/// A consumer that runs until it is dropped.
struct Consumer {
    child: Child,
    log: PathBuf,
}

impl Hub {
    /// None without a broker.
    async fn start() -> Option<Hub> {
        let broker = Broker::shared().await?;
        let (inbound_queue, lab_queue) = (Broker::name("fhir.inbound"), Broker::name("lab.in"));
        let answers = format!("[amqp]\nanswer_queue = \"{}\"", Broker::name("emberpost.answers"));
        let mut text = fs::read_to_string(examples().join("emberpost.toml")).unwrap();
        for (from, to) in [
            ("amqp://guest:guest@127.0.0.1:5672/%2f", &*broker.url()),
            ("\"fhir.inbound\"", &format!("\"{inbound_queue}\"")),
            ("\"lab.in\"", &format!("\"{lab_queue}\"")),
            ("[amqp]", &answers),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from}");
            text = text.replace(from, to);
        }
        let node = NodeConfig::new().shipped_definitions().toml(&text).start().await;
        let folder = TempDir::with_prefix("emberpost-examples-").unwrap();
        Some(Hub { broker_url: broker.url(), node, inbound_queue, lab_queue, folder })
    }

    fn command(&self, language: Language, program: &str) -> Command {
        let mut command = language.command(program);
        command.env("AMQP_URL", &self.broker_url).env("INBOUND_QUEUE", &self.inbound_queue);
        command.env("LAB_QUEUE", &self.lab_queue).env("DESTINATION", self.node.url("/fhir"));
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program to its end; what it printed.
    async fn run(&self, language: Language, program: &str) -> String {
        let Output { status, stdout, stderr } = output(self.command(language, program)).await;
        let (out, err) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{program} in {language:?} ended with {status}\n{out}\n{err}");
        out
    }

    /// A consumer that has begun to consume.
    async fn consumer(&self, language: Language) -> Consumer {
        let log = self.folder.path().join(format!("{language:?}.log"));
        let file = File::create(&log).unwrap();
        let mut command = self.command(language, "consumer");
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        let consumer = Consumer { child, log };
        consumer.says("waiting for messages in").await;
        consumer
    }

    /// One push event of this producer, answered by the consumer that runs; the message's own id.
    async fn push(&self, producer: Language, consumer: &Consumer) -> String {
        let told = self.run(producer, "producer").await;
        assert!(told.ends_with("answered ok\n"), "{producer:?}: {told}");
        let id = told.strip_prefix("sent ").and_then(|rest| rest.lines().next()).unwrap().to_owned();
        consumer.says(&format!("took {id} patient-link")).await;
        id
    }
}

impl Consumer {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    async fn says(&self, sentence: &str) {
        let what = format!("{} has: {sentence}", self.log.display());
        wait_for(SOON * 3, &what, async || self.log().contains(sentence).then_some(())).await;
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the consumer printed:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Language {
    fn command(self, program: &str) -> Command {
        match self {
            Language::Rust => Command::new(target().join(format!("debug/examples/amqp-{program}"))),
            Language::Python => {
                let mut command = Command::new("python3");
                command.arg(examples().join(format!("python/{program}.py"))).env("PYTHONPATH", cache("python"));
                command
            }
            Language::Node => {
                let mut command = Command::new("node");
                command.arg(cache("node").join(format!("{program}.mjs")));
                command
            }
        }
    }

    /// What the programs need is there, installed if need be. False, with a line that says why, when it cannot be.
    pub async fn is_ready(self) -> bool {
        static READY: [OnceCell<bool>; 3] = [const { OnceCell::const_new() }; 3];
        let ready = READY[self as usize].get_or_init(async || match self.prepare().await {
            Ok(()) => true,
            Err(why) => {
                assert!(std::env::var_os(REQUIRE).is_none(), "{why}, and {REQUIRE} is set");
                eprintln!("skipped: {why}");
                false
            }
        });
        *ready.await
    }

    async fn prepare(self) -> Result<(), String> {
        match self {
            Language::Rust => {
                let mut build = Command::new(env!("CARGO"));
                build.args(["build", "--quiet", "--locked", "--examples"]).current_dir(env!("CARGO_MANIFEST_DIR"));
                done(build, "cargo build --examples").await
            }
            Language::Python => {
                there("python3", &["-m", "pip", "--version"]).await?;
                let requirements = examples().join("python/requirements.txt");
                let mut pip = Command::new("python3");
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", "--target"]);
                pip.arg(cache("python")).arg("-r").arg(&requirements);
                install(&cache("python"), &requirements, pip).await
            }
            Language::Node => {
                there("node", &["--version"]).await?;
                there("npm", &["--version"]).await?;
                let (from, to) = (examples().join("node"), cache("node"));
                fs::create_dir_all(&to).unwrap();
                // Beside the installed client, because that is where modules look for it.
                for file in ["package.json", "producer.mjs", "requester.mjs", "consumer.mjs"] {
                    fs::copy(from.join(file), to.join(file)).unwrap();
                }
                let mut npm = Command::new("npm");
                npm.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"]).arg(&to);
                install(&to, &from.join("package.json"), npm).await
            }
        }
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/amqp")
}

fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Where clients are installed, once for many runs.
pub fn cache(language: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("amqp-examples").join(language)
}

async fn output(mut command: Command) -> Output {
    let said = tokio::task::spawn_blocking(move || command.output().map_err(|error| format!("{command:?}: {error}")));
    said.await.unwrap().unwrap_or_else(|error| panic!("{error}"))
}

async fn there(program: &'static str, arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let found = command.status().is_ok_and(|status| status.success());
    found.then_some(()).ok_or(format!("{program} {} does not run (tests/run installs it)", arguments.join(" ")))
}

async fn done(command: Command, what: &str) -> Result<(), String> {
    let Output { status, stderr, .. } = output(command).await;
    status.success().then_some(()).ok_or(format!("{what} failed: {}", String::from_utf8_lossy(&stderr)))
}

/// Runs an installer, unless it has installed just this before.
async fn install(folder: &Path, pinned: &Path, installer: Command) -> Result<(), String> {
    let (mark, pinned) = (folder.join("installed"), fs::read_to_string(pinned).unwrap());
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == pinned) {
        return Ok(());
    }
    done(installer, "installing the client").await?;
    fs::write(mark, pinned).unwrap();
    Ok(())
}

/// Everything that the examples of one language show.
async fn examples_work_in(language: Language) {
    let Some(hub) = Hub::start().await else { return };
    if !language.is_ready().await {
        return;
    }
    let consumer = hub.consumer(language).await;
    let id = hub.push(language, &consumer).await;

    let codes = hub.run(language, "requester").await;
    let codes: Vec<&str> = codes.lines().collect();
    assert!(codes[0] == "answered ok" && codes.contains(&"valueset-expand") && codes.len() > 3, "{codes:?}");

    // The same message comes again: the consumer knows it.
    let replay = hub.node.admin_post("replays", json!({ "filter": { "event": "patient-link" } }));
    replay.await.expect_status(201);
    consumer.says(&format!("again {id}")).await;
    assert_eq!(consumer.log().matches(&format!("took {id}")).count(), 1, "{}", consumer.log());

    // It takes one at a time: that another one comes shows that this one was acknowledged.
    hub.push(language, &consumer).await;

    let mut lost = hub.command(language, "producer");
    lost.env("INBOUND_QUEUE", Broker::name("nowhere"));
    let lost = output(lost).await;
    let told = String::from_utf8_lossy(&lost.stdout) + String::from_utf8_lossy(&lost.stderr);
    assert!(!lost.status.success() && told.contains("the broker has no queue nowhere"), "{language:?}: {told}");
}

#[tokio::test]
async fn the_examples_in_rust_push_pull_answer_and_know_repeats() {
    examples_work_in(Language::Rust).await;
}

#[tokio::test]
async fn the_examples_in_python_push_pull_answer_and_know_repeats() {
    examples_work_in(Language::Python).await;
}

#[tokio::test]
async fn the_examples_in_node_push_pull_answer_and_know_repeats() {
    examples_work_in(Language::Node).await;
}

#[tokio::test]
async fn a_message_in_one_language_is_answered_in_another() {
    let Some(hub) = Hub::start().await else { return };
    use Language::{Node, Python, Rust};
    for (producer, consumer) in [(Python, Node), (Node, Rust), (Rust, Python)] {
        if !producer.is_ready().await || !consumer.is_ready().await {
            continue;
        }
        let running = hub.consumer(consumer).await;
        hub.push(producer, &running).await;
    }
}
