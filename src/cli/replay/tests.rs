//! `replay` against a router that answers from a table.

use super::*;
use crate::cli::fake::{self, Said};
use clap::Parser;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: ReplayArgs,
}

async fn command(words: &str, server: &str) -> (Result<i32, Failure>, String) {
    let line = Line::try_parse_from(["replay"].into_iter().chain(words.split(' ')).chain(["--server", server]));
    let mut out = Vec::new();
    let result = run_on(line.unwrap_or_else(|error| panic!("{error}")).args, false, &mut out).await;
    (result, String::from_utf8(out).expect("text"))
}

const START: &str = "POST /admin/v1/replays";
const LOOK: &str = "GET /admin/v1/replays/00000000-0000-0000-0000-000000000000";

#[tokio::test]
async fn a_replay_is_counted_started_and_followed_to_its_end() {
    let server = fake::server(vec![
        (START, Said::json(fake::replay_count(5, 1))),
        (START, Said::json(fake::replay(json!({})))),
        (LOOK, Said::json(fake::replay(json!({"state": "running", "total": 5, "done": 2, "skipped": 0})))),
        (LOOK, Said::json(fake::replay(json!({"state": "done", "total": 5, "done": 4, "skipped": 1})))),
    ])
    .await;
    let (result, text) = command("--event c --to lab --rate 20 --forward-answers --yes", &server.url).await;
    assert_eq!(result.expect("replayed"), 0);
    assert_eq!(
        text,
        "5 messages match\n1 of category consequence: left out (--force-consequence replays them)\nreplay 00000000-0000-0000-0000-000000000000\n\
         4 replayed, 1 left out\n"
    );
    let asked = server.asked();
    let sent: Value = serde_json::from_str(&asked[1].body).expect("JSON");
    assert_eq!(
        sent,
        json!({"filter": {"event": "c"}, "to": "lab", "rate_per_second": 20, "dry_run": false,
            "forward_answers": true, "force_consequence": false})
    );
    assert!(asked[0].body.contains("\"dry_run\":true"), "counted first");
    assert_eq!(asked.iter().filter(|asked| asked.line == LOOK).count(), 2);
}

#[tokio::test]
async fn a_dry_run_starts_nothing() {
    let server = fake::server(vec![(START, Said::json(fake::replay_count(1, 0)))]).await;
    let (result, text) = command("--event c --dry-run", &server.url).await;
    assert_eq!((result.expect("counted"), text.as_str(), server.asked().len()), (0, "1 message matches\n", 1));
}

#[tokio::test]
async fn ids_are_replayed_in_the_order_in_which_they_came() {
    let (early, late) = ("0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d", "0199a4c3-7d3e-7c61-8c06-0f6d1a2b3c4d");
    let server = fake::server(vec![
        (START, Said::json(fake::replay_count(1, 0))),
        (START, Said::json(fake::replay_count(0, 0))),
        (START, Said::json(fake::replay(json!({})))),
        (LOOK, Said::json(fake::replay(json!({"state": "done", "done": 1, "skipped": 0})))),
    ])
    .await;
    let (result, text) = command(&format!("{late} {early} --yes"), &server.url).await;
    assert_eq!(result.expect("replayed"), 1, "one of them is not known");
    assert!(text.starts_with(&format!("{late}: no such message\n1 message matches\n")), "{text}");
    assert!(server.asked()[0].body.contains(early));
}

#[tokio::test]
async fn what_could_not_be_replayed_is_exit_code_1() {
    for end in [json!({"state": "done", "done": 0, "skipped": 1}), json!({"state": "stopped", "done": 0})] {
        let server = fake::server(vec![
            (START, Said::json(fake::replay_count(1, 0))),
            (START, Said::json(fake::replay(json!({})))),
            (LOOK, Said::json(fake::replay(end))),
        ])
        .await;
        assert_eq!(command("--state accepted --yes", &server.url).await.0.expect("followed"), 1);
    }
}

#[tokio::test]
async fn without_a_terminal_yes_must_be_given_and_ids_exclude_a_filter() {
    let id = Uuid::nil();
    for words in ["--event c".to_owned(), format!("{id} --event c --yes")] {
        let failure = command(&words, &fake::nobody()).await.0.expect_err("usage");
        assert_eq!(failure.exit_code(), 2, "{failure}");
    }
}
