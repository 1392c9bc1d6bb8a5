//! The program: reads the command line, starts the log and the runtime, runs the command, ends with its exit code.

/// Messages are many small allocations, made in one thread and given back in another: with the system's allocator a tenth
/// of the router's time went there.
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The system's, counted for the benchmark: how many allocations there are does not depend on the allocator.
#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

use clap::Parser;
use emberpost::{cli, telemetry};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Wrong usage ends here with exit code 2, `--help` and `--version` with 0.
    let args = cli::Args::parse();
    telemetry::init(args.log_format);
    #[cfg(feature = "count-allocations")]
    emberpost::metrics::set_allocation_counter(|| {
        let stats = ALLOCATOR.stats();
        (stats.allocations + stats.reallocations) as u64
    });
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(workers()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::complain(&format!("emberpost: cannot start the runtime: {error}"));
            return ExitCode::from(2);
        }
    };
    let code = runtime.block_on(cli::run(args));
    // A blocking read, such as of standard input, would hold the program up for ever.
    runtime.shutdown_background();
    telemetry::flush();
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// One thread less than there are cores: the store's writer works as much as a core's worth at full load.
fn workers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}
