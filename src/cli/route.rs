//! `emberpost route FILE`: explains where a message would go, without storing anything.

use super::client::{Client, Server};
use super::failure::Failure;
use super::table;
use crate::admin::api::Explanation;
use fhir::Format;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// No router accepts a larger message: the configuration allows no higher body limit.
pub const MESSAGE_LIMIT_BYTES: u64 = 256 * 1024 * 1024;

/// Explain where a message would go
///
/// Asks a running router who would receive this message, by which definition, and why. Nothing is stored. The exit code is
/// 1 if the message would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost route message.json\n  emberpost route message.json --sender lab")]
pub struct RouteArgs {
    /// The message file; - is standard input
    file: PathBuf,
    /// Participant to assume as the sender [default: determined by the source address]
    #[arg(long, value_name = "PARTICIPANT")]
    sender: Option<String>,
    #[command(flatten)]
    server: Server,
}

pub async fn run(args: RouteArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let bytes =
        read(&args.file).map_err(|error| Failure::Usage(format!("cannot read {}: {error}", args.file.display())))?;
    let query: Vec<_> = args.sender.into_iter().map(|sender| ("sender".to_owned(), sender)).collect();
    let client = Client::new(&args.server)?;
    let plan: Explanation = client.post_bytes(&["route"], &query, Format::detect(&bytes).media_type(), bytes).await?;
    write_plan(&plan, out)?;
    Ok(if plan.accepted { 0 } else { 1 })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MESSAGE_LIMIT_BYTES).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(MESSAGE_LIMIT_BYTES).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn write_plan(plan: &Explanation, out: &mut dyn Write) -> Result<(), Failure> {
    let mut receivers = plan.receivers.clone();
    if plan.to_self {
        receivers.push("Emberpost itself".into());
    }
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    table::write_fields(
        out,
        &[
            ("sender", or_none(&plan.sender)),
            ("event", or_none(&plan.event)),
            ("definition", or_none(&plan.definition)),
            ("accepted", if plan.accepted { "yes".into() } else { "no".into() }),
            ("goes to", if receivers.is_empty() { "nobody".into() } else { receivers.join(", ") }),
        ],
    )?;
    let issues = plan.outcome.as_ref().map(table::issues).unwrap_or_default();
    for (heading, lines) in [("Why", plan.reasons.clone()), ("Issues", issues)] {
        if !lines.is_empty() {
            writeln!(out, "\n{heading}:")?;
        }
        for line in lines {
            writeln!(out, "  {}", table::plain(&line))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fake::{self, Said};
    use serde_json::{Value, json};

    async fn route(text: &str, plan: Value) -> (i32, String, fake::Asked) {
        let fake = fake::server(vec![("POST /admin/v1/route?sender=lab", Said::json(plan))]).await;
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), text).expect("written");
        let server = Server { server: fake.url.parse().expect("a URL") };
        let mut out = Vec::new();
        let args = RouteArgs { file: file.path().into(), sender: Some("lab".into()), server };
        let code = run(args, &mut out).await.expect("answered");
        (code, String::from_utf8(out).expect("text"), fake.asked().remove(0))
    }

    #[tokio::test]
    async fn the_plan_is_printed_with_its_reasons() {
        let plan = json!({"sender": "lab", "event": "urn:s|c", "definition": null, "accepted": true,
            "receivers": ["registry"], "to_self": false, "reasons": ["registry owns urn:r"],
            "outcome": {"resourceType": "OperationOutcome", "issue": []}});
        let (code, text, asked) = route("{\"a\": 1}", plan).await;
        assert_eq!(
            (code, asked.body.as_str(), asked.content_type.as_str()),
            (0, "{\"a\": 1}", "application/fhir+json")
        );
        assert!(text.contains("goes to:     registry\n\nWhy:\n  registry owns urn:r\n"), "{text}");
    }

    #[tokio::test]
    async fn a_message_that_would_be_refused_is_exit_code_1_with_its_issues() {
        let plan = json!({"accepted": false, "receivers": [], "to_self": false, "reasons": [], "outcome": {"issue": [
            {"severity": "error", "code": "not-found", "diagnostics": "Nobody owns urn:x."}]}});
        let (code, text, asked) = route(" <Bundle/>", plan).await;
        assert_eq!((code, asked.content_type.as_str()), (1, "application/fhir+xml"));
        assert!(text.contains("goes to:     nobody") && text.contains("error not-found: Nobody owns urn:x."), "{text}");
    }
}
