//! The flags that every list has: its length and its format.

use super::client::Format;

/// Rows of a list without `--limit`.
const DEFAULT_LIMIT: u32 = 50;
/// The whole list is held in memory to align its columns.
const HIGHEST_LIMIT: i64 = 100_000;

/// Length and format of a list.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct ListShape {
    /// At most this many [default: 50]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=HIGHEST_LIMIT))]
    limit: Option<u32>,
    /// Format of the list [default: table]
    #[arg(long, value_enum)]
    format: Option<Format>,
}

impl ListShape {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(DEFAULT_LIMIT) as usize
    }

    pub fn format(&self) -> Format {
        self.format.unwrap_or_default()
    }
}
