//! The program: reads the command line, starts the log and the runtime, runs the command, ends with its exit code.
//!
//! It is here and not in `main.rs` because a library leaves asynchronous functions to the crate that first polls them: the
//! whole router would be compiled once more for the executable.

use super::{Args, run};
use crate::telemetry;
use clap::Parser;
use std::process::ExitCode;

pub fn main() -> ExitCode {
    // Wrong usage ends here with exit code 2, `--help` and `--version` with 0.
    let args = Args::parse();
    telemetry::init(args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::complain(&format!("emberpost: cannot start the runtime: {error}"));
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(run(args));
    // A blocking read, such as of standard input, would hold the program up for ever.
    runtime.shutdown_background();
    telemetry::flush();
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// One thread less than there are cores: the store's writer works as much as a core's worth at full load.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}
