//! What must not stop the router: a log that cannot be written, signals that mean nothing to it, files that are no files.

use std::time::Duration;

use crate::harness::config::StandardError;
use crate::harness::{Node, NodeConfig, Party, Peer, SOON, Sample, emberpost, program, wait_until};

/// More than the log's queue and a pipe hold, at the level `trace`.
const MESSAGES: usize = 60;

/// A process that ends with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_lab(lab: &Peer) -> NodeConfig {
    NodeConfig::with_sender().participant(Party::new("lab").at(lab).with("order = \"none\""))
}

/// The figure of this name in `/metrics`.
async fn figure(node: &Node, name: &str) -> f64 {
    let text = node.get("/metrics").await.expect_status(200).text();
    let line =
        text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_log_that_cannot_be_written_stops_nothing_and_its_lost_lines_are_counted() {
    type Place = (&'static str, fn(NodeConfig) -> NodeConfig);
    let places: [Place; 4] = [
        ("a full disk", |config| config.prelude("exec 2>/dev/full")),
        ("a closed descriptor", |config| config.prelude("exec 2>&-")),
        ("a pipe whose reader is gone", |config| config.standard_error(StandardError::ClosedPipe)),
        ("a pipe whose reader stalls", |config| config.standard_error(StandardError::UnreadPipe)),
    ];
    for (name, place) in places {
        let lab = Peer::ok().await;
        let mut node = place(with_lab(&lab)).variable("EMBERPOST_LOG", "trace,sqlx=trace,hyper=trace").start().await;
        for _ in 0..MESSAGES {
            let reply = node.post(Sample::new().addressed_to("lab").bytes()).await;
            assert_eq!(reply.status, 200, "{name}: {}", reply.text());
        }
        assert_eq!(lab.count(), MESSAGES, "{name}");
        node.get("/health/ready").await.expect_status(200);
        // Without a descriptor the system's own /dev/null takes its place: nothing is lost there that could be counted.
        if name != "a closed descriptor" && name != "a pipe whose reader stalls" {
            assert!(figure(&node, "emberpost_log_lines_dropped_total").await > 0.0, "{name}");
        }
        // An error to report while nothing can be reported: a reload that fails.
        std::fs::write(node.config_path(), "nonsense").unwrap();
        node.signal("HUP");
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
        assert_eq!(node.terminate().await.code(), Some(0), "{name}");
    }
}

#[tokio::test]
async fn signals_that_mean_nothing_to_it_are_ignored() {
    let lab = Peer::ok().await;
    let mut node = with_lab(&lab).start().await;
    for name in ["USR1", "USR2", "PIPE", "ALRM", "WINCH", "CHLD"] {
        node.signal(name);
        node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    }
    assert_eq!(node.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_pipe_among_the_definitions_is_an_error_of_the_reload_and_the_order_to_stop_is_heard() {
    let lab = Peer::ok().await;
    let definitions = tempfile::tempdir().unwrap();
    let paths = toml::Value::String(definitions.path().display().to_string());
    let mut node = with_lab(&lab).definitions(&format!("paths = [{paths}]")).start().await;
    let pipe = definitions.path().join("pipe.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    node.signal("HUP");
    wait_until(SOON, "the reload is refused", async || {
        node.log().lines().any(|line| line.contains("pipe.json") && line.contains("not a regular file"))
    })
    .await;
    node.post(Sample::new().addressed_to("lab").bytes()).await.expect_status(200);
    assert_eq!(node.terminate().await.code(), Some(0), "{}", node.log());
}

#[test]
fn a_configuration_that_is_no_regular_file_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in ["/dev/zero", &pipe.display().to_string(), "/"] {
        for command in ["serve", "check"] {
            let output = emberpost(&[command, "--config", path]);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{command} {path}: {errors}");
            assert!(errors.contains(path) && errors.contains("cannot be read"), "{command} {path}: {errors}");
        }
    }
}

#[test]
fn a_base_url_that_cannot_be_routed_is_an_error_of_the_configuration() {
    for (path, is_good) in [
        ("/fhir", true),
        ("/fhir/", true),
        ("", true),
        ("/a/b-c_d~e.f/g(h)", true),
        ("/healthy/fhir", true),
        ("/{id}", false),
        ("/fhir/{*rest}", false),
        ("/*", false),
        ("/fhir*", false),
        ("/:id", false),
        ("/fhir/a:b", false),
        ("/fhir//r4", false),
        ("/fhir/../x", false),
        ("/fh%69r", false),
        ("/fh ir", false),
        ("/f\u{e4}hir", false),
        ("/health", false),
        ("/metrics", false),
        ("/admin/v1", false),
        ("/console", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nbase_url = \"http://127.0.0.1:8080{path}\"\n[definitions]\npaths = []\n"
        );
        std::fs::write(folder.path().join("emberpost.toml"), text).unwrap();
        let check = program(folder.path()).arg("check").output().unwrap();
        let errors = String::from_utf8_lossy(&check.stderr).into_owned();
        assert_eq!(check.status.code(), Some(if is_good { 0 } else { 2 }), "{path}: {errors}");
        if is_good {
            continue;
        }
        assert!(errors.contains("emberpost.toml:3: base_url"), "{path}: {errors}");
        let serve = program(folder.path()).arg("serve").output().unwrap();
        assert_eq!(serve.status.code(), Some(2), "{path}: {}", String::from_utf8_lossy(&serve.stderr));
    }
}

#[tokio::test]
async fn every_base_url_that_is_accepted_is_served() {
    for path in ["", "/a/b-c_d~e.f/g(h)", "/healthy/fhir"] {
        let address = crate::harness::free_address();
        let config = NodeConfig::with_sender().server(&format!("base_url = \"http://{address}{path}\""));
        let node = config.start().await;
        node.get(&format!("{path}/metadata")).await.expect_status(200);
    }
}

#[tokio::test]
async fn a_reload_is_judged_against_the_socket_that_is_bound() {
    let token = |of: &str| {
        use sha2::{Digest, Sha256};
        let hex: String = Sha256::digest(of.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("token_sha256 = \"{hex}\"")
    };
    let port = crate::harness::free_address().port();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("emberpost.toml");
    let write = |listen: &str, more: &str| {
        let text = format!(
            "[server]\nlisten = \"{listen}:{port}\"\n[store]\nmin_free_bytes = 0\n[definitions]\npaths = []\n\
             unknown_events = \"route\"\n{more}"
        );
        std::fs::write(&path, text).unwrap();
    };
    let operator = format!("[[operator]]\nname = \"duty\"\nrole = \"operator\"\n{}\n", token("duty"));
    write("0.0.0.0", &operator);
    let log = folder.path().join("node.log");
    let mut command = program(folder.path());
    let log_file = std::fs::File::create(&log).unwrap();
    let child = Ended(command.arg("serve").stdout(std::process::Stdio::null()).stderr(log_file).spawn().unwrap());
    let client = reqwest::Client::builder().no_proxy().timeout(SOON).build().unwrap();
    let status = async |path: &str| {
        let reply = client.get(format!("http://127.0.0.1:{port}{path}")).send().await;
        reply.map_or(0, |reply| reply.status().as_u16())
    };
    wait_until(SOON, "the node is ready", async || status("/health/ready").await == 200).await;
    assert_eq!(status("/admin/v1/messages").await, 401);

    type Change<'c> = (&'c str, &'c dyn Fn());
    let changes: [Change; 3] = [
        ("loopback without credentials", &|| write("127.0.0.1", "")),
        ("the file is gone", &|| std::fs::remove_file(&path).unwrap()),
        ("the file is a folder", &|| std::fs::create_dir(&path).unwrap()),
    ];
    for (count, (name, change)) in changes.iter().enumerate() {
        change();
        let hangup = std::process::Command::new("sh").args(["-c", &format!("kill -HUP {}", child.0.id())]).status();
        assert!(hangup.unwrap().success());
        wait_until(SOON, name, async || {
            let log = std::fs::read_to_string(&log).unwrap();
            log.lines().filter(|line| line.contains("not reloaded")).count() > count
        })
        .await;
        assert_eq!(status("/admin/v1/messages").await, 401, "{name}");
        assert_eq!(status("/metrics").await, 401, "{name}");
    }
}

#[tokio::test]
async fn a_folder_of_definitions_that_is_gone_is_not_replaced_by_those_of_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let address = crate::harness::free_address();
    std::fs::create_dir(folder.path().join("message-definitions")).unwrap();
    let text = format!("[server]\nlisten = \"{address}\"\n[store]\nmin_free_bytes = 0\n");
    std::fs::write(folder.path().join("emberpost.toml"), text).unwrap();
    let log = folder.path().join("node.log");
    let mut command = program(folder.path());
    let log_file = std::fs::File::create(&log).unwrap();
    let child = Ended(command.arg("serve").stdout(std::process::Stdio::null()).stderr(log_file).spawn().unwrap());
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let total = async || {
        let url = format!("http://{address}/fhir/MessageDefinition");
        let reply = crate::harness::Reply::of(client.get(url).send().await.ok()?).await;
        reply.json()["total"].as_u64()
    };
    wait_until(SOON, "the node answers", async || total().await == Some(0)).await;
    std::fs::remove_dir(folder.path().join("message-definitions")).unwrap();
    let hangup = std::process::Command::new("sh").args(["-c", &format!("kill -HUP {}", child.0.id())]).status();
    assert!(hangup.unwrap().success());
    wait_until(SOON, "the reload is refused", async || std::fs::read_to_string(&log).unwrap().contains("is gone"))
        .await;
    assert_eq!(total().await, Some(0));
}
