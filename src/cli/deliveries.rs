//! `emberpost deliveries`: list, show, retry and discard.

use super::client::{Client, Format, Server, document, write_list};
use super::failure::Failure;
use super::filter::DeliveryFlags;
use super::messages::ListShape;
use super::table::{Table, cell, instant, kind};
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::Write;
use uuid::Uuid;

/// List deliveries of a running router; retry or discard them
///
/// A delivery is one message owed to one participant. Lists them newest first; all filters that are given must hold.
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
    /// Lists deliveries, newest first; all filters that are given must hold.
    #[command(after_help = "Example:\n  emberpost deliveries list --participant lab --state waiting")]
    List(Box<ListArgs>),
    /// Show one delivery, and why it waits
    ///
    /// Shows a delivery and, where it waits, says in one sentence for what.
    #[command(after_help = "Example:\n  emberpost deliveries show 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d")]
    Show {
        /// Delivery id
        id: Uuid,
        /// Form of what is shown
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Try dead or discarded deliveries again, or waiting ones now
    ///
    /// Puts dead or discarded deliveries back at their lane's end: by id, or all that match a filter. A waiting one that is
    /// given by its id is tried now.
    #[command(after_help = "Examples:\n  emberpost deliveries retry 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d\n  \
                            emberpost deliveries retry --all-matching --state dead --fault RECV_REFUSED --dry-run")]
    Retry(Box<OrderArgs>),
    /// Give waiting deliveries up now
    ///
    /// Makes waiting deliveries dead letters now, by id or all that match a filter. Their senders are told, and their
    /// lanes go on.
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
    /// All that the filter matches, instead of ids
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
        return Err(Failure::Usage("give the filters after the word `list`, `retry` or `discard`".into()));
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
    let item = client.get(&["deliveries", &id.to_string()], &[]).await?;
    let waits = item["waits"].as_str().map(str::to_owned);
    write_list(out, format, vec![item], &HEADINGS, row)?;
    if let Some(waits) = waits.filter(|_| format == Format::Table) {
        writeln!(out, "\n{waits}")?;
    }
    Ok(0)
}

const HEADINGS: [&str; 9] = ["ID", "MESSAGE", "PARTICIPANT", "KIND", "STATE", "ATTEMPTS", "STATUS", "FAULT", "DUE"];

/// Deliveries as rows, also below the message that they belong to.
pub fn table(deliveries: &[Value]) -> Table {
    let mut table = Table::new(&HEADINGS);
    deliveries.iter().for_each(|delivery| table.push(row(delivery)));
    table
}

fn row(item: &Value) -> Vec<String> {
    // A settled delivery is due no more.
    let is_open = matches!(item["state"].as_str(), Some("waiting" | "active"));
    vec![
        cell(item, "id"),
        cell(item, "message"),
        cell(item, "participant"),
        kind(&item["kind"]),
        cell(item, "state"),
        cell(item, "attempts"),
        cell(item, "status"),
        faults(item),
        if is_open { instant(&item["due_at_us"]) } else { String::new() },
    ]
}

/// Why it stands as it does, and behind an expiry or a warning what its last attempt met.
fn faults(item: &Value) -> String {
    match (item["fault"].as_str(), item["last_fault"].as_str()) {
        (Some(fault), Some(last)) if fault != last => format!("{fault} ({last})"),
        (Some(fault), _) | (None, Some(fault)) => fault.to_owned(),
        (None, None) => String::new(),
    }
}

/// Retries or discards; exit code 1 when something asked for by id could not be done.
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
            order_matching(client, verb, json!({ "id": id }), true).await.map(|counts| counts["matched"] != 0)
        } else {
            client.post(&["deliveries", &id.to_string(), verb], &json!({})).await.map(|_| true)
        };
        match result {
            Ok(true) if args.dry_run => writeln!(out, "{id}: would {verb}")?,
            Ok(true) => writeln!(out, "{id}: {}", past(verb))?,
            Ok(false) => {
                code = 1;
                writeln!(out, "{id}: not known, or not in a state to {verb}")?;
            }
            // The other ids are still worth trying; without a server none is.
            Err(Failure::Refused(sentence)) => {
                code = 1;
                writeln!(out, "{id}: {sentence}")?;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(code)
}

/// Orders until all that matched at first are done: the router takes a bounded part of them with each order.
async fn all_matching(client: &Client, verb: &str, args: &OrderArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let filter = document(args.filter.filter());
    let counts = order_matching(client, verb, filter.clone(), args.dry_run).await?;
    let matched = counts["matched"].as_u64().unwrap_or(0);
    if args.dry_run {
        writeln!(out, "{matched} deliveries match; nothing was done (--dry-run)")?;
        return Ok(0);
    }
    let (mut done, mut last) = (0, counts);
    loop {
        let part = last["done"].as_u64().unwrap_or(0);
        done += part;
        // What dies again meanwhile matches again: the first count is the end of it.
        if part == 0 || done >= matched {
            break;
        }
        last = order_matching(client, verb, filter.clone(), false).await?;
    }
    writeln!(out, "{matched} deliveries matched, {done} {}", past(verb))?;
    Ok(0)
}

async fn order_matching(client: &Client, verb: &str, filter: Value, dry_run: bool) -> Result<Value, Failure> {
    client.post(&["deliveries", verb], &json!({ "filter": filter, "dry_run": dry_run })).await
}

fn past(verb: &str) -> &'static str {
    if verb == "retry" { "put back for another try" } else { "discarded" }
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
    async fn a_list_shows_what_waits_and_until_when() {
        let item = |state: &str| {
            json!({"id": ID, "message": ID, "participant": "lab", "kind": "Request", "state": state, "attempts": 2,
                "status": 503, "fault": "RECV_BUSY", "due_at_us": 1_700_000_000_000_000_i64})
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
    async fn one_delivery_is_shown_with_why_it_waits() {
        let item = json!({"id": ID, "message": ID, "participant": "lab", "kind": "Request", "state": "waiting",
            "attempts": 2, "due_at_us": 1_700_000_000_000_000_i64, "waits": "It waits because of the weather."});
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
    async fn all_that_match_are_counted_first_or_done() {
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
        assert_eq!(text, "7 deliveries matched, 7 put back for another try\n");
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
    async fn everything_at_once_needs_a_filter() {
        for words in [&["discard", "--all-matching"][..], &["retry", ID, "--state", "dead"]] {
            assert_eq!(command(words, &fake::nobody()).await.0.expect_err("usage").exit_code(), 2, "{words:?}");
        }
    }
}
