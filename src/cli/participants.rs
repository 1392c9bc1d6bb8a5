//! `emberpost participants` and `emberpost nodes`: lists participants and router processes; pauses, resumes, and probes.

use super::client::{Client, Format, Server, write_list};
use super::failure::Failure;
use super::table::{instant, optional, text};
use crate::admin::api::Participant;
use clap::Subcommand;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::io::Write;

/// The admin API returns participants and nodes in one page, so this limit is never reached.
const LIMIT: usize = 100_000;

/// List participants of a running router; pause, resume, or probe them
///
/// Shows for each participant whether it is paused, the state of its breaker, its last fault, and how many deliveries wait,
/// are dead, or are active.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost participants\n  emberpost participants pause lab")]
pub struct ParticipantsArgs {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Option<Action>,
    /// Format of the list
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List participants (the default)
    ///
    /// Lists participants with breaker, last fault, and numbers of deliveries.
    #[command(after_help = "Example:\n  emberpost participants list --format json")]
    List {
        /// Format of the list
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Stop delivering to a participant
    ///
    /// Starts no new attempts for this participant. Its messages are stored and wait; they still expire.
    #[command(after_help = "Example:\n  emberpost participants pause lab")]
    Pause {
        /// Participant id
        id: String,
    },
    /// Resume delivering to a paused participant
    ///
    /// Starts attempts for a paused participant again, beginning now.
    #[command(after_help = "Example:\n  emberpost participants resume lab")]
    Resume {
        /// Participant id
        id: String,
    },
    /// Attempt the waiting deliveries of a participant now
    ///
    /// If the breaker is open, one probe is sent at once, and the waiting deliveries follow if it succeeds. Otherwise all
    /// deliveries that wait for their next attempt are attempted now.
    #[command(after_help = "Example:\n  emberpost participants probe lab")]
    Probe {
        /// Participant id
        id: String,
    },
}

/// List the nodes of a running router
///
/// Lists the processes of the router that share the store.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberpost nodes --server http://127.0.0.1:8080")]
pub struct NodesArgs {
    #[command(flatten)]
    server: Server,
    /// Format of the list
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

pub async fn run(args: ParticipantsArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let client = Client::new(&args.server)?;
    match args.action {
        None => list(&client, args.format, out).await,
        Some(Action::List { format }) => list(&client, format, out).await,
        Some(Action::Pause { id }) => {
            order(&client, &id, "pause", "is paused; its messages are stored and wait", out).await
        }
        Some(Action::Probe { id }) => order(&client, &id, "probe", "is probed now", out).await,
        Some(Action::Resume { id }) => order(&client, &id, "resume", "is resumed", out).await,
    }
}

async fn list(client: &Client, format: Format, out: &mut dyn Write) -> Result<i32, Failure> {
    let items = client.list("participants", &Value::Null, LIMIT).await?;
    let headings =
        ["PARTICIPANT", "STATE", "BREAKER", "WAITING", "DEAD", "ACTIVE", "LAST FAULT", "LAST FAILURE", "NEXT PROBE"];
    write_list(out, format, items, &headings, |participant: Participant| {
        vec![
            participant.participant,
            if participant.paused { "paused".into() } else { "running".into() },
            participant.breaker,
            participant.waiting.to_string(),
            participant.dead.to_string(),
            participant.active.to_string(),
            optional(participant.last_fault.map(|fault| fault.code())),
            instant(participant.last_failure_at_us),
            instant(participant.next_probe_at_us),
        ]
    })?;
    Ok(0)
}

async fn order(client: &Client, id: &str, verb: &str, done: &str, out: &mut dyn Write) -> Result<i32, Failure> {
    let IgnoredAny = client.post(&["participants", id, verb], &json!({})).await?;
    writeln!(out, "{id} {done}")?;
    Ok(0)
}

pub async fn run_nodes(args: NodesArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let items = Client::new(&args.server)?.list("nodes", &Value::Null, LIMIT).await?;
    // The members of the first node are the columns, so new members appear without a change here.
    let names: Vec<String> =
        items.first().and_then(Value::as_object).into_iter().flat_map(|o| o.keys().cloned()).collect();
    let headings: Vec<String> =
        names.iter().map(|name| name.trim_end_matches("_us").replace('_', " ").to_uppercase()).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    write_list(out, args.format, items, &headings, |item: Value| {
        let value =
            |name: &String| if name.ends_with("_at_us") { instant(item[name].as_i64()) } else { text(&item[name]) };
        names.iter().map(value).collect()
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Said};

    fn server(url: &str) -> Server {
        Server { server: url.parse().expect("a URL") }
    }

    #[tokio::test]
    async fn participants_are_listed_paused_and_resumed() {
        let status = fake::participant(json!({"paused": true, "breaker": "open", "last_fault": "RECV_BUSY",
            "last_failure_at_us": 1_700_000_000_000_000_i64, "waiting": 12, "dead": 3}));
        let fake = fake::server(vec![
            ("GET /admin/v1/participants?limit=500", Said::json(json!({"items": [status]}))),
            ("POST /admin/v1/participants/a%20b/pause", Said::new(204, "")),
            ("POST /admin/v1/participants/lab/resume", Said::json(json!({}))),
            ("POST /admin/v1/participants/lab/probe", Said::json(json!({}))),
        ])
        .await;
        let mut out = Vec::new();
        for action in [
            None,
            Some(Action::Pause { id: "a b".into() }),
            Some(Action::Resume { id: "lab".into() }),
            Some(Action::Probe { id: "lab".into() }),
        ] {
            let args = ParticipantsArgs { server: server(&fake.url), action, format: Format::Table };
            assert_eq!(run(args, &mut out).await.expect("done"), 0);
        }
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains(
                "lab          paused  open     12       3     0       RECV_BUSY   2023-11-14T22:13:20.000Z  -"
            ),
            "{text}"
        );
        assert!(
            text.ends_with("a b is paused; its messages are stored and wait\nlab is resumed\nlab is probed now\n"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn nodes_show_all_members_that_the_router_returns() {
        let nodes = json!({"items": [{"id": "n1", "started_at_us": 1_700_000_000_000_000_i64}]});
        let fake = fake::server(vec![("GET /admin/v1/nodes?limit=500", Said::json(nodes))]).await;
        let mut out = Vec::new();
        run_nodes(NodesArgs { server: server(&fake.url), format: Format::Table }, &mut out).await.expect("listed");
        assert_eq!(String::from_utf8_lossy(&out), "ID  STARTED AT\nn1  2023-11-14T22:13:20.000Z\n");
    }
}
