//! `emberpost deliveries`: lists, shows, retries, and discards deliveries.

use super::client::{Client, Format, Server, document, read, write_list};
use super::failure::Failure;
use super::filter::DeliveryFlags;
use super::list::ListShape;
use super::table::{Table, instant, kind, optional};
use crate::admin::api::{Delivery, Ordered};
use crate::delivery::DeliveryState;
use clap::Subcommand;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::io::Write;
use uuid::Uuid;

/// List deliveries of a running router; retry or discard them
///
/// A delivery is one message due to one participant. Lists deliveries, newest first. A delivery is listed if it satisfies
/// all filters.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost deliveries --state dead\n  \
                        emberpost deliveries retry --all-matching --state dead --participant lab --dry-run")]
pub struct DeliveriesArgs {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List deliveries, newest first (the default)
    ///
    /// Lists deliveries, newest first. A delivery is listed if it satisfies all filters.
    #[command(after_help = "Example:\n  emberpost deliveries list --participant lab --state waiting")]
    List(Box<ListArgs>),
    /// Show one delivery and why it waits
    ///
    /// Shows one delivery and, if it is waiting, explains in one sentence why.
    #[command(after_help = "Example:\n  emberpost deliveries show 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d")]
    Show {
        /// Delivery id
        id: Uuid,
        /// Output format
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Retry dead or discarded deliveries, or waiting ones now
    ///
    /// Returns dead or discarded deliveries to the end of their lane, by id or by filter. A waiting delivery that is given by
    /// id is attempted now.
    #[command(after_help = "Examples:\n  emberpost deliveries retry 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d\n  \
                            emberpost deliveries retry --all-matching --state dead --fault RECV_REFUSED --dry-run")]
    Retry(Box<OrderArgs>),
    /// Discard waiting deliveries
    ///
    /// Gives up waiting deliveries now, by id or by filter. Their senders are notified, and their lanes continue.
    #[command(after_help = "Examples:\n  emberpost deliveries discard 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d\n  \
                            emberpost deliveries discard --all-matching --participant lab --dry-run")]
    Discard(Box<OrderArgs>),
}

#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: DeliveryFlags,
    #[command(flatten)]
    shape: ListShape,
}

#[derive(Clone, Debug, clap::Args)]
struct OrderArgs {
    /// Delivery ids
    #[arg(value_name = "ID", required_unless_present = "all_matching", conflicts_with = "all_matching")]
    ids: Vec<Uuid>,
    /// All deliveries that satisfy the filters, instead of ids
    #[arg(long)]
    all_matching: bool,
    /// Count only
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    filter: DeliveryFlags,
}

pub async fn run(args: DeliveriesArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let DeliveriesArgs { server, action, list: outer } = args;
    if action.is_some() && outer != ListArgs::default() {
        return Err(Failure::Usage("filters belong after the word `list`, `retry`, or `discard`".into()));
    }
    let client = Client::new(&server)?;
    match action {
        None => list(&client, outer, out).await,
        Some(Action::List(args)) => list(&client, *args, out).await,
        Some(Action::Show { id, format }) => show(&client, id, format, out).await,
        Some(Action::Retry(args)) => order(&client, "retry", *args, out).await,
        Some(Action::Discard(args)) => order(&client, "discard", *args, out).await,
    }
}

async fn list(client: &Client, args: ListArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let items = client.list("deliveries", &document(args.filter.filter()), args.shape.limit()).await?;
    write_list(out, args.shape.format(), items, &HEADINGS, row)?;
    Ok(0)
}

async fn show(client: &Client, id: Uuid, format: Format, out: &mut dyn Write) -> Result<i32, Failure> {
    let item: Value = client.get(&["deliveries", &id.to_string()], &[]).await?;
    write_list(out, format, vec![item.clone()], &HEADINGS, row)?;
    if format == Format::Table
        && let Some(waits) = read::<Delivery>(item)?.waits
    {
        writeln!(out, "\n{waits}")?;
    }
    Ok(0)
}

const HEADINGS: [&str; 9] = ["ID", "MESSAGE", "PARTICIPANT", "KIND", "STATE", "ATTEMPTS", "STATUS", "FAULT", "DUE"];

