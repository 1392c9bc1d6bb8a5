//! (being built)

#[derive(Debug, clap::Args)]
pub struct BenchArgs {}

/// Measures a router end to end; the exit code.
pub async fn run(_args: BenchArgs) -> i32 {
    eprintln!("emberpost: `bench` is not connected yet");
    2
}
