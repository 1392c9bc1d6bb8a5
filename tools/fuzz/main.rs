//! Feeds broken input to every reader until the time is up, to find panics and unbounded use of memory.
//!
//! `cargo run --release -p emberpost-fuzz -- [--minutes 10] [--seed 1] [--target json]`, with `EMBERPOST_CORPUS` for
//! more seeds. An input that makes a target panic is written to `fuzz-<target>-<number>.bin`, and the exit code is
//! 1. It is not guided by coverage: the seeds are complete messages, and a dictionary produces nearly valid input.

mod mutate;
mod targets;

use mutate::Mutator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// The use of memory, at any time, that counts as a finding.
const MEMORY_LIMIT_BYTES: u64 = 1 << 30;
/// The number of inputs between two measurements of memory.
const MEMORY_EVERY: u64 = 256;
/// The time limit for one input, on a machine with other load.
const INPUT_LIMIT_MILLISECONDS: u128 = 10_000;

struct Options {
    minutes: f64,
    seed: u64,
    target: Option<String>,
}

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Target> =
        TARGETS.into_iter().filter(|target| options.target.as_deref().is_none_or(|name| name == target.name)).collect();
    if chosen.is_empty() {
        eprintln!("no such target; there are {}", TARGETS.map(|target| target.name).join(", "));
        return ExitCode::from(2);
    }
    // A panic is counted, not printed a thousand times.
    std::panic::set_hook(Box::new(|_| {}));
    let each = Duration::from_secs_f64(options.minutes * 60.0 / chosen.len() as f64);
    let mut found = 0;
    for target in chosen {
        found += run(target, each, options.seed);
    }
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { minutes: 10.0, seed: 1, target: None };
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = |_| format!("{name} needs a number");
        match name.as_str() {
            "--minutes" => options.minutes = value.parse().map_err(|_| format!("{name} needs a number"))?,
            "--seed" => options.seed = value.parse().map_err(number)?,
            "--target" => options.target = Some(value),
            _ => return Err(format!("unknown flag {name}; there are --minutes, --seed, --target")),
        }
    }
    Ok(options)
}

/// Returns the number of findings.
fn run(target: &Target, time: Duration, seed: u64) -> u64 {
    let mut mutator = Mutator::new(seed, (target.seeds)(), target.dictionary);
    let (started, mut inputs, mut findings, mut slowest, mut peak) = (Instant::now(), 0u64, 0u64, 0u128, 0u64);
    while started.elapsed() < time {
        let input = mutator.next();
        let begun = Instant::now();
        let panicked = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err();
        let took = begun.elapsed().as_millis();
        slowest = slowest.max(took);
        inputs += 1;
        if inputs.is_multiple_of(MEMORY_EVERY) {
            peak = peak_memory_bytes();
        }
        if panicked || took > INPUT_LIMIT_MILLISECONDS || peak > MEMORY_LIMIT_BYTES {
            let file = format!("fuzz-{}-{findings}.bin", target.name);
            let why = if panicked { "a panic" } else { "too slow, or too much memory" };
            println!("{}: {why}, {took} ms, peak {} MB; saved as {file}", target.name, peak >> 20);
            if let Err(error) = std::fs::write(&file, &input) {
                println!("{file} could not be written: {error}");
            }
            findings += 1;
            if peak > MEMORY_LIMIT_BYTES {
                break;
            }
        }
    }
    println!(
        "{}: {inputs} inputs in {:.0} s, {findings} findings, slowest {slowest} ms, peak memory {} MB",
        target.name,
        started.elapsed().as_secs_f64(),
        peak_memory_bytes() >> 20
    );
    findings
}

/// The peak memory of the process in bytes; 0 if the system does not provide it.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
