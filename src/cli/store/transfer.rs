//! `emberpost store copy` and `emberpost store check`: their arguments, progress bars, and reports.

use crate::cli::failure::Failure;
use crate::cli::progress;
use crate::clock::Clock;
use crate::store::transfer::{self, Checked, Progress, TransferError};
use crate::store_url::StoreUrl;
use indicatif::ProgressBar;
use std::io::Write;

#[derive(Debug, clap::Args)]
pub struct CopyArgs {
    /// The store to copy, sqlite:PATH or postgres://…; no router may run on it
    #[arg(long, value_name = "URL")]
    from: String,
    /// The database to copy it into: a new file, or an empty database
    #[arg(long, value_name = "URL")]
    to: String,
}

#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The store to verify [default: store.url of the configuration]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
}

/// A URL of a store, or the path of a file.
pub(in crate::cli) fn parse(option: &str, url: &str) -> Result<StoreUrl, Failure> {
    let url = if url.contains(':') { url.to_owned() } else { format!("sqlite:{url}") };
    StoreUrl::parse(&url).map_err(|wrong| Failure::Usage(format!("{option} {wrong}")))
}

pub async fn copy(args: &CopyArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let (from, to) = (parse("--from", &args.from)?, parse("--to", &args.to)?);
    let bar = progress::rows();
    let copied = transfer::copy(&from, &to, Clock::default().now_us(), &mut |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let copied = copied.map_err(failure)?;
    let continued = if copied.continued { ", continuing an earlier copy" } else { "" };
    writeln!(out, "{} copied to {}{continued}", copied.from, copied.to)?;
    for (table, rows) in &copied.tables {
        writeln!(out, "  {table:<16} {rows:>12} rows, the same in both")?;
    }
    writeln!(out, "set store.url to the copy, and start the router")?;
    Ok(0)
}

/// Exit code 1 if something is wrong.
pub async fn check(store: &str, out: &mut dyn Write) -> Result<i32, Failure> {
    let store = parse("--store", store)?;
    let bar = progress::rows();
    let report = transfer::check(&store, &mut |progress| show(&bar, progress)).await;
    bar.finish_and_clear();
    let report = report.map_err(failure)?;
    writeln!(out, "{}", report.store)?;
    for Checked { what, rows, wrong, examples } in &report.checks {
        writeln!(out, "  {what:<28} {rows:>12} checked, {wrong} wrong")?;
        for example in examples {
            writeln!(out, "    {example}")?;
        }
        let more = wrong.saturating_sub(examples.len() as u64);
        if more > 0 {
            writeln!(out, "    and {more} more")?;
        }
    }
    writeln!(out, "{}", if report.is_sound() { "the store is sound" } else { "the store is damaged" })?;
    Ok(i32::from(!report.is_sound()))
}

fn show(bar: &ProgressBar, progress: Progress) {
    bar.set_message(format!("{} {}", progress.doing, progress.table));
    bar.set_length(progress.of.max(progress.rows));
    bar.set_position(progress.rows);
}

pub(in crate::cli) fn failure(error: TransferError) -> Failure {
    match error {
        TransferError::Open(error) => Failure::Usage(error.to_string()),
        TransferError::Failed(text) | TransferError::Differs(text) => Failure::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_a_url_or_a_path_and_a_password_is_not_shown() {
        assert_eq!(parse("--to", "a/b.db").expect("a path"), StoreUrl::Sqlite("a/b.db".into()));
        let wrong = parse("--to", "postgres://user:secret@h").expect_err("no database").to_string();
        assert!(wrong.starts_with("--to names no database") && !wrong.contains("secret"), "{wrong}");
    }
}
