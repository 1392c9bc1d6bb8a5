//! `emberpost replay`: counts messages, asks for confirmation, starts replays on a running router, and follows them.
//!
//! The router does the work. If this command ends early, the replay continues.

use super::client::{Client, Server, document};
use super::failure::Failure;
use super::filter::MessageFlags;
use super::progress;
use super::table::{code, text};
use crate::admin::api::{Replay, ReplayCount};
use crate::store::view::ReplayState;
use indicatif::ProgressBar;
use serde_json::{Map, Value, json};
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;
use uuid::Uuid;

/// Wait between two polls of a replay: the first one, doubled up to the longest.
const FIRST_POLL_MS: u64 = 20;
const LONGEST_POLL_MS: u64 = 1000;
/// After so many failed polls in a row the command gives up.
const LOST_POLLS_LIMIT: u32 = 10;

/// Deliver stored messages again
///
/// Counts the messages, asks for confirmation, and has the router deliver them again in the order in which they came, with
/// their original identities: a receiver that detects duplicates recognizes them. Without --to, each message goes where it
/// went before. Messages of category consequence are skipped without --force-consequence. Answers are stored, and sent to
/// the requesters only with --forward-answers. Without a terminal, --yes is required. If this command ends early, the
/// replay continues on the router.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
        emberpost replay --event patient-link --since 2026-03-01 --until 2026-03-02 --dry-run\n  \
        emberpost replay --destination urn:oid:1.2.3.4 --since 3d --to lab --rate 20 --yes\n  \
        emberpost replay 0199a4c2-7d3e-7c61-8c06-0f6d1a2b3c4d --yes")]
#[command(override_usage = "emberpost replay [OPTIONS] <ID>...\n       emberpost replay [OPTIONS] <FILTER>...")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(WHAT))]
pub struct ReplayArgs {
    /// Emberpost's message ids, instead of a filter
    #[arg(value_name = "ID")]
    ids: Vec<Uuid>,
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    filter: MessageFlags,
    #[command(flatten)]
    how: How,
}

/// At least one of these is required, so that nobody replays everything by accident.
const WHAT: [&str; 18] = [
    "ids",
    "id",
    "header_id",
    "bundle_id",
    "bundle_identifier",
    "event",
    "source",
    "destination",
    "sender",
    "state",
    "response_code",
    "ambiguous",
    "further",
    "since",
    "until",
    "fault",
    "issue",
    "rule",
];

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Replay")]
struct How {
    /// Deliver to this participant only
    #[arg(long, value_name = "PARTICIPANT")]
    to: Option<String>,
    /// Count only
    #[arg(long)]
    dry_run: bool,
    /// At most this many messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Send the answers to the requesters
    #[arg(long)]
    forward_answers: bool,
    /// Replay messages of category consequence too
    #[arg(long)]
    force_consequence: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    yes: bool,
}

pub async fn run(args: ReplayArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    run_on(args, is_terminal, out).await
}

