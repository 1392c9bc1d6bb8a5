//! `emberpost messages`: list, show with the timeline, and the content byte for byte.

use super::client::{Client, Format, Server, document, write_list};
use super::deliveries;
use super::failure::Failure;
use super::filter::MessageFlags;
use super::table::{self, Table, cell, event, identifier, instant};
use clap::Subcommand;
use serde_json::Value;
use std::io::Write;

/// Entries that a list shows when `--limit` does not say.
pub const DEFAULT_LIMIT: u32 = 50;
/// A list is held in memory as a whole, for its columns.
pub const HIGHEST_LIMIT: i64 = 100_000;

/// List and show messages of a running router
///
/// Lists the messages that the router keeps, newest first; all filters that are given must hold. Ids are printed in
/// full, so that `show`, `content` and `replay` take them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost messages --event patient-link --since 2026-03-01T00:00:00Z\n  \
                        emberpost messages list --state refused --rule MSG-04 --format ndjson")]
pub struct MessagesArgs {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List messages, newest first (the default)
    ///
    /// Lists messages, newest first; all filters that are given must hold.
    #[command(after_help = "Example:\n  emberpost messages list --sender lab --limit 200")]
    List(Box<ListArgs>),
    /// Show one message with its timeline
    ///
    /// Shows what is known of one message, the issues of its outcome, and everything that happened to it.
    #[command(after_help = "Example:\n  emberpost messages show 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d")]
    Show {
        /// Emberpost's message id
        id: String,
        /// table or json
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Print the message byte for byte
    ///
    /// Copies the message to standard output, byte for byte as it was received.
    #[command(
        after_help = "Example:\n  emberpost messages content 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d > message.json"
    )]
    Content {
        /// Emberpost's message id
        id: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: MessageFlags,
    #[command(flatten)]
    shape: ListShape,
}

/// How much of a list is printed, and how.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct ListShape {
    /// At most so many [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=HIGHEST_LIMIT))]
    limit: Option<u32>,
    /// Form of the list [default: table]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl ListShape {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT) as usize
    }

    pub fn format(&self) -> Format {
        self.format.unwrap_or_default()
    }
}

pub async fn run(args: MessagesArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let MessagesArgs { server, action, list: outer } = args;
    if action.is_some() && outer != ListArgs::default() {
        return Err(Failure::Usage("give the filters after the word `list`; `show` and `content` take none".into()));
    }
    let client = Client::new(&server)?;
    match action {
        None => list(&client, outer, out).await,
        Some(Action::List(args)) => list(&client, *args, out).await,
        Some(Action::Show { id, format }) => show(&client, &id, format, out).await,
        Some(Action::Content { id }) => client.copy(&["messages", &id, "content"], out).await.map(|()| 0),
    }
}

async fn list(client: &Client, args: ListArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let items = client.list("messages", &document(args.filter.filter()), args.shape.limit()).await?;
    let headings = ["ID", "RECEIVED", "STATE", "SENDER", "EVENT", "RESPONSE", "FAULT"];
    write_list(out, args.shape.format(), items, &headings, |item| {
        vec![
            cell(item, "id"),
            instant(&item["received_at_us"]),
            cell(item, "state"),
            cell(item, "sender"),
            event(&item["event"]),
            cell(&item["response"], "code"),
            cell(&item["outcome"]["issues"][0], "fault"),
        ]
    })?;
    Ok(0)
}

async fn show(client: &Client, id: &str, format: Format, out: &mut dyn Write) -> Result<i32, Failure> {
    let mut message = client.get(&["messages", id], &[]).await?;
    let timeline = client.get(&["messages", id, "timeline"], &[]).await?;
    // A list of the admin API, or the bare array.
    let timeline = if timeline.is_array() { timeline } else { timeline["items"].clone() };
    match format {
        Format::Table => {
            table::write_fields(out, &details(&message))?;
            write_outcome(&message["outcome"], out)?;
            if let Some(deliveries) = message["deliveries"].as_array().filter(|deliveries| !deliveries.is_empty()) {
                writeln!(out, "\nDeliveries:")?;
                deliveries::table(deliveries).write(out)?;
            }
            write_timeline(&timeline, out)?;
        }
        Format::Json | Format::Ndjson => {
            message["timeline"] = timeline;
            if format == Format::Json { writeln!(out, "{message:#}")? } else { writeln!(out, "{message}")? }
        }
    }
    Ok(0)
}

fn details(message: &Value) -> Vec<(&'static str, String)> {
    vec![
        ("message", cell(message, "id")),
        ("state", cell(message, "state")),
        ("sender", cell(message, "sender")),
        ("source", cell(message, "source")),
        ("destinations", cell(message, "destinations")),
        ("event", event(&message["event"])),
        ("definition", cell(message, "definition")),
        ("category", cell(message, "category")),
        ("FHIR version", cell(message, "version")),
        ("media type", cell(message, "media_type")),
        ("size", format!("{} bytes", cell(message, "size_bytes"))),
        ("content kept", cell(message, "body_kept")),
        ("header id", cell(message, "header_id")),
        ("Bundle id", cell(message, "bundle_id")),
        ("Bundle identifier", identifier(&message["bundle_identifier"])),
        ("response to", identifier(&message["response"]["identifier"])),
        ("response code", cell(&message["response"], "code")),
        ("answers message", cell(message, "in_reply_to")),
        ("unmatched", if message["unmatched"] == true { "yes".into() } else { String::new() }),
        ("answer owed", cell(message, "owed")),
        ("answered by", answers(message)),
        ("request id", cell(message, "request_id")),
        ("via", cell(message, "via")),
        ("received", instant(&message["received_at_us"])),
        ("committed", instant(&message["committed_at_us"])),
    ]
}

