//! Feeds broken input to every reader, to find panics.
//!
//! `cargo test -p emberpost-fuzz` reads the same inputs each time, and takes seconds. A long run is guided by coverage,
//! in libFuzzer, with the stable compiler; it also finds inputs that take too much time or memory:
//!
//! ```sh
//! cargo install cargo-bolero --no-default-features --features libfuzzer
//! cargo bolero test json -p emberpost-fuzz --sanitizer NONE -T 10m -l 262144 \
//!   -E=-dict=tools/fuzz/__fuzz__/json/dictionary -E=-rss_limit_mb=1024
//! ```
//!
//! The folder `__fuzz__/json` has what it starts from (more with `EMBERPOST_CORPUS`), what it learned, and each input
//! that fails, which later runs of `cargo test` read, too.

#![cfg(test)]

mod mutate;
mod targets;

use targets::{FHIRPATH, GZIP, JSON, PACKAGE, XML};

/// The number of broken inputs for each target under `cargo test`.
#[cfg(not(fuzzing))]
const INPUTS: u64 = 2_000;
/// The maximum length of an input in a long run.
#[cfg(fuzzing)]
const INPUT_LIMIT_BYTES: usize = 256 * 1024;

/// A macro, because the name of the test is that of the function in which `check` is expanded.
macro_rules! feed {
    ($target:expr) => {{
        let target = &$target;
        #[cfg(fuzzing)]
        {
            prepare(target);
            bolero::check!(name = target.name)
                .with_max_len(INPUT_LIMIT_BYTES)
                .for_each(|input: &[u8]| (target.run)(input));
        }
        #[cfg(not(fuzzing))]
        {
            // What long runs have found, if there were any.
            bolero::check!(name = target.name).with_iterations(0).for_each(|input: &[u8]| (target.run)(input));
            let seeds = (target.seeds)();
            bolero::check!(name = target.name).exhaustive().with_generator(0..INPUTS).for_each(|number: &u64| {
                (target.run)(&mutate::broken(*number, &seeds, target.dictionary));
            });
        }
    }};
}

#[test]
fn json() {
    feed!(JSON);
}

#[test]
fn xml() {
    feed!(XML);
}

#[test]
fn gzip() {
    feed!(GZIP);
}

#[test]
fn fhirpath() {
    feed!(FHIRPATH);
}

#[test]
fn package() {
    feed!(PACKAGE);
}

/// Writes the seeds and the dictionary where libFuzzer reads them.
#[cfg(fuzzing)]
fn prepare(target: &targets::Target) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("__fuzz__").join(target.name);
    std::fs::create_dir_all(folder.join("corpus")).expect("a folder for seeds");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("corpus/seed-{number}")), seed).expect("a seed");
    }
    let hex = |word: &&str| word.bytes().map(|byte| format!("\\x{byte:02X}")).collect::<String>();
    let words: String = target.dictionary.iter().map(|word| format!("\"{}\"\n", hex(word))).collect();
    // The engine refuses an empty file.
    std::fs::write(folder.join("dictionary"), format!("# Words of the format.\n{words}")).expect("a dictionary");
}