async fn run_on(args: ReplayArgs, is_terminal: bool, out: &mut dyn Write) -> Result<i32, Failure> {
    let ReplayArgs { ids, server, filter, how } = args;
    if !ids.is_empty() && filter != MessageFlags::default() {
        return Err(Failure::Usage("`replay` takes ids or a filter, not both".into()));
    }
    if !is_terminal && !how.yes && !how.dry_run {
        return Err(Failure::Usage(
            "there is no terminal to ask on: give --yes to replay, or --dry-run to count".into(),
        ));
    }
    let client = Client::new(&server)?;
    let orders = count(&client, filters(ids, &filter), &how, out).await?;
    let sum = |figure: fn(&Order) -> u64| orders.iter().map(figure).sum::<u64>();
    let (matched, consequence) = (sum(|order| order.count.matched), sum(|order| order.count.consequence));
    let left_out = if how.force_consequence { 0 } else { consequence };
    let examined = sum(|order| order.count.examined);
    write_count(&orders, left_out, out)?;
    let missing = orders.len() > 1 && orders.iter().any(|order| order.count.matched == 0);
    let code = i32::from(missing);
    if how.dry_run || matched == 0 || matched == left_out {
        return Ok(code);
    }
    if !how.yes && !is_confirmed(matched - left_out, how.to.as_deref())? {
        writeln!(out, "nothing was replayed")?;
        return Ok(code);
    }
    let bar = is_terminal.then(|| progress::messages(matched));
    let mut totals = Totals::default();
    for order in orders.iter().filter(|order| order.count.matched > 0) {
        let replay = client.post(&["replays"], &body(&order.filter, &how, false)).await?;
        follow(&client, replay, &mut totals, bar.as_ref(), out).await?;
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    writeln!(out, "{} replayed, {} left out", totals.done, totals.skipped)?;
    // Messages skipped beyond the announced consequence events could not be replayed. Of a large replay the router examines
    // only the first part, so the announced number may be too low.
    let surprise = examined == matched && totals.skipped > left_out;
    Ok(if totals.ended_badly || surprise { 1 } else { code })
}

/// A planned replay: its filter, and how many messages match.
struct Order {
    filter: Value,
    count: ReplayCount,
}

/// Message ids are UUIDv7, so sorting them gives the order in which the messages came.
fn filters(mut ids: Vec<Uuid>, filter: &MessageFlags) -> Vec<Value> {
    ids.sort_unstable();
    ids.dedup();
    match ids.as_slice() {
        [] => vec![document(filter.filter())],
        ids => ids.iter().map(|id| json!({ "id": id })).collect(),
    }
}

async fn count(client: &Client, filters: Vec<Value>, how: &How, out: &mut dyn Write) -> Result<Vec<Order>, Failure> {
    let several = filters.len() > 1;
    let mut orders = Vec::new();
    for filter in filters {
        let count: ReplayCount = client.post(&["replays"], &body(&filter, how, true)).await?;
        if several && count.matched == 0 {
            writeln!(out, "{}: no such message", text(&filter["id"]))?;
        }
        orders.push(Order { filter, count });
    }
    Ok(orders)
}

fn body(filter: &Value, how: &How, dry_run: bool) -> Value {
    let mut body = Map::from_iter([
        ("filter".to_owned(), filter.clone()),
        ("dry_run".to_owned(), json!(dry_run)),
        ("forward_answers".to_owned(), json!(how.forward_answers)),
        ("force_consequence".to_owned(), json!(how.force_consequence)),
    ]);
    body.extend(how.to.as_ref().map(|to| ("to".to_owned(), json!(to))));
    body.extend(how.rate.map(|rate| ("rate_per_second".to_owned(), json!(rate))));
    Value::Object(body)
}

fn write_count(orders: &[Order], left_out: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let sum = |figure: fn(&Order) -> u64| orders.iter().map(figure).sum::<u64>();
    let (matched, examined) = (sum(|order| order.count.matched), sum(|order| order.count.examined));
    match matched {
        0 => writeln!(out, "no message matches")?,
        1 => writeln!(out, "1 message matches")?,
        _ => writeln!(out, "{matched} messages match")?,
    }
    if examined < matched {
        writeln!(out, "of the first {examined}:")?;
    }
    let consequence = sum(|order| order.count.consequence);
    if left_out > 0 {
        writeln!(out, "{left_out} of category consequence: left out (--force-consequence replays them)")?;
    } else if consequence > 0 {
        writeln!(out, "{consequence} of category consequence: replayed too (--force-consequence)")?;
    }
    match sum(|order| order.count.without_body) {
        0 => {}
        without_body => writeln!(out, "{without_body} whose content retention dropped: left out")?,
    }
    Ok(())
}

/// Asks on the terminal; anything but y or yes means no.
fn is_confirmed(messages: u64, to: Option<&str>) -> Result<bool, Failure> {
    let target = to.map(|to| format!(" to {to}")).unwrap_or_default();
    eprint!("Replay {messages}{target}? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[derive(Default)]
struct Totals {
    done: u64,
    skipped: u64,
    ended_badly: bool,
}

/// Polls one replay until it ends.
async fn follow(
    client: &Client,
    replay: Replay,
    totals: &mut Totals,
    bar: Option<&ProgressBar>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let id = replay.id.to_string();
    if bar.is_none() {
        writeln!(out, "replay {id}")?;
    }
    let (mut lost, mut poll_ms, mut is_paused) = (0, FIRST_POLL_MS, false);
    loop {
        let Replay { state, done, skipped, .. } = match client.get(&["replays", &id], &[]).await {
            Ok(replay) => replay,
            Err(Failure::Unreachable(_)) if lost < LOST_POLLS_LIMIT => {
                lost += 1;
                wait(&mut poll_ms).await;
                continue;
            }
            Err(Failure::Unreachable(sentence)) => {
                return Err(Failure::Unreachable(format!(
                    "{sentence}; replay {id} continues when the router runs again"
                )));
            }
            Err(failure) => return Err(failure),
        };
        lost = 0;
        if let Some(bar) = bar {
            bar.set_position(totals.done + totals.skipped + done + skipped);
        }
        if state == ReplayState::Paused && !is_paused {
            writeln!(out, "replay {id} is paused until an operator resumes it")?;
        }
        is_paused = state == ReplayState::Paused;
        if !is_paused && state != ReplayState::Running {
            totals.done += done;
            totals.skipped += skipped;
            if state != ReplayState::Done {
                totals.ended_badly = true;
                writeln!(out, "replay {id} ended: {}", code(state))?;
            }
            return Ok(());
        }
        wait(&mut poll_ms).await;
    }
}

async fn wait(poll_ms: &mut u64) {
    tokio::time::sleep(Duration::from_millis(*poll_ms)).await;
    *poll_ms = (*poll_ms * 2).min(LONGEST_POLL_MS);
}

#[cfg(test)]
mod tests;