/// The answers to it, each a message of its own.
fn answers(message: &Value) -> String {
    let answers = message["answers"].as_array();
    answers.into_iter().flatten().map(|answer| cell(answer, "id")).collect::<Vec<_>>().join(", ")
}

fn write_outcome(outcome: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let issues = table::issues(outcome);
    if !issues.is_empty() {
        writeln!(out, "\nIssues:")?;
    }
    for issue in issues {
        writeln!(out, "  {issue}")?;
    }
    Ok(())
}

fn write_timeline(timeline: &Value, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = Table::new(&["AT", "WHAT", "PARTICIPANT", "DELIVERY", "DETAIL"]);
    for entry in timeline.as_array().into_iter().flatten() {
        rows.push(vec![
            instant(&entry["at_us"]),
            cell(entry, "what"),
            cell(entry, "participant"),
            cell(entry, "delivery"),
            timeline_detail(entry),
        ]);
    }
    writeln!(out, "\nTimeline:")?;
    Ok(rows.write(out)?)
}

/// What an attempt came to, or the id of the answer or replay.
fn timeline_detail(entry: &Value) -> String {
    let attempt = &entry["attempt"];
    let mut parts = vec![cell(attempt, "result")];
    if let Some(status) = attempt["status"].as_u64() {
        parts.push(format!("HTTP {status}"));
    }
    if let Some(duration_us) = attempt["duration_us"].as_f64() {
        parts.push(format!("{:.1} ms", duration_us / 1000.0));
    }
    parts.extend([cell(attempt, "fault"), cell(attempt, "detail"), cell(entry, "reference")]);
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

#[cfg(test)]
mod tests {
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
        json!({
            "id": id, "sender": "lab", "state": "refused", "event": {"Coding": {"system": "urn:s", "code": "c"}},
            "received_at_us": 1_700_000_000_123_456_i64, "size_bytes": 12,
            "outcome": {"issues": [{"severity": "error", "code": "required", "fault": "SEND_STRUCTURE", "rule": "MSG-04",
                "expression": "Bundle.entry", "diagnostics": "No header.", "position": null}]},
        })
    }

    #[tokio::test]
    async fn a_list_follows_cursors_up_to_its_limit_and_sends_its_filters() {
        let server = fake::server(vec![
            (
                "GET /admin/v1/messages?limit=3&state=refused",
                Said::json(json!({"items": [message("a"), message("b")], "next": "2"})),
            ),
            (
                "GET /admin/v1/messages?cursor=2&limit=1&state=refused",
                Said::json(json!({"items": [message("c")], "next": "3"})),
            ),
        ])
        .await;
        for words in [vec!["--state", "refused", "--limit", "3"], vec!["list", "--state", "refused", "--limit", "3"]] {
            let (result, text) = command(&words, &server.url).await;
            assert_eq!(result.expect("listed"), 0);
            let lines: Vec<_> = text.lines().collect();
            assert_eq!(lines.len(), 4, "{text}");
            assert!(lines[3].starts_with("c ") && lines[3].contains("2023-11-14T22:13:20.123Z"), "{text}");
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
             "attempt": {"result": "retry", "status": 503, "duration_us": 1500, "fault": "RECV_BUSY", "detail": null}},
        ]});
        let server = fake::server(vec![
            ("GET /admin/v1/messages/a", Said::json(message("a"))),
            ("GET /admin/v1/messages/a/timeline", Said::json(timeline)),
        ])
        .await;
        let (result, text) = command(&["show", "a"], &server.url).await;
        assert_eq!(result.expect("shown"), 0);
        assert!(text.contains("error required SEND_STRUCTURE MSG-04 Bundle.entry: No header."), "{text}");
        assert!(text.contains("retry, HTTP 503, 1.5 ms, RECV_BUSY"), "{text}");
    }

    #[tokio::test]
    async fn content_is_copied_byte_for_byte() {
        let server =
            fake::server(vec![("GET /admin/v1/messages/a/content", Said::new(200, "{ \"a\" :1.0 }\r\n"))]).await;
        assert_eq!(command(&["content", "a"], &server.url).await.1, "{ \"a\" :1.0 }\r\n");
    }

    #[tokio::test]
    async fn refusals_are_exit_code_1_in_plain_words_and_no_server_is_3() {
        let outcome = json!({"resourceType": "OperationOutcome", "issue": [
            {"severity": "error", "code": "value", "diagnostics": "since is no time"}]});
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
            ("bad", "since is no time"),
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
    async fn filters_before_the_word_list_are_not_ignored_in_silence() {
        let failure = command(&["--state", "refused", "show", "a"], &fake::nobody()).await.0.expect_err("usage");
        assert_eq!(failure.exit_code(), 2);
    }
}
