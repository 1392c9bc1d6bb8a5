//! `emberpost messages`: lists messages, shows one with its timeline, assigns ambiguous answers, and prints the content.

use super::client::{Client, Format, Server, document, write_list};
use super::deliveries;
use super::failure::Failure;
use super::filter::MessageFlags;
use super::list::ListShape;
use super::table::{self, Table, cell, event, identifier, instant};
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::Write;
use uuid::Uuid;

/// List and show messages of a running router
///
/// Lists stored messages, newest first. A message is listed if it satisfies all filters. Ids are printed in full, to be
/// copied into `show`, `content`, and `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost messages --event patient-link --since 2h\n  \
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
    /// Lists messages, newest first. A message is listed if it satisfies all filters.
    #[command(after_help = "Example:\n  emberpost messages list --sender lab --limit 200")]
    List(Box<ListArgs>),
    /// Show one message with its timeline
    ///
    /// Shows the metadata of one message, the issues of its outcome, its deliveries, and everything that happened to it.
    #[command(after_help = "Example:\n  emberpost messages show 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d")]
    Show {
        /// Emberpost's message id
        id: String,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Assign an ambiguous response to the request that it answers
    ///
    /// A response that matches several requests is stored but not delivered (`messages --ambiguous` lists such responses).
    /// This command assigns it to the request that it answers; it is then delivered to the requester like any answer.
    #[command(after_help = "Example:\n  emberpost messages assign 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d \\\n    \
                            --to 0199a4c1-11aa-7000-8000-5e5d1a2b3c4d")]
    Assign {
        /// Emberpost's message id of the response
        id: Uuid,
        /// Emberpost's message id of the request
        #[arg(long, value_name = "REQUEST")]
        to: Uuid,
    },
    /// Print the message byte for byte
    ///
    /// Writes the message to standard output, byte for byte as it was received.
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

pub async fn run(args: MessagesArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let MessagesArgs { server, action, list: outer } = args;
    if action.is_some() && outer != ListArgs::default() {
        return Err(Failure::Usage("filters belong after the word `list`; the other actions take none".into()));
    }
    let client = Client::new(&server)?;
    match action {
        None => list(&client, outer, out).await,
        Some(Action::List(args)) => list(&client, *args, out).await,
        Some(Action::Show { id, format }) => show(&client, &id, format, out).await,
        Some(Action::Assign { id, to }) => {
            let answer = client.post(&["messages", &id.to_string(), "assign"], &json!({ "to": to })).await?;
            writeln!(out, "The response {id} answers the request {}.", cell(&answer, "in_reply_to"))?;
            Ok(0)
        }
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
            fault(&item["outcome"]),
        ]
    })?;
    Ok(0)
}

/// The fault of the first error, or of the first warning if there is no error.
fn fault(outcome: &Value) -> String {
    let issues = outcome["issues"].as_array();
    let is_error = |issue: &&Value| matches!(issue["severity"].as_str(), Some("error" | "fatal"));
    let first = issues.and_then(|issues| issues.iter().find(is_error).or_else(|| issues.first()));
    first.map(|issue| cell(issue, "fault")).unwrap_or_default()
}

async fn show(client: &Client, id: &str, format: Format, out: &mut dyn Write) -> Result<i32, Failure> {
    let mut message = client.get(&["messages", id], &[]).await?;
    let timeline = client.get(&["messages", id, "timeline"], &[]).await?;
    // Either a list of the admin API or a bare array.
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
        ("content stored", cell(message, "body_kept")),
        ("header id", cell(message, "header_id")),
        ("Bundle id", cell(message, "bundle_id")),
        ("Bundle identifier", identifier(&message["bundle_identifier"])),
        ("response to", identifier(&message["response"]["identifier"])),
        ("response code", cell(&message["response"], "code")),
        ("answers message", cell(message, "in_reply_to")),
        ("unmatched", if message["unmatched"] == true { "yes".into() } else { String::new() }),
        ("ambiguous", if message["ambiguous"] == true { "yes, not assigned yet".into() } else { String::new() }),
        ("further answer", if message["further"] == true { "yes".into() } else { String::new() }),
        ("answer owed", cell(message, "owed")),
        ("answered by", answers(message)),
        ("request id", cell(message, "request_id")),
        ("via", cell(message, "via")),
        ("received", instant(&message["received_at_us"])),
        ("committed", instant(&message["committed_at_us"])),
    ]
}

/// The ids of the answers, which are messages themselves.
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

/// The result of an attempt, or the id of the answer or replay.
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
mod tests;
