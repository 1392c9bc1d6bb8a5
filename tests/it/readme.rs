//! The walks of the README, command by command.
//!
//! Blocks fenced as `sh` are run by bash; those fenced as `sh server PORT` or `sh running` are started and keep running until the
//! end. They run in a folder that looks like the repository, so that they write nothing into it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use crate::amqp_examples::{Language, cache};
use crate::harness::{Broker, wait_for};

/// A release build that is not there yet takes minutes.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

/// Where the README says that RabbitMQ is; the one of the tests is elsewhere.
const README_BROKER: &str = "127.0.0.1:5672";
/// The walks use the same ports.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// How a block is run.
#[derive(Debug, PartialEq)]
enum Kind {
    ToItsEnd,
    /// Goes on while the others run, and is ready when this port says so.
    Server(u16),
    /// Goes on while the others run.
    Running,
}

/// A fenced block of the README.
#[derive(Debug, PartialEq)]
struct Block {
    kind: Kind,
    script: String,
}

/// The `sh` blocks of a section, in order.
fn blocks(readme: &str, section: &str) -> Vec<Block> {
    let section = readme.split(&format!("\n## {section}\n")).nth(1).expect("the README has no such section");
    let section = section.split("\n## ").next().unwrap();
    let mut blocks = Vec::new();
    for fenced in section.split("\n```sh").skip(1) {
        let (info, rest) = fenced.split_once('\n').unwrap();
        let script = rest.split("\n```").next().unwrap().to_owned();
        let kind = match info.trim().split_once(' ').unwrap_or((info.trim(), "")) {
            ("server", port) => Kind::Server(port.parse().unwrap()),
            ("running", "") => Kind::Running,
            ("", "") => Kind::ToItsEnd,
            other => panic!("a block is fenced as {other:?}"),
        };
        blocks.push(Block { kind, script });
    }
    blocks
}

/// The walk runs in another folder than cargo: this passes the manifest, so that nothing is built twice.
const CARGO: &str = "cargo() { command cargo \"$1\" --manifest-path \"$ROOT/Cargo.toml\" \"${@:2}\"; }\n";

/// The folder of the walk, and its servers, which end with it.
struct Walk {
    folder: TempDir,
    servers: Vec<Child>,
    environment: Vec<(&'static str, String)>,
}

impl Walk {
    /// With the program as the first block builds it.
    fn new() -> Walk {
        let walk = Walk::without_program();
        fs::create_dir_all(target()).unwrap();
        symlink(target(), walk.folder.path().join("target")).unwrap();
        walk
    }

    /// With the program of these tests where a release build would be.
    fn with_program() -> Walk {
        let walk = Walk::without_program();
        let release = walk.folder.path().join("target/release");
        fs::create_dir_all(&release).unwrap();
        symlink(env!("CARGO_BIN_EXE_emberpost"), release.join("emberpost")).unwrap();
        walk
    }

    fn without_program() -> Walk {
        let folder = TempDir::with_prefix("emberpost-readme-").unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for name in ["message-definitions", "examples"] {
            symlink(root.join(name), folder.path().join(name)).unwrap();
        }
        Walk { folder, servers: Vec::new(), environment: Vec::new() }
    }

    fn bash(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &format!("{CARGO}{script}")])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        // A group of its own, so that what it starts ends with it.
        command.process_group(0);
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().starts_with("EMBERPOST_")) {
            command.env_remove(name);
        }
        command.env_remove("RUST_LOG").env("NO_PROXY", "127.0.0.1");
        command.env("ROOT", env!("CARGO_MANIFEST_DIR")).env("CARGO_TARGET_DIR", target());
        command.envs(self.environment.iter().cloned());
        command
    }

    async fn serve(&mut self, port: u16, script: &str) {
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        assert!(free, "the walk needs port {port} of 127.0.0.1, which another program holds: end that first");
        self.begin(script, &format!("{port}.log"));
        let url = format!("http://127.0.0.1:{port}/health/ready");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let what = format!("{script}\nis ready at {url}");
        wait_for(BUILD_LIMIT, &what, async || {
            let ended = self.servers.last_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "{script}\nended:\n{}", self.logs());
            client.get(&url).send().await.is_ok_and(|answer| answer.status() == 200).then_some(())
        })
        .await;
    }

    /// Starts what goes on until the end; its output is in a file of the walk's folder.
    fn begin(&mut self, script: &str, log: &str) {
        let log = File::create(self.folder.path().join(log)).unwrap();
        let mut command = self.bash(script);
        self.servers.push(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    /// Runs a block to its end; standard output.
    fn run(&self, script: &str) -> String {
        let Output { status, stdout, stderr } = self.bash(script).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&stdout).into_owned(), String::from_utf8_lossy(&stderr).into_owned());
        assert!(status.success(), "{script}\nended with {status}\n{out}\n{err}\n{}", self.logs());
        out
    }

    fn logs(&self) -> String {
        let logs = ["8080", "8081", "8082"].map(|port| self.folder.path().join(format!("{port}.log")));
        logs.iter().filter_map(|log| fs::read_to_string(log).ok()).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Walk {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // The whole group: bash, cargo, and the router.
            let _ = Command::new("bash").args(["-c", &format!("kill -KILL -- -{}", server.id())]).status();
            let _ = server.wait();
        }
    }
}

fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn response(text: &str) -> (String, Value) {
    let bundle: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let code = bundle.pointer("/entry/0/resource/response/code").and_then(Value::as_str);
    (code.unwrap_or_else(|| panic!("no response message: {text}")).to_owned(), bundle)
}

/// What a block of the walk must show.
fn check(script: &str, shown: &str) {
    let has = |part: &str| assert!(shown.contains(part), "{script}\ndoes not show {part}:\n{shown}");
    if script.contains("/health/ready") {
        has("\"status\":\"ready\"");
    } else if script.contains("patient-vanish") {
        assert_eq!(response(shown).0, "fatal-error", "{shown}");
        has("SEND_UNKNOWN_EVENT");
    } else if script.contains("curl -si") {
        has("HTTP/1.1 200 OK");
        has("emberpost-repeat: true");
        assert_eq!(response(shown.split("\r\n\r\n").nth(1).unwrap()).0, "ok");
    } else if script.contains("valueset-expand-request") {
        let (code, bundle) = response(shown);
        let entries = bundle["entry"].as_array().unwrap();
        let expansion = entries.iter().find_map(|entry| entry.pointer("/resource/expansion/contains"));
        assert!(code == "ok" && expansion.is_some_and(|it| it.as_array().unwrap().len() > 3), "{shown}");
    } else if script.contains("curl") && script.contains("patient-link-request") {
        assert_eq!(response(shown).0, "ok", "{shown}");
    } else if script.contains("emberpost messages") {
        assert!(shown.lines().count() >= 7, "three messages and their answers: {shown}");
        has("SEND_UNKNOWN_EVENT");
        has("valueset-expand");
    } else if script.contains("emberpost route") {
        has("goes to:     lab");
    } else if script.contains("emberpost validate") {
        has(", 0 invalid");
    } else if script.contains("emberpost send") {
        has(" 200 ok ");
        has("1 message in");
    } else if script.contains("emberpost replay") {
        has("1 message matches");
        has("1 replayed, 0 left out");
    } else if script.contains("emberpost deliveries") {
        assert_eq!(shown.lines().filter(|line| line.contains(" lab ")).count(), 2, "{shown}");
        has("request");
        has("replay");
    } else {
        panic!("nobody looks at what this block of the README shows:\n{script}");
    }
}

#[tokio::test]
async fn the_five_minutes_of_the_readme_go_as_it_says() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = blocks(&readme, "Five minutes");
    let _alone = ONE_AT_A_TIME.lock().await;
    assert!(blocks.len() >= 12 && blocks[0].script == "cargo run --release", "{blocks:?}");
    let mut walk = Walk::new();
    for Block { kind, script } in &blocks {
        match kind {
            Kind::Server(port) => walk.serve(*port, script).await,
            Kind::Running => walk.begin(script, "running.log"),
            Kind::ToItsEnd => check(script, &walk.run(script)),
        }
    }
}

#[tokio::test]
async fn the_walk_over_amqp_goes_as_the_readme_says() {
    let Some(broker) = Broker::shared().await else { return };
    if !Language::Python.is_ready().await {
        return;
    }
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = blocks(&readme, "AMQP");
    assert!(blocks.len() == 3 && blocks[1].kind == Kind::Running, "{blocks:?}");
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut walk = Walk::with_program();
    walk.environment.push(("AMQP_URL", broker.url()));
    walk.environment.push(("EMBERPOST__AMQP__URL", broker.url()));
    walk.environment.push(("PYTHONPATH", cache("python").display().to_string()));
    let elsewhere = format!("127.0.0.1:{}", broker.port());
    for Block { kind, script } in &blocks {
        let script = script.replace(README_BROKER, &elsewhere);
        match kind {
            Kind::Server(port) => walk.serve(*port, &script).await,
            Kind::Running => walk.begin(&script, "running.log"),
            Kind::ToItsEnd => {
                let shown = walk.run(&script);
                for told in ["sent ", "answered ok\nanswered ok\nvalueset-expand\n", "request.json ok\n", ": 1 ok\n"] {
                    assert!(shown.contains(told), "{told} is not in\n{shown}");
                }
            }
        }
    }
    let taken = fs::read_to_string(walk.folder.path().join("running.log")).unwrap();
    assert_eq!(taken.matches("took ").count(), 2, "the push event and the file: {taken}");
}

#[test]
fn blocks_are_found_in_their_order_and_their_section() {
    let readme = "# A\n\n```sh\nno\n```\n\n## Five minutes\n\nText.\n\n```sh server 8080\nserve \\\n  it\n```\n\n```sh\none\n```\n\n## B\n\n```sh running\nno\n```\n";
    let block = |kind, script: &str| Block { kind, script: script.to_owned() };
    let wanted = [block(Kind::Server(8080), "serve \\\n  it"), block(Kind::ToItsEnd, "one")];
    assert_eq!(blocks(readme, "Five minutes"), wanted);
    assert_eq!(blocks(readme, "B"), [block(Kind::Running, "no")]);
}
