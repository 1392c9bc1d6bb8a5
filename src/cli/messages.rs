//! `emberpost messages`: lists messages, shows one with its timeline, assigns ambiguous answers, and prints the content.

use super::client::{Client, Format, Server, document, read, write_list};
use super::deliveries;
use super::failure::Failure;
use super::filter::MessageFlags;
use super::list::ListShape;
use super::table::{self, Table, code, instant, optional};
use crate::admin::api::{Message, MessageShown, Page, TimelineEntry};
use crate::outcome::Outcome;
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
            let answer: Message = client.post(&["messages", &id.to_string(), "assign"], &json!({ "to": to })).await?;
            writeln!(out, "The response {id} answers the request {}.", optional(answer.in_reply_to))?;
            Ok(0)
        }
        Some(Action::Content { id }) => client.copy(&["messages", &id, "content"], out).await.map(|()| 0),
    }
}

async fn list(client: &Client, args: ListArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let items = client.list("messages", &document(args.filter.filter()), args.shape.limit()).await?;
    let headings = ["ID", "RECEIVED", "STATE", "SENDER", "EVENT", "RESPONSE", "FAULT"];
    write_list(out, args.shape.format(), items, &headings, |message: Message| {
        vec![
            message.id.to_string(),
            instant(message.received_at_us),
            code(message.state),
            message.sender,
            optional(message.event),
            code(message.response.and_then(|response| response.code)),
            message.outcome.as_ref().map(fault).unwrap_or_default(),
        ]
    })?;
    Ok(0)
}

/// The fault of the first error, or of the first warning if there is no error.
fn fault(outcome: &Outcome) -> String {
    let first = outcome.issues.iter().find(|issue| issue.is_error()).or_else(|| outcome.issues.first());
    optional(first.map(|issue| issue.cause.code()))
}

async fn show(client: &Client, id: &str, format: Format, out: &mut dyn Write) -> Result<i32, Failure> {
    let mut message: Value = client.get(&["messages", id], &[]).await?;
    let timeline: Page<Value> = client.get(&["messages", id, "timeline"], &[]).await?;
    match format {
        Format::Table => {
            let shown: MessageShown = read(message)?;
            table::write_fields(out, &details(&shown))?;
            shown.message.outcome.iter().try_for_each(|outcome| write_outcome(outcome, out))?;
            if !shown.deliveries.is_empty() {
                writeln!(out, "\nDeliveries:")?;
                deliveries::table(shown.deliveries).write(out)?;
            }
            write_timeline(timeline.items, out)?;
        }
        Format::Json | Format::Ndjson => {
            message["timeline"] = Value::Array(timeline.items);
            if format == Format::Json { writeln!(out, "{message:#}")? } else { writeln!(out, "{message}")? }
        }
    }
    Ok(0)
}

fn details(shown: &MessageShown) -> Vec<(&'static str, String)> {
    let MessageShown { message, answers, .. } = shown;
    let response = message.response.as_ref();
    let flag = |is_set: bool, text: &str| if is_set { text.to_owned() } else { String::new() };
    vec![
        ("message", message.id.to_string()),
        ("state", code(message.state)),
        ("sender", message.sender.clone()),
        ("source", optional(message.source.as_ref())),
        ("destinations", message.destinations.join(", ")),
        ("event", optional(message.event.as_ref())),
        ("definition", optional(message.definition.as_ref())),
        ("category", code(message.category)),
        ("FHIR version", code(message.version)),
        ("media type", message.media_type.clone()),
        ("size", format!("{} bytes", message.size_bytes)),
        ("content stored", message.body_kept.to_string()),
        ("header id", optional(message.header_id.as_ref())),
        ("Bundle id", optional(message.bundle_id.as_ref())),
        ("Bundle identifier", optional(message.bundle_identifier.as_ref())),
        ("response to", optional(response.map(|response| &response.identifier))),
        ("response code", code(response.and_then(|response| response.code))),
        ("answers message", optional(message.in_reply_to)),
        ("unmatched", flag(message.unmatched, "yes")),
        ("ambiguous", flag(message.ambiguous, "yes, not assigned yet")),
        ("further answer", flag(message.further, "yes")),
        ("answer owed", code(message.owed)),
        ("answered by", answers.iter().map(|answer| answer.id.to_string()).collect::<Vec<_>>().join(", ")),
        ("request id", optional(message.request_id.as_ref())),
        ("via", optional(message.via.as_ref())),
        ("received", instant(message.received_at_us)),
        ("committed", instant(message.committed_at_us)),
    ]
}

fn write_outcome(outcome: &Outcome, out: &mut dyn Write) -> Result<(), Failure> {
    let issues = table::stored_issues(outcome);
    if !issues.is_empty() {
        writeln!(out, "\nIssues:")?;
    }
    for issue in issues {
        writeln!(out, "  {issue}")?;
    }
    Ok(())
}

fn write_timeline(timeline: Vec<Value>, out: &mut dyn Write) -> Result<(), Failure> {
    let mut rows = Table::new(&["AT", "WHAT", "PARTICIPANT", "DELIVERY", "DETAIL"]);
    for entry in timeline {
        let entry: TimelineEntry = read(entry)?;
        let detail = timeline_detail(&entry);
        let TimelineEntry { at_us, what, participant, delivery, .. } = entry;
        rows.push(vec![instant(at_us), what, participant.unwrap_or_default(), optional(delivery), detail]);
    }
    writeln!(out, "\nTimeline:")?;
    Ok(rows.write(out)?)
}

/// The result of an attempt, or the id of the answer or replay.
fn timeline_detail(entry: &TimelineEntry) -> String {
    let mut parts = Vec::new();
    if let Some(attempt) = &entry.attempt {
        parts.push(attempt.result.clone());
        parts.extend(attempt.status.map(|status| format!("HTTP {status}")));
        parts.push(format!("{:.1} ms", attempt.duration_us as f64 / 1000.0));
        parts.extend(attempt.fault.map(|fault| fault.code().to_owned()));
        parts.extend(attempt.detail.clone());
    }
    parts.extend(entry.reference.map(|id| id.to_string()));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

#[cfg(test)]
mod tests;
