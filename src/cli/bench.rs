//! `emberpost bench`: starts `emberpost-bench`, a separate program (`tools/bench`), in place of this process.

use super::failure::Failure;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

const PROGRAM: &str = "emberpost-bench";

/// Measure a router end to end
///
/// Reports messages per second, latency, CPU time, fsyncs, and bytes written per message. Starts the program
/// emberpost-bench, which must be in the folder of emberpost or in PATH. From the source tree, build it with
/// `cargo build --release -p emberpost-bench`, or install it with `cargo install --path tools/bench`.
/// `emberpost-bench --help` lists its arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  emberpost bench --scenario relay,inout --senders 64")]
pub struct BenchArgs {
    /// Passed on to emberpost-bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

/// Returns only if the program cannot be started.
pub fn run(args: BenchArgs) -> Result<i32, Failure> {
    let error = Command::new(program()).args(args.arguments).exec();
    Err(Failure::Usage(format!(
        "cannot start {PROGRAM}: {error}; build it with `cargo build --release -p {PROGRAM}` and put it in the folder of \
         emberpost or in PATH"
    )))
}

/// In the folder of this program, else wherever PATH leads.
fn program() -> PathBuf {
    let sibling = std::env::current_exe().ok().map(|own| own.with_file_name(PROGRAM));
    sibling.filter(|path| path.exists()).unwrap_or_else(|| PROGRAM.into())
}
