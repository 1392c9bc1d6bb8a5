//! Configuration as an operator meets it: every mistake at once with its place, layers, and what is not built.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;

use crate::harness::{NodeConfig, Party, Peer, emberpost, program};

/// A folder with `emberpost.toml` in it.
fn folder(text: &str) -> TempDir {
    let folder = TempDir::with_prefix("emberpost-it-").unwrap();
    fs::write(folder.path().join("emberpost.toml"), text).unwrap();
    folder
}

fn check(folder: &Path, variables: &[(&str, &str)]) -> Output {
    program(folder).arg("check").envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A good file, for a test to add to.
const GOOD: &str = "[definitions]\npaths = []\nunknown_events = \"route\"\n";

#[test]
fn every_mistake_is_told_at_once_with_file_and_line() {
    let folder = folder(
        "[server]\nlisten = \"nowhere\"\nanswer_timeout_sm = 5\n\n[stroe]\nurl = \"sqlite:a.db\"\n\n\
         [definitions]\npaths = []\n\n[[participant]]\nid = \"lab\"\naddresses = [\"urn:x\"]\n\n\
         [[participant]]\nid = \"ward\"\naddresses = [\"urn:x\"]\norder = \"sendr\"\n\n[[route]]\nto = [\"nobody\"]\n",
    );
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stdout));
    let errors = text(&output.stderr);
    for (place, part) in [
        ("emberpost.toml:2", "listen"),
        ("emberpost.toml:3", "did you mean \"answer_timeout_ms\"?"),
        ("emberpost.toml:5", "did you mean \"store\"?"),
        ("emberpost.toml:15", "urn:x"),
        ("emberpost.toml:18", "did you mean \"sender\"?"),
        ("emberpost.toml:20", "nobody"),
    ] {
        let found = errors.lines().any(|line| line.starts_with(&format!("{place}:")) && line.contains(part));
        assert!(found, "{place} {part} is missing in\n{errors}");
    }
    assert!(errors.trim_end().ends_with("6 errors"), "{errors}");
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let folder = folder("[server]\nlisten = \"127.0.0.1:8080\"\nname = = 3\n");
    let output = check(folder.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("emberpost.toml:3:"), "{}", text(&output.stderr));
}

#[test]
fn a_good_configuration_is_shown_and_is_exit_code_0() {
    let folder = folder(&format!(
        "{GOOD}\n[[participant]]\nid = \"lab\"\naddresses = [\"https://lab.example.org/fhir\"]\n\
         channel = {{ type = \"http\", url = \"https://user:pass@lab.example.org/fhir\" }}\n\
         token_sha256 = \"{}\"\n\n[[route]]\nevent = \"patient-link\"\nto = [\"lab\"]\n",
        "ab".repeat(32)
    ));
    let output = check(folder.path(), &[]);
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for part in ["lab", "https://lab.example.org/fhir", "patient-link", "1 participant", "1 route", "1 token"] {
        assert!(report.contains(part), "{part} is missing in\n{report}");
    }
    for secret in ["abab", "pass"] {
        assert!(!report.contains(secret), "{secret} is shown in\n{report}");
    }
    assert!(!folder.path().join("emberpost-data").exists(), "check made a store");
}

#[test]
fn the_example_and_the_defaults_with_the_shipped_definitions_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let defaults = program(root).arg("check").output().unwrap();
    assert_eq!(defaults.status.code(), Some(0), "{}", text(&defaults.stderr));
    assert!(text(&defaults.stdout).contains("valueset-expand"), "{}", text(&defaults.stdout));
    let example = program(root).args(["check", "--config", "examples/two-parties.toml"]).output().unwrap();
    assert_eq!(example.status.code(), Some(0), "{}", text(&example.stderr));
    for part in ["hospital", "lab", "2 participants", "1 route"] {
        assert!(text(&example.stdout).contains(part), "{}", text(&example.stdout));
    }
}

#[test]
fn definitions_are_checked_too() {
    let folder = folder("[definitions]\npaths = [\"mine\"]\n");
    fs::create_dir(folder.path().join("mine")).unwrap();
    fs::write(folder.path().join("mine/broken.json"), "{\n  \"resourceType\": \n").unwrap();
    fs::write(
        folder.path().join("mine/eventless.json"),
        "{\"resourceType\": \"MessageDefinition\", \"status\": \"active\"}",
    )
    .unwrap();
    let output = check(folder.path(), &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("mine/broken.json") && errors.contains("mine/eventless.json"), "{errors}");
}

