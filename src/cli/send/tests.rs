//! `send` against another party that answers from a table.

use super::*;
use crate::cli::fake::{self, Said};
use clap::Parser;
use serde_json::json;
use std::path::Path;

const LINE: &str = "POST /fhir/$process-message";

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: SendArgs,
}

async fn command(path: &Path, to: &str, flags: &[&str]) -> (Result<i32, Failure>, String) {
    let path = path.to_string_lossy().into_owned();
    let words = ["send", &path, "--to", to, "--concurrency", "1"];
    let line = Line::try_parse_from(words.iter().chain(flags)).unwrap_or_else(|error| panic!("{error}"));
    let mut out = Vec::new();
    let result = run(line.args, &mut out).await;
    (result, String::from_utf8(out).expect("text"))
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

fn response(code: &str) -> Said {
    Said::json(json!({"resourceType": "Bundle", "entry": [{"resource": {"response": {"code": code}}}]}))
}

#[tokio::test]
async fn each_message_has_its_line_and_the_summary_counts_them() {
    let outcome = json!({"resourceType": "OperationOutcome", "issue": [
        {"severity": "error", "code": "required", "diagnostics": "No source. [MSG-11]"}]});
    let server = fake::server(vec![
        (LINE, response("ok").header("emberpost-message-id", "id-1").header("emberpost-repeat", "true")),
        (LINE, Said::new(202, "")),
        (LINE, Said::new(204, "")),
        (LINE, Said::new(400, &outcome.to_string())),
    ])
    .await;
    let folder = folder(&[("a.json", "{}"), ("b.ndjson", "{\"n\":1}\n{\"n\":2}\n"), ("c.fhir", "<Bundle/>")]);
    let (result, text) = command(folder.path(), &format!("{}/fhir", server.url), &[]).await;
    assert_eq!(result.expect("sent"), 1);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], format!("{} 200 ok id-1 repeat", at("a.json")));
    assert_eq!(lines[1], format!("{}:1 202", at("b.ndjson")));
    assert_eq!(lines[2], format!("{}:2 204", at("b.ndjson")));
    assert_eq!(lines[3], format!("{} 400: No source. [MSG-11]", at("c.fhir")));
    assert!(lines[4].ends_with("1 ok, 1 taken, 1 in custody (202), 1 refused with 400"), "{text}");
    assert!(lines[5].starts_with("answer times: min "), "{text}");
    let asked = server.asked();
    assert_eq!(
        asked.iter().map(|asked| asked.body.as_str()).collect::<Vec<_>>(),
        ["{}", "{\"n\":1}", "{\"n\":2}", "<Bundle/>"]
    );
    let types: Vec<_> = asked.iter().map(|asked| asked.content_type.as_str()).collect();
    assert_eq!(types, [&["application/fhir+json"; 3][..], &["application/fhir+xml"]].concat());
}

#[tokio::test]
async fn all_taken_is_exit_code_0_also_asynchronously() {
    let server = fake::server(vec![("POST /$process-message?async=true", Said::new(200, ""))]).await;
    let folder = folder(&[("a.json", "{}"), ("b.json", "{}")]);
    let (result, text) = command(folder.path(), &server.url, &["--async", "--rate", "1000/s"]).await;
    assert_eq!(result.expect("sent"), 0);
    assert!(text.contains("2 messages in ") && text.contains(": 2 taken\n"), "{text}");
}

#[tokio::test]
async fn error_answers_are_exit_code_1() {
    for code in ["transient-error", "fatal-error"] {
        let server = fake::server(vec![(LINE, response(code))]).await;
        let folder = folder(&[("a.json", "{}")]);
        let (result, text) = command(&folder.path().join("a.json"), &format!("{}/fhir/", server.url), &[]).await;
        assert_eq!(result.expect("sent"), 1);
        assert!(text.contains(&format!(" 200 {code}\n1 message in ")), "{text}");
    }
}

#[tokio::test]
async fn nobody_there_is_exit_code_3_and_ends_early() {
    let lines = "{}\n".repeat(100);
    let folder = folder(&[("a.ndjson", lines.as_str())]);
    let (result, text) = command(folder.path(), &fake::nobody(), &[]).await;
    assert_eq!(result.expect("tried"), 3);
    assert!(text.contains(&format!("{GIVE_UP_AFTER} unreachable")) && text.contains("gave up"), "{text}");
}

#[tokio::test]
async fn no_broker_there_is_exit_code_3_and_ends_early() {
    let lines = "{}\n".repeat(100);
    let folder = folder(&[("a.ndjson", lines.as_str())]);
    let to = fake::nobody().replace("http://", "amqp://user:s3cret@");
    let (result, text) = command(folder.path(), &to, &[]).await;
    assert_eq!(result.expect("tried"), 3);
    assert!(text.contains(&format!("{GIVE_UP_AFTER} unreachable")) && text.contains("gave up"), "{text}");
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_message_goes_to_a_queue_or_to_an_exchange() {
    for flags in [&["--queue", "q", "--exchange", "e"][..], &["--routing-key", "k"], &["--timeout", "0"]] {
        let words = ["send", "a.json", "--to", "amqp://127.0.0.1"];
        assert!(Line::try_parse_from(words.iter().chain(flags)).is_err(), "{flags:?}");
    }
}

#[tokio::test]
async fn wrong_addresses_paths_and_tokens_are_exit_code_2_before_anything_is_sent() {
    let folder = folder(&[("a.json", "{}")]);
    let server = fake::server(vec![(LINE, response("ok"))]).await;
    let to = format!("{}/fhir", server.url);
    let broker = "amqp://user:s3cret@127.0.0.1:1";
    let cases: [(&Path, &str, &[&str]); 10] = [
        (folder.path(), "amqp://user:s3cret@", &[]),
        (folder.path(), "ampq://user:s3cret@127.0.0.1", &[]),
        (folder.path(), broker, &["--token-env", "PATH"]),
        (folder.path(), broker, &["--async", "--timeout", "5"]),
        (&folder.path().join("none.json"), broker, &[]),
        (folder.path(), &to, &["--queue", "lab.in"]),
        (folder.path(), &to, &["--exchange", "fhir", "--routing-key", "lab"]),
        (folder.path(), "127.0.0.1:8080", &[]),
        (&folder.path().join("none.json"), &to, &[]),
        (folder.path(), &to, &["--token-env", "EMBERPOST_TEST_TOKEN_THAT_IS_NOT_SET"]),
    ];
    for (path, to, flags) in cases {
        let failure = command(path, to, flags).await.0.expect_err(to);
        assert_eq!(failure.exit_code(), 2, "{to}");
        assert!(!failure.to_string().contains("s3cret"), "{failure}");
    }
    assert!(server.asked().is_empty());
}
