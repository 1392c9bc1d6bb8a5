//! The bare disk: what one wait for it costs after a write of one page. A message with two durable commits cannot be
//! faster than two of these.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Measured, RoleArgs};
use crate::latency::Latencies;
use crate::proc::Usage;

/// What is written before each wait, in bytes: a page of the store.
const WRITTEN_BYTES: usize = 4096;
/// The file is overwritten from its start when it has this many pages, as a log is.
const FILE_PAGES: u64 = 10_000;

/// Writes a page and waits for the disk, again and again, for `time` after the warm-up; prints the measurements.
pub fn run(args: &RoleArgs, time: Duration) -> Result<()> {
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(args.folder.join("baseline.log"))?;
    let warm = write_for(&mut file, args.warm_up())?;
    println!("measuring");
    let before = Usage::of(std::process::id())?;
    let begun = Instant::now();
    let latencies = write_for(&mut file, time)?;
    let elapsed = begun.elapsed();
    let used = Usage::of(std::process::id())?.since(&before);
    let measured = Measured {
        messages: latencies.count(),
        messages_in_all: warm.count() + latencies.count(),
        elapsed_us: elapsed.as_micros() as u64,
        latency: latencies.summary(),
        cpu_us: used.cpu_us,
        written_bytes: used.written_bytes,
        ..Measured::default()
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}

fn write_for(file: &mut std::fs::File, time: Duration) -> Result<Latencies> {
    let until = Instant::now() + time;
    let page = [0x5a; WRITTEN_BYTES];
    let mut latencies = Latencies::new()?;
    while Instant::now() < until {
        let begun = Instant::now();
        if latencies.count() % FILE_PAGES == 0 {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&page)?;
        file.sync_data()?;
        latencies.record(begun.elapsed());
    }
    Ok(latencies)
}
