//! `emberpost clock`: shows whether the router trusts the system clock, and lets an operator confirm it.

use super::client::{Client, Server};
use super::failure::Failure;
use super::table::instant;
use crate::admin::api::ClockState;
use clap::Subcommand;
use serde_json::json;
use std::io::Write;

/// Show or confirm the router's clock
///
/// Shows the router's time, and whether it differs by more than an hour from the time that the monotonic clock and the store
/// imply. While it does, no delivery expires and retention removes nothing; the exit code is 1.
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
    /// Confirm that the system clock is correct
    ///
    /// Use it after a jump of the clock that was intended. Expiry and retention continue by the current time: whatever is too
    /// old by this clock expires, or is removed, at once.
    #[command(after_help = "Example:\n  emberpost clock confirm")]
    Confirm,
}

pub async fn run(args: ClockArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let client = Client::new(&args.server)?;
    let state: ClockState = match args.action {
        None => client.get(&["stats"], &[]).await?,
        Some(Action::Confirm) => client.post(&["clock", "confirm"], &json!({})).await?,
    };
    let time = instant(state.now_us);
    match state.clock_ahead_seconds {
        None => {
            writeln!(out, "{time}; expiry and retention use this clock")?;
            Ok(0)
        }
        Some(seconds) => {
            writeln!(
                out,
                "{time}; this is {seconds} s ahead of the time that the monotonic clock and the store imply (negative: behind).\n\
                 No delivery expires and retention removes nothing. Correct the clock, or confirm it: emberpost clock confirm"
            )?;
            Ok(1)
        }
    }
}
