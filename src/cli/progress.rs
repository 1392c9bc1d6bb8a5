//! The progress bar of commands that process many messages.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar of so many messages; it keeps moving while none is finished.
pub fn messages(expected: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {per_sec}, {eta} left");
    let bar = ProgressBar::new(expected).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// A bar of the rows of one table after the other.
pub fn rows() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<26} {bar:40} {pos}/{len} rows, {per_sec}, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// A bar of the bytes of files.
pub fn bytes() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:<26} {bar:40} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
