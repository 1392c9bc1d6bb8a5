//! `messages` against a router that answers from a table.

use super::*;
use crate::cli::fake::{self, Said};
use clap::Parser;
use serde_json::json;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: MessagesArgs,
}

async fn command(words: &[&str], server: &str) -> (Result<i32, Failure>, String) {
    let line = Line::try_parse_from(["messages"].iter().chain(words).chain(&["--server", server]));
    let mut out = Vec::new();
    let result = run(line.unwrap_or_else(|error| panic!("{error}")).args, &mut out).await;
    (result, String::from_utf8(out).expect("text"))
}

fn message(id: &str) -> Value {
    fake::message(json!({
        "id": id, "state": "refused", "event": {"Coding": {"system": "urn:s", "code": "c"}},
        "received_at_us": 1_700_000_000_123_456_i64,
        "outcome": {"issues": [{"severity": "error", "code": "required", "fault": "SEND_STRUCTURE", "rule": "MSG-04",
            "expression": "Bundle.entry", "diagnostics": "No header.", "position": null}]},
    }))
}

#[tokio::test]
async fn a_list_follows_cursors_up_to_its_limit_and_sends_its_filters() {
    let server = fake::server(vec![
        (
            "GET /admin/v1/messages?limit=3&state=refused",
            Said::json(json!({"items": [message("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4a"), message("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4b")], "next": "2"})),
        ),
        (
            "GET /admin/v1/messages?cursor=2&limit=1&state=refused",
            Said::json(json!({"items": [message("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4c")], "next": "3"})),
        ),
    ])
    .await;
    for words in [vec!["--state", "refused", "--limit", "3"], vec!["list", "--state", "refused", "--limit", "3"]] {
        let (result, text) = command(&words, &server.url).await;
        assert_eq!(result.expect("listed"), 0);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(
            lines[3].starts_with("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4c ")
                && lines[3].contains("2023-11-14T22:13:20.123Z"),
            "{text}"
        );
        assert!(lines[3].ends_with("urn:s|c  -         SEND_STRUCTURE"), "{text}");
    }
    let (_, text) = command(&["--state", "refused", "--limit", "3", "--format", "ndjson"], &server.url).await;
    assert_eq!(text.lines().count(), 3);
    let (_, text) = command(&["list", "--state", "refused", "--limit", "3", "--format", "json"], &server.url).await;
    assert_eq!(serde_json::from_str::<Vec<Value>>(&text).expect("an array").len(), 3);
}

#[tokio::test]
async fn one_message_is_shown_with_its_issues_and_its_timeline() {
    let timeline = json!({"items": [
        {"at_us": 1_700_000_000_123_456_i64, "what": "received"},
        {"at_us": 1_700_000_001_000_000_i64, "what": "attempt", "participant": "lab",
         "attempt": {"started_at_us": 0, "result": "retry", "status": 503, "duration_us": 1500, "fault": "RECV_BUSY", "detail": null}},
    ]});
    let server = fake::server(vec![
        ("GET /admin/v1/messages/a", Said::json(message("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4a"))),
        ("GET /admin/v1/messages/a/timeline", Said::json(timeline)),
    ])
    .await;
    let (result, text) = command(&["show", "a"], &server.url).await;
    assert_eq!(result.expect("shown"), 0);
    assert!(text.contains("error required SEND_STRUCTURE MSG-04 Bundle.entry: No header."), "{text}");
    assert!(text.contains("retry, HTTP 503, 1.5 ms, RECV_BUSY"), "{text}");
}

#[tokio::test]
async fn an_ambiguous_response_is_listed_by_its_flag_and_assigned_to_its_request() {
    let (response, request) = ("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d", "0199a4c1-11aa-7000-8000-5e5d1a2b3c4d");
    let path = format!("POST /admin/v1/messages/{response}/assign");
    let server = fake::server(vec![
        (
            "GET /admin/v1/messages?ambiguous=true&limit=50",
            Said::json(json!({"items": [message("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4a")]})),
        ),
        (&path, Said::json(fake::message(json!({"id": response, "in_reply_to": request})))),
    ])
    .await;
    assert_eq!(command(&["--ambiguous"], &server.url).await.1.lines().count(), 2);
    let (result, text) = command(&["assign", response, "--to", request], &server.url).await;
    assert_eq!(result.expect("assigned"), 0);
    assert_eq!(text, format!("The response {response} answers the request {request}.\n"));
    assert_eq!(server.asked().pop().expect("asked").body, json!({"to": request}).to_string());
}

#[tokio::test]
async fn content_is_copied_byte_for_byte() {
    let server = fake::server(vec![("GET /admin/v1/messages/a/content", Said::new(200, "{ \"a\" :1.0 }\r\n"))]).await;
    assert_eq!(command(&["content", "a"], &server.url).await.1, "{ \"a\" :1.0 }\r\n");
}

#[tokio::test]
async fn refusals_are_exit_code_1_in_plain_words_and_no_server_is_3() {
    let outcome = json!({"resourceType": "OperationOutcome", "issue": [
        {"severity": "error", "code": "value", "diagnostics": "since is not a time"}]});
    let server = fake::server(vec![
        ("GET /admin/v1/messages/none", Said::new(404, "")),
        ("GET /admin/v1/messages/closed", Said::new(401, "")),
        ("GET /admin/v1/messages/secret", Said::new(403, "")),
        ("GET /admin/v1/messages/bad", Said::new(400, &outcome.to_string())),
    ])
    .await;
    for (id, words) in [
        ("none", "404"),
        ("closed", "EMBERPOST_TOKEN"),
        ("secret", "forbids this (403)"),
        ("bad", "since is not a time"),
    ] {
        let failure = command(&["show", id], &server.url).await.0.expect_err(id);
        assert_eq!(failure.exit_code(), 1);
        assert!(failure.to_string().contains(words), "{failure}");
    }
    let failure = command(&["list"], &fake::nobody()).await.0.expect_err("nobody is there");
    assert_eq!(failure.exit_code(), 3);
    assert!(failure.to_string().starts_with("cannot reach http://127.0.0.1:"), "{failure}");
}

#[tokio::test]
async fn an_answer_of_another_program_is_refused_in_words_and_printed_as_json() {
    let page = Said::json(json!({"items": [{"id": 7}]}));
    let server = fake::server(vec![("GET /admin/v1/messages?limit=50", page)]).await;
    let failure = command(&["list"], &server.url).await.0.expect_err("not a message");
    assert!(failure.to_string().contains("is it an Emberpost router of this version?"), "{failure}");
    assert_eq!(command(&["list", "--format", "ndjson"], &server.url).await.1, "{\"id\":7}\n");
}

#[tokio::test]
async fn filters_before_the_word_list_are_not_ignored_in_silence() {
    let failure = command(&["--state", "refused", "show", "a"], &fake::nobody()).await.0.expect_err("usage");
    assert_eq!(failure.exit_code(), 2);
}
