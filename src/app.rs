//! (being built)

use crate::telemetry;
use std::path::PathBuf;

/// What the command line says about serving; flags go over variables, variables over the file.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    pub config: Option<PathBuf>,
    pub listen: Option<String>,
    pub store_url: Option<String>,
    pub log_format: telemetry::Format,
}

/// Runs the router until it is told to stop; the exit code.
pub async fn serve(_options: ServeOptions) -> i32 {
    eprintln!("emberpost: the router is not connected yet");
    2
}
