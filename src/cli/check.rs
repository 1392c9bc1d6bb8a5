//! (being built)

use std::path::Path;

/// Reads configuration and definitions, reports every mistake; the exit code.
pub fn run(_config: Option<&Path>) -> i32 {
    eprintln!("emberpost: `check` is not connected yet");
    2
}