#[test]
fn what_is_not_built_is_exit_code_2_and_is_named() {
    let party = |rest: &str| format!("{GOOD}\n[[participant]]\nid = \"lab\"\naddresses = [\"urn:lab\"]\n{rest}\n");
    for (name, config) in [
        ("repository", party("channel = { type = \"repository\" }")),
        ("when", party("channel = { type = \"mailbox\" }\n[[route]]\nwhen = \"true\"\nto = [\"lab\"]")),
    ] {
        let folder = folder(&config);
        for command in ["check", "serve"] {
            let output = program(folder.path()).arg(command).output().unwrap();
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command}, {name}: {errors}");
            let told = errors.lines().find(|line| line.contains("not built"));
            assert!(told.is_some_and(|line| line.contains(name)), "{command}, {name}: {errors}");
            assert!(errors.contains("emberpost.toml:"), "{command}, {name}: {errors}");
        }
    }
}

#[test]
fn a_named_file_that_is_missing_is_exit_code_2() {
    for command in ["check", "serve"] {
        let output = emberpost(&[command, "--config", "no-such.toml"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("no-such.toml"), "{}", text(&output.stderr));
    }
}

#[test]
fn a_variable_that_is_wrong_is_told_by_its_name() {
    let folder = folder(GOOD);
    let output =
        check(folder.path(), &[("EMBERPOST__SERVER__MAX_IN_FLIHGT", "4"), ("EMBERPOST__SERVER__MAX_WAITING", "many")]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    for part in ["EMBERPOST__SERVER__MAX_IN_FLIHGT", "did you mean \"max_in_flight\"", "EMBERPOST__SERVER__MAX_WAITING"]
    {
        assert!(errors.contains(part), "{part}: {errors}");
    }
}

#[tokio::test]
async fn a_variable_goes_over_the_file_and_a_flag_over_the_variable() {
    let folder = folder(&format!("{GOOD}[server]\nlisten = \"127.0.0.1:1\"\nname = \"of-the-file\"\n"));
    let variables = [("EMBERPOST__SERVER__LISTEN", "127.0.0.1:2"), ("EMBERPOST__STORE__URL", "sqlite:of-variable.db")];
    let report = text(&check(folder.path(), &variables).stdout);
    for part in ["127.0.0.1:2", "of-the-file", "of-variable.db"] {
        assert!(report.contains(part), "{part} is missing in\n{report}");
    }

    let node = NodeConfig::new().variable("EMBERPOST__SERVER__BODY_LIMIT_BYTES", "2000").start().await;
    node.post(vec![b' '; 3000]).await.expect_status(413);
}

#[tokio::test]
async fn a_reload_takes_new_parties_and_a_mistake_keeps_the_old_ones() {
    let peer = Peer::ok().await;
    let mut node = NodeConfig::with_sender().start().await;
    let to_lab = || crate::harness::Sample::new().addressed_to("lab").bytes();
    assert_eq!(node.post(to_lab()).await.faults(), ["SEND_UNKNOWN_DESTINATION"]);

    let with_lab = NodeConfig::with_sender().participant(Party::new("lab").at(&peer));
    node.reload(with_lab.clone());
    crate::harness::wait_until(crate::harness::SOON, "the new participant is known", async || {
        node.post(to_lab()).await.response_code().as_deref() == Some("ok")
    })
    .await;

    node.reload(NodeConfig::with_sender().participant(Party::new("lab").with("odrer = \"none\"")));
    crate::harness::wait_until(crate::harness::SOON, "the mistake is in the log", async || {
        node.log().contains("not reloaded")
    })
    .await;
    assert!(node.log().contains("did you mean \\\"order\\\"") || node.log().contains("did you mean \"order\""));
    assert_eq!(node.post(to_lab()).await.response_code().as_deref(), Some("ok"));
}

#[test]
fn without_a_folder_of_definitions_those_of_the_program_hold() {
    let output = emberpost(&["check"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("patient-link") && text.contains("the built-in definitions are used"), "{text}");
}
