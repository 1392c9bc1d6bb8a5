//! The program: reads the command line, starts the log and the runtime, runs the command, ends with its exit code.

use clap::Parser;
use emberpost::{cli, telemetry};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Wrong usage ends here with exit code 2, `--help` and `--version` with 0.
    let args = cli::Args::parse();
    telemetry::init(args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("emberpost: cannot start the runtime: {error}");
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(cli::run(args));
    // A blocking read, such as of standard input, would hold the program up for ever.
    runtime.shutdown_background();
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