/// Deliveries as a table; `messages show` prints it too.
pub fn table(deliveries: Vec<Delivery>) -> Table {
    let mut table = Table::new(&HEADINGS);
    deliveries.into_iter().for_each(|delivery| table.push(row(delivery)));
    table
}

fn row(delivery: Delivery) -> Vec<String> {
    // A settled delivery has no due time.
    let is_open = matches!(delivery.state, DeliveryState::Waiting | DeliveryState::Active);
    vec![
        delivery.id.to_string(),
        delivery.message.to_string(),
        delivery.participant.clone(),
        kind(&delivery.kind).to_owned(),
        delivery.state.as_str().to_owned(),
        delivery.attempts.to_string(),
        optional(delivery.status),
        faults(&delivery),
        if is_open { instant(delivery.due_at_us) } else { String::new() },
    ]
}

/// The fault that decided the state, followed by that of the last attempt if it differs, as after an expiry.
fn faults(delivery: &Delivery) -> String {
    match (delivery.fault, delivery.last_fault) {
        (Some(fault), Some(last)) if fault != last => format!("{} ({})", fault.code(), last.code()),
        (Some(fault), _) | (None, Some(fault)) => fault.code().to_owned(),
        (None, None) => String::new(),
    }
}

/// Retries or discards. Exit code 1 if it fails for one of the ids.
async fn order(client: &Client, verb: &str, args: OrderArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let no_filter = args.filter == DeliveryFlags::default();
    if args.all_matching && no_filter {
        return Err(Failure::Usage(format!(
            "`{verb} --all-matching` needs a filter, such as --state or --participant"
        )));
    }
    if !args.all_matching && !no_filter {
        return Err(Failure::Usage(format!("`{verb}` takes ids, or --all-matching with filters, not both")));
    }
    if args.all_matching {
        return all_matching(client, verb, &args, out).await;
    }
    let mut code = 0;
    for id in &args.ids {
        let result = if args.dry_run {
            order_matching(client, verb, json!({ "id": id }), true).await.map(|counts| counts.matched != 0)
        } else {
            client.post(&["deliveries", &id.to_string(), verb], &json!({})).await.map(|IgnoredAny| true)
        };
        match result {
            Ok(true) if args.dry_run => writeln!(out, "{id}: would {verb}")?,
            Ok(true) => writeln!(out, "{id}: {}", past(verb))?,
            Ok(false) => {
                code = 1;
                writeln!(out, "{id}: unknown, or in a state that does not allow {verb}")?;
            }
            // A refusal is about this id only; an unreachable server fails for all of them.
            Err(Failure::Refused(sentence)) => {
                code = 1;
                writeln!(out, "{id}: {sentence}")?;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(code)
}

/// Repeats the request until all deliveries of the first count are done: the router processes a bounded number per request.
async fn all_matching(client: &Client, verb: &str, args: &OrderArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let filter = document(args.filter.filter());
    let counts = order_matching(client, verb, filter.clone(), args.dry_run).await?;
    let matched = counts.matched;
    if args.dry_run {
        writeln!(out, "{matched} deliveries match; nothing was done (--dry-run)")?;
        return Ok(0);
    }
    let (mut done, mut last) = (0, counts);
    loop {
        let part = last.done;
        done += part;
        // A delivery that fails again in the meantime matches again, so the first count is the limit.
        if part == 0 || done >= matched {
            break;
        }
        last = order_matching(client, verb, filter.clone(), false).await?;
    }
    writeln!(out, "{matched} deliveries matched, {done} {}", past(verb))?;
    Ok(0)
}

async fn order_matching(client: &Client, verb: &str, filter: Value, dry_run: bool) -> Result<Ordered, Failure> {
    client.post(&["deliveries", verb], &json!({ "filter": filter, "dry_run": dry_run })).await
}

fn past(verb: &str) -> &'static str {
    if verb == "retry" { "returned for another attempt" } else { "discarded" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Said};
    use clap::Parser;

    const ID: &str = "0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d";

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: DeliveriesArgs,
    }

    async fn command(words: &[&str], server: &str) -> (Result<i32, Failure>, String) {
        let line = Line::try_parse_from(["deliveries"].iter().chain(words).chain(&["--server", server]));
        let mut out = Vec::new();
        let result = run(line.unwrap_or_else(|error| panic!("{error}")).args, &mut out).await;
        (result, String::from_utf8(out).expect("text"))
    }

    #[tokio::test]
    async fn a_list_shows_due_times_of_waiting_deliveries() {
        let item = |state: &str| {
            fake::delivery(json!({"state": state, "attempts": 2, "status": 503, "fault": "RECV_BUSY",
                "due_at_us": 1_700_000_000_000_000_i64}))
        };
        let page = json!({"items": [item("waiting"), item("dead")]});
        let server = fake::server(vec![("GET /admin/v1/deliveries?limit=50&participant=lab", Said::json(page))]).await;
        let (result, text) = command(&["--participant", "lab"], &server.url).await;
        assert_eq!(result.expect("listed"), 0);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].ends_with("2023-11-14T22:13:20.000Z"), "{text}");
        assert!(lines[2].contains("request  dead     2         503     RECV_BUSY  -"), "{text}");
    }

    #[tokio::test]
    async fn one_delivery_is_shown_with_the_reason_why_it_waits() {
        let item = fake::delivery(json!({"id": ID, "due_at_us": 1_700_000_000_000_000_i64,
            "waits": "It waits because of the weather."}));
        let line = format!("GET /admin/v1/deliveries/{ID}");
        let server =
            fake::server(vec![(line.as_str(), Said::json(item.clone())), (line.as_str(), Said::json(item))]).await;
        let (result, text) = command(&["show", ID], &server.url).await;
        assert_eq!(result.expect("shown"), 0);
        assert!(text.ends_with("2023-11-14T22:13:20.000Z\n\nIt waits because of the weather.\n"), "{text}");
        let (_, text) = command(&["show", ID, "--format", "ndjson"], &server.url).await;
        assert_eq!(text.lines().count(), 1, "{text}");
    }

    #[tokio::test]
    async fn matching_deliveries_are_counted_or_processed() {
        let server = fake::server(vec![
            ("POST /admin/v1/deliveries/retry", Said::json(json!({"matched": 7, "done": 0}))),
            ("POST /admin/v1/deliveries/retry", Said::json(json!({"matched": 7, "done": 5}))),
            ("POST /admin/v1/deliveries/retry", Said::json(json!({"matched": 2, "done": 2}))),
        ])
        .await;
        let words = ["retry", "--all-matching", "--state", "dead"];
        let (_, text) = command(&[&words[..], &["--dry-run"]].concat(), &server.url).await;
        assert_eq!(text, "7 deliveries match; nothing was done (--dry-run)\n");
        let (_, text) = command(&words, &server.url).await;
        assert_eq!(text, "7 deliveries matched, 7 returned for another attempt\n");
        let asked: Vec<Value> =
            server.asked().iter().map(|asked| serde_json::from_str(&asked.body).expect("JSON")).collect();
        assert_eq!(asked[0], json!({"filter": {"state": "dead"}, "dry_run": true}));
        assert_eq!(asked[1]["dry_run"], false);
    }

    #[tokio::test]
    async fn an_id_that_cannot_be_discarded_is_exit_code_1_and_the_others_are_tried() {
        let other = ID.replace("0199", "0198");
        let line = format!("POST /admin/v1/deliveries/{ID}/discard");
        let server = fake::server(vec![(line.as_str(), Said::json(json!({})))]).await;
        let (result, text) = command(&["discard", &other, ID], &server.url).await;
        assert_eq!(result.expect("answered"), 1);
        assert!(text.starts_with(&format!("{other}: the server refused (599)")), "{text}");
        assert!(text.ends_with(&format!("{ID}: discarded\n")), "{text}");
    }

    #[tokio::test]
    async fn all_matching_needs_a_filter() {
        for words in [&["discard", "--all-matching"][..], &["retry", ID, "--state", "dead"]] {
            assert_eq!(command(words, &fake::nobody()).await.0.expect_err("usage").exit_code(), 2, "{words:?}");
        }
    }
}
