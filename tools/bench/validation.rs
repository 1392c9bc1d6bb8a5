//! `EMBERPOST_CORPUS=… cargo bench -p emberpost-bench --bench validation`: the cost of checking a message.

#[path = "src/check.rs"]
mod check;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    check::run();
}
