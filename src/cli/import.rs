//! `emberpost import`: reads archived messages back into a store.

use super::failure::Failure;
use super::progress;
use super::store::{configured, parse, transfer_failure};
use crate::clock::Clock;
use crate::store::archive;
use crate::store::transfer::{self, Imported};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Import archived messages into a store
///
/// Reads files that retention wrote (retention.archive_dir), and adds what the store does not have: messages with their content,
/// deliveries, and attempts, to be listed, shown, and replayed. Nothing is delivered, and a sender that sends one of them again sends
/// a new message. No router may run on the store: import into the router's own store while it is stopped, or into a new one, and run a
/// second router on that. Retention counts the days of imported messages from the last import. Whatever is damaged is reported with its
/// file and line, and the rest is imported; an import may be repeated, and continues after it was stopped. Exit code 1: something is
/// damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  emberpost import /archive/20261130T021500.000000Z-5fd1c2a7b9e0.ndjson.zst\n  \
                        emberpost import /archive --store sqlite:lookup.db")]
pub struct ImportArgs {
    /// Files of an archive, or folders with such files (.ndjson.zst, or .ndjson if they are unpacked)
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The store, sqlite:PATH or postgres://…, created if it is missing [default: store.url of the configuration]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

/// `config`: the file of `--config`, else `emberpost.toml` if it exists.
pub async fn run(args: ImportArgs, config: Option<&Path>, out: &mut dyn Write) -> Result<i32, Failure> {
    let store = args.store.map_or_else(|| configured(config), Ok)?;
    let store = parse("--store", &store)?;
    let files = archive::find(&args.paths).map_err(Failure::Usage)?;
    let bar = progress::bytes();
    let show = &mut |progress: transfer::ImportProgress| {
        bar.set_message(format!("{} messages", progress.messages));
        bar.set_length(progress.of_bytes.max(progress.read_bytes));
        bar.set_position(progress.read_bytes);
    };
    let imported = transfer::import(&files, &store, Clock::default().now_us(), show).await;
    bar.finish_and_clear();
    let imported = imported.map_err(transfer_failure)?;
    report(&imported, files.len(), out)?;
    Ok(i32::from(imported.damaged > 0))
}

fn report(imported: &Imported, files: usize, out: &mut dyn Write) -> Result<(), Failure> {
    let Imported { store, messages, contents, present, damaged, damage } = imported;
    writeln!(out, "{store}")?;
    for (number, what) in [
        (files as u64, "files read"),
        (*messages, "messages imported"),
        (*contents, "contents restored of messages that were there"),
        (*present, "messages were there already"),
        (*damaged, "damaged"),
    ] {
        writeln!(out, "  {number:>12} {what}")?;
    }
    for place in damage {
        writeln!(out, "    {}:{}: {}", place.path.display(), place.line, place.text)?;
    }
    let more = damaged.saturating_sub(damage.len() as u64);
    if more > 0 {
        writeln!(out, "    and {more} more")?;
    }
    Ok(())
}
