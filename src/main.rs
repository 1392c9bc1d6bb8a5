//! The executable: the allocator, and `cli::main`.

use std::process::ExitCode;

/// Messages are many small allocations, made in one thread and given back in another: with the system's allocator a tenth
/// of the router's time went there.
#[cfg(not(feature = "count-allocations"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The system's, counted for the benchmark: how many allocations there are does not depend on the allocator.
#[cfg(feature = "count-allocations")]
#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

fn main() -> ExitCode {
    #[cfg(feature = "count-allocations")]
    emberpost::metrics::set_allocation_counter(|| {
        let stats = ALLOCATOR.stats();
        (stats.allocations + stats.reallocations) as u64
    });
    emberpost::cli::main()
}
