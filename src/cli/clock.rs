//! `emberpost clock`: what the router thinks of the machine's clock, and the operator's word that it is right.

use super::client::{Client, Server};
use super::failure::Failure;
use super::table::instant;
use clap::Subcommand;
use serde_json::{Value, json};
use std::io::Write;

/// Show or confirm the router's clock
///
/// Shows the router's time, and whether it differs by more than an hour from what the machine's own clock and the store
/// say. While it does, nothing expires and nothing is dropped by age; exit code 1.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost clock\n  emberpost clock confirm")]
pub struct ClockArgs {
    #[command(flatten)]
    server: Server,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say that the router's clock is right
    ///
    /// After a jump of the clock that was meant: expiry and retention go on by the clock as it is now. What is older than
    /// its time by that clock expires, and is dropped, at once.
    #[command(after_help = "Example:\n  emberpost clock confirm")]
    Confirm,
}

pub async fn run(args: ClockArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let client = Client::new(&args.server)?;
    let stats = match args.action {
        None => client.get(&["stats"], &[]).await?,
        Some(Action::Confirm) => client.post(&["clock", "confirm"], &json!({})).await?,
    };
    let time = instant(&stats["now_us"]);
    match &stats["clock_ahead_seconds"] {
        Value::Null => {
            writeln!(out, "{time}; expiry and retention go by this clock")?;
            Ok(0)
        }
        seconds => {
            writeln!(
                out,
                "{time}; this is {seconds} s ahead of what the machine's own clock and the store say (less than 0: behind).\n\
                 Nothing expires and nothing is dropped by age. Set the clock right, or say that it is: emberpost clock confirm"
            )?;
            Ok(1)
        }
    }
}
