//! `emberpost bench`: hands over to `emberpost-bench`, which is a program of its own beside this one.

use super::failure::Failure;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "emberpost-bench";

/// Measures a router end to end: messages per second, latency, CPU, fsyncs and bytes written per message.
///
/// Runs the program emberpost-bench, which is built with `cargo build --release -p emberpost-bench` and stands beside this one.
/// Its arguments are told by `emberpost bench --help`.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true, after_help = "Example:\n  emberpost bench")]
pub struct BenchArgs {
    /// Arguments of emberpost-bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// Does not return where the program starts: it takes the place of this one.
pub fn run(args: BenchArgs) -> Result<i32, Failure> {
    let error = Command::new(program()).args(args.arguments).exec();
    Err(Failure::Usage(format!(
        "cannot start {PROGRAM}: {error}; build it with `cargo build --release -p {PROGRAM}`, and leave it beside emberpost"
    )))
}

/// Beside this program, else wherever the system finds it.
fn program() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PROGRAM.into())
}
