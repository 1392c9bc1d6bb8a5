//! Planned commands: they accept any arguments and report that they are not built.

use super::failure::Failure;
use std::ffi::OsString;

#[derive(Debug, clap::Args)]
pub struct AnyArgs {
    /// Ignored
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<OsString>,
}

/// Exit code 2 with a sentence that names the command.
pub fn refuse(command: &str) -> Result<i32, Failure> {
    Err(Failure::Usage(format!("`emberpost {command}` is not built yet; nothing was done")))
}
