//! `emberpost bench`: hands over to `emberpost-bench`, which is a program of its own beside this one.

use super::failure::Failure;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "emberpost-bench";

/// Measure a router end to end
///
/// Runs senders and receivers against a router and reports messages per second, latencies, and the cost of each message. This is
/// a program of its own, emberpost-bench, which is built with `cargo build --release -p emberpost-bench`; `emberpost-bench --help`
/// lists its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberpost bench --scenario relay,inout --senders 64")]
pub struct BenchArgs {
    /// Passed on to emberpost-bench
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
