//! The bar that people see while many messages are worked on.

use indicatif::{ProgressBar, ProgressStyle};
use std::time::Duration;

/// A bar of so many messages, which goes on moving while none is done.
pub fn messages(expected: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} messages, {per_sec}, {eta} left");
    let bar = ProgressBar::new(expected).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}
